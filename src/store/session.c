/* session.c - see session.h; what it comes to, root and commit, is in seal.c. */
#include "store/session.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "page/root.h"
#include "store/revision.h"

enum {
    DEPTH_MAX = 1 << 20,        /* savepoints in one another: a size that memory can bear */
    SHADOW_BUDGET = 16 << 20,   /* bytes of changed pages an image keeps for its next commit */
    CHANCE_BLOCK = VV_HASH_SIZE /* bytes of chance that one hash gives */
};
#define RESERVE_DEFAULT (UINT64_C(4) << 30)
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
        rc = vv_fail(VARVE_NOT_FOUND, "%s: no such branch: make it with `varve branch %s`", branch, branch);
    }
out:
    return rc;
}

varve_status vv_session_draw(varve_session *session)
{
    session->time_ns = session->time_given != 0 ? session->time_given : vv_clock_now_ns();
    return session->seed_given ? VARVE_OK : vv_clock_random(session->seed, sizeof session->seed);
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

static void undo_release(struct vv_undo *undo)
{
    vv_module_drop(undo->before.fields);
    vv_free(undo->key);
    vv_free(undo->value);
}

static void undo_cut(varve_session *session, size_t count)
{
    while (session->undo_count > count)
        undo_release(&session->undo[--session->undo_count]);
}

/* What the image holds is what a commit holds: the next session on it need not fill one of its own. */
static void image_give(varve_image *image)
{
    uint8_t root[VV_HASH_SIZE];

    if (image->origin == NULL || image->placed || vv_pagetree_root(&image->origin->memory, root) != VARVE_OK)
        return;
    vv_pool_give(image->session->store->pool, image->origin->id.bytes, root, image->image);
    image->image = NULL;
}

static void image_free(varve_image *image)
{
    vv_image_free(image->image);
    vv_module_drop(image->origin);
    vv_free(image);
}

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
    undo_cut(session, 0);
    for (varve_image *image = session->images, *next = NULL; image != NULL; image = next) {
        next = image->next;
        if (warm)
            image_give(image);
        image_free(image);
    }
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
    session->store->sessions--;
    vv_store_close(session->store);
    vv_free(session);
}

void vv_session_abort(varve_session *session)
{
    if (session->hooks.outcome != NULL)
        session->hooks.outcome(session->hooks.context, false);
    for (varve_image *image = session->images; image != NULL; image = image->next) {
        const bool back = session->poisoned == VARVE_OK && !image->placed && image->origin != NULL &&
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

/* ---- Undo ------------------------------------------------------------------------------------- */

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

/* Let a rollback to the current depth find the module as it is now. */
static varve_status keep_working(varve_session *session, struct vv_working *working)
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

static varve_status keep_meta(varve_session *session, const char *key)
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
        undo_cut(session, count - 1);
    }
    session->depth = depth;
    session->tainted = false;
    if (session->hooks.rollback != NULL)
        session->hooks.rollback(session->hooks.context, depth);
    TRY(enter_exposed(session));
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

/* ---- Images ----------------------------------------------------------------------------------- */

static varve_status read_base(void *context, uint64_t index, uint8_t page[VV_PAGE_SIZE])
{
    const varve_image *image = context;
    const varve_store *store = image->session->store;
    struct vv_leaf leaf;
    bool present = false;
    varve_status rc = VARVE_OK;

    if (image->origin != NULL && index < image->origin->memory.page_count)
        TRY(vv_pagetree_get(&image->origin->memory, index, &leaf, &present));
    if (present)
        TRY(store->layout->read(store->place, &leaf, page));
    else
        memset(page, 0, VV_PAGE_SIZE);
out:
    return rc;
}

static varve_status fill_page(void *context, uint64_t index, const uint8_t page[VV_PAGE_SIZE])
{
    return vv_image_fill(context, index, page, 1);
}

/* The warm image of this memory, if there is one as large as wanted. */
static struct vv_image *take_warm(varve_session *session, struct vv_module *origin,
                                  const struct vv_image_config *config)
{
    uint8_t root[VV_HASH_SIZE];

    if (origin == NULL || config->address != NULL || vv_pagetree_root(&origin->memory, root) != VARVE_OK)
        return NULL;
    struct vv_image *image = vv_pool_take(session->store->pool, origin->id.bytes, root, config->limit);
    if (image != NULL && vv_image_reserve(image) < config->reserve) {
        vv_image_free(image);
        image = NULL;
    }
    return image;
}

static varve_status map_image(varve_session *session, struct vv_module *origin, uint64_t size,
                              const struct vv_image_config *config, struct vv_image **out)
{
    const varve_store *store = session->store;
    struct vv_tracker *tracker = NULL;
    struct vv_image *image = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_store_tracker(session->store, &tracker));
    TRY(vv_image_new(tracker, config, &image));
    TRY(vv_image_set_size(image, size));
    if (origin != NULL)
        TRY(store->layout->read_all(store->place, &origin->memory, fill_page, image));
    *out = image;
    image = NULL;
out:
    vv_image_free(image);
    return rc;
}

/* An image whose base is the memory of `origin`, or `size` zeros. The session has it; no module yet. */
static varve_status make_image(varve_session *session, struct vv_working *working, struct vv_module *origin,
                               uint64_t size, const struct vv_image_config *config, varve_image **out)
{
    varve_image *image = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_alloc(&image, 1, sizeof *image));
    *image = (varve_image){ .session = session, .working = working, .placed = config->address != NULL };
    if (origin != NULL) {
        vv_module_hold(origin);
        image->origin = origin;
    }
    image->image = take_warm(session, origin, config);
    if (image->image == NULL)
        TRY(map_image(session, origin, size, config, &image->image));
    TRY(vv_image_arm(image->image, read_base, image));
    image->next = session->images;
    session->images = image;
    *out = image;
    image = NULL;
out:
    if (image != NULL)
        image_free(image);
    return rc;
}

varve_status vv_session_rebase_image(varve_image *image, struct vv_module *origin)
{
    varve_status rc = VARVE_OK;

    if (origin != NULL)
        vv_module_hold(origin);
    rc = vv_image_rebase(image->image, read_base, image, SHADOW_BUDGET);
    vv_module_drop(image->origin);
    image->origin = origin;
    return rc;
}

static struct vv_image_config config_of(uint64_t limit)
{
    const uint64_t most = limit == 0 ? RESERVE_DEFAULT : limit;

    return (struct vv_image_config){ .limit = most,
                                     .reserve = most < RESERVE_DEFAULT ? RESERVE_DEFAULT : most };
}

static varve_status open_image(varve_session *session, struct vv_working *working,
                               const struct vv_image_config *config)
{
    varve_image *image = NULL;
    varve_status rc = VARVE_OK;

    if (working->image != NULL)
        return VARVE_OK;
    TRY(make_image(session, working, working->base, working->fields->memory.page_count * VV_PAGE_SIZE, config,
                   &image));
    /* It is as it was at every savepoint there is; whoever entered before it was open writes without a settle. */
    if (session->depth > 0)
        TRY(vv_image_settle(image->image, session->depth));
    working->image = image;
out:
    return rc;
}

varve_status vv_session_image(varve_session *session, struct vv_working *working, uint64_t limit,
                              struct vv_image **image)
{
    const struct vv_image_config config = config_of(limit);
    const varve_status rc = open_image(session, working, &config);

    if (rc == VARVE_OK)
        *image = working->image->image;
    return rc;
}

varve_status vv_session_enter(varve_session *session, struct vv_working *working)
{
    varve_status rc = VARVE_OK;

    TRY(vv_session_usable(session));
    if (session->depth > working->settled_depth) {
        if (working->guest != NULL)
            TRY(session->hooks.capture(session->hooks.context, working));
        TRY(keep_working(session, working));
    }
    if (working->image != NULL) {
        if (!working->image->exposed)
            vv_image_enter(working->image->image);
        if (session->depth > 0)
            TRY(vv_image_settle(working->image->image, session->depth));
    }
out:
    return rc;
}

/* ---- Modules ---------------------------------------------------------------------------------- */

static varve_status no_module(const varve_module_id *id)
{
    char text[65];

    vv_hex_format(id->bytes, text);
    return vv_fail(VARVE_NOT_FOUND, "the state has no module or image with the id %.12s", text);
}

static varve_status new_working(varve_session *session, const varve_module_id *id, struct vv_working **out)
{
    struct vv_working *working = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_alloc(&working, 1, sizeof *working));
    working->id = *id;
    working->removed = true;
    TRY(vv_table_put(&session->workings, id, (union vv_value){ .pointer = working }));
    *out = working;
    working = NULL;
out:
    vv_free(working);
    return rc;
}

varve_status vv_session_working(varve_session *session, const varve_module_id *id, struct vv_working **out)
{
    union vv_value *value = vv_table_get(&session->workings, id);
    struct vv_working *working = value == NULL ? NULL : value->pointer;
    struct vv_module *module = NULL;
    varve_status rc = VARVE_OK;

    if (working == NULL) {
        TRY(vv_state_get(&session->now, id, &module));
        if (module == NULL)
            return no_module(id);
        TRY(new_working(session, id, &working));
        vv_module_hold(module);
        vv_module_hold(module);
        working->base = working->fields = module;
        working->removed = false;
    }
    if (working->removed)
        return no_module(id);
    *out = working;
out:
    return rc;
}

/* Keep a copy of bytecode until the session ends. */
static varve_status lend_code(varve_session *session, const uint8_t hash[VV_HASH_SIZE], uint8_t *code,
                              size_t size, const uint8_t **lent)
{
    struct vv_lent_code *keep = NULL;
    const varve_status rc = vv_alloc(&keep, 1, sizeof *keep);

    if (rc != VARVE_OK) {
        vv_free(code);
        return rc;
    }
    *keep = (struct vv_lent_code){ .next = session->codes, .code = code, .size = size };
    memcpy(keep->hash, hash, sizeof keep->hash);
    session->codes = keep;
    *lent = code;
    return VARVE_OK;
}

static varve_status lend_copy(varve_session *session, const struct vv_module *fields, const void *code,
                              size_t size, const uint8_t **lent)
{
    uint8_t *copy = NULL;
    varve_status rc = VARVE_OK;

    *lent = NULL;
    if (code == NULL)
        return VARVE_OK;
    TRY(vv_memdup(&copy, code, size));
    TRY(lend_code(session, fields->code, copy, size, lent));
out:
    return rc;
}

varve_status vv_session_code(varve_session *session, struct vv_working *working, const uint8_t **code,
                             size_t *size)
{
    const varve_store *store = session->store;
    uint8_t *loaded = NULL;
    varve_status rc = VARVE_OK;

    for (const struct vv_lent_code *lent = session->codes; lent != NULL; lent = lent->next)
        if (memcmp(lent->hash, working->fields->code, sizeof lent->hash) == 0) {
            *code = lent->code;
            *size = lent->size;
            return VARVE_OK;
        }
    TRY(store->layout->code_get(store->place, working->fields->code, &loaded, size));
    TRY(lend_code(session, working->fields->code, loaded, *size, code));
out:
    return rc;
}

/* As vv_session_add, with all that can be said of the image. */
static varve_status add_module(varve_session *session, struct vv_module *fields, const void *code,
                               size_t code_size, uint64_t size, const struct vv_image_config *config,
                               struct vv_working **out)
{
    struct vv_working *working = NULL;
    const uint8_t *lent = NULL;
    varve_image *image = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_session_usable(session));
    rc = vv_session_working(session, &fields->id, &working);
    if (rc == VARVE_OK)
        rc = vv_fail(VARVE_EXISTS, "the state has %s already",
                     fields->name[0] == '\0' ? "this id" : fields->name);
    if (rc != VARVE_NOT_FOUND)
        goto out;
    union vv_value *value = vv_table_get(&session->workings, &fields->id);
    if (value != NULL)
        working = value->pointer;
    else
        TRY(new_working(session, &fields->id, &working));

    vv_pagetree_release(&fields->memory);
    vv_pagetree_init(&fields->memory, size / VV_PAGE_SIZE, NULL);
    TRY(lend_copy(session, fields, code, code_size, &lent));
    TRY(make_image(session, working, NULL, size, config, &image));
    if (session->depth > 0)
        TRY(vv_image_settle(image->image, session->depth));
    TRY(keep_working(session, working));
    TRY(vv_state_set(&session->now, fields)); /* from here on nothing fails */
    vv_module_drop(working->fields);
    working->fields = fields;
    fields = NULL;
    working->image = image;
    working->removed = false;
    working->created = true;
    working->code = lent;
    working->code_size = lent == NULL ? 0 : code_size;
    *out = working;
out:
    vv_module_drop(fields);
    return rc;
}

varve_status vv_session_add(varve_session *session, struct vv_module *fields, const void *code,
                            size_t code_size, uint64_t size, uint64_t limit, struct vv_working **working)
{
    const struct vv_image_config config = config_of(limit);

    return add_module(session, fields, code, code_size, size, &config, working);
}

varve_status vv_session_remove_module(varve_session *session, struct vv_working *working)
{
    varve_status rc = VARVE_OK;

    TRY(vv_session_enter(session, working));
    TRY(vv_state_remove(&session->now, &working->id));
    if (working->guest != NULL)
        session->hooks.discard(session->hooks.context, working);
    working->removed = true;
    working->code = NULL;
out:
    return rc;
}

varve_status vv_session_replace(varve_session *session, struct vv_working *working, struct vv_module *fields,
                                const void *code, size_t code_size)
{
    const uint8_t *lent = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_session_enter(session, working));
    TRY(lend_copy(session, fields, code, code_size, &lent));
    vv_pagetree_release(&fields->memory);
    vv_pagetree_copy(&fields->memory, &working->fields->memory);
    if (working->guest != NULL)
        session->hooks.discard(session->hooks.context, working);
    vv_module_drop(working->fields);
    working->fields = fields;
    fields = NULL;
    working->code = lent;
    working->code_size = lent == NULL ? 0 : code_size;
out:
    vv_module_drop(fields);
    return rc;
}

varve_status vv_session_set_instance(varve_session *session, struct vv_working *working, const void *bytes,
                                     size_t size)
{
    struct vv_module *fields = working->fields;
    struct vv_module *clone = NULL;
    uint8_t *copy = NULL;
    varve_status rc = VARVE_OK;

    (void)session;
    if (size == fields->instance_size && (size == 0 || memcmp(bytes, fields->instance, size) == 0))
        return VARVE_OK;
    TRY(vv_memdup(&copy, bytes, size));
    TRY(vv_module_clone(fields, &clone));
    vv_free(clone->instance);
    clone->instance = copy;
    clone->instance_size = size;
    copy = NULL;
    working->fields = clone;
    vv_module_drop(fields);
out:
    vv_free(copy);
    return rc;
}

/* ---- Named values and chance ------------------------------------------------------------------ */

varve_status vv_session_set_meta(varve_session *session, const char *key, const void *value, size_t size)
{
    varve_status rc = VARVE_OK;

    TRY(vv_session_usable(session));
    TRY(keep_meta(session, key));
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

/* ---- Images in the hands of a C program ------------------------------------------------------- */

static varve_status fields_of(const varve_module_id *id, const varve_image_options *options,
                              struct vv_module **out)
{
    struct vv_module *fields = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_module_new(&fields));
    fields->id = *id;
    fields->kind = VARVE_KIND_IMAGE;
    if (options->name != NULL)
        (void)snprintf(fields->name, sizeof fields->name, "%s", options->name);
    *out = fields;
out:
    return rc;
}

static varve_status check_image_options(const varve_module_id *id, const varve_image_options *options)
{
    uint8_t named[32];

    if (options->create_size % VV_PAGE_SIZE != 0)
        return vv_fail(VARVE_MISUSE, "the size of an image is a multiple of %u, %llu is none", VV_PAGE_SIZE,
                       (unsigned long long)options->create_size);
    if (options->reserve % VV_PAGE_SIZE != 0 || (uintptr_t)options->address % VV_PAGE_SIZE != 0)
        return vv_fail(VARVE_MISUSE, "what an image reserves, and its address, are multiples of %u",
                       VV_PAGE_SIZE);
    if (options->name == NULL)
        return VARVE_OK;
    const varve_status rc = vv_module_name_check(options->name);
    if (rc != VARVE_OK)
        return rc;
    vv_name_id(options->name, named);
    if (memcmp(named, id->bytes, sizeof named) != 0)
        return vv_fail(VARVE_MISUSE, "the id given is not the one that the name \"%s\" stands for",
                       options->name);
    return VARVE_OK;
}

varve_status vv_session_open_image(varve_session *session, const varve_module_id *id,
                                   const varve_image_options *options, varve_image **out)
{
    const uint64_t reserve = options->reserve == 0 ? RESERVE_DEFAULT : options->reserve;
    const struct vv_image_config config = { .reserve = reserve,
                                            .limit = reserve,
                                            .address = options->address };
    struct vv_working *working = NULL;
    struct vv_module *fields = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_session_usable(session));
    TRY(check_image_options(id, options));
    rc = vv_session_working(session, id, &working);
    if (rc == VARVE_NOT_FOUND && options->create_size > 0) {
        TRY(fields_of(id, options, &fields));
        TRY(add_module(session, fields, NULL, 0, options->create_size, &config, &working));
    }
    TRY(rc);
    TRY(open_image(session, working, &config));
    varve_image *image = working->image;
    if (options->address != NULL && vv_image_bytes(image->image) != options->address) {
        rc = vv_fail(VARVE_HOST_LIMIT, "the image is open at another address already");
        goto out;
    }
    if (!image->exposed) {
        vv_image_expose(image->image);
        image->exposed = true;
        session->exposed++;
        TRY(vv_session_enter(session, working));
    }
    *out = image;
out:
    return rc;
}

static varve_status check_image(const varve_image *image)
{
    if (image->working->image != image || image->working->removed)
        return vv_fail(VARVE_MISUSE, "the image is no longer in the session's state");
    return vv_session_usable(image->session);
}

static varve_status check_range(const varve_image *image, uint64_t offset, size_t size)
{
    const uint64_t length = vv_image_size(image->image);

    if (offset > length || size > length - offset)
        return vv_fail(VARVE_MISUSE, "%zu bytes at %llu are not inside the image, which has %llu", size,
                       (unsigned long long)offset, (unsigned long long)length);
    return check_image(image);
}

varve_status vv_session_grow_image(varve_image *image, uint64_t size)
{
    varve_session *session = image->session;
    struct vv_working *working = image->working;
    const uint64_t unit = working->fields->kind == VARVE_KIND_IMAGE ? VV_PAGE_SIZE : VV_WASM_PAGE_SIZE;
    varve_status rc = VARVE_OK;

    TRY(check_image(image));
    if (size % unit != 0 || size < vv_image_size(image->image))
        return vv_fail(VARVE_MISUSE,
                       "an image grows to a multiple of %llu that is not below its size, %llu is none",
                       (unsigned long long)unit, (unsigned long long)size);
    TRY(vv_session_enter(session, working));
    if (working->guest != NULL) {
        /* A live instance keeps the length it saw last. */
        TRY(session->hooks.capture(session->hooks.context, working));
        session->hooks.discard(session->hooks.context, working);
    }
    TRY(vv_image_grow(image->image, size));
out:
    return rc;
}

varve_status vv_session_read_image(const varve_image *image, uint64_t offset, void *data, size_t size)
{
    const varve_status rc = check_range(image, offset, size);

    if (rc == VARVE_OK && size > 0)
        memcpy(data, vv_image_bytes(image->image) + offset, size);
    return rc;
}

varve_status vv_session_write_image(varve_image *image, uint64_t offset, const void *data, size_t size)
{
    varve_status rc = VARVE_OK;

    TRY(check_range(image, offset, size));
    TRY(vv_session_enter(image->session, image->working));
    if (size > 0)
        memcpy(vv_image_bytes(image->image) + offset, data, size);
out:
    return rc;
}
