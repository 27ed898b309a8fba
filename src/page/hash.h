/* hash.h - BLAKE3 in derive-key mode, one context per kind of thing, so that bytes of one kind never pass for
 * another. The official C sources do the hashing; batches use their SIMD lanes across pages and nodes.
 * Contexts and test vectors: docs/format.md. Source: the BLAKE3 paper, sections 2.3 and 5. Thread safe. */
#ifndef VV_HASH_H
#define VV_HASH_H

#include <blake3.h>

#include "base/error.h"
#include "page/page.h"

#define VV_HASH_SIZE 32

enum vv_hash_kind {
    VV_HASH_PAGE,       /* 4096 bytes */
    VV_HASH_NODE,       /* two hashes, left and right */
    VV_HASH_MEMORY,     /* length (u64) and the top of the page tree */
    VV_HASH_MODULE,     /* a module's leaf in the state trie */
    VV_HASH_INSTANCE,   /* instance state of a module */
    VV_HASH_DESCRIPTOR, /* descriptor of a module */
    VV_HASH_META,       /* the named values */
    VV_HASH_STATE,      /* top of the state trie and the meta hash */
    VV_HASH_COMMIT,     /* parent, root, time, message */
    VV_HASH_CODE,       /* bytecode as deployed */
    VV_HASH_NAME,       /* a name: the id it stands for */
    VV_HASH_RECORD,     /* checksums in stored files */
    VV_HASH_CHANCE,     /* the stream that guests see as chance */
    VV_HASH_RECEIPT,    /* digest of what one call did */
    VV_HASH_CACHE,      /* keys of compiled code */
    VV_HASH_KINDS
};
const char *vv_hash_context(enum vv_hash_kind kind); /* "varve 2026 page" ... */

void vv_hash(enum vv_hash_kind kind, const void *data, size_t size, uint8_t out[VV_HASH_SIZE]);

struct vv_hasher {
    blake3_hasher state;
};
void vv_hasher_init(struct vv_hasher *hasher, enum vv_hash_kind kind);
void vv_hasher_put(struct vv_hasher *hasher, const void *data, size_t size);
void vv_hasher_u64(struct vv_hasher *hasher, uint64_t value); /* as 8 little-endian bytes */
void vv_hasher_end(const struct vv_hasher *hasher, uint8_t out[VV_HASH_SIZE]);

/* Pages, as many abreast as the machine has lanes; a page of zeros has the hash of all zeros (by definition:
 * it is never stored nor hashed). Equal to vv_hash of each otherwise. */
void vv_hash_pages(const uint8_t *const *pages, size_t count, uint8_t (*out)[VV_HASH_SIZE]);

/* Parents of pairs. A pair of two zero hashes has the zero hash, by definition. */
void vv_hash_nodes(const uint8_t (*pairs)[2 * VV_HASH_SIZE], size_t count, uint8_t (*out)[VV_HASH_SIZE]);
/* The same for pairs that lie anywhere; `out` may be the pairs' own memory. */
void vv_hash_pairs(const uint8_t *const *pairs, size_t count, uint8_t *const *out);

extern const uint8_t vv_hash_zero[VV_HASH_SIZE];
bool vv_hash_is_zero(const uint8_t hash[VV_HASH_SIZE]);
static inline bool vv_hash_equal(const uint8_t a[VV_HASH_SIZE], const uint8_t b[VV_HASH_SIZE])
{
    return __builtin_memcmp(a, b, VV_HASH_SIZE) == 0;
}
bool vv_page_is_zero(const uint8_t *page);

#endif
