/* imagefile.h - the pair of files of each module: image/<id>.0 and .1, memory as some commit has it, to be mapped.
 *
 *   0       stamp (stamp.h)
 *   4096    the pages, in order; zero pages are holes
 * They are caches: whatever they lack, or lose, is in the log. Laws:
 *   (J4) A file is rewritten in place only under an exclusive lock on its byte 0, which everyone who maps it, in
 *        any process, shares for as long as the mapping lives; who is refused writes a copy and renames it.
 *   (F1) A file whose stamp is not WHOLE, or names another module, another length, or a tree that the log cannot
 *        give, is not used; what it holds is told by no one else than its stamp.
 *   (F2) The stamp says REWRITING, durably, before the first page is written, and WHOLE after the last was synced.
 * Threads: the list of files in use has its mutex; files are written by one thread at a time (snapshot.h). */
#ifndef VV_IMAGEFILE_H
#define VV_IMAGEFILE_H

#include <pthread.h>

#include "base/vfs.h"
#include "page/pagetree.h"
#include "store/journal/stamp.h"

#define VV_IMAGE_DIR "image"
enum { VV_IMAGE_NAME = 64 + 2 + 4 + 1, VV_IMAGE_SLOTS = 2 };

void vv_image_file_name(const varve_module_id *module, unsigned slot, char name[VV_IMAGE_NAME]);
/* False: no file of a pair has such a name. */
bool vv_image_file_parse(const char *name, varve_module_id *module, unsigned *slot);

/* A file that is whole, and shared-locked while anybody uses it. */
struct vv_image_file {
    struct vv_image_file *next;
    struct vv_file file;
    unsigned users;
    unsigned slot;
    bool replaced; /* its name leads to another file by now */
    struct vv_stamp stamp;
    struct vv_pagetree tree;
};

struct vv_images {
    const struct vv_dir *store; /* lent */
    const struct vv_node_source *nodes;
    bool read_only;
    bool _Atomic shunned;     /* by a reader, who cannot take away what is bad */
    uint64_t _Atomic version; /* rises when a file became better than it was, or was found rotten */
    uint64_t _Atomic sound;   /* what was mapped at an earlier version may be of a file that was found rotten */
    pthread_mutex_t mutex;    /* guards all below */
    struct vv_dir dir;        /* not open: there was none when it was looked for last */
    struct vv_image_file *used;
    size_t used_count, used_most; /* each takes a descriptor */
};

void vv_images_init(struct vv_images *images, const struct vv_dir *store,
                    const struct vv_node_source *nodes, bool read_only, size_t used_most);
void vv_images_release(struct vv_images *images); /* nobody uses a file any more */

/* Use the file of this slot: NULL when it is absent, being rewritten, or cannot be used (F1). A cache never makes
 * a reader fail. */
struct vv_image_file *vv_images_use(struct vv_images *images, const varve_module_id *module, unsigned slot);
void vv_images_leave(struct vv_images *images, struct vv_image_file *file); /* NULL is fine */

/* The file from which the fewest pages of `wanted` differ, in use; NULL: none is near enough to be worth it. */
struct vv_image_file *vv_images_nearest(struct vv_images *images, const varve_module_id *module,
                                        const struct vv_pagetree *wanted);

/* Does it hold what it says, zeros included? `count` pages from `first`; `bad` is the first that is another, UINT64_MAX
 * none. VARVE_CORRUPT: the log no longer has the tree, or the file no longer its length. */
varve_status vv_image_file_verify(const struct vv_image_file *file, uint64_t first, uint64_t count,
                                  uint64_t *bad);

/* What is known of a slot without using it: its stamp; NOT_FOUND; else why the file is none that can be used. */
varve_status vv_images_look(struct vv_images *images, const varve_module_id *module, unsigned slot,
                            struct vv_stamp *stamp);
/* Call `each` for all names in image/. */
varve_status vv_images_each(struct vv_images *images, vv_name_fn each, void *context);
/* The file of this slot goes; whoever maps it keeps what he has. `idle`: only if nobody does (else BUSY). */
varve_status vv_images_remove(struct vv_images *images, const varve_module_id *module, unsigned slot,
                              bool idle);

/* The file of this slot holds other bytes than it says: its name goes, and what maps it is not to be used again. Whoever
 * only reads uses no file any more. */
varve_status vv_images_rotten(struct vv_images *images, const varve_module_id *module, unsigned slot);

/* ---- Writing a file --------------------------------------------------------------------------- */

struct vv_image_target {
    struct vv_images *images;
    struct vv_file file;
    unsigned slot;
    bool copy; /* a new file beside the old one; else the old one, locked exclusively */
    struct vv_stamp stamp;
};
#define VV_IMAGE_TARGET_NONE ((struct vv_image_target){ .file = VV_FILE_NONE })

/* Open what is to become a file that holds `stamp->to`: in place when the file of this slot is whole and nobody maps
 * it (`target->stamp.from` says what it holds then), or when it was left on the way to this very tree; else, and if
 * wanted so, as a copy, of zeros. Nothing is written to a file that is there. The directory is made when it is not
 * there. */
varve_status vv_image_target_open(struct vv_images *images, const struct vv_stamp *stamp, unsigned slot,
                                  bool want_copy, struct vv_image_target *target);
/* Stamp it (from -> to), durably; give it its length. A copy gets its length only. */
varve_status vv_image_target_begin(struct vv_image_target *target);
varve_status vv_image_target_put(struct vv_image_target *target, uint64_t first, const void *pages,
                                 uint64_t count);
varve_status vv_image_target_zero(struct vv_image_target *target, uint64_t index);
/* All pages were put: sync, stamp, sync; a copy gets its name. On failure the file is of no use, and gone if it was
 * a copy or a sync failed. Ends the target. */
varve_status vv_image_target_finish(struct vv_image_target *target);
void vv_image_target_abandon(struct vv_image_target *target); /* VV_IMAGE_TARGET_NONE is fine */
/* For a child that does begin, put and the first sync on its own: the stamp's bytes, and the file's length. */
void vv_image_target_encode(const struct vv_image_target *target, enum vv_stamp_state state,
                            uint8_t page[VV_STAMP_PAGE]);
uint64_t vv_image_target_size(const struct vv_image_target *target);

/* The tree that a stamp names, opened over the log; nothing of it is read yet. */
varve_status vv_stamp_open_tree(const struct vv_stamp_tree *stamped, const struct vv_node_source *nodes,
                                struct vv_pagetree *tree);

#endif
