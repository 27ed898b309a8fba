/* overlay.h - the file `<mod>.diff` of a commit directory: all pages of a memory that differ from its base image.
 *
 *   header     where the directory lies, how long it is, their sums
 *   frames     of page/delta.h: pages whole, or as runs against the base image's page; a base locator is its index + 1
 *   directory  which memory this is and against which base; for each page its hash, its frame and slot
 * Written from front to end and never changed. What a diff needs of the one before it, it has as a copy: frames as they
 * are, with slots that nothing names any more, until half of a frame is such. Byte by byte: docs/format.md, "tree". */
#ifndef VV_TREE_OVERLAY_H
#define VV_TREE_OVERLAY_H

#include "base/vfs.h"
#include "page/delta.h"
#include "store/tree/listing.h"

#define VV_OVERLAY_ZERO UINT32_MAX /* the page is zero, and in no frame */
struct vv_overlay_page {
    uint64_t index;
    uint32_t frame; /* or VV_OVERLAY_ZERO */
    uint8_t slot;
    uint8_t hash[VV_HASH_SIZE]; /* zeros: the page is zero */
};
struct vv_overlay {
    struct vv_file file;
    varve_module_id module;
    struct vv_memory_key base, memory;
    struct vv_overlay_page *pages; /* by index */
    uint64_t *frames;           /* where each begins; and where the last one ends */
    size_t page_count, frame_count;
};
#define VV_OVERLAY_NONE ((struct vv_overlay){ .file = VV_FILE_NONE })

/* Header and directory are read and checked; frames are, when they are read. NOT_FOUND, CORRUPT. */
varve_status vv_overlay_open(const struct vv_dir *dir, const char *name, struct vv_overlay *diff);
void vv_overlay_close(struct vv_overlay *diff);
/* NULL: the page is as in the base. */
const struct vv_overlay_page *vv_overlay_find(const struct vv_overlay *diff, uint64_t index);
/* A frame as it is stored, appended; and unpacked. */
varve_status vv_overlay_frame_bytes(const struct vv_overlay *diff, uint32_t frame, struct vv_bytes *bytes);
varve_status vv_overlay_frame(const struct vv_overlay *diff, uint32_t frame, struct vv_codec *codec,
                           struct vv_frame *out);
/* `page`: the base image's (zeros beyond it), becomes what the slot says. Its hash is the caller's to check. */
varve_status vv_overlay_decode(const uint8_t *directory, size_t size, uint64_t frames_end, struct vv_overlay *diff);

/* Writing into a new file: begin, frames, end. On failure of any: vv_overlay_abandon, and the file goes. */
struct vv_overlay_writer {
    struct vv_file *file;
    struct vv_bytes out; /* waits to be written at `at` */
    uint64_t at;
    uint64_t *frames;
    size_t frame_count, frame_room;
};
varve_status vv_overlay_begin(struct vv_overlay_writer *writer, struct vv_file *file);
varve_status vv_overlay_put(struct vv_overlay_writer *writer, const void *frame, size_t size);
/* `diff`: all but file and frames. `size`: of the file. */
varve_status vv_overlay_end(struct vv_overlay_writer *writer, const struct vv_overlay *diff, uint64_t *size);
void vv_overlay_abandon(struct vv_overlay_writer *writer);

#endif
