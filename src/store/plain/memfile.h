/* memfile.h - a memory as a sparse file: page i at i * 4096, nothing else in it, so that it is mapped, copied and
 * compared as it lies. Written once, then read only. */
#ifndef VV_MEMFILE_H
#define VV_MEMFILE_H

#include "base/vfs.h"
#include "page/pagetree.h"

enum { VV_MEMFILE_BATCH = 64 }; /* pages in one write */

struct vv_memfile_writer {
    struct vv_file *file;
    uint64_t first; /* of the pages that wait */
    size_t count;
    uint8_t *pages; /* room for a batch */
    uint64_t written; /* bytes so far */
};
/* Pages in rising order; NULL: zero, a hole. Neighbours go out in one write. The file is open, empty and the caller's;
 * `end` makes it `page_count` pages long. Neither syncs. On failure of any: vv_memfile_abandon, and the file goes. */
varve_status vv_memfile_begin(struct vv_memfile_writer *writer, struct vv_file *file);
varve_status vv_memfile_put(struct vv_memfile_writer *writer, uint64_t index, const uint8_t *page);
varve_status vv_memfile_end(struct vv_memfile_writer *writer, uint64_t page_count);
void vv_memfile_abandon(struct vv_memfile_writer *writer);

/* Page `index`, held against `hash`: CORRUPT, naming the file and the page. Beyond the file's end: zeros. */
varve_status vv_memfile_read(const struct vv_file *file, uint64_t index, const uint8_t hash[VV_HASH_SIZE],
                             uint8_t page[VV_PAGE_SIZE]);
/* Read all of it against a tree: `bad` is told of each page that is not as the tree says. */
varve_status vv_memfile_check(const struct vv_file *file, const struct vv_pagetree *tree,
                              void (*bad)(void *context, uint64_t index), void *context);

#endif
