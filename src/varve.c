/* varve.c - the door: checks every argument, calls down, and puts the thread's words into the caller's storage.
 *
 * What a caller can get wrong is found here and is MISUSE with words: no function below sees a NULL that it does
 * not expect, flags that nobody knows, or a struct of a size it does not have. Sections 1 to 5 of varve.h. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "page/proof.h"
#include "page/root.h"
#include "store/clone.h"
#include "store/diff.h"
#include "store/history.h"
#include "store/session.h"
#include "door.h"

/* ---- Structs that are filled in ----------------------------------------------------------------- */

static varve_status check_told(const void *theirs, const char *what)
{
    size_t given = 0;

    if (theirs == NULL)
        return vv_fail(VARVE_MISUSE, "%s is NULL", what);
    memcpy(&given, theirs, sizeof given);
    if (given < sizeof given)
        return vv_fail(VARVE_MISUSE, "%s: its size is %zu: set it with VARVE_INIT", what, given);
    return VARVE_OK;
}

/* Give the caller as much of `ours` as its struct has room for, and zeros where it has more. */
static void give_told(void *theirs, const void *ours, size_t size)
{
    size_t room = 0;

    memcpy(&room, theirs, sizeof room);
    if (room > size)
        memset((uint8_t *)theirs + size, 0, room - size);
    memcpy(theirs, ours, room < size ? room : size);
    memcpy(theirs, &room, sizeof room);
}

/* ---- 1. Status, errors, ids ------------------------------------------------------------------- */

const char *varve_version(uint32_t *features)
{
    if (features != NULL)
        *features = VARVE_FEATURES;
    return VARVE_VERSION;
}

const char *varve_status_name(varve_status status)
{
    switch (status) {
#define NAME_CASE(name, value, text) \
    case VARVE_##name:               \
        return #name;
        VARVE_STATUS_MAP(NAME_CASE)
#undef NAME_CASE
    case VARVE_STATUS_MAX:
        break;
    }
    return "UNKNOWN";
}

void varve_hex_format(const uint8_t bytes[32], char text[65])
{
    vv_hex_format(bytes, text);
}

varve_status varve_hex_parse(const char *text, uint8_t bytes[32])
{
    if (text == NULL || bytes == NULL)
        return VARVE_MISUSE;
    return vv_hex_parse(text, bytes);
}

varve_status varve_module_id_of(const char *name, varve_module_id *id)
{
    if (name == NULL || id == NULL)
        return VARVE_MISUSE;
    const varve_status rc = vv_module_name_check(name);
    if (rc == VARVE_OK)
        vv_name_id(name, id->bytes);
    return rc;
}

void varve_free(void *pointer)
{
    vv_free(pointer);
}

/* ---- 2. Store --------------------------------------------------------------------------------- */

static varve_status check_settings(const varve_store_options *options)
{
    if (options->layout > VARVE_LAYOUT_JOURNAL || options->durability > VARVE_BUFFERED)
        return vv_fail(VARVE_MISUSE, "varve_store_options has a layout or a durability that does not exist");
    return VARVE_OK;
}

varve_status varve_store_open(const char *path, const varve_store_options *given, varve_store **store,
                              varve_error *error)
{
    varve_store_options options = { 0 };
    varve_status rc = VARVE_OK;

    TRY(vv_door_need(store, "store"));
    *store = NULL;
    TRY(vv_door_need(path, "path"));
    TRY(vv_door_options(&options, sizeof options, given, "varve_store_options"));
    TRY(vv_door_flags(options.flags, VARVE_STORE_CREATE | VARVE_STORE_READ_ONLY | VARVE_STORE_NO_THREADS,
                      "varve_store_options"));
    if ((options.flags & VARVE_STORE_CREATE) && (options.flags & VARVE_STORE_READ_ONLY))
        rc = vv_fail(VARVE_MISUSE, "a store cannot be made to be read only: CREATE with READ_ONLY");
    else
        rc = check_settings(&options);
    if (rc == VARVE_OK)
        rc = vv_store_open(&vv_vfs_system, path, &options, store);
out:
    return vv_error_deliver(error, rc);
}

void varve_store_close(varve_store *store)
{
    vv_store_close(store);
}

varve_status varve_store_stat(varve_store *store, varve_store_info *info, varve_error *error)
{
    varve_store_info told = { .size = sizeof told };
    varve_status rc = VARVE_OK;

    TRY(vv_door_need(store, "store"));
    TRY(check_told(info, "varve_store_info"));
    vv_store_stat(store, &told);
    give_told(info, &told, sizeof told);
out:
    return vv_error_deliver(error, rc);
}

varve_status varve_store_configure(varve_store *store, const varve_store_options *given, varve_error *error)
{
    varve_store_options options = { 0 };
    varve_status rc = VARVE_OK;

    TRY(vv_door_need(store, "store"));
    TRY(vv_door_options(&options, sizeof options, given, "varve_store_options"));
    TRY(check_settings(&options));
    TRY(vv_store_writable(store));
    TRY(vv_store_configure(store, &options));
out:
    return vv_error_deliver(error, rc);
}

varve_status varve_store_persist(varve_store *store, varve_error *error)
{
    varve_status rc = VARVE_OK;

    TRY(vv_door_need(store, "store"));
    TRY(vv_store_writable(store));
    TRY(store->layout->persist(store->place));
out:
    return vv_error_deliver(error, rc);
}

varve_status varve_store_maintain(varve_store *store, const varve_maintain_options *given,
                                  uint64_t *bytes_freed, varve_error *error)
{
    varve_maintain_options options = { 0 };
    uint64_t freed = 0;
    varve_status rc = VARVE_OK;

    TRY(vv_door_need(store, "store"));
    TRY(vv_door_options(&options, sizeof options, given, "varve_maintain_options"));
    TRY(vv_door_flags(options.flags, VARVE_MAINTAIN_SNAPSHOT | VARVE_MAINTAIN_FORK | VARVE_MAINTAIN_DRY_RUN,
                      "varve_maintain_options"));
    const bool dry = options.flags & VARVE_MAINTAIN_DRY_RUN;
    const bool snapshot = options.flags & VARVE_MAINTAIN_SNAPSHOT;
    const bool forked = options.flags & VARVE_MAINTAIN_FORK;
    if (forked && !snapshot)
        TRY(vv_fail(VARVE_MISUSE, "FORK says how a SNAPSHOT is taken, and none is asked for"));
    if (dry && snapshot)
        TRY(vv_fail(VARVE_MISUSE, "a DRY_RUN changes nothing, so it takes no SNAPSHOT"));
    if (!dry)
        TRY(vv_store_writable(store));
    TRY(store->layout->maintain(store->place, options.flags, options.progress, options.context, &freed));
    if (snapshot)
        TRY(store->layout->snapshot(store->place, forked)); /* on a full disk it may need what was freed */
    if (bytes_freed != NULL)
        *bytes_freed = freed;
out:
    return vv_error_deliver(error, rc);
}

varve_status varve_store_clone(varve_store *store, const char *path, const varve_clone_options *given,
                               varve_error *error)
{
    varve_clone_options options = { 0 };
    varve_status rc = VARVE_OK;

    TRY(vv_door_need(store, "store"));
    TRY(vv_door_need(path, "path"));
    TRY(vv_door_options(&options, sizeof options, given, "varve_clone_options"));
    TRY(vv_door_flags(options.flags, VARVE_CLONE_SALVAGE, "varve_clone_options"));
    if (options.layout > VARVE_LAYOUT_JOURNAL)
        TRY(vv_fail(VARVE_MISUSE, "varve_clone_options has a layout that does not exist"));
    TRY(vv_store_clone(store, &vv_vfs_system, path, &options));
out:
    return vv_error_deliver(error, rc);
}

struct varve_files {
    varve_file_info *list; /* their texts are their own */
    size_t count, next;
};

static varve_status note_file(void *context, const struct vv_file_facts *file)
{
    varve_files *files = context;
    char *path = NULL, *what = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_resize(&files->list, files->count + 1, sizeof *files->list));
    TRY(vv_strdup(&path, file->path));
    TRY(vv_strdup(&what, file->what));
    files->list[files->count++] = (varve_file_info){
        .size = sizeof(varve_file_info), .path = path, .bytes = file->bytes, .links = file->links, .what = what
    };
    path = NULL;
out:
    vv_free(path);
    return rc;
}

varve_status varve_files_open(varve_store *store, varve_files **files, varve_error *error)
{
    varve_files *made = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_door_need(files, "files"));
    *files = NULL;
    TRY(vv_door_need(store, "store"));
    TRY(vv_alloc(&made, 1, sizeof *made));
    TRY(store->layout->files(store->place, note_file, made));
    *files = made;
    made = NULL;
out:
    varve_files_close(made);
    return vv_error_deliver(error, rc);
}

varve_status varve_files_next(varve_files *files, const varve_file_info **info, varve_error *error)
{
    varve_status rc = VARVE_OK;

    TRY(vv_door_need(files, "files"));
    TRY(vv_door_need(info, "info"));
    if (files->next == files->count)
        return VARVE_END;
    *info = &files->list[files->next++];
out:
    return vv_error_deliver(error, rc);
}

void varve_files_close(varve_files *files)
{
    if (files == NULL)
        return;
    for (size_t i = 0; i < files->count; i++) {
        vv_free((char *)files->list[i].path);
        vv_free((char *)files->list[i].what);
    }
    vv_free(files->list);
    vv_free(files);
}

varve_status varve_store_check(const char *path, const varve_check_options *given, uint64_t *damage,
                               varve_error *error)
{
    varve_check_options options = { 0 };
    uint64_t found = 0;
    varve_status rc = VARVE_OK;

    TRY(vv_door_need(path, "path"));
    TRY(vv_door_need(damage, "damage"));
    TRY(vv_door_options(&options, sizeof options, given, "varve_check_options"));
    TRY(vv_door_flags(options.flags, VARVE_CHECK_QUICK | VARVE_CHECK_REPAIR, "varve_check_options"));
    TRY(vv_store_check(&vv_vfs_system, path, &options, &found));
    *damage = found;
out:
    return vv_error_deliver(error, rc);
}

/* ---- 3. Commits, history, refs ---------------------------------------------------------------- */

varve_status varve_commit_open(varve_store *store, const char *revision, varve_commit **commit,
                               varve_error *error)
{
    varve_commit_id id;
    varve_status rc = VARVE_OK;

    TRY(vv_door_need(commit, "commit"));
    *commit = NULL;
    TRY(vv_door_need(store, "store"));
    TRY(vv_revision_id(store, revision, &id));
    TRY(vv_commit_open_id(store, &id, commit));
out:
    return vv_error_deliver(error, rc);
}

const varve_commit_info *varve_commit_get(const varve_commit *commit)
{
    return commit == NULL ? NULL : &commit->info;
}

void varve_commit_close(varve_commit *commit)
{
    vv_commit_close(commit);
}

varve_status varve_commit_delete(varve_store *store, const varve_commit *commit, varve_error *error)
{
    varve_status rc = VARVE_OK;

    TRY(vv_door_need(store, "store"));
    TRY(vv_door_need(commit, "commit"));
    if (commit->store != store)
        TRY(vv_fail(VARVE_MISUSE, "the commit is of another store"));
    TRY(vv_store_writable(store));
    TRY(store->layout->remove(store->place, &commit->facts.id, 1, vv_clock_now_ns()));
out:
    return vv_error_deliver(error, rc);
}

varve_status varve_log_open(varve_store *store, const varve_log_options *given, varve_log **log,
                            varve_error *error)
{
    varve_log_options options = { 0 };
    varve_status rc = VARVE_OK;

    TRY(vv_door_need(log, "log"));
    *log = NULL;
    TRY(vv_door_need(store, "store"));
    TRY(vv_door_options(&options, sizeof options, given, "varve_log_options"));
    TRY(vv_history_open(store, &options, log));
out:
    return vv_error_deliver(error, rc);
}

varve_status varve_log_next(varve_log *log, const varve_commit_info **info, varve_error *error)
{
    varve_status rc = VARVE_OK;

    TRY(vv_door_need(log, "log"));
    TRY(vv_door_need(info, "info"));
    TRY(vv_history_next(log, info));
out:
    return vv_error_deliver(error, rc);
}

void varve_log_close(varve_log *log)
{
    vv_history_close(log);
}

/* A ref's move as asked for; `expected` NULL without FORCE: it must not exist. */
static varve_status plan_ref(varve_store *store, const char *name, const varve_commit *commit,
                             const varve_commit *expected, uint32_t flags, struct vv_ref_move *move)
{
    const bool force = flags & VARVE_REF_FORCE;
    struct vv_ref_facts ref = { .moves = 0 };
    varve_status rc = VARVE_OK;

    TRY(vv_store_writable(store));
    TRY(vv_ref_name_check(name));
    if ((commit != NULL && commit->store != store) || (expected != NULL && expected->store != store))
        return vv_fail(VARVE_MISUSE, "%s: the commits given are of another store", name);
    rc = store->layout->ref_get(store->place, name, &ref);
    if (rc != VARVE_OK && rc != VARVE_NOT_FOUND)
        goto out;
    const bool exists = rc == VARVE_OK && !vv_id_is_zero(&ref.commit);
    rc = VARVE_OK;
    if (!exists && commit == NULL)
        return vv_fail(VARVE_NOT_FOUND, "%s: no such branch or tag", name);
    if (exists && commit != NULL && expected != NULL && !force && strncmp(name, "tags/", 5) == 0)
        return vv_fail(VARVE_EXISTS, "%s: a tag stays where it is, unless it is forced", name);
    *move = (struct vv_ref_move){
        .expected = expected == NULL ? NULL : &expected->facts.id,
        .to = commit == NULL ? NULL : &commit->facts.id,
        .what = commit == NULL ? "delete"
                : exists       ? "restore"
                               : "create",
        .force = force && expected == NULL,
    };
    memcpy(move->name, name, strlen(name) + 1);
out:
    return rc;
}

varve_status varve_ref_set(varve_store *store, const char *name, const varve_commit *commit,
                           const varve_commit *expected, uint32_t flags, varve_error *error)
{
    struct vv_ref_move move;
    varve_status rc = VARVE_OK;

    TRY(vv_door_need(store, "store"));
    TRY(vv_door_need(name, "name"));
    TRY(vv_door_flags(flags, VARVE_REF_FORCE, "varve_ref_set"));
    TRY(plan_ref(store, name, commit, expected, flags, &move));
    TRY(store->layout->move_refs(store->place, &move, 1, vv_clock_now_ns()));
out:
    return vv_error_deliver(error, rc);
}

varve_status varve_ref_next(varve_store *store, const char *after, varve_ref *ref, varve_error *error)
{
    struct vv_ref_facts facts = { .moves = 0 };
    varve_ref told = { .size = sizeof told };
    varve_status rc = VARVE_OK;

    TRY(vv_door_need(store, "store"));
    TRY(check_told(ref, "varve_ref"));
    TRY(store->layout->ref_next(store->place, after, &facts));
    memcpy(told.name, facts.name, sizeof told.name);
    told.commit = facts.commit;
    told.moves = facts.moves;
    give_told(ref, &told, sizeof told);
out:
    return vv_error_deliver(error, rc);
}

/* ---- 4. Sessions and images ------------------------------------------------------------------- */

varve_status varve_session_begin(varve_store *store, const varve_session_options *given,
                                 varve_session **session, varve_error *error)
{
    varve_session_options options = { 0 };
    varve_status rc = VARVE_OK;

    TRY(vv_door_need(session, "session"));
    *session = NULL;
    TRY(vv_door_need(store, "store"));
    TRY(vv_door_options(&options, sizeof options, given, "varve_session_options"));
    TRY(vv_door_flags(options.flags, VARVE_SESSION_GENESIS | VARVE_SESSION_READ_ONLY,
                      "varve_session_options"));
    TRY(vv_session_begin(store, &options, session));
    rc = options.vm != NULL ? vv_door_attach(*session, &options) : VARVE_OK;
    if (rc != VARVE_OK) {
        vv_session_abort(*session);
        *session = NULL;
    }
out:
    return vv_error_deliver(error, rc);
}

const varve_commit *varve_session_base(const varve_session *session)
{
    return session == NULL ? NULL : vv_session_base(session);
}

varve_status varve_session_commit(varve_session *session, const varve_commit_options *given,
                                  varve_commit **commit, varve_error *error)
{
    varve_commit_options options = { 0 };
    varve_commit *made = NULL;
    bool inside = false, ended = false;
    varve_status rc = VARVE_OK;

    if (commit != NULL)
        *commit = NULL;
    TRY(vv_door_enter(session, &inside));
    TRY(vv_door_options(&options, sizeof options, given, "varve_commit_options"));
    TRY(vv_door_flags(options.flags, VARVE_COMMIT_CHAIN | VARVE_COMMIT_EMPTY, "varve_commit_options"));
    if (options.durability > VARVE_BUFFERED) {
        rc = vv_fail(VARVE_MISUSE, "varve_commit_options has a durability that does not exist");
        goto out;
    }
    TRY(vv_session_commit(session, &options, &made, &ended));
    if (commit != NULL)
        *commit = made;
    else
        vv_commit_close(made);
out:
    return vv_door_leave(session, inside && !ended, error, rc);
}

void varve_session_abort(varve_session *session)
{
    /* A session that somebody is inside of cannot go: better that it stays than that it goes under their feet. */
    if (session != NULL && vv_session_lock(session) == VARVE_OK)
        vv_session_abort(session);
}

varve_status varve_session_root(varve_session *session, varve_root *root, varve_error *error)
{
    bool inside = false;
    varve_status rc = VARVE_OK;

    TRY(vv_door_enter(session, &inside));
    TRY(vv_door_need(root, "root"));
    TRY(vv_session_root(session, root));
out:
    return vv_door_leave(session, inside, error, rc);
}

varve_status varve_session_savepoint(varve_session *session, uint32_t *savepoint, varve_error *error)
{
    bool inside = false;
    varve_status rc = VARVE_OK;

    TRY(vv_door_enter(session, &inside));
    TRY(vv_door_need(savepoint, "savepoint"));
    TRY(vv_session_savepoint(session, savepoint));
out:
    return vv_door_leave(session, inside, error, rc);
}

varve_status varve_session_rollback(varve_session *session, uint32_t savepoint, varve_error *error)
{
    bool inside = false;
    varve_status rc = VARVE_OK;

    TRY(vv_door_enter(session, &inside));
    TRY(vv_session_rollback(session, savepoint));
out:
    return vv_door_leave(session, inside, error, rc);
}

varve_status varve_session_release(varve_session *session, uint32_t savepoint, varve_error *error)
{
    bool inside = false;
    varve_status rc = VARVE_OK;

    TRY(vv_door_enter(session, &inside));
    TRY(vv_session_release(session, savepoint));
out:
    return vv_door_leave(session, inside, error, rc);
}

static varve_status check_key(const char *key)
{
    if (key == NULL || key[0] == '\0')
        return vv_fail(VARVE_MISUSE, "a named value needs a name");
    if (strlen(key) > VV_META_KEY_MAX)
        return vv_fail(VARVE_MISUSE, "the name of a value has %zu bytes, the most is %d", strlen(key),
                       (int)VV_META_KEY_MAX);
    if (strncmp(key, VV_META_HIDDEN, strlen(VV_META_HIDDEN)) == 0)
        return vv_fail(VARVE_MISUSE, "\"%.100s\": names that begin with " VV_META_HIDDEN " are varve's own",
                       key);
    return VARVE_OK;
}

varve_status varve_session_set_meta(varve_session *session, const char *key, const void *value, size_t size,
                                    varve_error *error)
{
    bool inside = false;
    varve_status rc = VARVE_OK;

    TRY(vv_door_enter(session, &inside));
    TRY(check_key(key));
    if (size > 0)
        TRY(vv_door_need(value, "value"));
    if (size > VV_META_VALUE_MAX)
        rc = vv_fail(VARVE_MISUSE, "the value named \"%s\" has %zu bytes, the most is %d", key, size,
                     (int)VV_META_VALUE_MAX);
    else
        rc = vv_session_set_meta(session, key, value, size);
out:
    return vv_door_leave(session, inside, error, rc);
}

varve_status varve_session_get_meta(varve_session *session, const char *key, const void **value, size_t *size,
                                    varve_error *error)
{
    bool inside = false;
    varve_status rc = VARVE_OK;

    TRY(vv_door_enter(session, &inside));
    TRY(check_key(key));
    TRY(vv_door_need(value, "value"));
    TRY(vv_door_need(size, "size"));
    TRY(vv_session_get_meta(session, key, value, size));
out:
    return vv_door_leave(session, inside, error, rc);
}

varve_status varve_session_next_meta(varve_session *session, const char *after, const char **key,
                                     varve_error *error)
{
    bool inside = false;
    varve_status rc = VARVE_OK;

    TRY(vv_door_enter(session, &inside));
    TRY(vv_door_need(key, "key"));
    TRY(vv_session_next_meta(session, after, key));
out:
    return vv_door_leave(session, inside, error, rc);
}

varve_status varve_session_module(varve_session *session, const varve_module_id *id, varve_module_info *info,
                                  varve_error *error)
{
    varve_module_info told = { .size = sizeof told };
    bool inside = false;
    varve_status rc = VARVE_OK;

    TRY(vv_door_enter(session, &inside));
    TRY(vv_door_need(id, "id"));
    TRY(check_told(info, "varve_module_info"));
    TRY(vv_session_module(session, id, &told));
    give_told(info, &told, sizeof told);
out:
    return vv_door_leave(session, inside, error, rc);
}

varve_status varve_session_next_module(varve_session *session, const varve_module_id *after,
                                       varve_module_info *info, varve_error *error)
{
    varve_module_info told = { .size = sizeof told };
    bool inside = false;
    varve_status rc = VARVE_OK;

    TRY(vv_door_enter(session, &inside));
    TRY(check_told(info, "varve_module_info"));
    TRY(vv_session_next_module(session, after, &told));
    give_told(info, &told, sizeof told);
out:
    return vv_door_leave(session, inside, error, rc);
}

varve_status varve_session_remove(varve_session *session, const varve_module_id *id, varve_error *error)
{
    struct vv_working *working = NULL;
    bool inside = false;
    varve_status rc = VARVE_OK;

    TRY(vv_door_enter(session, &inside));
    TRY(vv_door_need(id, "id"));
    TRY(vv_session_working(session, id, &working));
    TRY(vv_session_remove_module(session, working));
out:
    return vv_door_leave(session, inside, error, rc);
}

varve_status varve_image_open(varve_session *session, const varve_module_id *id,
                              const varve_image_options *given, varve_image **image, varve_error *error)
{
    varve_image_options options = { 0 };
    bool inside = false;
    varve_status rc = VARVE_OK;

    if (image != NULL)
        *image = NULL;
    TRY(vv_door_enter(session, &inside));
    TRY(vv_door_need(image, "image"));
    TRY(vv_door_need(id, "id"));
    TRY(vv_door_options(&options, sizeof options, given, "varve_image_options"));
    TRY(vv_session_open_image(session, id, &options, image));
out:
    return vv_door_leave(session, inside, error, rc);
}

void *varve_image_bytes(const varve_image *image)
{
    return image == NULL || image->image == NULL ? NULL : vv_image_bytes(image->image);
}

uint64_t varve_image_size(const varve_image *image)
{
    return image == NULL || image->image == NULL ? 0 : vv_image_size(image->image);
}

varve_status varve_image_grow(varve_image *image, uint64_t size, varve_error *error)
{
    bool inside = false;
    varve_status rc = VARVE_OK;

    TRY(vv_door_need(image, "image"));
    TRY(vv_door_enter(image->session, &inside));
    TRY(vv_session_grow_image(image, size));
out:
    return vv_door_leave(inside ? image->session : NULL, inside, error, rc);
}

varve_status varve_image_read(const varve_image *image, uint64_t offset, void *data, size_t size,
                              varve_error *error)
{
    bool inside = false;
    varve_status rc = VARVE_OK;

    TRY(vv_door_need(image, "image"));
    TRY(vv_door_enter(image->session, &inside));
    if (size > 0)
        TRY(vv_door_need(data, "data"));
    TRY(vv_session_read_image(image, offset, data, size));
out:
    return vv_door_leave(inside ? image->session : NULL, inside, error, rc);
}

varve_status varve_image_write(varve_image *image, uint64_t offset, const void *data, size_t size,
                               varve_error *error)
{
    bool inside = false;
    varve_status rc = VARVE_OK;

    TRY(vv_door_need(image, "image"));
    TRY(vv_door_enter(image->session, &inside));
    if (size > 0)
        TRY(vv_door_need(data, "data"));
    TRY(vv_session_write_image(image, offset, data, size));
out:
    return vv_door_leave(inside ? image->session : NULL, inside, error, rc);
}

/* ---- 5. Comparing and proving ----------------------------------------------------------------- */

varve_status varve_diff_open(varve_store *store, const varve_commit *from, const varve_commit *to,
                             varve_diff **diff, varve_error *error)
{
    varve_status rc = VARVE_OK;

    TRY(vv_door_need(diff, "diff"));
    *diff = NULL;
    TRY(vv_door_need(store, "store"));
    TRY(vv_door_need(to, "to"));
    TRY(vv_diff_open(store, (varve_commit *)from, (varve_commit *)to,
                     diff)); /* their views are loaded by need */
out:
    return vv_error_deliver(error, rc);
}

varve_status varve_diff_next(varve_diff *diff, const varve_change **change, varve_error *error)
{
    varve_status rc = VARVE_OK;

    TRY(vv_door_need(diff, "diff"));
    TRY(vv_door_need(change, "change"));
    TRY(vv_diff_next(diff, change));
out:
    return vv_error_deliver(error, rc);
}

void varve_diff_close(varve_diff *diff)
{
    vv_diff_close(diff);
}

varve_status varve_prove(varve_session *session, const varve_module_id *id, uint64_t page, void **proof,
                         size_t *proof_size, varve_error *error)
{
    struct vv_bytes bytes = VV_BYTES_NONE;
    bool inside = false;
    varve_status rc = VARVE_OK;

    if (proof != NULL)
        *proof = NULL;
    TRY(vv_door_enter(session, &inside));
    TRY(vv_door_need(id, "id"));
    TRY(vv_door_need(proof, "proof"));
    TRY(vv_door_need(proof_size, "proof_size"));
    TRY(vv_session_prove(session, id, page, &bytes));
    *proof = bytes.data;
    *proof_size = bytes.size;
    bytes = VV_BYTES_NONE;
out:
    vv_bytes_release(&bytes);
    return vv_door_leave(session, inside, error, rc);
}

varve_status varve_proof_check(const void *proof, size_t proof_size, const varve_root *root,
                               varve_claim *claim, varve_error *error)
{
    varve_claim told = { .size = sizeof told };
    varve_status rc = VARVE_OK;

    TRY(vv_door_need(proof, "proof"));
    TRY(vv_door_need(root, "root"));
    TRY(check_told(claim, "varve_claim"));
    TRY(vv_proof_check(proof, proof_size, root->bytes, &told));
    give_told(claim, &told, sizeof told);
out:
    return vv_error_deliver(error, rc);
}
