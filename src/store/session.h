/* session.h - a working copy of one commit: images, instance state, meta, savepoints, commit.
 *
 * The store knows nothing of WASM: a module here is an image, a code hash and opaque instance-state bytes. The VM
 * hangs its live instance on `guest` and is called back through vv_guest_hooks when its state must be taken
 * (`capture`) or is no longer what it was (`discard`).
 *
 *   now       the base's state with the session's own set of modules and named values; what is inside a module
 *             lags behind in it, until seal.c brings it up to date in a copy
 *   working   what the session has of one module, made at first use
 *   images    every image opened here, whoever has it now; freed, or given to the pool, at the end
 *   undo      what a rollback puts back, oldest first; marks[d] says how much of it is older than savepoint d + 1
 *   depth     0 without savepoints; savepoint n is the moment at which depth became n
 * Laws:
 *   (S1) rollback(n) brings back bytes, lengths, instance state, meta, modules and images, as they were at n.
 *   (S2) commit either makes the whole state one commit, or nothing, and then the session is whole.
 *   (S3) no change is hashed or copied before it must be: begin, first savepoint and first call copy nothing.
 *   (S4) undo holds at most one record of a module, and of a named value, for each depth.
 * Moves: enter(module) settles image and instance state at the current depth; then the guest may write. */
#ifndef VV_SESSION_H
#define VV_SESSION_H

#include <stdatomic.h>

#include "base/table.h"
#include "page/image.h"
#include "store/store.h"

struct vv_working {
    varve_module_id id;
    /* Kind, name, code, owner, extra, instance as of now (while `guest` lives: as of the last capture); `memory` is
     * that of the base, or the zeros it was made with. Shared and never changed in place: a record of undo, the
     * state and other sessions may hold it. NULL: never in the state. */
    struct vv_module *fields;
    struct vv_module *base; /* as in the base state, held; NULL: new in this session */
    varve_image *image;     /* NULL: not opened */
    bool removed;           /* not in the state now */
    bool created;           /* put into the state in this session (also after a removal) */
    uint32_t settled_depth; /* undo knows it as it was at every savepoint up to here */
    void *guest;            /* the VM's live instance; NULL: none */
    const uint8_t *code;    /* bytecode deployed in this session, not stored yet; NULL: in the store */
    size_t code_size;
};

/* An image of a session, and who answers for its base. What varve_image_open lends. */
struct varve_image {
    varve_session *session;
    struct vv_working *working; /* which has this image, or had it */
    struct vv_image *image;   /* NULL: it was removed for good, and its place was wanted */
    struct vv_module *origin; /* whose memory the base is, held; NULL: zeros */
    bool exposed;             /* a C program has its address */
    varve_image *next;
};

/* What rollback puts back: a module as it was, or (working NULL) a named value. */
struct vv_undo {
    struct vv_working *working;
    struct vv_working before; /* holds `fields`; `guest` means nothing here */
    char *key;
    uint8_t *value;
    size_t value_size; /* 0: was absent */
};

/* Bytecode that was lent, until the session ends. */
struct vv_lent_code {
    struct vv_lent_code *next;
    uint8_t hash[VV_HASH_SIZE];
    uint8_t *code;
    size_t size;
};

struct vv_guest_hooks {
    void *context;
    /* Bring the live instance's state into working->fields->instance (vv_session_set_instance). */
    varve_status (*capture)(void *context, struct vv_working *working);
    /* Bytes, length or instance state went back, or the module goes: the live instance is stale. */
    void (*discard)(void *context, struct vv_working *working);
    /* Output, events and effects follow savepoints: taken, undone to it, kept. May be NULL. */
    void (*savepoint)(void *context, uint32_t depth);
    void (*rollback)(void *context, uint32_t depth);
    void (*release)(void *context, uint32_t depth);
    /* The session ends (kept: by a commit); with CHAIN also called, and the session goes on. */
    void (*outcome)(void *context, bool kept);
    void (*end)(void *context); /* free the context */
};

struct varve_session {
    varve_store *store;
    varve_commit *base; /* held; NULL: genesis */
    varve_root base_root;
    struct vv_state origin, now;
    struct vv_table workings; /* module id -> struct vv_working; none goes before the end */
    varve_image *images;
    struct vv_lent_code *codes;
    struct vv_undo *undo;
    size_t undo_count, undo_capacity;
    size_t *marks;
    uint32_t depth, mark_capacity;
    uint32_t exposed;   /* how many images a C program may write at any time */
    char *branch;       /* "": detached */
    bool branch_exists; /* commit expects the branch at `branch_at`; else that there is none */
    varve_commit_id branch_at;
    bool read_only, tainted;
    bool writes; /* it is the one session of its store that may commit (struct varve_store, `writing`) */
    varve_status poisoned;       /* VARVE_OK: not */
    int64_t time_given, time_ns; /* given: 0 when drawn */
    bool seed_given;
    uint8_t seed[32];
    const char *engine; /* lent by the VM; NULL: none */
    struct vv_guest_hooks hooks;
    atomic_flag inside; /* a thread is */
};

/* `options` as varve_session_begin got them, never NULL; what guests alone need of them is the VM's to keep. */
varve_status vv_session_begin(varve_store *store, const varve_session_options *options,
                              varve_session **session);
void vv_session_set_hooks(varve_session *session, const struct vv_guest_hooks *hooks);
void *vv_session_guest_context(const varve_session *session);           /* of the hooks; NULL: none */
void vv_session_set_engine(varve_session *session, const char *engine); /* recorded in commits; lent */
varve_store *vv_session_store(const varve_session *session);
varve_commit *vv_session_base(const varve_session *session);
bool vv_session_read_only(const varve_session *session);
int64_t vv_session_time(const varve_session *session);
const uint8_t *vv_session_seed(const varve_session *session); /* 32 bytes */
uint32_t vv_session_depth(const varve_session *session);
/* One thread at a time: MISUSE when another is inside. Every public call is between these two. */
varve_status vv_session_lock(varve_session *session);
void vv_session_unlock(varve_session *session);
/* A call left half-done writes (UNGUARDED): only rollback and abort until one of them was done. */
void vv_session_taint(varve_session *session);
varve_status
vv_session_usable(const varve_session *session); /* MISUSE when tainted; IO.. when poisoned by the host */
void vv_session_poison(varve_session *session,
                       varve_status why); /* host memory ran out in the guest: abort is all */
/* The session has worked on rot, or on what could not be read: nothing of it is kept, and no other session is to map
 * this module's files as they are. */
void vv_session_give_up_file(varve_session *session, const varve_module_id *id, varve_status why);

/* NOT_FOUND, naming it, when the state has no such module. Lent until the session ends. */
varve_status vv_session_working(varve_session *session, const varve_module_id *id,
                                struct vv_working **working);
/* Its image, mapped and filled on first use. `limit` 0: default; what it is when the image is open already stays. */
varve_status vv_session_image(varve_session *session, struct vv_working *working, uint64_t limit,
                              struct vv_image **image);
/* Add a module: fields (taken, on failure too), its bytecode (copied; NULL for an image), memory of `size` zero
 * bytes. EXISTS when the state has one with this id. */
varve_status vv_session_add(varve_session *session, struct vv_module *fields, const void *code,
                            size_t code_size, uint64_t size, uint64_t limit, struct vv_working **working);
varve_status vv_session_remove_module(varve_session *session, struct vv_working *working);
/* Replace all fields but the memory of a module that is there (code, extra, owner, instance...): for migrate.
 * `fields` is taken, on failure too; the live instance is discarded. */
varve_status vv_session_replace(varve_session *session, struct vv_working *working, struct vv_module *fields,
                                const void *code, size_t code_size);
/* Its bytecode, lent until the session ends. */
varve_status vv_session_code(varve_session *session, struct vv_working *working, const uint8_t **code,
                             size_t *size);

/* About to be written by a guest, a host function or a copy, on this thread: settle at the current depth. */
varve_status vv_session_enter(varve_session *session, struct vv_working *working);
/* After enter, or from `capture`: the instance state is this now. */
varve_status vv_session_set_instance(varve_session *session, struct vv_working *working, const void *bytes,
                                     size_t size);

varve_status vv_session_savepoint(varve_session *session, uint32_t *depth);
varve_status vv_session_rollback(varve_session *session, uint32_t depth);
varve_status vv_session_release(varve_session *session, uint32_t depth);

/* Meta, hidden keys included; undone by rollback. */
varve_status vv_session_set_meta(varve_session *session, const char *key, const void *value, size_t size);
varve_status vv_session_get_meta(varve_session *session, const char *key, const void **value, size_t *size);
varve_status vv_session_next_meta(varve_session *session, const char *after,
                                  const char **key); /* not hidden; END */
/* `size` bytes of the session's chance: H(CHANCE, seed | position) blocks; the position is hidden meta. */
varve_status vv_session_random(varve_session *session, void *bytes, size_t size);
/* What a C program does with an image. Opened so, it may be written at any time: savepoints settle it at once. */
varve_status vv_session_open_image(varve_session *session, const varve_module_id *id,
                                   const varve_image_options *options, varve_image **image);
varve_status vv_session_grow_image(varve_image *image, uint64_t size);
varve_status vv_session_read_image(const varve_image *image, uint64_t offset, void *data, size_t size);
varve_status vv_session_write_image(varve_image *image, uint64_t offset, const void *data, size_t size);

/* Pages of all modules that differ from what they were at savepoint `depth`, for receipts; 0 when the session is of no
 * more use. */
varve_status vv_session_pages_changed(varve_session *session, uint32_t depth, uint64_t *pages);

/* seal.c: the state as it is now, up to date in every module. All of it leaves the session usable. */
varve_status vv_session_root(varve_session *session, varve_root *root);
varve_status vv_session_module(varve_session *session, const varve_module_id *id, varve_module_info *info);
varve_status vv_session_next_module(varve_session *session, const varve_module_id *after,
                                    varve_module_info *info); /* END */
varve_status vv_session_prove(varve_session *session, const varve_module_id *id, uint64_t page,
                              struct vv_bytes *proof);
/* A call went well: let a layout that shows the state in files as calls change it do so. */
void vv_session_show(varve_session *session);
/* As varve_session_commit. `ended`: it succeeded without CHAIN, and the session is gone. */
varve_status vv_session_commit(varve_session *session, const varve_commit_options *options,
                               varve_commit **commit, bool *ended);

/* Drop it and all it changed. */
void vv_session_abort(varve_session *session);

/* Between the files of a session. Let a rollback to the current depth find the module, the named value, as it is now;
 * drop the records from `count` on. */
varve_status vv_session_keep(varve_session *session, struct vv_working *working);
varve_status vv_session_keep_meta(varve_session *session, const char *key);
void vv_session_cut_undo(varve_session *session, size_t count);
void vv_session_free_images(varve_session *session, bool warm);
/* For seal.c: forget all savepoints, keeping the changes; take this image's current content for its base, that of
 * `origin` (held; NULL: zeros); free the session, whose images are given to the pool if `warm`. */
void vv_session_forget_savepoints(varve_session *session);
varve_status vv_session_rebase_image(varve_image *image, struct vv_module *origin);
void vv_session_free(varve_session *session, bool warm);
varve_status vv_session_draw(varve_session *session); /* time and chance that were not given */

#endif
