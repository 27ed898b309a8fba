/* head.h - two slots written in turn that say where to start reading: a hint, never the truth (J7).
 *
 * What a slot says was true when it was written: that the checkpoint at an address was synced, and that all of
 * the log below an address was synced and acknowledged. So an old slot is a longer scan, never a wrong one, and
 * a slot that fails its checksum is as if it were not there. It is not synced: a crash may bring the old back. */
#ifndef VV_HEAD_H
#define VV_HEAD_H

#include "base/vfs.h"

enum { VV_HEAD_SLOT = 4096, VV_HEAD_USED = 56 };

struct vv_head {
    uint64_t number;       /* rises with every write; 0: none */
    uint64_t checkpoint;   /* the last one; 0: none */
    uint64_t acknowledged; /* the log was whole up to here */
    uint64_t generation;   /* how often something was retired (generation.c) */
};

/* Both slots, the newer one first; what is unreadable or not there has number 0. */
varve_status vv_head_read(const struct vv_dir *dir, struct vv_head heads[2]);
/* Write the next number into the slot that is not the newest's. */
varve_status vv_head_write(const struct vv_dir *dir, struct vv_head *head);
void vv_head_encode(const struct vv_head *head, uint8_t out[VV_HEAD_USED]);
bool vv_head_decode(const uint8_t *bytes, size_t size, struct vv_head *head);

#endif
