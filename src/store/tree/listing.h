/* listing.h - the file `index` of a commit directory: every module and named value, so that a root needs no other I/O.
 *
 * An entry says what a module is (its leaf in the state trie, and all that vv_module_encode says) and which files hold
 * its memory: a base image, by the memory that it is, and the diff on top of it. It names no other place of the
 * store, so that entries of modules that a commit does not change are copied as they are, and directories too.
 * Byte by byte: docs/format.md, "tree". Decoding believes nothing. */
#ifndef VV_TREE_LISTING_H
#define VV_TREE_LISTING_H

#include "store/state.h"

/* Which memory: its length, and the hash of its page tree's top. */
struct vv_memory_key {
    uint64_t pages;
    uint8_t top[VV_HASH_SIZE];
};
static inline bool vv_memory_key_equal(const struct vv_memory_key *a, const struct vv_memory_key *b)
{
    return a->pages == b->pages && vv_hash_equal(a->top, b->top);
}

struct vv_listing_entry {
    varve_module_id id;
    uint8_t leaf[VV_HASH_SIZE];
    bool has_code;             /* bytecode/<mod> is there */
    struct vv_memory_key memory; /* of the commit */
    struct vv_memory_key base; /* of the file memory/<mod> */
    uint64_t address;          /* of the base's top node in tree/<mod>; 0: all of it is zero */
    uint64_t nodes_size;       /* bytes of tree/<mod> */
    uint64_t diff_size;        /* bytes of memory/<mod>.diff; 0: there is none, the memory is the base */
    const uint8_t *module, *raw; /* the module's entry; all of this one. Lent from the index */
    size_t module_size, raw_size;
};
struct vv_listing {
    uint8_t *bytes;
    size_t size;
    varve_root root;
    struct vv_listing_entry *entries; /* by id */
    size_t count;
    size_t meta_at, meta_size; /* the named values, in bytes */
};
#define VV_LISTING_NONE ((struct vv_listing){ .bytes = NULL })

/* Takes `bytes` over, on failure too. CORRUPT. Whether its root is what it says shows in vv_listing_state. */
varve_status vv_listing_decode(uint8_t *bytes, size_t size, struct vv_listing *index);
void vv_listing_release(struct vv_listing *index);
const struct vv_listing_entry *vv_listing_find(const struct vv_listing *index, const varve_module_id *id); /* NULL */

/* The state that it says: modules to be loaded through `source` by locator: `space` + place in `entries` + 1.
 * CORRUPT when its root is another. */
varve_status vv_listing_state(const struct vv_listing *index, const struct vv_module_source *source, uint64_t space,
                            struct vv_state *state);
/* The module of an entry, with an empty tree: the caller's to fill. */
varve_status vv_listing_module(const struct vv_listing_entry *entry, struct vv_module **module);

/* Writing: begin, each module in order of ids, end. `put` encodes what `entry` says (not raw, module) and `module`. */
void vv_listing_begin(struct vv_bytes *out, const varve_root *root, const struct vv_state *state, uint64_t modules);
varve_status vv_listing_put(struct vv_bytes *out, const struct vv_listing_entry *entry, struct vv_module *module);
void vv_listing_put_raw(struct vv_bytes *out, const struct vv_listing_entry *entry);
varve_status vv_listing_end(struct vv_bytes *out);

#endif
