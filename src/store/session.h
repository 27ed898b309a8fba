/* session.h - a working copy of one commit: images, instance state, meta, savepoints, commit.
 *
 * The store knows nothing of WASM: a module here is an image, a code hash and opaque instance-state bytes. The VM
 * hangs its live instance on `guest` and is called back through vv_guest_hooks when its state must be taken
 * (`capture`) or is no longer what it was (`discard`).
 *
 *   working   what the session has of one module, made at first use
 *   depth     0 without savepoints; savepoint n is the moment at which depth became n
 * Laws:
 *   (S1) rollback(n) brings back bytes, lengths, instance state, meta, modules and images, as they were at n.
 *   (S2) commit either makes the whole state one commit, or nothing, and then the session is whole.
 *   (S3) no change is hashed or copied before it must be: begin, first savepoint and first call copy nothing.
 * Moves: enter(module) settles image and instance state at the current depth; then the guest may write. */
#ifndef VV_SESSION_H
#define VV_SESSION_H

#include "page/image.h"
#include "store/store.h"

struct vv_working {
    varve_module_id id;
    struct vv_module
        *fields; /* kind, name, code, owner, extra, instance as of now; own copy, memory tree = base's */
    struct vv_module *base; /* as in the base state, held; NULL: new in this session */
    struct vv_image *image; /* NULL: not opened */
    bool removed;           /* taken out of the state in this session */
    bool created;           /* put into the state in this session (also after a removal) */
    uint32_t settled_depth; /* levels of instance state kept up to here */
    void *guest;            /* the VM's live instance; NULL: none */
    uint8_t *code;          /* bytecode deployed in this session, not stored yet; NULL: in the store */
    size_t code_size;
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

varve_status vv_session_begin(varve_store *store, const varve_session_options *options,
                              varve_session **session);
void vv_session_set_hooks(varve_session *session, const struct vv_guest_hooks *hooks);
void *vv_session_guest_context(const varve_session *session);           /* of the hooks; NULL: none */
void vv_session_set_engine(varve_session *session, const char *engine); /* recorded in the commit */
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

/* NOT_FOUND, naming it, when the state has no such module. Lent until the session ends. */
varve_status vv_session_working(varve_session *session, const varve_module_id *id,
                                struct vv_working **working);
/* Its image, mapped and filled on first use. `limit` 0: default. */
varve_status vv_session_image(varve_session *session, struct vv_working *working, uint64_t limit,
                              struct vv_image **image);
/* Add a module: fields (taken), its bytecode (copied; NULL for an image), memory of `size` zero bytes. EXISTS. */
varve_status vv_session_add(varve_session *session, struct vv_module *fields, const void *code,
                            size_t code_size, uint64_t size, uint64_t limit, struct vv_working **working);
varve_status vv_session_remove_module(varve_session *session, struct vv_working *working);
/* Replace fields of a module that is there (code, extra, owner...): for migrate. `fields` is taken. */
varve_status vv_session_replace(varve_session *session, struct vv_working *working, struct vv_module *fields,
                                const void *code, size_t code_size);
/* Its bytecode, lent until the session ends. */
varve_status vv_session_code(varve_session *session, struct vv_working *working, const uint8_t **code,
                             size_t *size);

/* About to be written by a guest, a host function or a copy: settle at the current depth. */
varve_status vv_session_enter(varve_session *session, struct vv_working *working);
varve_status vv_session_set_instance(varve_session *session, struct vv_working *working, const void *bytes,
                                     size_t size);

varve_status vv_session_savepoint(varve_session *session, uint32_t *depth);
varve_status vv_session_rollback(varve_session *session, uint32_t depth);
varve_status vv_session_release(varve_session *session, uint32_t depth);

/* Meta, hidden keys included; undone by rollback. */
varve_status vv_session_set_meta(varve_session *session, const char *key, const void *value, size_t size);
varve_status vv_session_get_meta(varve_session *session, const char *key, const void **value, size_t *size);
/* `size` bytes of the session's chance: H(CHANCE, seed | position) blocks; the position is hidden meta. */
varve_status vv_session_random(varve_session *session, void *bytes, size_t size);
/* Pages of all modules that differ from what they were at savepoint `depth`, for receipts. */
varve_status vv_session_pages_changed(varve_session *session, uint32_t depth, uint64_t *pages);

varve_status vv_session_root(varve_session *session, varve_root *root);
varve_status vv_session_commit(varve_session *session, const varve_commit_options *options,
                               varve_commit **commit, bool *ended);
void vv_session_abort(varve_session *session);

#endif
