/* layout.h - the contract of a layout: where the bytes of commits lie and when a commit is durable.
 *
 * Everything else is shared: trees, states, images, sessions, what a revision means. Layouts do not know each
 * other; store.c picks one. Who calls stands above it: the rest of this folder, and the door (varve.c).
 *
 * Threads: `prepare`, `view`, `read*` and the look-ups may run on any thread at once; `publish` and
 * `move_refs` are serialised by the layout itself. */
#ifndef VV_LAYOUT_H
#define VV_LAYOUT_H

#include "base/vfs.h"
#include "page/image.h"
#include "store/state.h"

bool vv_id_is_zero(const varve_commit_id *id);
bool vv_id_equal(const varve_commit_id *a, const varve_commit_id *b);

/* One commit as a layout tells of it. Texts live as long as the struct; end with vv_commit_facts_release. */
struct vv_commit_facts {
    varve_commit_id id, parent; /* parent all zero: none */
    varve_root root;
    uint64_t number;
    int64_t time_ns;
    char *message, *branch, *engine;
    uint8_t seed[32];
    uint64_t modules, modules_changed, pages_changed, bytes_written;
    uint64_t locator; /* the layout's own: where the commit is; never 0 */
};
void vv_commit_facts_release(struct vv_commit_facts *facts); /* layout.c; an all zero one is fine */
varve_status vv_commit_facts_copy(struct vv_commit_facts *copy, const struct vv_commit_facts *facts);
/* EXISTS: what `bury` says when the store knows the commit. */
varve_status vv_bury_known(void);

/* A page that a commit changes. */
struct vv_page_change {
    uint64_t index;
    const uint8_t *bytes;  /* NULL: the page is zero now */
    const uint8_t *base;   /* the bytes it had in the base version; NULL: zero or unknown, store whole */
    uint64_t base_locator; /* of `base` */
    const uint8_t *runs;   /* what vv_runs_encode made of base and bytes; NULL: nobody asked it yet */
    size_t runs_size;
    struct vv_lineage *lineage; /* the layout's own, kept beside the base's bytes; with `runs` only; may be NULL */
    uint8_t hash[VV_HASH_SIZE];
};
struct vv_module_change {
    varve_module_id id;
    struct vv_module
        *after; /* NULL: removed. Its tree has the new hashes; locators of `pages` are 0 until published */
    struct vv_page_change *pages;
    size_t page_count;
};
/* Everything that one commit changes. Lent to prepare; must live until publish or discard. */
struct vv_change {
    const struct vv_commit_facts *base; /* NULL: from the empty state */
    uint64_t hold; /* under which the base's state was opened; UINT64_MAX: nothing in `after` was stored before */
    struct vv_commit_facts
        facts; /* id, parent, root, time, message, branch, engine, seed, counts of modules and pages */
    struct vv_state *after; /* the new state; publish sets its locators, unless `unlocated` */
    bool unlocated;         /* set by publish: the commit is made, but `after` lacks locators (the store held it
                             * already, memory ran out, or something was retired since `hold`): its state is to be
                             * had from `view` */
    struct vv_module_change *modules; /* by id */
    size_t module_count;
    const struct vv_meta_pair *const *meta_set; /* what was set */
    size_t meta_set_count;
    const char *const *meta_removed;
    size_t meta_removed_count;
};

/* A ref's move. */
struct vv_ref_move {
    char name[256];                  /* "main", "tags/v1" */
    const varve_commit_id *expected; /* must name it now; NULL: must not exist; checked unless `force` */
    const varve_commit_id *to;       /* NULL: the ref goes */
    const char *what;                /* "commit", "restore", "create", "delete" */
    bool force;
};
struct vv_ref_facts {
    char name[256];
    varve_commit_id commit; /* zeros: deleted */
    uint64_t moves;         /* how many so far */
};
/* One entry in a ref's own log, newest first. */
struct vv_move_facts {
    varve_commit_id from, to; /* zeros: none */
    char what[16];
    int64_t time_ns;
    uint64_t locator, previous; /* of this move and of the one before; 0: none */
};

enum vv_layout_can {
    VV_CAN_SESSIONS = 1 << 0,   /* any number of sessions at once that may commit; else one (session.c sees to it) */
    VV_CAN_BRANCH = 1 << 1,     /* any branches; else main alone, and tags */
    VV_CAN_DELETE = 1 << 2,     /* any commit can be deleted */
    VV_CAN_DURABLE = 1 << 3,    /* durable at commit; else `publish` is only asked for BUFFERED, what was committed is
                                 * known to this opening alone, and lasts from `persist` on */
    VV_CAN_READ_BESIDE = 1 << 4 /* readers in other processes beside the writer */
};

struct vv_layout_options {
    const struct vv_vfs *vfs;
    bool read_only;
    struct vv_file *lock; /* .varve/lock, lent: other processes may have the store open too; NULL: none has */
    varve_durability durability;
    uint64_t retain; /* 0: all; else the newest so many commits of each branch */
    uint64_t snapshot_bytes;
    varve_finding_fn finding; /* may be NULL */
    varve_progress_fn progress;
    void *context; /* of both */
};
struct vv_layout_stat {
    uint64_t commits, refs, bytes_stored, bytes_reclaimable, journal_bytes, snapshots_taken;
    uint64_t commit_count, commit_ns_total, sync_count, sync_ns_total;
    bool poisoned, damaged;
};

/* A file that holds memory as `tree` says, to be mapped: page i of it at offset + i * 4096. */
struct vv_source {
    struct vv_file file; /* lent; fd -1: none */
    uint64_t offset, pages;
    const struct vv_pagetree *tree; /* lent */
    void *owner;                    /* the layout's */
};

/* A file of the store and what it is for, as `varve ls --files` tells it. */
struct vv_file_facts {
    const char *path; /* relative to the store */
    uint64_t bytes;   /* its length */
    uint64_t links;
    const char *what; /* "mmap backing file"; lent, as `path` is, until the callback returns */
};
typedef varve_status (*vv_file_facts_fn)(void *context, const struct vv_file_facts *file);

/* An image that nobody writes to for a moment. */
struct vv_frozen {
    varve_module_id module;
    struct vv_pagetree *tree; /* of its content; lent */
    const uint8_t *bytes;
    /* Let a forked child have its memory, or no longer. */
    varve_status (*share)(void *context, bool yes);
    void *context;
};

struct vv_pending; /* a prepared commit; the layout's */
struct vv_place;   /* an open store of this layout; the layout's */

struct vv_layout {
    varve_layout id;
    const char *name; /* "journal" */
    unsigned can;

    /* In an empty, locked directory: durable when it returns. */
    varve_status (*create)(const struct vv_dir *dir, const struct vv_layout_options *options);
    /* Finish or undo what a crash left. After damage to acknowledged bytes it opens all the same, refuses
     * prepare and publish with CORRUPT, and tells through `finding`. Read-only writes nothing. `dir` stays the caller's. */
    varve_status (*open)(const struct vv_dir *dir, const struct vv_layout_options *options,
                         struct vv_place **place);
    void (*close)(struct vv_place *place);

    /* What is there stays readable until the hold is dropped. Taken before a commit is looked up whose facts, state
     * or pages are to be read later. */
    uint64_t (*hold)(struct vv_place *place);
    void (*drop)(struct vv_place *place, uint64_t token);

    /* Commits. A prefix has `digits` hex digits in `key` (the rest zero). Up to two matches are told, so that
     * ambiguity shows; 0: none. */
    varve_status (*find_id)(struct vv_place *place, const uint8_t key[32], unsigned digits,
                            varve_commit_id found[2], size_t *count);
    varve_status (*find_root)(struct vv_place *place, const uint8_t key[32], unsigned digits,
                              varve_commit_id found[2], size_t *count); /* the newest commit of each root */
    varve_status (*find_number)(struct vv_place *place, uint64_t number,
                                varve_commit_id *found); /* NOT_FOUND */
    varve_status (*facts)(struct vv_place *place, const varve_commit_id *id,
                          struct vv_commit_facts *facts); /* NOT_FOUND */
    uint64_t (*last_number)(struct vv_place *place);      /* numbers are 1 .. this; gaps are possible */
    /* The commit itself, or the nearest before it that was not removed; zeros: there is none. What the store never
     * had is its own answer. */
    varve_status (*ancestor)(struct vv_place *place, const varve_commit_id *id, varve_commit_id *found);

    /* The state of a commit, loaded by need. Released before the place is closed. */
    varve_status (*view)(struct vv_place *place, const struct vv_commit_facts *facts, struct vv_state *state);
    /* Which modules a commit changed: id and pages, in id order (for show; from its record). */
    varve_status (*changed)(struct vv_place *place, const struct vv_commit_facts *facts,
                            varve_status (*each)(void *context, const varve_module_id *id, bool removed,
                                                 uint64_t pages, uint64_t bytes),
                            void *context);

    /* The bytes of a stored page, checked against `leaf`'s hash (CORRUPT, naming the file). */
    varve_status (*read)(struct vv_place *place, const struct vv_leaf *leaf, uint8_t page[VV_PAGE_SIZE]);
    /* A file to map that holds memory near to `wanted`, a tree of this module; or none (fd -1). Never fails: a cache
     * that is not there costs reading. What it gives stays as it is until source_end, whatever is written meanwhile. */
    void (*source)(struct vv_place *place, const varve_module_id *module, const struct vv_pagetree *wanted,
                   struct vv_source *source);
    void (*source_end)(struct vv_place *place, struct vv_source *source);
    /* Rises when there may be nearer files than before. */
    uint64_t (*source_version)(struct vv_place *place);
    /* A file of this module has other bytes than it said: no more is to be mapped of it. What was mapped before
     * the version that `source_sound` answers may be of such a file. */
    void (*source_rotten)(struct vv_place *place, const varve_module_id *module);
    uint64_t (*source_sound)(struct vv_place *place);
    /* The pages of `tree` that are not as in `from` (NULL: all zero), in any order, frames read once; for filling
     * an image. NULL for a page: it is zero. */
    varve_status (*read_diff)(struct vv_place *place, const struct vv_pagetree *from,
                              const struct vv_pagetree *tree,
                              varve_status (*put)(void *context, uint64_t index, const uint8_t *page),
                              void *context);

    /* NULL: the layout has no use for it. A call in a session that may commit went well, or the session is about to
     * commit, or (bytes NULL) it ended without a commit: this module's memory is as `tree` says now. `bytes` is
     * all of it, lent; with NULL they are to be had from the store. A module that is gone: `tree` NULL. */
    varve_status (*live)(struct vv_place *place, const varve_module_id *module, const struct vv_pagetree *tree,
                         const uint8_t *bytes);

    /* See that files are as near as they can be to where the branches stand. `fork`: the next commit is asked to
     * freeze its images for it, and the call returns at once. */
    varve_status (*snapshot)(struct vv_place *place, bool fork);
    /* Does the layout want to see images as a commit left them, to write them out in a forked child? */
    bool (*wants_frozen)(struct vv_place *place);
    /* Nobody writes to these images until it returns; all of them are as in the commit `facts`. */
    varve_status (*freeze)(struct vv_place *place, const struct vv_commit_facts *facts, struct vv_frozen *images,
                           size_t count);

    /* Bytecode by hash: durable when put returns (J6); caller frees what get gives. */
    varve_status (*code_put)(struct vv_place *place, const uint8_t hash[32], const void *code, size_t size);
    varve_status (*code_get)(struct vv_place *place, const uint8_t hash[32], uint8_t **code, size_t *size);

    /* Refs, by name. */
    varve_status (*ref_get)(struct vv_place *place, const char *name,
                            struct vv_ref_facts *ref); /* NOT_FOUND */
    varve_status (*ref_next)(struct vv_place *place, const char *after,
                             struct vv_ref_facts *ref); /* VARVE_END */
    /* The newest move of a ref (locator 0), or the one at `locator`; VARVE_END. Deleted refs keep their log. */
    varve_status (*ref_move)(struct vv_place *place, const char *name, uint64_t locator,
                             struct vv_move_facts *move);
    varve_status (*move_refs)(struct vv_place *place, const struct vv_ref_move *moves, size_t count,
                              int64_t time_ns);

    /* Take commits out of the history, durably: they are neither listed nor found any more. What they need goes when
     * no retained commit and no hold that is older needs it. NOT_FOUND; MISUSE when a ref names one: then none of
     * the first 1024 is removed, and so on. */
    varve_status (*remove)(struct vv_place *place, const varve_commit_id *ids, size_t count, int64_t time_ns);

    /* A commit that this store never had was removed where it was: `ancestor` steps over it, to `before` (zeros:
     * there is none). Lasts as a BUFFERED commit does. For who copies a history (clone.c). */
    varve_status (*bury)(struct vv_place *place, const varve_commit_id *id, const varve_commit_id *before);

    /* A commit in two steps: prepare outside any lock, then the one instant. `move` may be NULL (detached).
     * publish fills what the layout decides of `change->facts` (number, bytes_written, locator) and ends `pending`
     * on success and on failure. When the store already holds a commit with this id, only the ref moves and
     * facts are that commit's. CONFLICT: the ref stood elsewhere; nothing made. UNCERTAIN: poisoned. */
    varve_status (*prepare)(struct vv_place *place, struct vv_change *change, struct vv_pending **pending);
    varve_status (*publish)(struct vv_place *place, struct vv_change *change, struct vv_pending *pending,
                            const struct vv_ref_move *move, varve_durability durability);
    void (*discard)(struct vv_place *place, struct vv_pending *pending);

    varve_status (*persist)(struct vv_place *place);
    /* Other settings are in force from now on; what a commit's durability is, its publish is told. */
    void (*configure)(struct vv_place *place, uint64_t retain, uint64_t snapshot_bytes);
    /* Apply retention, reclaim what nothing needs, all at once; `flags`: enum VARVE_MAINTAIN_... . `freed`: bytes on
     * disk, or what they would be about. */
    varve_status (*maintain)(struct vv_place *place, uint32_t flags, varve_progress_fn progress, void *context,
                             uint64_t *freed);
    varve_status (*tidy)(struct vv_place *place, uint64_t budget,
                         bool *more); /* background work, a step at a time */
    /* Before the place is closed: to its end, what is due and would be lost if it were left half-done. */
    void (*settle)(struct vv_place *place);
    void (*stat)(struct vv_place *place, struct vv_layout_stat *stat);
    /* Every file of the store outside .varve, by path, with what it is for. */
    varve_status (*files)(struct vv_place *place, vv_file_facts_fn each, void *context);
    /* Read every byte there is, believe nothing, report. Opens nothing for writing, unless it is to REPAIR. */
    varve_status (*check)(const struct vv_dir *dir, const struct vv_layout_options *options, uint32_t flags,
                          uint64_t *damage);
};

extern const struct vv_layout vv_layout_flat, vv_layout_chain, vv_layout_tree, vv_layout_journal;

#endif
