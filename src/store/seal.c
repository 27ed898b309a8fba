/* seal.c - what a session comes to: its modules brought up to date, their root, and the commit of it all.
 *
 * A sealed module is the base's tree with the leaves of the pages that differ; bytes that differ from the base are
 * all that is hashed. What seals to the very leaf it had is no change. Sealing takes nothing from the session: the
 * state is made in a copy, so that a root can be asked for at any time and a commit that fails leaves it whole.
 * Moves:  SEAL    capture live instances, pages that differ, leaves, the set of changes    [seal_all]
 *         COMMIT  new code stored, prepare, publish: the one instant                       [publish]
 *         CHAIN   the new commit is the base, images stay mapped                           [chain] */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "page/root.h"
#include "store/revision.h"
#include "store/session.h"

/* All that the session changes, and the state that results. Pages are lent by the images, which nobody touches. */
struct sealed {
    struct vv_module_change *modules; /* by id; each holds its `after` */
    size_t count;
    struct vv_state state;
    bool has_state;
    uint64_t modules_total, pages;
};

/* ---- One module ------------------------------------------------------------------------------- */

static varve_status rotten_base(uint64_t page)
{
    return vv_fail(VARVE_CORRUPT,
                   "page %llu of the image file below this memory is not what was committed: drop the "
                   "session and open it again",
                   (unsigned long long)page);
}

/* Base bytes that come from an image file are held against the tree before anything is built on them: rot must not enter
 * a delta, and what the guest made of such a page is worth nothing. */
static varve_status prove_bases(const struct vv_pagetree *tree, struct vv_image *image,
                                const struct vv_image_change *changes, size_t count, bool *rotten)
{
    enum { ABREAST = 16 };
    varve_status rc = VARVE_OK;
    const struct vv_image_change *unproven[ABREAST];
    const uint8_t *bases[ABREAST];
    uint8_t hashes[ABREAST][VV_HASH_SIZE];

    for (size_t i = 0; i < count;) {
        size_t some = 0;
        for (; i < count && some < ABREAST; i++) {
            if (!changes[i].unproven)
                continue;
            unproven[some] = &changes[i];
            bases[some++] = changes[i].base;
        }
        vv_hash_pages(bases, some, hashes);
        for (size_t k = 0; k < some; k++) {
            struct vv_leaf leaf;
            bool present = false;
            TRY(vv_pagetree_get(tree, unproven[k]->index, &leaf, &present));
            *rotten = !vv_hash_equal(hashes[k], present ? leaf.hash : vv_hash_zero);
            if (*rotten)
                TRY(rotten_base(unproven[k]->index));
            vv_image_prove(image, unproven[k]->index);
        }
    }
out:
    return rc;
}

/* Put the pages into the tree, and learn from its old leaves where their base bytes are. */
static varve_status set_leaves(struct vv_pagetree *tree, const struct vv_image_change *changes, size_t count,
                               struct vv_page_change *pages)
{
    varve_status rc = VARVE_OK;
    struct vv_pagetree_way way = vv_pagetree_way(tree);

    for (size_t i = 0; i < count; i++) {
        const bool zero = vv_hash_is_zero(changes[i].hash);
        struct vv_leaf leaf = { .locator = 0 };
        struct vv_leaf old;
        memcpy(leaf.hash, changes[i].hash, VV_HASH_SIZE);
        TRY(vv_pagetree_replace(&way, changes[i].index, zero ? NULL : &leaf, &old));
        pages[i] =
            (struct vv_page_change){ .index = changes[i].index, .bytes = zero ? NULL : changes[i].bytes };
        memcpy(pages[i].hash, changes[i].hash, VV_HASH_SIZE);
        if (old.locator == 0 || changes[i].runs == NULL)
            continue;
        pages[i].base = changes[i].base;
        pages[i].base_locator = old.locator;
        pages[i].runs = changes[i].runs;
        pages[i].runs_size = changes[i].runs_size;
        pages[i].lineage = changes[i].lineage;
    }
out:
    return rc;
}

static varve_status seal_memory(struct vv_module *module, struct vv_image *image,
                                struct vv_module_change *change, bool *rotten)
{
    const uint64_t page_count = vv_pages_for(vv_image_size(image));
    const struct vv_image_change *changes = NULL;
    size_t count = 0;
    varve_status rc = VARVE_OK;

    TRY(vv_image_changes(image, &changes, &count));
    if (page_count != module->memory.page_count)
        TRY(vv_pagetree_resize(&module->memory, page_count));
    TRY(vv_alloc(&change->pages, count, sizeof *change->pages));
    TRY(prove_bases(&module->memory, image, changes, count, rotten));
    TRY(set_leaves(&module->memory, changes, count, change->pages));
    change->page_count = count;
out:
    return rc;
}

static void change_release(struct vv_module_change *change)
{
    vv_module_drop(change->after);
    vv_free(change->pages);
    *change = (struct vv_module_change){ .after = NULL };
}

void vv_session_give_up_file(varve_session *session, const varve_module_id *id, varve_status why)
{
    session->store->layout->source_rotten(session->store->place, id);
    vv_session_poison(session, why);
}

/* The module as it is now, held, and how it differs from the base. Nothing does: `after` is the base. */
static varve_status seal_working(varve_session *session, struct vv_working *working,
                                 struct vv_module_change *change)
{
    uint8_t was[VV_HASH_SIZE], is[VV_HASH_SIZE];
    struct vv_module *module = NULL;
    bool rotten = false;
    varve_status rc = VARVE_OK;

    *change = (struct vv_module_change){ .id = working->id };
    if (working->removed)
        return VARVE_OK;
    if (working->guest != NULL)
        TRY(session->hooks.capture(session->hooks.context, working));
    if (working->image == NULL && working->fields == working->base) {
        vv_module_hold(working->base);
        change->after = working->base;
        goto out;
    }
    TRY(vv_module_clone(working->fields, &module));
    if (working->image != NULL)
        TRY(seal_memory(module, working->image->image, change, &rotten));
    TRY(vv_module_leaf(module, is));
    if (working->base != NULL) {
        TRY(vv_module_leaf(working->base, was));
        if (memcmp(was, is, sizeof is) == 0) {
            change_release(change);
            change->id = working->id;
            vv_module_hold(working->base);
            change->after = working->base;
            goto out;
        }
    }
    change->after = module;
    module = NULL;
out:
    vv_module_drop(module);
    if (rotten)
        vv_session_give_up_file(session, &working->id, VARVE_CORRUPT);
    if (rc != VARVE_OK)
        change_release(change);
    return rc;
}

/* ---- All of them ------------------------------------------------------------------------------ */

static void sealed_release(struct sealed *sealed)
{
    for (size_t i = 0; i < sealed->count; i++)
        change_release(&sealed->modules[i]);
    vv_free(sealed->modules);
    if (sealed->has_state)
        vv_state_release(&sealed->state);
    *sealed = (struct sealed){ .modules = NULL };
}

static int by_id(const void *a, const void *b)
{
    const struct vv_module_change *left = a, *right = b;

    return memcmp(left->id.bytes, right->id.bytes, sizeof left->id.bytes);
}

/* Put one sealed module into the state; keep it among the changes when it is one. */
static varve_status take_change(struct sealed *sealed, const struct vv_working *working,
                                struct vv_module_change *change)
{
    const bool changed = change->after != working->base;
    varve_status rc = VARVE_OK;

    /* A module that was taken out and put back as it was lies in `now` as new: the base's has the locators. */
    if (change->after != NULL && (changed || working->created))
        rc = vv_state_set(&sealed->state, change->after);
    if (rc != VARVE_OK || !changed) {
        change_release(change);
        return rc;
    }
    sealed->pages += change->page_count;
    if (working->base == NULL)
        sealed->modules_total++;
    if (change->after == NULL)
        sealed->modules_total--;
    sealed->modules[sealed->count++] = *change;
    return VARVE_OK;
}

static varve_status seal_all(varve_session *session, struct sealed *sealed)
{
    const void *key = NULL;
    union vv_value *value = NULL;
    size_t cursor = 0;
    varve_status rc = VARVE_OK;

    *sealed = (struct sealed){ .modules_total = session->base == NULL ? 0 : session->base->facts.modules };
    TRY(vv_session_usable(session));
    TRY(vv_state_copy(&sealed->state, &session->now));
    sealed->has_state = true;
    TRY(vv_alloc(&sealed->modules, session->workings.count, sizeof *sealed->modules));
    while (vv_table_next(&session->workings, &cursor, &key, &value)) {
        struct vv_module_change change;
        TRY(seal_working(session, value->pointer, &change));
        TRY(take_change(sealed, value->pointer, &change));
    }
    if (sealed->count > 1)
        qsort(sealed->modules, sealed->count, sizeof *sealed->modules, by_id);
out:
    if (rc != VARVE_OK)
        sealed_release(sealed);
    return rc;
}

varve_status vv_session_root(varve_session *session, varve_root *root)
{
    struct sealed sealed;
    varve_status rc = seal_all(session, &sealed);

    if (rc == VARVE_OK)
        rc = vv_state_root(&sealed.state, root);
    sealed_release(&sealed);
    return rc;
}

/* ---- Showing ---------------------------------------------------------------------------------- */

static bool is_current(const varve_image *image)
{
    return image->working->image == image && !image->working->removed;
}

/* What is shown is a cache, so that its failure is nobody's but the layout's, which knows the file to be wrong. */
static void show(const varve_session *session, struct sealed *sealed)
{
    const struct vv_layout *layout = session->store->layout;

    for (varve_image *image = session->images; image != NULL; image = image->next) {
        struct vv_module *module = NULL;
        if (image->working->removed)
            (void)layout->live(session->store->place, &image->working->id, NULL, NULL);
        else if (is_current(image) &&
                 vv_state_get(&sealed->state, &image->working->id, &module) == VARVE_OK && module != NULL)
            (void)layout->live(session->store->place, &module->id, &module->memory,
                               vv_image_bytes(image->image));
    }
}

void vv_session_show(varve_session *session)
{
    struct sealed sealed;

    if (session->store->layout->live == NULL || session->read_only || seal_all(session, &sealed) != VARVE_OK)
        return;
    show(session, &sealed);
    sealed_release(&sealed);
}

/* ---- Telling ---------------------------------------------------------------------------------- */

static varve_status tell_module(struct vv_module *module, varve_module_info *info)
{
    const size_t size = info->size;

    *info = (varve_module_info){
        .size = size,
        .id = module->id,
        .kind = module->kind,
        .memory_size = module->memory.page_count * VV_PAGE_SIZE,
        .code_size = module->code_size,
        .globals = module->globals,
    };
    memcpy(info->name, module->name, sizeof info->name);
    memcpy(info->code, module->code, sizeof info->code);
    memcpy(info->owner, module->owner, sizeof info->owner);
    const varve_status rc = vv_module_leaf(module, info->leaf);
    return rc == VARVE_OK ? vv_pagetree_root(&module->memory, info->memory_root) : rc;
}

varve_status vv_session_module(varve_session *session, const varve_module_id *id, varve_module_info *info)
{
    struct vv_module_change change = { .after = NULL };
    struct vv_working *working = NULL;
    struct vv_module *module = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_session_usable(session));
    if (vv_table_get(&session->workings, id) == NULL)
        TRY(vv_state_get(&session->now, id, &module)); /* only looked at: it needs no working copy */
    if (module == NULL) {
        TRY(vv_session_working(session, id, &working));
        TRY(seal_working(session, working, &change));
        module = change.after;
    }
    TRY(tell_module(module, info));
out:
    change_release(&change);
    return rc;
}

varve_status vv_session_next_module(varve_session *session, const varve_module_id *after,
                                    varve_module_info *info)
{
    struct vv_module *module = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_state_next(&session->now, after, &module));
    if (module == NULL)
        return VARVE_END;
    const varve_module_id id = module->id;
    TRY(vv_session_module(session, &id, info));
out:
    return rc;
}

/* The bytes of a page as it is now. */
static varve_status page_now(varve_session *session, const varve_module_id *id, uint64_t page,
                             uint8_t bytes[VV_PAGE_SIZE])
{
    const varve_store *store = session->store;
    struct vv_working *working = NULL;
    struct vv_leaf leaf;
    bool present = false;
    uint64_t page_count = 0;
    varve_status rc = vv_session_working(session, id, &working);

    memset(bytes, 0, VV_PAGE_SIZE);
    if (rc == VARVE_NOT_FOUND)
        return VARVE_OK; /* what is proved is that there is none */
    TRY(rc);
    page_count = working->image == NULL ? working->fields->memory.page_count
                                        : vv_pages_for(vv_image_size(working->image->image));
    if (page >= page_count)
        return vv_fail(VARVE_MISUSE, "the memory has %llu pages, there is no page %llu",
                       (unsigned long long)page_count, (unsigned long long)page);
    if (working->image != NULL) {
        memcpy(bytes, vv_image_bytes(working->image->image) + page * VV_PAGE_SIZE, VV_PAGE_SIZE);
        goto out;
    }
    TRY(vv_pagetree_get(&working->fields->memory, page, &leaf, &present));
    if (present)
        TRY(store->layout->read(store->place, &leaf, bytes));
out:
    return rc;
}

varve_status vv_session_prove(varve_session *session, const varve_module_id *id, uint64_t page,
                              struct vv_bytes *proof)
{
    struct sealed sealed = { .count = 0 };
    uint8_t bytes[VV_PAGE_SIZE];
    varve_status rc = VARVE_OK;

    TRY(vv_session_usable(session));
    TRY(page_now(session, id, page, bytes));
    TRY(seal_all(session, &sealed));
    TRY(vv_state_prove(&sealed.state, id, page, bytes, proof));
out:
    sealed_release(&sealed);
    return rc;
}

/* ---- Commit ----------------------------------------------------------------------------------- */

/* One commit on its way. */
struct attempt {
    struct sealed sealed;
    struct vv_change change;
    const struct vv_meta_pair **meta_set;
    const char **meta_removed;
    struct vv_ref_move move;
    bool moves;           /* there is a branch to move */
    varve_commit *commit; /* made before publish, filled after it, so that nothing can fail there */
};

static void attempt_release(struct attempt *attempt)
{
    sealed_release(&attempt->sealed);
    vv_commit_facts_release(&attempt->change.facts);
    vv_free(attempt->meta_set);
    vv_free(attempt->meta_removed);
    vv_commit_close(attempt->commit);
}

/* Named values that differ, by a merge of two sorted lists. */
static varve_status compare_meta(const struct vv_state *from, const struct vv_state *to,
                                 struct attempt *attempt)
{
    struct vv_change *change = &attempt->change;
    size_t i = 0, j = 0;
    varve_status rc = VARVE_OK;

    TRY(vv_alloc(&attempt->meta_set, to->meta_count, sizeof *attempt->meta_set));
    TRY(vv_alloc(&attempt->meta_removed, from->meta_count, sizeof *attempt->meta_removed));
    while (i < from->meta_count || j < to->meta_count) {
        const struct vv_meta_pair *old = i < from->meta_count ? from->meta[i] : NULL;
        const struct vv_meta_pair *new = j < to->meta_count ? to->meta[j] : NULL;
        const int order = old == NULL ? 1 : new == NULL ? -1 : strcmp(old->key, new->key);
        i += order <= 0;
        j += order >= 0;
        if (order < 0)
            attempt->meta_removed[change->meta_removed_count++] = old->key;
        else if (order > 0 || old->value_size != new->value_size ||
                 memcmp(old->value, new->value, new->value_size) != 0)
            attempt->meta_set[change->meta_set_count++] = new;
    }
    change->meta_set = attempt->meta_set;
    change->meta_removed = attempt->meta_removed;
out:
    return rc;
}

static varve_status fill_facts(const varve_session *session, const varve_commit_options *options,
                               const varve_root *root, const struct sealed *sealed,
                               struct vv_commit_facts *facts)
{
    const char *message = options->message == NULL ? "" : options->message;
    const char *branch = options->branch == NULL ? session->branch : options->branch;
    varve_status rc = VARVE_OK;

    *facts = (struct vv_commit_facts){
        .root = *root,
        .time_ns = options->time_ns == 0 ? vv_clock_now_ns() : options->time_ns,
        .modules = sealed->modules_total,
        .modules_changed = sealed->count,
        .pages_changed = sealed->pages,
    };
    if (session->base != NULL)
        facts->parent = session->base->facts.id;
    memcpy(facts->seed, session->seed, sizeof facts->seed);
    vv_commit_id_hash(session->base == NULL ? NULL : facts->parent.bytes, root->bytes, facts->time_ns,
                      message, strlen(message), facts->id.bytes);
    TRY(vv_strdup(&facts->message, message));
    TRY(vv_strdup(&facts->branch, branch));
    TRY(vv_strdup(&facts->engine, session->engine == NULL ? "" : session->engine));
out:
    return rc;
}

static varve_status plan_move(varve_session *session, const varve_commit_options *options,
                              struct attempt *attempt)
{
    const bool own = options->branch == NULL || strcmp(options->branch, session->branch) == 0;
    const char *name = own ? session->branch : options->branch;
    const varve_store *store = session->store;
    struct vv_ref_facts ref = { .moves = 0 };
    varve_status rc = VARVE_OK;

    if (name[0] == '\0')
        return VARVE_OK; /* detached */
    if (!own) {
        TRY(vv_ref_name_check(name));
        rc = store->layout->ref_get(store->place, name, &ref);
        if (rc == VARVE_OK && !vv_id_is_zero(&ref.commit))
            rc = vv_fail(VARVE_EXISTS, "%s: there is such a branch: a session on another one cannot move it",
                         name);
        else if (rc == VARVE_NOT_FOUND)
            rc = VARVE_OK;
        TRY(rc);
    }
    attempt->moves = true;
    attempt->move = (struct vv_ref_move){
        .expected = own && session->branch_exists ? &session->branch_at : NULL,
        .to = &attempt->change.facts.id,
        .what = "commit",
    };
    memcpy(attempt->move.name, name, strlen(name) + 1);
out:
    return rc;
}

/* Bytecode is durable before the record that names it (J6). */
static varve_status store_code(varve_session *session, const struct sealed *sealed)
{
    const varve_store *store = session->store;
    varve_status rc = VARVE_OK;

    for (size_t i = 0; i < sealed->count; i++) {
        const struct vv_working *working = vv_table_get(&session->workings, &sealed->modules[i].id)->pointer;
        if (sealed->modules[i].after != NULL && working->code != NULL)
            TRY(store->layout->code_put(store->place, working->fields->code, working->code,
                                        working->code_size));
    }
out:
    return rc;
}

static varve_durability durability_of(const varve_store *store, const varve_commit_options *options)
{
    return options->durability == VARVE_DURABILITY_DEFAULT ? store->durability : options->durability;
}

/* The one instant. */
static varve_status publish(varve_session *session, const varve_commit_options *options,
                            struct attempt *attempt)
{
    const varve_store *store = session->store;
    const struct vv_ref_move *move = attempt->moves ? &attempt->move : NULL;
    struct vv_commit_facts facts = { .locator = 0 };
    struct vv_pending *pending = NULL;
    varve_status rc = VARVE_OK;

    TRY(store_code(session, &attempt->sealed));
    TRY(vv_commit_facts_copy(&facts, &attempt->change.facts));
    TRY(vv_commit_new(session->store, &facts, store->layout->hold(store->place), &attempt->commit));
    TRY(store->layout->prepare(store->place, &attempt->change, &pending));
    TRY(store->layout->publish(store->place, &attempt->change, pending, move, durability_of(store, options)));

    /* The texts that publish may have put are those of a commit that existed; ours go with the attempt. */
    facts = attempt->commit->facts;
    attempt->commit->facts = attempt->change.facts;
    attempt->change.facts = facts;
    vv_commit_tell(&attempt->commit->facts, &attempt->commit->info);
    vv_worker_changed(&session->store->worker);
out:
    return rc;
}

/* Images hold what was committed: let that be their base. What cannot be kept is freed with the session. */
static void warm_images(varve_session *session, struct vv_state *state)
{
    for (varve_image *image = session->images; image != NULL; image = image->next) {
        struct vv_module *module = NULL;
        const bool kept = is_current(image) &&
                          vv_state_get(state, &image->working->id, &module) == VARVE_OK && module != NULL &&
                          vv_session_rebase_image(image, module) == VARVE_OK;
        if (!kept) {
            vv_module_drop(image->origin);
            image->origin = NULL;
        }
    }
}

/* One working copy goes on from the committed module. */
static varve_status chain_working(struct vv_state *state, struct vv_working *working)
{
    struct vv_module *module = NULL;
    varve_status rc = VARVE_OK;

    working->created = false;
    working->code = NULL;
    vv_module_drop(working->base);
    working->base = NULL;
    if (working->removed)
        return VARVE_OK;
    TRY(vv_state_get(state, &working->id, &module));
    VV_ASSERT(module != NULL);
    vv_module_hold(module);
    vv_module_hold(module);
    working->base = module;
    vv_module_drop(working->fields);
    working->fields = module;
    if (working->image != NULL)
        TRY(vv_session_rebase_image(working->image, module));
out:
    return rc;
}

/* The state of the new commit for a session to go on from. */
static varve_status state_after(struct attempt *attempt, struct vv_state *state)
{
    if (attempt->change.unlocated)
        return vv_commit_state(attempt->commit, state);
    return vv_state_copy(state, &attempt->sealed.state);
}

/* The next session begins in this one. The commit stands whatever happens here: a failure poisons what goes on. */
static varve_status chain(varve_session *session, const varve_commit_options *options,
                          struct attempt *attempt)
{
    struct vv_state origin = { .meta_count = 0 }, now = { .meta_count = 0 };
    const void *key = NULL;
    union vv_value *value = NULL;
    size_t cursor = 0;
    varve_status rc = VARVE_OK;

    vv_commit_hold(attempt->commit);
    vv_commit_close(session->base);
    session->base = attempt->commit;
    session->base_root = attempt->commit->facts.root;
    if (attempt->moves) {
        session->branch_exists = true;
        session->branch_at = attempt->commit->facts.id;
    }
    if (options->branch != NULL) {
        char *branch = NULL;
        TRY(vv_strdup(&branch, options->branch));
        vv_free(session->branch);
        session->branch = branch;
    }
    TRY(state_after(attempt, &origin));
    TRY(vv_state_copy(&now, &origin));
    while (vv_table_next(&session->workings, &cursor, &key, &value))
        TRY(chain_working(&now, value->pointer));
    TRY(vv_session_draw(session));
    vv_state_release(&session->origin);
    vv_state_release(&session->now);
    session->origin = origin;
    session->now = now;
    origin = now = (struct vv_state){ .meta_count = 0 };
out:
    vv_state_release(&origin);
    vv_state_release(&now);
    return rc;
}

static void tell_outcome(const varve_session *session)
{
    if (session->hooks.outcome != NULL)
        session->hooks.outcome(session->hooks.context, true);
}

/* The commit that is asked for is the base, which may have been buffered. */
static varve_status make_base_durable(varve_session *session, const varve_commit_options *options)
{
    const varve_store *store = session->store;

    if (session->base == NULL || durability_of(store, options) == VARVE_BUFFERED)
        return VARVE_OK;
    return store->layout->persist(store->place);
}

/* Nothing differs from the base: it is the commit. */
static void end_unchanged(varve_session *session, bool chained, struct vv_state *state, varve_commit **commit,
                          bool *ended)
{
    vv_session_forget_savepoints(session);
    tell_outcome(session);
    if (session->base != NULL)
        vv_commit_hold(session->base);
    *commit = session->base;
    if (chained)
        return;
    warm_images(session, state);
    vv_session_free(session, session->poisoned == VARVE_OK);
    *ended = true;
}

static varve_status share_image(void *context, bool yes)
{
    return vv_image_share(context, yes);
}

/* Let the layout write out what is committed, in a child that is forked here. Whatever becomes of that, the commit
 * stands. */
static void freeze_images(varve_session *session, struct attempt *attempt)
{
    const varve_store *store = session->store;
    struct vv_frozen *frozen = NULL;
    size_t count = 0, most = 0;

    if (attempt->change.unlocated || !store->layout->wants_frozen(store->place))
        return;
    for (const varve_image *image = session->images; image != NULL; image = image->next)
        most++;
    if (vv_alloc(&frozen, most, sizeof *frozen) != VARVE_OK)
        return;
    for (varve_image *image = session->images; image != NULL; image = image->next) {
        struct vv_module *module = NULL;
        if (!is_current(image) ||
            vv_state_get(&attempt->sealed.state, &image->working->id, &module) != VARVE_OK || module == NULL)
            continue;
        frozen[count++] = (struct vv_frozen){ .module = module->id,
                                              .tree = &module->memory,
                                              .bytes = vv_image_bytes(image->image),
                                              .share = share_image,
                                              .context = image->image };
    }
    (void)store->layout->freeze(store->place, &attempt->commit->facts, frozen, count);
    vv_free(frozen);
}

static void end_committed(varve_session *session, const varve_commit_options *options,
                          struct attempt *attempt, varve_commit **commit, bool *ended)
{
    const bool chained = options->flags & VARVE_COMMIT_CHAIN;

    freeze_images(session, attempt);
    vv_session_forget_savepoints(session);
    tell_outcome(session);
    *commit = attempt->commit;
    attempt->commit = NULL;
    if (chained) {
        attempt->commit = *commit;
        const varve_status rc = chain(session, options, attempt);
        attempt->commit = NULL;
        if (rc != VARVE_OK)
            vv_session_poison(session, rc);
        return;
    }
    if (!attempt->change.unlocated)
        warm_images(session, &attempt->sealed.state);
    vv_session_free(session, !attempt->change.unlocated && session->poisoned == VARVE_OK);
    *ended = true;
}

varve_status vv_session_commit(varve_session *session, const varve_commit_options *options,
                               varve_commit **commit, bool *ended)
{
    struct attempt attempt = { .commit = NULL };
    varve_root root;
    varve_status rc = VARVE_OK;

    *ended = false;
    if (session->read_only)
        return vv_fail(VARVE_MISUSE, "the session is read-only: it can only be aborted");
    TRY(vv_store_check_durability(session->store, options->durability));
    TRY(seal_all(session, &attempt.sealed));
    if (session->store->layout->live != NULL)
        show(session, &attempt.sealed);
    TRY(vv_state_root(&attempt.sealed.state, &root));
    if (memcmp(&root, &session->base_root, sizeof root) == 0 && !(options->flags & VARVE_COMMIT_EMPTY)) {
        rc = make_base_durable(session, options);
        if (rc == VARVE_UNCERTAIN)
            vv_session_poison(session, rc);
        TRY(rc);
        end_unchanged(session, options->flags & VARVE_COMMIT_CHAIN, &attempt.sealed.state, commit, ended);
        goto out;
    }
    TRY(fill_facts(session, options, &root, &attempt.sealed, &attempt.change.facts));
    TRY(plan_move(session, options, &attempt));
    TRY(compare_meta(&session->origin, &attempt.sealed.state, &attempt));
    attempt.change.base = session->base == NULL ? NULL : &session->base->facts;
    attempt.change.hold = session->base == NULL ? UINT64_MAX : session->base->hold;
    attempt.change.after = &attempt.sealed.state;
    attempt.change.modules = attempt.sealed.modules;
    attempt.change.module_count = attempt.sealed.count;
    rc = publish(session, options, &attempt);
    if (rc == VARVE_UNCERTAIN)
        vv_session_poison(session, rc);
    TRY(rc);
    end_committed(session, options, &attempt, commit, ended);
out:
    attempt_release(&attempt);
    return rc;
}
