/* session.c - how a working copy begins and ends, its named values and its chance: see session.h. Its modules are in
 * working.c, its savepoints in undo.c, what it comes to in seal.c. */
#include "store/session.h"

#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "store/revision.h"

enum { CHANCE_BLOCK = VV_HASH_SIZE }; /* bytes of chance that one hash gives */
#define CHANCE_KEY VV_META_HIDDEN "chance"

/* ---- Begin ------------------------------------------------------------------------------------ */

/* What the session's commit will expect of its branch, and, unless it is told, what it starts from. */
static varve_status find_base(varve_session *session, const varve_session_options *options)
{
    const char *branch = options->branch == NULL ? "main" : options->branch;
    const bool genesis = options->flags & VARVE_SESSION_GENESIS;
    varve_store *store = session->store;
    struct vv_ref_facts ref = { .moves = 0 };
    varve_status rc = VARVE_OK;

    if (options->base != NULL && options->base->store != store)
        return vv_fail(VARVE_MISUSE, "the session's base is a commit of another store");
    if (options->base != NULL && genesis)
        return vv_fail(VARVE_MISUSE, "a session from the genesis has no base: give one or the other");
    TRY(vv_strdup(&session->branch, branch));
    if (branch[0] != '\0') {
        TRY(vv_ref_name_check(branch));
        rc = store->layout->ref_get(store->place, branch, &ref);
        if (rc != VARVE_OK && rc != VARVE_NOT_FOUND)
            goto out;
        session->branch_exists = rc == VARVE_OK && !vv_id_is_zero(&ref.commit);
        session->branch_at = ref.commit;
        rc = VARVE_OK;
    }
    if (options->base != NULL) {
        session->base = (varve_commit *)options->base;
        vv_commit_hold(session->base);
        session->branch_at = session->base->facts.id;
    } else if (!genesis && session->branch_exists) {
        TRY(vv_commit_open_id(store, &ref.commit, &session->base));
    } else if (!genesis && branch[0] == '\0') {
        rc = vv_fail(VARVE_MISUSE, "a detached session needs a base, or GENESIS");
    } else if (!genesis && store->layout->last_number(store->place) > 0) {
        rc = vv_fail(VARVE_NOT_FOUND, "%s: no such branch: make it with `varve branch %s REV`", branch,
                     branch);
    }
out:
    return rc;
}

varve_status vv_session_draw(varve_session *session)
{
    session->time_ns = session->time_given != 0 ? session->time_given : vv_clock_now_ns();
    return session->seed_given ? VARVE_OK : vv_clock_random(session->seed, sizeof session->seed);
}

/* Layouts that keep one line of commits have room for one session that may add to it. */
static varve_status take_turn(varve_session *session)
{
    varve_store *store = session->store;

    if (session->read_only || (store->layout->can & VV_CAN_SESSIONS) != 0)
        return VARVE_OK;
    session->writes = !atomic_exchange(&store->writing, true);
    return session->writes ? VARVE_OK
                           : vv_fail(VARVE_UNSUPPORTED,
                                     "the layout %s has one session at a time that may commit: end it first, "
                                     "or begin this one read-only; tree and journal have any number",
                                     store->layout->name);
}

varve_status vv_session_begin(varve_store *store, const varve_session_options *options, varve_session **out)
{
    varve_session *session = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_alloc(&session, 1, sizeof *session));
    vv_store_hold(store);
    store->sessions++;
    session->store = store;
    atomic_flag_clear(&session->inside);
    vv_table_init(&session->workings, sizeof(varve_module_id));
    session->read_only = store->read_only || (options->flags & VARVE_SESSION_READ_ONLY);
    TRY(take_turn(session));
    session->time_given = options->time_ns;
    session->seed_given = options->seed != NULL;
    if (session->seed_given)
        memcpy(session->seed, options->seed, sizeof session->seed);
    TRY(vv_session_draw(session));
    TRY(find_base(session, options));
    TRY(session->base == NULL ? vv_state_init(&session->origin, NULL, NULL)
                              : vv_commit_state(session->base, &session->origin));
    TRY(vv_state_copy(&session->now, &session->origin));
    if (session->base == NULL)
        TRY(vv_state_root(&session->origin, &session->base_root));
    else
        session->base_root = session->base->facts.root;
    *out = session;
    session = NULL;
out:
    vv_session_free(session, false);
    return rc;
}

/* ---- End -------------------------------------------------------------------------------------- */

static void working_free(struct vv_working *working)
{
    vv_module_drop(working->fields);
    vv_module_drop(working->base);
    vv_free(working);
}

void vv_session_free(varve_session *session, bool warm)
{
    const void *key = NULL;
    union vv_value *value = NULL;
    size_t cursor = 0;

    if (session == NULL)
        return;
    if (session->hooks.end != NULL)
        session->hooks.end(session->hooks.context); /* live instances go before the images they run on */
    vv_session_cut_undo(session, 0);
    vv_session_free_images(session, warm);
    for (struct vv_lent_code *code = session->codes, *next = NULL; code != NULL; code = next) {
        next = code->next;
        vv_free(code->code);
        vv_free(code);
    }
    while (vv_table_next(&session->workings, &cursor, &key, &value))
        working_free(value->pointer);
    vv_table_release(&session->workings);
    vv_state_release(&session->now);
    vv_state_release(&session->origin);
    vv_commit_close(session->base);
    vv_free(session->undo);
    vv_free(session->marks);
    vv_free(session->branch);
    if (session->writes)
        session->store->writing = false;
    session->store->sessions--;
    vv_store_close(session->store);
    vv_free(session);
}

/* What files showed of this session's calls is shown no more. They are caches: a failure leaves one that the layout
 * knows to be wrong. */
static void show_base(varve_session *session)
{
    const struct vv_layout *layout = session->store->layout;

    if (layout->live == NULL || session->read_only)
        return;
    for (varve_image *image = session->images; image != NULL; image = image->next) {
        const struct vv_module *base = image->working->base;
        (void)layout->live(session->store->place, &image->working->id, base == NULL ? NULL : &base->memory, NULL);
    }
}

void vv_session_abort(varve_session *session)
{
    if (session->hooks.outcome != NULL)
        session->hooks.outcome(session->hooks.context, false);
    show_base(session);
    for (varve_image *image = session->images; image != NULL; image = image->next) {
        const bool back = session->poisoned == VARVE_OK && image->origin != NULL && image->image != NULL &&
                          vv_image_reset(image->image) == VARVE_OK;
        if (!back) {
            vv_module_drop(image->origin); /* nobody's content: it will be freed, not given */
            image->origin = NULL;
        }
    }
    vv_session_free(session, true);
}

/* ---- Small answers ---------------------------------------------------------------------------- */

void vv_session_set_hooks(varve_session *session, const struct vv_guest_hooks *hooks)
{
    session->hooks = *hooks;
}

void *vv_session_guest_context(const varve_session *session)
{
    return session->hooks.context;
}

void vv_session_set_engine(varve_session *session, const char *engine)
{
    session->engine = engine;
}

varve_store *vv_session_store(const varve_session *session)
{
    return session->store;
}

varve_commit *vv_session_base(const varve_session *session)
{
    return session->base;
}

bool vv_session_read_only(const varve_session *session)
{
    return session->read_only;
}

int64_t vv_session_time(const varve_session *session)
{
    return session->time_ns;
}

const uint8_t *vv_session_seed(const varve_session *session)
{
    return session->seed;
}

uint32_t vv_session_depth(const varve_session *session)
{
    return session->depth;
}

varve_status vv_session_lock(varve_session *session)
{
    if (atomic_flag_test_and_set(&session->inside))
        return vv_fail(VARVE_MISUSE,
                       "the session is in use: by another thread, or by the call that this callback "
                       "belongs to");
    return VARVE_OK;
}

void vv_session_unlock(varve_session *session)
{
    atomic_flag_clear(&session->inside);
}

void vv_session_taint(varve_session *session)
{
    session->tainted = true;
}

void vv_session_poison(varve_session *session, varve_status why)
{
    VV_ASSERT(why != VARVE_OK);
    session->poisoned = why;
}

varve_status vv_session_usable(const varve_session *session)
{
    if (session->poisoned == VARVE_UNCERTAIN)
        return vv_fail(VARVE_UNCERTAIN,
                       "nobody knows whether the session's commit is there: abort, and open the store again");
    if (session->poisoned != VARVE_OK)
        return vv_fail(session->poisoned, "the session cannot go on after a failure of its host: abort it");
    if (session->tainted)
        return vv_fail(VARVE_MISUSE,
                       "an unguarded call failed and left its writes: roll back to a savepoint, or abort");
    return VARVE_OK;
}

/* ---- Named values and chance ------------------------------------------------------------------ */

varve_status vv_session_set_meta(varve_session *session, const char *key, const void *value, size_t size)
{
    varve_status rc = VARVE_OK;

    TRY(vv_session_usable(session));
    TRY(vv_session_keep_meta(session, key));
    TRY(vv_state_set_meta(&session->now, key, value, size));
out:
    return rc;
}

varve_status vv_session_get_meta(varve_session *session, const char *key, const void **value, size_t *size)
{
    const struct vv_meta_pair *pair = vv_state_meta(&session->now, key);

    if (pair == NULL)
        return vv_fail(VARVE_NOT_FOUND, "the state has no value named \"%.100s\"", key);
    *value = pair->value;
    *size = pair->value_size;
    return VARVE_OK;
}

varve_status vv_session_next_meta(varve_session *session, const char *after, const char **key)
{
    const struct vv_meta_pair *pair = vv_state_next_meta(&session->now, after);

    while (pair != NULL && strncmp(pair->key, VV_META_HIDDEN, strlen(VV_META_HIDDEN)) == 0)
        pair = vv_state_next_meta(&session->now, pair->key);
    if (pair == NULL)
        return VARVE_END;
    *key = pair->key;
    return VARVE_OK;
}

/* Byte n of the stream is byte n % 32 of H(CHANCE, seed | n / 32); the meta value says how many were drawn. */
varve_status vv_session_random(varve_session *session, void *bytes, size_t size)
{
    const struct vv_meta_pair *pair = vv_state_meta(&session->now, CHANCE_KEY);
    uint64_t position = pair != NULL && pair->value_size == 8 ? vv_get_u64(pair->value) : 0;
    uint8_t block[CHANCE_BLOCK], text[8];
    uint8_t *out = bytes;

    for (size_t done = 0; done < size;) {
        struct vv_hasher hasher;
        const size_t skip = position % CHANCE_BLOCK;
        const size_t room = CHANCE_BLOCK - skip;
        const size_t part = size - done < room ? size - done : room;
        vv_hasher_init(&hasher, VV_HASH_CHANCE);
        vv_hasher_put(&hasher, session->seed, sizeof session->seed);
        vv_hasher_u64(&hasher, position / CHANCE_BLOCK);
        vv_hasher_end(&hasher, block);
        memcpy(out + done, block + skip, part);
        done += part;
        position += part;
    }
    vv_put_u64(text, position);
    return vv_session_set_meta(session, CHANCE_KEY, text, sizeof text);
}
