/* undo.c - savepoints of a session: see session.h.
 *
 * A record says what one module, or one named value, was when it was first touched above a savepoint; bytes of memory
 * are the image's own affair, whose levels go with the records. A record is pushed before the change that it undoes.
 * Moves:  KEEP      a record, unless this depth has one                    [vv_session_keep]
 *         ROLLBACK  records put back, the newest first                     [vv_session_rollback]
 *         RELEASE   records that the savepoint below needs become its own  [vv_session_release] */
#include <string.h>

#include "base/alloc.h"
#include "store/session.h"

enum { DEPTH_MAX = 1 << 20 }; /* savepoints in one another: a size that memory can bear */

/* ---- Records ---------------------------------------------------------------------------------- */

static void undo_release(struct vv_undo *undo)
{
    vv_module_drop(undo->before.fields);
    vv_free(undo->key);
    vv_free(undo->value);
}

void vv_session_cut_undo(varve_session *session, size_t count)
{
    while (session->undo_count > count)
        undo_release(&session->undo[--session->undo_count]);
}

/* A record is pushed before the change it undoes; a change that then fails leaves one that undoes nothing. */
static varve_status undo_room(varve_session *session)
{
    const size_t capacity = session->undo_capacity == 0 ? 16 : 2 * session->undo_capacity;
    varve_status rc = VARVE_OK;

    if (session->undo_count < session->undo_capacity)
        return VARVE_OK;
    rc = vv_resize(&session->undo, capacity, sizeof *session->undo);
    if (rc == VARVE_OK)
        session->undo_capacity = capacity;
    return rc;
}

varve_status vv_session_keep(varve_session *session, struct vv_working *working)
{
    if (session->depth <= working->settled_depth)
        return VARVE_OK;
    const varve_status rc = undo_room(session);
    if (rc != VARVE_OK)
        return rc;
    if (working->fields != NULL)
        vv_module_hold(working->fields);
    session->undo[session->undo_count++] = (struct vv_undo){ .working = working, .before = *working };
    working->settled_depth = session->depth;
    return VARVE_OK;
}

/* The record of a named value in undo[from, to). */
static bool has_meta_record(const varve_session *session, size_t from, size_t to, const char *key)
{
    for (size_t i = from; i < to; i++)
        if (session->undo[i].working == NULL && strcmp(session->undo[i].key, key) == 0)
            return true;
    return false;
}

varve_status vv_session_keep_meta(varve_session *session, const char *key)
{
    const struct vv_meta_pair *pair = vv_state_meta(&session->now, key);
    struct vv_undo undo = { .working = NULL };
    varve_status rc = VARVE_OK;

    if (session->depth == 0 ||
        has_meta_record(session, session->marks[session->depth - 1], session->undo_count, key))
        return VARVE_OK;
    TRY(undo_room(session));
    TRY(vv_strdup(&undo.key, key));
    if (pair != NULL) {
        undo.value_size = pair->value_size;
        TRY(vv_memdup(&undo.value, pair->value, pair->value_size));
    }
    session->undo[session->undo_count++] = undo;
    undo = (struct vv_undo){ .working = NULL };
out:
    undo_release(&undo);
    return rc;
}

/* Whether the module's memory now is the one it had when the record was made, so that it can be rolled back; an
 * image that was opened since started as the memory was then. */
static bool same_memory(const struct vv_undo *undo)
{
    const struct vv_working *now = undo->working;

    if (undo->before.image != NULL || now->image == NULL)
        return undo->before.image == now->image;
    return !undo->before.removed && undo->before.created == now->created;
}

static varve_status undo_working(varve_session *session, struct vv_undo *undo, uint32_t depth)
{
    struct vv_working *working = undo->working;
    const bool moved = working->removed != undo->before.removed || working->created != undo->before.created;
    varve_image *image = same_memory(undo) ? working->image : undo->before.image;
    struct vv_module *fields = working->fields;
    void *guest = working->guest;
    varve_status rc = VARVE_OK;

    if (guest != NULL)
        session->hooks.discard(session->hooks.context, working);
    guest = working->guest;
    *working = undo->before;
    working->guest = guest;
    working->image = image;
    undo->before.fields = fields; /* given up with the record */
    if (image != NULL)
        TRY(vv_image_rollback(image->image, depth));
    if (moved)
        TRY(working->removed ? vv_state_remove(&session->now, &working->id)
                             : vv_state_set(&session->now, working->fields));
out:
    return rc;
}

static varve_status enter_exposed(varve_session *session)
{
    varve_status rc = VARVE_OK;

    if (session->exposed == 0)
        return rc;
    for (varve_image *image = session->images; image != NULL; image = image->next)
        if (image->exposed && image->working->image == image && !image->working->removed)
            TRY(vv_session_enter(session, image->working));
out:
    return rc;
}

/* ---- Savepoints ------------------------------------------------------------------------------- */

static varve_status check_savepoint(const varve_session *session, uint32_t depth)
{
    if (depth == 0 || depth > session->depth)
        return vv_fail(VARVE_MISUSE, "there is no savepoint %u: the session has %u", depth, session->depth);
    return VARVE_OK;
}

varve_status vv_session_savepoint(varve_session *session, uint32_t *depth)
{
    varve_status rc = VARVE_OK;

    TRY(vv_session_usable(session));
    if (session->depth == DEPTH_MAX)
        return vv_fail(VARVE_LIMIT, "there are %d savepoints in one another", (int)DEPTH_MAX);
    if (session->depth == session->mark_capacity) {
        const uint32_t capacity = session->mark_capacity == 0 ? 16 : 2 * session->mark_capacity;
        TRY(vv_resize(&session->marks, capacity, sizeof *session->marks));
        session->mark_capacity = capacity;
    }
    session->marks[session->depth++] = session->undo_count;
    if (session->hooks.savepoint != NULL)
        session->hooks.savepoint(session->hooks.context, session->depth);
    rc = enter_exposed(session);
    if (rc != VARVE_OK) {
        const varve_status undone = vv_session_release(session, session->depth);
        VV_ASSERT(undone == VARVE_OK || session->poisoned != VARVE_OK);
        goto out;
    }
    *depth = session->depth;
out:
    return rc;
}

varve_status vv_session_rollback(varve_session *session, uint32_t depth)
{
    varve_status rc = VARVE_OK;

    if (session->poisoned != VARVE_OK)
        return vv_session_usable(session);
    TRY(check_savepoint(session, depth));
    for (size_t count = session->undo_count; count > session->marks[depth - 1]; count--) {
        struct vv_undo *undo = &session->undo[count - 1];
        if (undo->working != NULL)
            rc = undo_working(session, undo, depth);
        else
            rc = vv_state_set_meta(&session->now, undo->key, undo->value, undo->value_size);
        if (rc != VARVE_OK) {
            vv_session_poison(session, rc); /* neither as it was nor as it is */
            goto out;
        }
        vv_session_cut_undo(session, count - 1);
    }
    session->depth = depth;
    session->tainted = false;
    if (session->hooks.rollback != NULL)
        session->hooks.rollback(session->hooks.context, depth);
    rc = enter_exposed(session);
    if (rc != VARVE_OK)
        vv_session_poison(session, rc); /* what is written from now on could not be undone */
out:
    return rc;
}

/* A record that the savepoint below needs: it has none of its own. */
static bool still_needed(const varve_session *session, const struct vv_undo *undo, uint32_t depth)
{
    if (depth == 1)
        return false;
    if (undo->working != NULL)
        return undo->before.settled_depth < depth - 1;
    return !has_meta_record(session, session->marks[depth - 2], session->marks[depth - 1], undo->key);
}

varve_status vv_session_release(varve_session *session, uint32_t depth)
{
    varve_status rc = VARVE_OK;

    TRY(vv_session_usable(session));
    TRY(check_savepoint(session, depth));
    size_t kept = session->marks[depth - 1];
    for (size_t i = kept; i < session->undo_count; i++) {
        struct vv_undo *undo = &session->undo[i];
        struct vv_working *working = undo->working;
        if (working != NULL && working->settled_depth >= depth) {
            working->settled_depth = depth - 1;
            const varve_status released =
                working->image == NULL ? VARVE_OK : vv_image_release(working->image->image, depth);
            if (released != VARVE_OK) {
                vv_session_poison(session, released);
                rc = released;
            }
        }
        if (still_needed(session, undo, depth))
            session->undo[kept++] = *undo;
        else
            undo_release(undo);
    }
    session->undo_count = kept;
    session->depth = depth - 1;
    if (session->hooks.release != NULL)
        session->hooks.release(session->hooks.context, depth);
out:
    return rc;
}

void vv_session_forget_savepoints(varve_session *session)
{
    if (session->depth > 0 && vv_session_release(session, 1) != VARVE_OK)
        VV_ASSERT(session->poisoned != VARVE_OK);
}

varve_status vv_session_pages_changed(varve_session *session, uint32_t depth, uint64_t *pages)
{
    uint64_t sum = 0, count = 0;
    varve_status rc = VARVE_OK;

    *pages = 0;
    if (session->poisoned != VARVE_OK)
        return VARVE_OK; /* memory that could not be read is not looked at again */
    TRY(check_savepoint(session, depth));
    for (size_t i = session->marks[depth - 1]; i < session->undo_count; i++) {
        const struct vv_undo *undo = &session->undo[i];
        const bool first = undo->working != NULL && undo->before.settled_depth < depth;
        if (!first || undo->working->image == NULL || undo->working->removed)
            continue;
        TRY(vv_image_changed_since(undo->working->image->image, depth, &count));
        sum += count;
    }
    *pages = sum;
out:
    return rc;
}
