/* head.h - two slots written in turn that say where to start reading: a hint, never the truth (J7).
 *
 * The writer tells after every group how far the log is there; that is what readers beside it follow.
 * What a slot says was true when it was written: that the checkpoint at an address was synced, and that all of
 * the log below an address was synced and acknowledged. So an old slot is a longer scan, never a wrong one, and
 * a slot that fails its checksum is as if it were not there. It is not synced: a crash may bring the old back. */
#ifndef VV_HEAD_H
#define VV_HEAD_H

#include "base/vfs.h"

enum { VV_HEAD_SLOT = 4096, VV_HEAD_USED = 64 };

struct vv_head {
    uint64_t number;       /* rises with every write; 0: none */
    uint64_t checkpoint;   /* the last one; 0: none */
    uint64_t acknowledged; /* the log was whole up to here */
    uint64_t visible;      /* it is whole to here, though part of that may not be durable yet */
    uint64_t generation;   /* how often something was retired (generation.c) */
};

/* Both slots, the newer one first; what is unreadable or not there has number 0. `file` is opened with `flags`
 * when it is not open yet and is there, and stays open: later reads cost the slots alone. */
varve_status vv_head_read(const struct vv_dir *dir, struct vv_file *file, unsigned flags, struct vv_head heads[2]);
/* Write the next number into the slot that is not the newest's. `file` is made and opened when it is not open. */
varve_status vv_head_write(const struct vv_dir *dir, struct vv_file *file, struct vv_head *head);
/* See that both slots lie on the disk, so that a write needs no room. `file` is made and opened when it is not open. */
varve_status vv_head_reserve(const struct vv_dir *dir, struct vv_file *file);
void vv_head_encode(const struct vv_head *head, uint8_t out[VV_HEAD_USED]);
bool vv_head_decode(const uint8_t *bytes, size_t size, struct vv_head *head);

#endif
