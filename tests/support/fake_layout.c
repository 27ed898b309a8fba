/* fake_layout.c - see fake_layout.h. Arrays that grow; what fails for want of memory fails before anything changes. */
#include "fake_layout.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"

struct changed {
    varve_module_id id;
    bool removed;
    uint64_t pages;
};
struct commit {
    struct vv_commit_facts facts;
    struct vv_state state;
    struct changed *changed;
    size_t changed_count;
    bool removed;
};
struct move {
    char name[256];
    struct vv_move_facts facts;
};
struct code {
    uint8_t hash[VV_HASH_SIZE];
    uint8_t *bytes;
    size_t size;
};
struct vv_place {
    struct commit **commits;
    uint8_t **pages;    /* locator: index + 1 */
    struct move *moves; /* of all refs; locator: index + 1 */
    struct code *codes;
    size_t commit_count, page_count, move_count, code_count, reads, holds, views;
    uint64_t generation;
    varve_status fail;
};
struct vv_pending {
    struct commit *commit;
};

static void commit_free(struct commit *commit)
{
    if (commit == NULL)
        return;
    vv_commit_facts_release(&commit->facts);
    vv_state_release(&commit->state);
    vv_free(commit->changed);
    vv_free(commit);
}

struct vv_place *fake_place_new(void)
{
    struct vv_place *place = NULL;

    VV_ASSERT(vv_alloc(&place, 1, sizeof *place) == VARVE_OK);
    return place;
}

void fake_place_free(struct vv_place *place)
{
    for (size_t i = 0; i < place->commit_count; i++)
        commit_free(place->commits[i]);
    for (size_t i = 0; i < place->page_count; i++)
        vv_free(place->pages[i]);
    for (size_t i = 0; i < place->code_count; i++)
        vv_free(place->codes[i].bytes);
    vv_free(place->commits);
    vv_free(place->pages);
    vv_free(place->moves);
    vv_free(place->codes);
    vv_free(place);
}

void fake_place_fail(struct vv_place *place, varve_status rc)
{
    place->fail = rc;
}

size_t fake_place_commits(const struct vv_place *place)
{
    return place->commit_count;
}

size_t fake_place_pages(const struct vv_place *place)
{
    return place->page_count;
}

size_t fake_place_reads(struct vv_place *place)
{
    const size_t reads = place->reads;

    place->reads = 0;
    return reads;
}

size_t fake_place_holds(const struct vv_place *place)
{
    return place->holds;
}

size_t fake_place_views(const struct vv_place *place)
{
    return place->views;
}

void fake_place_retire(struct vv_place *place)
{
    place->generation++;
}

static uint64_t hold(struct vv_place *place)
{
    place->holds++;
    return place->generation;
}

static void drop(struct vv_place *place, uint64_t token)
{
    VV_ASSERT(place->holds > 0 && token <= place->generation);
    place->holds--;
}

static void place_close(struct vv_place *place)
{
    (void)place; /* as a directory, it stays */
}

/* ---- Commits ---------------------------------------------------------------------------------- */

static bool begins_with(const uint8_t id[32], const uint8_t key[32], unsigned digits)
{
    for (unsigned i = 0; i < digits; i++) {
        const unsigned shift = i % 2 == 0 ? 4 : 0;
        if ((id[i / 2] >> shift & 15) != (key[i / 2] >> shift & 15))
            return false;
    }
    return true;
}

static const struct commit *commit_of(const struct vv_place *place, const varve_commit_id *id)
{
    for (size_t i = 0; i < place->commit_count; i++)
        if (!place->commits[i]->removed && memcmp(&place->commits[i]->facts.id, id, sizeof *id) == 0)
            return place->commits[i];
    return NULL;
}

static varve_status find_id(struct vv_place *place, const uint8_t key[32], unsigned digits,
                            varve_commit_id found[2], size_t *count)
{
    *count = 0;
    for (size_t i = 0; i < place->commit_count && *count < 2; i++)
        if (!place->commits[i]->removed && begins_with(place->commits[i]->facts.id.bytes, key, digits))
            found[(*count)++] = place->commits[i]->facts.id;
    return VARVE_OK;
}

static varve_status find_root(struct vv_place *place, const uint8_t key[32], unsigned digits,
                              varve_commit_id found[2], size_t *count)
{
    const struct commit *last = NULL;

    *count = 0;
    for (size_t i = place->commit_count; i-- > 0 && *count < 2;) {
        const struct commit *commit = place->commits[i];
        if (commit->removed || !begins_with(commit->facts.root.bytes, key, digits) ||
            (last != NULL && memcmp(&last->facts.root, &commit->facts.root, sizeof last->facts.root) == 0))
            continue;
        last = commit;
        found[(*count)++] = commit->facts.id;
    }
    return VARVE_OK;
}

static varve_status find_number(struct vv_place *place, uint64_t number, varve_commit_id *found)
{
    if (number == 0 || number > place->commit_count || place->commits[number - 1]->removed)
        return vv_fail(VARVE_NOT_FOUND, "no commit has this number");
    *found = place->commits[number - 1]->facts.id;
    return VARVE_OK;
}

static varve_status facts_of(struct vv_place *place, const varve_commit_id *id, struct vv_commit_facts *facts)
{
    const struct commit *commit = commit_of(place, id);

    if (commit == NULL)
        return vv_fail(VARVE_NOT_FOUND, "no such commit");
    return vv_commit_facts_copy(facts, &commit->facts);
}

static varve_status ancestor(struct vv_place *place, const varve_commit_id *id, varve_commit_id *found)
{
    *found = *id;
    for (size_t i = place->commit_count; i-- > 0;) { /* parents are made before their children */
        const struct commit *commit = place->commits[i];
        if (commit->removed && memcmp(&commit->facts.id, found, sizeof *found) == 0)
            *found = commit->facts.parent;
    }
    return VARVE_OK;
}

static uint64_t last_number(struct vv_place *place)
{
    return place->commit_count;
}

static varve_status view(struct vv_place *place, const struct vv_commit_facts *facts, struct vv_state *state)
{
    VV_ASSERT(place->holds > 0);
    place->views++;
    return vv_state_copy(state, &place->commits[facts->locator - 1]->state);
}

static varve_status changed(struct vv_place *place, const struct vv_commit_facts *facts,
                            varve_status (*each)(void *context, const varve_module_id *id, bool removed,
                                                 uint64_t pages, uint64_t bytes),
                            void *context)
{
    const struct commit *commit = place->commits[facts->locator - 1];
    varve_status rc = VARVE_OK;

    for (size_t i = 0; rc == VARVE_OK && i < commit->changed_count; i++)
        rc = each(context, &commit->changed[i].id, commit->changed[i].removed, commit->changed[i].pages, 0);
    return rc;
}

/* ---- Pages and code --------------------------------------------------------------------------- */

static varve_status read_page(struct vv_place *place, const struct vv_leaf *leaf, uint8_t page[VV_PAGE_SIZE])
{
    VV_ASSERT(leaf->locator > 0 && leaf->locator <= place->page_count);
    memcpy(page, place->pages[leaf->locator - 1], VV_PAGE_SIZE);
    place->reads++;
    return VARVE_OK;
}

struct fill {
    struct vv_place *place;
    uint64_t page_count;
    varve_status (*put)(void *context, uint64_t index, const uint8_t *page);
    void *context;
};

static varve_status fill_leaf(void *context, uint64_t index, const struct vv_leaf *from,
                              const struct vv_leaf *to)
{
    const struct fill *fill = context;
    uint8_t page[VV_PAGE_SIZE];

    (void)from;
    if (index >= fill->page_count)
        return VARVE_OK;
    if (to == NULL)
        return fill->put(fill->context, index, NULL);
    const varve_status rc = read_page(fill->place, to, page);
    return rc == VARVE_OK ? fill->put(fill->context, index, page) : rc;
}

static varve_status read_diff(struct vv_place *place, const struct vv_pagetree *from,
                              const struct vv_pagetree *tree,
                              varve_status (*put)(void *context, uint64_t index, const uint8_t *page),
                              void *context)
{
    struct fill fill = { .place = place, .page_count = tree->page_count, .put = put, .context = context };

    return vv_pagetree_diff(from, tree, fill_leaf, &fill);
}

static void source(struct vv_place *place, const varve_module_id *module, const struct vv_pagetree *wanted,
                   struct vv_source *found)
{
    (void)place;
    (void)module;
    (void)wanted;
    *found = (struct vv_source){ .file = VV_FILE_NONE };
}

static void source_end(struct vv_place *place, struct vv_source *found)
{
    (void)place;
    VV_ASSERT(found->file.fd == -1);
}

static uint64_t source_version(struct vv_place *place)
{
    (void)place;
    return 0;
}

static void source_rotten(struct vv_place *place, const varve_module_id *module)
{
    (void)place;
    (void)module;
}

static uint64_t source_sound(struct vv_place *place)
{
    (void)place;
    return 0;
}

static varve_status snapshot(struct vv_place *place, bool fork)
{
    (void)place;
    (void)fork;
    return VARVE_OK;
}

static bool wants_frozen(struct vv_place *place)
{
    (void)place;
    return false;
}

static varve_status freeze(struct vv_place *place, const struct vv_commit_facts *facts,
                           struct vv_frozen *images, size_t count)
{
    (void)place;
    (void)facts;
    (void)images;
    (void)count;
    return VARVE_OK;
}

static const struct code *code_of(const struct vv_place *place, const uint8_t hash[32])
{
    for (size_t i = 0; i < place->code_count; i++)
        if (memcmp(place->codes[i].hash, hash, VV_HASH_SIZE) == 0)
            return &place->codes[i];
    return NULL;
}

static varve_status code_put(struct vv_place *place, const uint8_t hash[32], const void *code, size_t size)
{
    struct code put = { .size = size };
    varve_status rc = VARVE_OK;

    if (code_of(place, hash) != NULL)
        return VARVE_OK;
    TRY(vv_resize(&place->codes, place->code_count + 1, sizeof *place->codes));
    TRY(vv_memdup(&put.bytes, code, size));
    memcpy(put.hash, hash, VV_HASH_SIZE);
    place->codes[place->code_count++] = put;
out:
    return rc;
}

static varve_status code_get(struct vv_place *place, const uint8_t hash[32], uint8_t **code, size_t *size)
{
    const struct code *found = code_of(place, hash);

    if (found == NULL)
        return vv_fail(VARVE_NOT_FOUND, "no such code");
    *size = found->size;
    return vv_memdup(code, found->bytes, found->size);
}

/* ---- Refs ------------------------------------------------------------------------------------- */

static size_t newest_move(const struct vv_place *place, const char *name)
{
    for (size_t i = place->move_count; i-- > 0;)
        if (strcmp(place->moves[i].name, name) == 0)
            return i + 1;
    return 0;
}

static varve_status ref_get(struct vv_place *place, const char *name, struct vv_ref_facts *ref)
{
    const size_t newest = newest_move(place, name);
    const varve_commit_id none = { { 0 } };
    uint64_t moves = 0;

    if (newest == 0 || memcmp(&place->moves[newest - 1].facts.to, &none, sizeof none) == 0)
        return vv_fail(VARVE_NOT_FOUND, "no such ref");
    for (size_t i = 0; i < place->move_count; i++)
        moves += strcmp(place->moves[i].name, name) == 0;
    *ref = (struct vv_ref_facts){ .commit = place->moves[newest - 1].facts.to, .moves = moves };
    (void)snprintf(ref->name, sizeof ref->name, "%s", name);
    return VARVE_OK;
}

static varve_status ref_next(struct vv_place *place, const char *after, struct vv_ref_facts *ref)
{
    struct vv_ref_facts candidate;
    bool found = false;

    for (size_t i = 0; i < place->move_count; i++) {
        const char *name = place->moves[i].name;
        if ((after != NULL && strcmp(name, after) <= 0) || (found && strcmp(name, ref->name) >= 0) ||
            ref_get(place, name, &candidate) != VARVE_OK)
            continue;
        *ref = candidate;
        found = true;
    }
    return found ? VARVE_OK : VARVE_END;
}

static varve_status ref_move(struct vv_place *place, const char *name, uint64_t locator,
                             struct vv_move_facts *move)
{
    const size_t at = locator == 0 ? newest_move(place, name) : (size_t)locator;

    if (at == 0)
        return VARVE_END;
    *move = place->moves[at - 1].facts;
    return VARVE_OK;
}

static varve_status check_move(struct vv_place *place, const struct vv_ref_move *move)
{
    struct vv_ref_facts ref;
    const bool exists = ref_get(place, move->name, &ref) == VARVE_OK;

    if (move->force || (!exists && move->expected == NULL) ||
        (exists && move->expected != NULL && memcmp(&ref.commit, move->expected, sizeof ref.commit) == 0))
        return VARVE_OK;
    return vv_fail(VARVE_CONFLICT, "%s stands elsewhere", move->name);
}

/* There is room, and the move was checked: nothing can fail. */
static void put_move(struct vv_place *place, const struct vv_ref_move *move, int64_t time_ns)
{
    const size_t previous = newest_move(place, move->name);
    struct move *put = &place->moves[place->move_count++];

    *put =
        (struct move){ .facts = { .time_ns = time_ns, .locator = place->move_count, .previous = previous } };
    (void)snprintf(put->name, sizeof put->name, "%s", move->name);
    (void)snprintf(put->facts.what, sizeof put->facts.what, "%s", move->what);
    if (previous != 0)
        put->facts.from = place->moves[previous - 1].facts.to;
    if (move->to != NULL)
        put->facts.to = *move->to;
}

static varve_status move_refs(struct vv_place *place, const struct vv_ref_move *moves, size_t count,
                              int64_t time_ns)
{
    varve_status rc = VARVE_OK;

    TRY(vv_resize(&place->moves, place->move_count + count, sizeof *place->moves));
    for (size_t i = 0; i < count; i++)
        TRY(check_move(place, &moves[i]));
    for (size_t i = 0; i < count; i++)
        put_move(place, &moves[i], time_ns);
out:
    return rc;
}

static varve_status remove_commits(struct vv_place *place, const varve_commit_id *ids, size_t count,
                                   int64_t time_ns)
{
    (void)time_ns;
    for (size_t i = 0; i < count; i++) {
        struct vv_ref_facts ref = { .moves = 0 };
        char after[sizeof ref.name] = "";
        if (commit_of(place, &ids[i]) == NULL)
            return vv_fail(VARVE_NOT_FOUND, "no such commit");
        for (bool first = true; ref_next(place, first ? NULL : after, &ref) == VARVE_OK; first = false) {
            if (memcmp(&ref.commit, &ids[i], sizeof ref.commit) == 0)
                return vv_fail(VARVE_MISUSE, "%s names this commit", ref.name);
            memcpy(after, ref.name, sizeof after);
        }
        for (size_t k = 0; k < place->commit_count; k++)
            if (memcmp(&place->commits[k]->facts.id, &ids[i], sizeof ids[i]) == 0)
                place->commits[k]->removed = true;
    }
    return VARVE_OK;
}

/* ---- Commit in two steps ---------------------------------------------------------------------- */

/* What the contract says of a change. */
static void check_change(const struct vv_place *place, const struct vv_change *change)
{
    for (size_t i = 0; i < change->module_count; i++) {
        const struct vv_module_change *module = &change->modules[i];
        VV_ASSERT(i == 0 || memcmp(&change->modules[i - 1].id, &module->id, sizeof module->id) < 0);
        VV_ASSERT(module->after != NULL || module->page_count == 0);
        if (module->after != NULL && !vv_hash_is_zero(module->after->code))
            VV_ASSERT(code_of(place, module->after->code) != NULL);
        for (size_t j = 0; j < module->page_count; j++) {
            const struct vv_page_change *page = &module->pages[j];
            uint8_t hash[1][VV_HASH_SIZE] = { { 0 } };
            struct vv_leaf leaf = { .locator = 0 };
            bool present = false;
            if (page->bytes != NULL)
                vv_hash_pages(&page->bytes, 1, hash);
            VV_ASSERT(memcmp(hash[0], page->hash, VV_HASH_SIZE) == 0);
            VV_ASSERT((page->bytes == NULL) == vv_hash_is_zero(hash[0]));
            VV_ASSERT(vv_pagetree_get(&module->after->memory, page->index, &leaf, &present) == VARVE_OK);
            VV_ASSERT(present == (page->bytes != NULL));
            VV_ASSERT(!present || (leaf.locator == 0 && memcmp(leaf.hash, hash[0], VV_HASH_SIZE) == 0));
            VV_ASSERT((page->base != NULL) == (page->base_locator != 0) || page->base == NULL);
            VV_ASSERT(page->base_locator <= place->page_count);
            if (page->base != NULL)
                VV_ASSERT(memcmp(page->base, place->pages[page->base_locator - 1], VV_PAGE_SIZE) == 0);
        }
    }
}

static varve_status prepare(struct vv_place *place, struct vv_change *change, struct vv_pending **out)
{
    struct vv_pending *pending = NULL;
    size_t pages = 0;
    varve_status rc = VARVE_OK;

    check_change(place, change);
    for (size_t i = 0; i < change->module_count; i++)
        pages += change->modules[i].page_count;
    TRY(vv_alloc(&pending, 1, sizeof *pending));
    TRY(vv_alloc(&pending->commit, 1, sizeof *pending->commit));
    TRY(vv_alloc(&pending->commit->changed, change->module_count, sizeof *pending->commit->changed));
    TRY(vv_resize(&place->pages, place->page_count + pages, sizeof *place->pages));
    TRY(vv_resize(&place->commits, place->commit_count + 1, sizeof *place->commits));
    TRY(vv_resize(&place->moves, place->move_count + 1, sizeof *place->moves));
    for (size_t i = 0; i < change->module_count; i++)
        pending->commit->changed[pending->commit->changed_count++] =
            (struct changed){ .id = change->modules[i].id,
                              .removed = change->modules[i].after == NULL,
                              .pages = change->modules[i].page_count };
    *out = pending;
    pending = NULL;
out:
    if (pending != NULL)
        commit_free(pending->commit);
    vv_free(pending);
    return rc;
}

static void discard(struct vv_place *place, struct vv_pending *pending)
{
    (void)place;
    commit_free(pending->commit);
    vv_free(pending);
}

static varve_status put_pages(struct vv_place *place, const struct vv_module_change *module)
{
    varve_status rc = VARVE_OK;

    for (size_t i = 0; module->after != NULL && i < module->page_count; i++) {
        if (module->pages[i].bytes == NULL)
            continue;
        TRY(vv_memdup(&place->pages[place->page_count], module->pages[i].bytes, VV_PAGE_SIZE));
        place->page_count++;
        TRY(vv_pagetree_locate(&module->after->memory, module->pages[i].index, place->page_count));
    }
out:
    return rc;
}

static varve_status publish(struct vv_place *place, struct vv_change *change, struct vv_pending *pending,
                            const struct vv_ref_move *move, varve_durability durability)
{
    struct vv_commit_facts facts = { .locator = 0 };
    struct commit *commit = pending->commit;
    const varve_status fail = place->fail;
    varve_status rc = VARVE_OK;

    VV_ASSERT(durability == VARVE_DURABLE || durability == VARVE_BUFFERED);
    place->fail = VARVE_OK;
    if (fail != VARVE_OK && fail != VARVE_UNCERTAIN) {
        rc = vv_fail(fail, "told to fail");
        goto out;
    }
    if (move != NULL)
        TRY(check_move(place, move));
    const struct commit *known = commit_of(place, &change->facts.id);
    if (known != NULL) {
        TRY(vv_commit_facts_copy(&facts, &known->facts));
        vv_commit_facts_release(&change->facts);
        change->facts = facts;
        change->unlocated = true;
    } else {
        for (size_t i = 0; i < change->module_count; i++)
            TRY(put_pages(place, &change->modules[i]));
        change->facts.number = change->facts.locator = place->commit_count + 1;
        TRY(vv_commit_facts_copy(&commit->facts, &change->facts));
        TRY(vv_state_copy(&commit->state, change->after));
        place->commits[place->commit_count++] = commit;
        pending->commit = NULL;
        change->unlocated = change->hold < place->generation;
    }
    if (move != NULL)
        put_move(place, move, change->facts.time_ns);
    if (fail == VARVE_UNCERTAIN)
        rc = vv_fail(VARVE_UNCERTAIN, "told to be uncertain");
out:
    discard(place, pending);
    return rc;
}

static varve_status persist(struct vv_place *place)
{
    (void)place;
    return VARVE_OK;
}

static void configure(struct vv_place *place, uint64_t retain, uint64_t snapshot_bytes)
{
    (void)place;
    (void)retain;
    (void)snapshot_bytes;
}

static varve_status maintain(struct vv_place *place, uint32_t flags, varve_progress_fn progress,
                             void *context, uint64_t *freed)
{
    (void)place;
    (void)flags;
    (void)progress;
    (void)context;
    *freed = 0;
    return VARVE_OK;
}

static varve_status tidy(struct vv_place *place, uint64_t budget, bool *more)
{
    (void)place;
    (void)budget;
    *more = false;
    return VARVE_OK;
}

static void settle(struct vv_place *place)
{
    (void)place;
}

static void tell_stat(struct vv_place *place, struct vv_layout_stat *stat)
{
    stat->commits = place->commit_count;
}

const struct vv_layout fake_layout = {
    .id = VARVE_LAYOUT_DEFAULT,
    .name = "fake",
    .can = VV_CAN_SESSIONS | VV_CAN_BRANCH | VV_CAN_DELETE,
    .close = place_close,
    .hold = hold,
    .drop = drop,
    .find_id = find_id,
    .find_root = find_root,
    .find_number = find_number,
    .facts = facts_of,
    .ancestor = ancestor,
    .last_number = last_number,
    .view = view,
    .changed = changed,
    .read = read_page,
    .source = source,
    .source_end = source_end,
    .source_version = source_version,
    .source_rotten = source_rotten,
    .source_sound = source_sound,
    .snapshot = snapshot,
    .read_diff = read_diff,
    .wants_frozen = wants_frozen,
    .freeze = freeze,
    .code_put = code_put,
    .code_get = code_get,
    .ref_get = ref_get,
    .ref_next = ref_next,
    .ref_move = ref_move,
    .move_refs = move_refs,
    .remove = remove_commits,
    .prepare = prepare,
    .publish = publish,
    .discard = discard,
    .persist = persist,
    .configure = configure,
    .maintain = maintain,
    .tidy = tidy,
    .settle = settle,
    .stat = tell_stat,
};
