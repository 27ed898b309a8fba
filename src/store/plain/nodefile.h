/* nodefile.h - saved nodes of page trees in one file that only grows: address = where a node's frame begins.
 *
 *   frame: u32 size of the node, its sum (16 bytes), the node as vv_node_encode makes it; the first begins at 16,
 *   behind magic, so that 0 is no address. docs/format.md, "Nodes". What is put after a sync, or into a file of before,
 *   begins at the next multiple of 4096: a block that holds what somebody relies on is not written again.
 *
 * What tells of an address says also how long the file was then: what lies behind that is debris of a life that was
 * cut short, overwritten by whoever writes next. Threads: reads at once; the writing calls are the caller's to lock. */
#ifndef VV_NODEFILE_H
#define VV_NODEFILE_H

#include <pthread.h>

#include "base/vfs.h"
#include "page/node.h"

enum { VV_NODEFILE_START = 16 }; /* how long one without nodes is */

struct vv_nodefile {
    struct vv_file file;
    uint64_t end;              /* of what is written or waits in `tail` */
    uint64_t synced;           /* all before this is relied on */
    uint64_t tail_at;          /* where `tail` goes */
    struct vv_bytes tail;      /* put and not yet flushed; reads see it */
    pthread_rwlock_t lock;     /* of `tail`, which grows while others read */
    uint64_t space;            /* added to each offset to make an address, so that those of several files differ */
    struct vv_node_source source; /* for trees whose nodes lie here */
};

/* A new file, under `name` in `dir`; not synced. EXISTS. */
varve_status vv_nodefile_create(const struct vv_dir *dir, const char *name, unsigned flags, uint64_t space,
                                struct vv_nodefile *nodes);
/* One that is `end` bytes long, or longer (0: as long as it is). CORRUPT when it is shorter. */
varve_status vv_nodefile_open(const struct vv_dir *dir, const char *name, bool write, uint64_t end, uint64_t space,
                              struct vv_nodefile *nodes);
void vv_nodefile_close(struct vv_nodefile *nodes);

/* For vv_pagetree_save and vv_trie_save: `context` is the nodefile. Nothing is written before vv_nodefile_flush. */
varve_status vv_nodefile_put(void *context, const void *bytes, size_t size, uint64_t *address);
/* Write what waits. On failure it waits still: vv_nodefile_cut takes it back. */
varve_status vv_nodefile_flush(struct vv_nodefile *nodes);
varve_status vv_nodefile_sync(struct vv_nodefile *nodes); /* what was flushed */
/* Forget all from `end` on, an earlier value of `nodes->end`; trees that were saved there are the caller's to unsave
 * (vv_pagetree_unsave with nodes->space + end). */
void vv_nodefile_cut(struct vv_nodefile *nodes, uint64_t end);
/* Read every frame up to the end: CORRUPT at the first that is not sound. */
varve_status vv_nodefile_check(const struct vv_nodefile *nodes);

#endif
