/* deltafile.h - one version of a module's memory as what differs from the version before it, in commit order.
 *
 *   header      which module and versions, lengths, and a sum over itself and the directory
 *   directory   every page that differs, by index: zero now, whole, or runs against where its bytes were before
 *   frames      of page/delta.h: the pages that are not zero, 64 to a frame, each frame with a sum of its own
 *
 * docs/format.md, "chain", byte by byte. A decoder believes nothing: the file's length bounds every count. */
#ifndef VV_CHAIN_DELTAFILE_H
#define VV_CHAIN_DELTAFILE_H

#include "base/vfs.h"
#include "page/delta.h"
#include "page/hash.h"

enum { VV_DELTAFILE_HEADER = 216 };

/* Where bytes are: the version that last changed the page, how many runs lie on top of each other there, the page. */
enum { VV_CHAIN_DEPTH = 8 }; /* so many at most: then the page is stored whole */
#define VV_CHAIN_SERIAL_MAX ((UINT64_C(1) << 28) - 1)
#define VV_CHAIN_PAGES_MAX (UINT64_C(1) << 32)
static inline uint64_t vv_chain_locator(uint64_t serial, unsigned depth, uint64_t page)
{
    return serial << 36 | (uint64_t)depth << 32 | page;
}
static inline uint64_t vv_chain_serial(uint64_t locator)
{
    return locator >> 36;
}
static inline unsigned vv_chain_depth(uint64_t locator)
{
    return (unsigned)(locator >> 32 & 15);
}
static inline uint32_t vv_chain_page(uint64_t locator)
{
    return (uint32_t)locator;
}

/* Whose it is. */
struct vv_deltafile_facts {
    uint8_t module[32];
    uint8_t leaf[VV_HASH_SIZE],
        before[VV_HASH_SIZE]; /* module commit ids: of this version, of the one before */
    uint8_t commit[32];       /* of the session commit that made it */
    uint64_t serial, serial_before;
    uint64_t page_count; /* the memory's length now */
};
/* One page of it. */
struct vv_deltafile_entry {
    uint32_t index;
    uint32_t place; /* among those that frames hold; UINT32_MAX: it is zero */
    uint64_t base;  /* locator of the bytes that its runs are against; 0: whole */
};
struct vv_deltafile {
    struct vv_deltafile_facts facts;
    struct vv_deltafile_entry *entries; /* by index */
    size_t count;
    uint64_t *frames; /* where each begins; one more: where the last ends */
    size_t frame_count;
};
#define VV_DELTAFILE_NONE ((struct vv_deltafile){ .count = 0 })

/* A page to be written. */
struct vv_deltafile_page {
    uint32_t index;
    const uint8_t *bytes;  /* NULL: zero */
    const uint8_t *base;   /* NULL: whole */
    uint64_t base_locator; /* of `base` */
    const uint8_t *runs;   /* of base and bytes, when they are known; NULL */
    size_t runs_size;
    unsigned depth; /* set by vv_deltafile_encode: of what it made of the page */
};

/* The file but for its header, which vv_deltafile_seal puts into the room that is left for it. Pages by index. */
varve_status vv_deltafile_encode(struct vv_codec *codec, struct vv_deltafile_page *pages, size_t count,
                                 struct vv_bytes *out);
void vv_deltafile_seal(struct vv_bytes *file, const struct vv_deltafile_facts *facts);

/* Header and directory; CORRUPT, without the file's name, when they are not sound. `size`: of the whole file. */
varve_status vv_deltafile_decode(const uint8_t *bytes, size_t have, uint64_t size,
                                 struct vv_deltafile *delta);
varve_status vv_deltafile_read(const struct vv_file *file,
                               struct vv_deltafile *delta); /* CORRUPT, naming it */
void vv_deltafile_release(struct vv_deltafile *delta);
/* The entry of a page; NULL: the file has none. */
const struct vv_deltafile_entry *vv_deltafile_find(const struct vv_deltafile *delta, uint32_t index);
/* One frame, checked; ended by vv_frame_release. From the file, or from `whole`, which holds all of it; `scratch` is
 * working memory. */
varve_status vv_deltafile_frame(const struct vv_file *file, const struct vv_bytes *whole,
                                const struct vv_deltafile *delta, size_t number, struct vv_codec *codec,
                                struct vv_bytes *scratch, struct vv_frame *frame);

#endif
