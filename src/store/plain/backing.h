/* backing.h - live backing files: `<mod>` shows a module's memory as calls change it, before anything is committed.
 *
 *   <64 hex digits of the module's id>   page i at i * 4096, as long as the memory
 *
 * Laws: (B1) A backing file is a cache: never synced, never read for its content but to learn which of its pages need
 *            no writing. What a session starts with comes from commits alone.
 *       (B2) `known` says what the file holds, or nothing is known of it. A write that fails makes it unknown.
 * A file of an earlier life is unknown: at its first `live` it is read, hashed, and only what differs is written. */
#ifndef VV_BACKING_H
#define VV_BACKING_H

#include <pthread.h>

#include "base/table.h"
#include "store/layout.h"

/* The bytes of a stored page, as a layout's `read`. */
typedef varve_status (*vv_backing_read)(struct vv_place *place, const struct vv_leaf *leaf,
                                        uint8_t page[VV_PAGE_SIZE]);

struct vv_backings {
    pthread_mutex_t mutex;
    const struct vv_dir *dir; /* the store's; lent */
    struct vv_place *place;   /* of `read` */
    vv_backing_read read;
    struct vv_table files; /* module id: struct backing */
};

void vv_backings_init(struct vv_backings *backings, const struct vv_dir *dir, struct vv_place *place,
                      vv_backing_read read);
void vv_backings_release(struct vv_backings *backings); /* files stay; all zero is fine */

/* The contract's entry `live`. On failure the file holds some pages of before and some of now; the next call that goes
 * well makes it right. A module that is gone loses its file. */
varve_status vv_backings_live(struct vv_backings *backings, const varve_module_id *module,
                              const struct vv_pagetree *tree, const uint8_t *bytes);

/* Was this module shown, and is not gone, since the store was opened? */
bool vv_backings_show(struct vv_backings *backings, const varve_module_id *module);

/* Is this the name of a backing file: 64 upper-case digits? `module` may be NULL. */
bool vv_backing_is_name(const char *name, varve_module_id *module);

#endif
