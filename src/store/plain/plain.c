/* plain.c - the history in memory: looking things up, and changing it. As bytes: record.c beside it. */
#include "store/plain/plain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

static struct vv_plain *plain_of(struct vv_place *place)
{
    return (struct vv_plain *)(void *)place; /* its first member */
}

void vv_plain_init(struct vv_plain *plain)
{
    *plain = (struct vv_plain){ .commit_count = 0 };
    VV_ASSERT(pthread_mutex_init(&plain->mutex, NULL) == 0);
    vv_table_init(&plain->by_id, sizeof(varve_commit_id));
}

static void give_up_content(struct vv_plain_commit *commit)
{
    if (commit->has_state)
        vv_state_release(&commit->state);
    commit->has_state = false;
    vv_free(commit->changes);
    commit->changes = NULL;
    commit->change_count = 0;
    vv_bytes_release(&commit->own);
}

void vv_plain_commit_free(struct vv_plain_commit *commit)
{
    if (commit == NULL)
        return;
    give_up_content(commit);
    vv_commit_facts_release(&commit->facts);
    vv_free(commit);
}

void vv_plain_release(struct vv_plain *plain)
{
    for (size_t i = 0; i < plain->commit_count; i++)
        vv_plain_commit_free(plain->commits[i]);
    vv_free(plain->commits);
    vv_free(plain->moves);
    vv_free(plain->refs);
    vv_free(plain->holds);
    vv_table_release(&plain->by_id);
    (void)pthread_mutex_destroy(&plain->mutex);
}

/* ---- Holds -------------------------------------------------------------------------------------- */

/* A hold cannot fail: one for whose generation there is no memory holds everything. */
uint64_t vv_plain_hold(struct vv_place *place)
{
    struct vv_plain *plain = plain_of(place);

    vv_plain_lock(plain);
    const uint64_t token = plain->generation;
    size_t i = 0;
    while (i < plain->hold_count && plain->holds[i].generation != token)
        i++;
    if (i == plain->hold_count) {
        if (vv_resize(&plain->holds, plain->hold_count + 1, sizeof *plain->holds) == VARVE_OK)
            plain->holds[plain->hold_count++] = (struct vv_plain_hold){ .generation = token };
        else
            plain->unlisted++;
    }
    if (i < plain->hold_count)
        plain->holds[i].holders++;
    vv_plain_unlock(plain);
    return token;
}

void vv_plain_drop(struct vv_place *place, uint64_t token)
{
    struct vv_plain *plain = plain_of(place);

    vv_plain_lock(plain);
    size_t i = 0;
    while (i < plain->hold_count && plain->holds[i].generation != token)
        i++;
    VV_ASSERT(i < plain->hold_count || plain->unlisted > 0);
    if (i == plain->hold_count)
        plain->unlisted--;
    else if (--plain->holds[i].holders == 0)
        plain->holds[i] = plain->holds[--plain->hold_count];
    vv_plain_unlock(plain);
}

uint64_t vv_plain_oldest_hold(const struct vv_plain *plain)
{
    uint64_t oldest = plain->unlisted > 0 ? 0 : UINT64_MAX;

    for (size_t i = 0; i < plain->hold_count; i++)
        if (plain->holds[i].generation < oldest)
            oldest = plain->holds[i].generation;
    return oldest;
}

/* ---- Commits ------------------------------------------------------------------------------------ */

static bool begins_with(const uint8_t id[32], const uint8_t key[32], unsigned digits)
{
    const unsigned whole = digits / 2;

    return memcmp(id, key, whole) == 0 && (digits % 2 == 0 || id[whole] >> 4 == key[whole] >> 4);
}

struct vv_plain_commit *vv_plain_commit_of(const struct vv_plain *plain, const varve_commit_id *id)
{
    const union vv_value *value = vv_table_get(&plain->by_id, id);

    return value == NULL ? NULL : value->pointer;
}

struct vv_plain_commit *vv_plain_numbered(const struct vv_plain *plain, uint64_t number)
{
    size_t low = 0, high = plain->commit_count;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (plain->commits[middle]->facts.number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low < plain->commit_count && plain->commits[low]->facts.number == number ? plain->commits[low]
                                                                                    : NULL;
}

static struct vv_plain_commit *live_commit(const struct vv_plain *plain, const varve_commit_id *id)
{
    struct vv_plain_commit *commit = vv_plain_commit_of(plain, id);

    return commit == NULL || commit->removed ? NULL : commit;
}

varve_status vv_plain_find_id(struct vv_place *place, const uint8_t key[32], unsigned digits,
                              varve_commit_id found[2], size_t *count)
{
    struct vv_plain *plain = plain_of(place);

    *count = 0;
    vv_plain_lock(plain);
    if (digits == 64) {
        varve_commit_id id;
        memcpy(id.bytes, key, sizeof id.bytes);
        if (live_commit(plain, &id) != NULL)
            found[(*count)++] = id;
    } else {
        for (size_t i = 0; i < plain->commit_count && *count < 2; i++)
            if (!plain->commits[i]->removed && begins_with(plain->commits[i]->facts.id.bytes, key, digits))
                found[(*count)++] = plain->commits[i]->facts.id;
    }
    vv_plain_unlock(plain);
    return VARVE_OK;
}

varve_status vv_plain_find_root(struct vv_place *place, const uint8_t key[32], unsigned digits,
                                varve_commit_id found[2], size_t *count)
{
    struct vv_plain *plain = plain_of(place);
    const varve_root *last = NULL;

    *count = 0;
    vv_plain_lock(plain);
    for (size_t i = plain->commit_count; i-- > 0 && *count < 2;) {
        const struct vv_commit_facts *facts = &plain->commits[i]->facts;
        if (plain->commits[i]->removed || !begins_with(facts->root.bytes, key, digits) ||
            (last != NULL && memcmp(last, &facts->root, sizeof *last) == 0))
            continue;
        last = &facts->root;
        found[(*count)++] = facts->id;
    }
    vv_plain_unlock(plain);
    return VARVE_OK;
}

varve_status vv_plain_find_number(struct vv_place *place, uint64_t number, varve_commit_id *found)
{
    struct vv_plain *plain = plain_of(place);

    vv_plain_lock(plain);
    const struct vv_plain_commit *commit = vv_plain_numbered(plain, number);
    const bool there = commit != NULL && !commit->removed;
    if (there)
        *found = commit->facts.id;
    vv_plain_unlock(plain);
    return there ? VARVE_OK
                 : vv_fail(VARVE_NOT_FOUND, "r%llu: no commit has this number", (unsigned long long)number);
}

static varve_status no_commit(void)
{
    return vv_fail(VARVE_NOT_FOUND, "the store has no such commit");
}

varve_status vv_plain_facts(struct vv_place *place, const varve_commit_id *id, struct vv_commit_facts *facts)
{
    struct vv_plain *plain = plain_of(place);

    vv_plain_lock(plain);
    const struct vv_plain_commit *commit = live_commit(plain, id);
    const varve_status rc = commit == NULL ? no_commit() : vv_commit_facts_copy(facts, &commit->facts);
    vv_plain_unlock(plain);
    return rc;
}

uint64_t vv_plain_last_number(struct vv_place *place)
{
    struct vv_plain *plain = plain_of(place);

    vv_plain_lock(plain);
    const uint64_t last = plain->last_number;
    vv_plain_unlock(plain);
    return last;
}

varve_status vv_plain_ancestor(struct vv_place *place, const varve_commit_id *id, varve_commit_id *found)
{
    struct vv_plain *plain = plain_of(place);

    *found = *id;
    vv_plain_lock(plain);
    /* Ids bind their parents', so that a line ends; a damaged one no later than there are commits. */
    for (size_t i = 0; i <= plain->commit_count; i++) {
        const struct vv_plain_commit *commit = vv_plain_commit_of(plain, found);
        if (commit == NULL || !commit->removed)
            break;
        *found = commit->facts.parent;
    }
    vv_plain_unlock(plain);
    return VARVE_OK;
}

varve_status vv_plain_view(struct vv_place *place, const struct vv_commit_facts *facts,
                           struct vv_state *state)
{
    struct vv_plain *plain = plain_of(place);
    varve_status rc = VARVE_OK;

    vv_plain_lock(plain);
    const struct vv_plain_commit *commit = vv_plain_numbered(plain, facts->locator);
    rc = commit == NULL || !commit->has_state ? no_commit() : vv_state_copy(state, &commit->state);
    vv_plain_unlock(plain);
    return rc;
}

varve_status vv_plain_changed(struct vv_place *place, const struct vv_commit_facts *facts,
                              varve_status (*each)(void *context, const varve_module_id *id, bool removed,
                                                   uint64_t pages, uint64_t bytes),
                              void *context)
{
    struct vv_plain *plain = plain_of(place);
    struct vv_plain_change *changes = NULL;
    size_t count = 0;
    varve_status rc = VARVE_OK;

    vv_plain_lock(plain);
    const struct vv_plain_commit *commit = vv_plain_numbered(plain, facts->locator);
    if (commit != NULL) {
        count = commit->change_count;
        rc = vv_memdup(&changes, commit->changes, count * sizeof *changes);
    }
    vv_plain_unlock(plain);
    for (size_t i = 0; rc == VARVE_OK && i < count; i++)
        rc = each(context, &changes[i].id, changes[i].removed, changes[i].pages, changes[i].bytes);
    vv_free(changes);
    return rc;
}

static varve_status note_changes(const struct vv_change *change, struct vv_plain_commit *commit)
{
    varve_status rc = VARVE_OK;

    TRY(vv_alloc(&commit->changes, change->module_count, sizeof *commit->changes));
    for (size_t i = 0; i < change->module_count; i++)
        commit->changes[commit->change_count++] =
            (struct vv_plain_change){ .id = change->modules[i].id,
                                      .removed = change->modules[i].after == NULL,
                                      .pages = change->modules[i].page_count };
out:
    return rc;
}

varve_status vv_plain_commit_new(const struct vv_change *change, struct vv_plain_commit **out)
{
    struct vv_plain_commit *commit = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_alloc(&commit, 1, sizeof *commit));
    TRY(note_changes(change, commit));
    TRY(vv_commit_facts_copy(&commit->facts, &change->facts));
    *out = commit;
    commit = NULL;
out:
    vv_plain_commit_free(commit);
    return rc;
}

/* Room grows by halves, so that many commits one by one cost what they would together. */
static varve_status grow(void *array, size_t *room, size_t wanted, size_t size)
{
    if (wanted <= *room)
        return VARVE_OK;
    const size_t larger = wanted + wanted / 2 + 8;
    const varve_status rc = vv_resize(array, larger, size);
    if (rc == VARVE_OK)
        *room = larger;
    return rc;
}

varve_status vv_plain_room(struct vv_plain *plain, size_t commits, size_t moves)
{
    varve_status rc = VARVE_OK;

    TRY(grow(&plain->commits, &plain->commit_room, plain->commit_count + commits, sizeof *plain->commits));
    TRY(grow(&plain->moves, &plain->move_room, plain->move_count + moves, sizeof *plain->moves));
    TRY(grow(&plain->refs, &plain->ref_room, plain->ref_count + moves, sizeof *plain->refs));
    TRY(vv_table_reserve(&plain->by_id, commits));
out:
    return rc;
}

/* There is room, so this cannot fail. */
static void index_commit(struct vv_plain *plain, struct vv_plain_commit *commit)
{
    const varve_status rc =
        vv_table_put(&plain->by_id, &commit->facts.id, (union vv_value){ .pointer = commit });

    VV_ASSERT(rc == VARVE_OK);
}

void vv_plain_add(struct vv_plain *plain, struct vv_plain_commit *commit)
{
    if (commit->facts.number == 0)
        commit->facts.number = plain->last_number + 1;
    VV_ASSERT(commit->facts.number > plain->last_number && plain->commit_count < plain->commit_room);
    commit->facts.locator = plain->last_number = commit->facts.number;
    plain->commits[plain->commit_count++] = commit;
    plain->live_count += !commit->removed;
    index_commit(plain, commit);
}

struct vv_plain_commit *vv_plain_take_back(struct vv_plain *plain)
{
    struct vv_plain_commit *commit = plain->commits[--plain->commit_count];

    plain->live_count -= !commit->removed;
    plain->last_number = plain->commit_count == 0 ? 0 : plain->commits[plain->commit_count - 1]->facts.number;
    (void)vv_table_remove(&plain->by_id, &commit->facts.id, NULL);
    for (size_t i = plain->commit_count; i-- > 0;) /* a tombstone that it stood before */
        if (vv_id_equal(&plain->commits[i]->facts.id, &commit->facts.id)) {
            index_commit(plain, plain->commits[i]);
            break;
        }
    return commit;
}

/* ---- Refs --------------------------------------------------------------------------------------- */

/* The first ref whose name is not before `name`. */
static size_t ref_place(const struct vv_plain *plain, const char *name)
{
    size_t low = 0, high = plain->ref_count;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (strcmp(plain->refs[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct vv_plain_ref *ref_named(const struct vv_plain *plain, const char *name)
{
    const size_t at = ref_place(plain, name);

    return at < plain->ref_count && strcmp(plain->refs[at].name, name) == 0 ? &plain->refs[at] : NULL;
}

varve_commit_id vv_plain_stands(const struct vv_plain *plain, const char *name)
{
    const struct vv_plain_ref *ref = ref_named(plain, name);

    return ref == NULL ? (varve_commit_id){ { 0 } } : plain->moves[ref->newest - 1].facts.to;
}

static bool tell_ref(const struct vv_plain *plain, const struct vv_plain_ref *ref, struct vv_ref_facts *facts)
{
    const varve_commit_id *at = &plain->moves[ref->newest - 1].facts.to;

    if (vv_id_is_zero(at))
        return false;
    *facts = (struct vv_ref_facts){ .commit = *at, .moves = ref->moves };
    memcpy(facts->name, ref->name, sizeof facts->name);
    return true;
}

varve_status vv_plain_ref_get(struct vv_place *place, const char *name, struct vv_ref_facts *facts)
{
    struct vv_plain *plain = plain_of(place);

    vv_plain_lock(plain);
    const struct vv_plain_ref *ref = ref_named(plain, name);
    const bool there = ref != NULL && tell_ref(plain, ref, facts);
    vv_plain_unlock(plain);
    return there ? VARVE_OK : vv_fail(VARVE_NOT_FOUND, "%s: no such branch or tag", name);
}

varve_status vv_plain_ref_next(struct vv_place *place, const char *after, struct vv_ref_facts *facts)
{
    struct vv_plain *plain = plain_of(place);
    bool there = false;

    vv_plain_lock(plain);
    size_t at = after == NULL ? 0 : ref_place(plain, after);
    if (after != NULL && at < plain->ref_count && strcmp(plain->refs[at].name, after) == 0)
        at++;
    for (; at < plain->ref_count && !there; at++)
        there = tell_ref(plain, &plain->refs[at], facts);
    vv_plain_unlock(plain);
    return there ? VARVE_OK : VARVE_END;
}

varve_status vv_plain_ref_move(struct vv_place *place, const char *name, uint64_t locator,
                               struct vv_move_facts *move)
{
    struct vv_plain *plain = plain_of(place);

    vv_plain_lock(plain);
    const struct vv_plain_ref *ref = ref_named(plain, name);
    const size_t at = locator != 0 ? (size_t)locator : ref == NULL ? 0 : ref->newest;
    const bool there = at != 0 && at <= plain->move_count;
    if (there)
        *move = plain->moves[at - 1].facts;
    vv_plain_unlock(plain);
    return there ? VARVE_OK : VARVE_END;
}

varve_status vv_plain_check_move(const struct vv_plain *plain, const struct vv_ref_move *move,
                                 const varve_commit_id *made)
{
    const varve_commit_id at = vv_plain_stands(plain, move->name);
    const bool exists = !vv_id_is_zero(&at);
    const bool stands = move->expected == NULL ? !exists : exists && vv_id_equal(&at, move->expected);

    if (!move->force && !stands)
        return vv_fail(VARVE_CONFLICT, exists ? "%s: stands elsewhere by now" : "%s: is not there any more",
                       move->name);
    if (move->to != NULL && (made == NULL || !vv_id_equal(move->to, made)) &&
        live_commit(plain, move->to) == NULL)
        return vv_fail_within(no_commit(), "%s", move->name);
    return VARVE_OK;
}

varve_status vv_plain_check_line(const char *name, const char *layout)
{
    if (strcmp(name, "main") == 0 || strncmp(name, "tags/", 5) == 0)
        return VARVE_OK;
    return vv_fail(VARVE_UNSUPPORTED,
                   "%s: the layout %s keeps one line, main, and tags: tree and journal have branches", name,
                   layout);
}

void vv_plain_put_move(struct vv_plain *plain, const struct vv_ref_move *move, int64_t time_ns)
{
    size_t at = ref_place(plain, move->name);
    struct vv_plain_move *put = &plain->moves[plain->move_count];

    VV_ASSERT(plain->move_count < plain->move_room);
    *put = (struct vv_plain_move){ .facts = { .time_ns = time_ns, .locator = plain->move_count + 1 } };
    (void)snprintf(put->name, sizeof put->name, "%s", move->name);
    (void)snprintf(put->facts.what, sizeof put->facts.what, "%s", move->what);
    if (move->to != NULL)
        put->facts.to = *move->to;
    if (at == plain->ref_count || strcmp(plain->refs[at].name, move->name) != 0) {
        VV_ASSERT(plain->ref_count < plain->ref_room);
        memmove(&plain->refs[at + 1], &plain->refs[at], (plain->ref_count - at) * sizeof *plain->refs);
        plain->refs[at] = (struct vv_plain_ref){ .newest = 0 };
        memcpy(plain->refs[at].name, put->name, sizeof put->name);
        plain->ref_count++;
    }
    struct vv_plain_ref *ref = &plain->refs[at];
    if (ref->newest != 0)
        put->facts.from = plain->moves[ref->newest - 1].facts.to;
    put->facts.previous = ref->newest;
    ref->newest = ++plain->move_count;
    ref->moves++;
}

void vv_plain_take_back_move(struct vv_plain *plain)
{
    const struct vv_plain_move *move = &plain->moves[plain->move_count - 1];
    const size_t at = ref_place(plain, move->name);
    struct vv_plain_ref *ref = &plain->refs[at];

    ref->newest = (size_t)move->facts.previous;
    ref->moves--;
    plain->move_count--;
    if (ref->newest == 0) {
        plain->ref_count--;
        memmove(ref, ref + 1, (plain->ref_count - at) * sizeof *ref);
    }
}

/* ---- Removal and retention ---------------------------------------------------------------------- */

static varve_status check_unnamed(const struct vv_plain *plain, const varve_commit_id *id)
{
    for (size_t i = 0; i < plain->ref_count; i++) {
        const struct vv_plain_ref *ref = &plain->refs[i];
        if (vv_id_equal(&plain->moves[ref->newest - 1].facts.to, id))
            return vv_fail(VARVE_MISUSE, "%s names this commit: move or delete it first", ref->name);
    }
    return VARVE_OK;
}

varve_status vv_plain_check_removal(const struct vv_plain *plain, const varve_commit_id *ids, size_t count)
{
    varve_status rc = VARVE_OK;

    for (size_t i = 0; i < count; i++) {
        if (live_commit(plain, &ids[i]) == NULL)
            return no_commit();
        TRY(check_unnamed(plain, &ids[i]));
    }
out:
    return rc;
}

void vv_plain_remove(struct vv_plain *plain, const varve_commit_id *ids, size_t count)
{
    plain->generation++;
    for (size_t i = 0; i < count; i++) {
        struct vv_plain_commit *commit = live_commit(plain, &ids[i]);
        VV_ASSERT(commit != NULL);
        commit->removed = true;
        commit->removed_in = plain->generation;
        plain->live_count--;
    }
}

void vv_plain_forget(struct vv_plain_commit *commit)
{
    VV_ASSERT(commit->removed);
    give_up_content(commit);
}

varve_status vv_plain_tombstone(const varve_commit_id *id, const varve_commit_id *parent,
                                struct vv_plain_commit **out)
{
    struct vv_plain_commit *commit = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_alloc(&commit, 1, sizeof *commit));
    commit->facts.id = *id;
    commit->facts.parent = *parent;
    commit->removed = true;
    *out = commit;
out:
    return rc;
}

varve_status vv_plain_bury(struct vv_place *place, const varve_commit_id *id, const varve_commit_id *before)
{
    struct vv_plain *plain = plain_of(place);
    struct vv_plain_commit *commit = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_plain_tombstone(id, before, &commit));
    vv_plain_lock(plain);
    rc = vv_plain_commit_of(plain, id) != NULL ? vv_bury_known() : vv_plain_room(plain, 1, 0);
    if (rc == VARVE_OK) {
        vv_plain_add(plain, commit);
        commit = NULL;
    }
    vv_plain_unlock(plain);
out:
    vv_plain_commit_free(commit);
    return rc;
}

/* Mark the newest `retain` commits that are there along the parents. */
static void mark_line(const struct vv_plain *plain, const varve_commit_id *head, uint64_t retain, bool *kept)
{
    varve_commit_id id = *head;

    for (size_t steps = 0; retain > 0 && steps <= plain->commit_count; steps++) {
        const struct vv_plain_commit *commit = vv_plain_commit_of(plain, &id);
        if (commit == NULL)
            return;
        if (!commit->removed) {
            kept[commit->facts.number - plain->commits[0]->facts.number] = true;
            retain--;
        }
        id = commit->facts.parent;
    }
}

varve_status vv_plain_victims(const struct vv_plain *plain, uint64_t retain, varve_commit_id **ids,
                              size_t *count)
{
    bool *kept = NULL;
    varve_status rc = VARVE_OK;

    *ids = NULL;
    *count = 0;
    if (retain == 0 || plain->commit_count == 0)
        return VARVE_OK;
    const uint64_t first = plain->commits[0]->facts.number;
    TRY(vv_alloc(&kept, (size_t)(plain->last_number - first + 1), sizeof *kept));
    TRY(vv_alloc(ids, plain->live_count, sizeof **ids));
    for (size_t i = 0; i < plain->ref_count; i++) {
        const bool tag = strncmp(plain->refs[i].name, "tags/", 5) == 0;
        mark_line(plain, &plain->moves[plain->refs[i].newest - 1].facts.to, tag ? 1 : retain, kept);
    }
    for (size_t i = 0; i < plain->commit_count; i++) {
        const struct vv_plain_commit *commit = plain->commits[i];
        if (!commit->removed && !kept[commit->facts.number - first])
            (*ids)[(*count)++] = commit->facts.id;
    }
out:
    vv_free(kept);
    return rc;
}

/* ---- What these layouts do not need ------------------------------------------------------------- */

varve_status vv_plain_snapshot(struct vv_place *place, bool fork)
{
    (void)place;
    (void)fork;
    return VARVE_OK;
}

bool vv_plain_wants_frozen(struct vv_place *place)
{
    (void)place;
    return false;
}

varve_status vv_plain_freeze(struct vv_place *place, const struct vv_commit_facts *facts,
                             struct vv_frozen *images, size_t count)
{
    (void)place;
    (void)facts;
    (void)images;
    (void)count;
    return VARVE_OK;
}
