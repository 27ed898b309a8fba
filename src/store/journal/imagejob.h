/* imagejob.h - one image file on its way to hold a tree: the target, the pages to be written, how far it is.
 *
 * Exactly the pages that differ are written: from the other file of the pair where that has them, else from the log;
 * or by a child, from memory. Every page is checked against its hash before it is written. */
#ifndef VV_IMAGEJOB_H
#define VV_IMAGEJOB_H

#include "store/journal/place.h"

/* What there is of a pair. */
struct vv_image_pair {
    struct vv_stamp stamps[VV_IMAGE_SLOTS];
    bool known[VV_IMAGE_SLOTS]; /* its stamp says what it holds, or was to */
    bool there[VV_IMAGE_SLOTS]; /* something has the name */
    unsigned newest;            /* VV_IMAGE_SLOTS: none is whole */
};

void vv_image_pair_look(struct vv_place *place, const varve_module_id *module, struct vv_image_pair *pair);

struct vv_image_item {
    uint64_t index, locator;
    uint8_t hash[VV_HASH_SIZE]; /* zero: the page is zero */
};
struct vv_image_job {
    struct vv_image_job *next;
    struct vv_image_target target;
    struct vv_image_file *near; /* another file of the module, for the pages that it has; NULL: none */
    struct vv_pages reader;     /* of the log */
    bool reading;               /* it is there */
    uint8_t *pages;             /* room for those that are written at once */
    struct vv_image_item *items;    /* in the order in which they lie in the log */
    size_t count, capacity, at;
    uint64_t page_count;
    bool begun;
    bool resumed;          /* the file becomes first what it was left on the way to */
    const uint8_t *frozen; /* the memory that the child writes from; NULL: not its job */
};
/* The job that turns one slot of a pair into a file of `stamp`. When that was left half-written it becomes first what
 * it was to be (`resumed`). `anew`: a file that lies there is not to be trusted, and is replaced. */
varve_status vv_image_job_new(struct vv_place *place, const struct vv_stamp *stamp,
                              const struct vv_image_pair *pair, unsigned slot, bool anew,
                              struct vv_image_job **job);
void vv_image_job_free(struct vv_place *place, struct vv_image_job *job); /* gives it up; NULL is fine */
/* About `budget` bytes of it, which are taken from `budget`; `done`: the file is whole. */
varve_status vv_image_job_step(struct vv_image_job *job, uint64_t *budget, bool *done);
/* In a child, from `frozen`: all but what vv_image_target_finish does. */
bool vv_image_job_write_frozen(const struct vv_image_job *job);

#endif
