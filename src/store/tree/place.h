/* place.h - an open tree: what its files share. tree.c has the map. */
#ifndef VV_TREE_PLACE_H
#define VV_TREE_PLACE_H

#include "store/plain/plain.h"
#include "store/tree/ledger.h"
#include "store/tree/shelf.h"

struct vv_place {
    struct vv_plain plain;      /* first, so that entries of plain.h are ours */
    struct vv_dir dir, own;     /* the store, lent; its .varve, ours */
    struct vv_layout_options options;
    bool damaged;               /* the history is: nothing is written any more */
    bool _Atomic poisoned;      /* a sync failed: nothing is written any more */
    pthread_mutex_t writer;     /* guards `ledger`; who changes the history holds it; taken before all others */
    struct vv_ledger ledger;
    struct vv_shelf shelf;
    uint64_t _Atomic made;      /* temporary names that were given */
    uint64_t retain; /* `plain` is locked */
    uint64_t _Atomic commit_count, commit_ns, sync_count, sync_ns;
    uint64_t doomed;            /* directories that wait for holds to go; guarded by `writer`, as is the next */
    uint64_t remembered;        /* removed commits that may have more than a tombstone */
    struct vv_table rotten;     /* modules whose files are not mapped any more; guarded by the shelf's mutex */
    uint64_t _Atomic version, sound; /* of what can be mapped */
};

void vv_tree_find(struct vv_place *place, varve_severity severity, const char *file, const varve_commit_id *commit,
                  const char *text);
varve_status vv_tree_writable(struct vv_place *place);
/* When it is UNCERTAIN nothing is written from now on; returns it. */
varve_status vv_tree_poison_if(struct vv_place *place, varve_status rc);
/* Syncs, counted for stat; a failure poisons. */
varve_status vv_tree_sync_file(struct vv_place *place, struct vv_file *file);
varve_status vv_tree_sync_dir(struct vv_place *place, const struct vv_dir *dir);

/* read.c */
varve_status vv_tree_view(struct vv_place *place, const struct vv_commit_facts *facts, struct vv_state *state);
varve_status vv_tree_load_module(void *context, const varve_module_id *id, uint64_t locator,
                                 struct vv_module **module);
varve_status vv_tree_read(struct vv_place *place, const struct vv_leaf *leaf, uint8_t page[VV_PAGE_SIZE]);
varve_status vv_tree_read_diff(struct vv_place *place, const struct vv_pagetree *from,
                               const struct vv_pagetree *tree,
                               varve_status (*put)(void *context, uint64_t index, const uint8_t *page),
                               void *context);
void vv_tree_source(struct vv_place *place, const varve_module_id *module, const struct vv_pagetree *wanted,
                    struct vv_source *source);
void vv_tree_source_end(struct vv_place *place, struct vv_source *source);
uint64_t vv_tree_source_version(struct vv_place *place);
void vv_tree_source_rotten(struct vv_place *place, const varve_module_id *module);
uint64_t vv_tree_source_sound(struct vv_place *place);

/* publish.c */
varve_status vv_tree_prepare(struct vv_place *place, struct vv_change *change, struct vv_pending **pending);
varve_status vv_tree_publish(struct vv_place *place, struct vv_change *change, struct vv_pending *pending,
                             const struct vv_ref_move *move, varve_durability durability);
void vv_tree_discard(struct vv_place *place, struct vv_pending *pending);
varve_status vv_tree_move_refs(struct vv_place *place, const struct vv_ref_move *moves, size_t count,
                               int64_t time_ns);

/* remove.c */
varve_status vv_tree_remove(struct vv_place *place, const varve_commit_id *ids, size_t count, int64_t time_ns);
varve_status vv_tree_bury(struct vv_place *place, const varve_commit_id *id, const varve_commit_id *before);
varve_status vv_tree_maintain(struct vv_place *place, uint32_t flags, varve_progress_fn progress, void *context,
                              uint64_t *freed);
varve_status vv_tree_tidy(struct vv_place *place, uint64_t budget, bool *more);
void vv_tree_settle(struct vv_place *place);
/* At open: what no commit names and what a crash left goes; read only, or beside damage: it is named. */
varve_status vv_tree_sweep(struct vv_place *place);
/* A directory that is in nobody's way under this name: its files, and itself. `freed` (may be NULL): bytes on disk. */
varve_status vv_tree_unlink(struct vv_place *place, const char *name, uint64_t *freed);
/* A name that nobody has: `prefix`, and a number. */
void vv_tree_name(struct vv_place *place, const char *prefix, char name[VV_TREE_NAME]);

/* tell.c */
varve_status vv_tree_files(struct vv_place *place, vv_file_facts_fn each, void *context);
void vv_tree_stat(struct vv_place *place, struct vv_layout_stat *stat);

/* check.c */
varve_status vv_tree_check(const struct vv_dir *dir, const struct vv_layout_options *options, uint32_t flags,
                           uint64_t *damage);

/* tree.c: open without removing anything, for the check. */
varve_status vv_tree_open(const struct vv_dir *dir, const struct vv_layout_options *options,
                          struct vv_place **place);
void vv_tree_close(struct vv_place *place);

#endif
