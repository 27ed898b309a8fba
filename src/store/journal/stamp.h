/* stamp.h - the first page of an image file: which page tree the memory behind it holds.
 *
 * WHOLE: the pages are those of `to`. REWRITING: somebody began to turn the pages of `from` into those of `to`, so
 * each page is one of the two, or torn; such a file is never mapped. Format: docs/format.md, "Image files". */
#ifndef VV_STAMP_H
#define VV_STAMP_H

#include "base/error.h"
#include "page/hash.h"

enum { VV_STAMP_PAGE = 4096, VV_STAMP_USED = 160 };
enum vv_stamp_state { VV_STAMP_WHOLE = 1, VV_STAMP_REWRITING = 2 };

/* A tree as a checkpoint saved it. */
struct vv_stamp_tree {
    uint64_t page_count, address; /* address 0: all pages are zero */
    uint8_t top[VV_HASH_SIZE];
};
struct vv_stamp {
    enum vv_stamp_state state;
    uint64_t generation; /* address of the checkpoint that saved `to`: the higher, the newer */
    varve_module_id module;
    struct vv_stamp_tree to, from; /* `from` is all zero when WHOLE */
};

void vv_stamp_encode(const struct vv_stamp *stamp, uint8_t page[VV_STAMP_PAGE]);
/* VARVE_CORRUPT, saying why, unless the bytes are a stamp; VARVE_NEWER when they are one of another version. */
varve_status vv_stamp_decode(const uint8_t *bytes, size_t size, struct vv_stamp *stamp);

#endif
