/* index.c - see index.h. */
#include "store/journal/index.h"

#include <string.h>

#include "base/alloc.h"

/* Keys are hashes, so the levels near the top lie on the way to many of them: of two tries 2 x 273 nodes stay, 1 MiB.
 * Numbers rise: the way to the last one is short. */
#ifdef VV_TORTURE
enum { TRIE_LEVELS = 1, NUMBER_LEVELS = 0, LOADED_MOST = 3 };
#else
enum { TRIE_LEVELS = 3, NUMBER_LEVELS = 1, LOADED_MOST = 1024 };
#endif

static varve_status read_counted(void *context, uint64_t address, struct vv_bytes *bytes)
{
    struct vv_index *index = context;

    index->loaded++;
    return index->nodes->read(index->nodes->context, address, bytes);
}

void vv_index_init(struct vv_index *index, const struct vv_node_source *nodes)
{
    *index = (struct vv_index){ .nodes = nodes };
    index->counted = (struct vv_node_source){ .read = read_counted, .context = index };
    vv_trie_init(&index->ids, &index->counted);
    vv_trie_init(&index->roots, &index->counted);
    vv_pagetree_init(&index->numbers, 0, &index->counted);
    vv_table_init(&index->tail_ids, 32);
    vv_table_init(&index->removal_ids, 32);
    vv_table_init(&index->kept_ids, 32);
}

void vv_index_release(struct vv_index *index)
{
    vv_trie_release(&index->ids);
    vv_trie_release(&index->roots);
    vv_pagetree_release(&index->numbers);
    vv_table_release(&index->tail_ids);
    vv_table_release(&index->removal_ids);
    vv_table_release(&index->kept_ids);
    vv_free(index->kept);
    vv_free(index->tail);
    vv_free(index->removals);
    vv_free(index->refs);
    *index = (struct vv_index){ .nodes = NULL };
}

static void let_go(struct vv_index *index)
{
    vv_trie_let_go(&index->ids, TRIE_LEVELS);
    vv_trie_let_go(&index->roots, TRIE_LEVELS);
    vv_pagetree_let_go(&index->numbers, NUMBER_LEVELS);
    index->loaded = 0;
}

/* Before a look-up, when nothing is lent from the trees. As loading does not, letting go does not change what a const
 * index says. */
static void let_go_of_many(const struct vv_index *index)
{
    if (index->loaded > LOADED_MOST)
        let_go((struct vv_index *)(uintptr_t)index);
}

/* ---- Commits ---------------------------------------------------------------------------------- */

static varve_status reserve_tail(struct vv_index *index)
{
    if (index->tail_count < index->tail_capacity)
        return VARVE_OK;
    const size_t capacity = index->tail_capacity < 8 ? 8 : 2 * index->tail_capacity;
    const varve_status rc = vv_resize(&index->tail, capacity, sizeof *index->tail);
    if (rc == VARVE_OK)
        index->tail_capacity = capacity;
    return rc;
}

varve_status vv_index_announce(struct vv_index *index, const struct vv_record *record)
{
    varve_status rc = VARVE_OK;

    if (record->number <= index->last_number || record->number > VV_PAGETREE_PAGES_MAX - 1)
        return vv_fail(VARVE_CORRUPT, "the record at address %llu has the number of an older commit",
                       (unsigned long long)record->address);
    TRY(reserve_tail(index));
    TRY(vv_table_put(&index->tail_ids, record->id, (union vv_value){ .number = index->tail_count }));
    struct vv_index_commit *commit = &index->tail[index->tail_count++];
    memcpy(commit->id, record->id, 32);
    memcpy(commit->root, record->root, 32);
    commit->number = record->number;
    commit->address = 0;
    commit->removed = false;
out:
    return rc;
}

void vv_index_reveal(struct vv_index *index, const struct vv_record *record)
{
    size_t place = index->tail_count;

    while (place > 0 &&
           index->tail[place - 1].number > record->number) /* others may be announced behind it */
        place--;
    VV_ASSERT(place > 0 && index->tail[place - 1].number == record->number);
    index->tail[place - 1].address = record->address;
    index->last_number = record->number;
    index->commits++;
}

void vv_index_retract(struct vv_index *index)
{
    VV_ASSERT(index->tail_count > 0 && index->tail[index->tail_count - 1].address == 0);
    index->tail_count--;
    vv_table_remove(&index->tail_ids, index->tail[index->tail_count].id, NULL);
}

/* The removal of a commit since the last checkpoint; a commit of the tail with the same id is a newer one. */
static const struct vv_index_removal *removal_of(const struct vv_index *index, const uint8_t id[32])
{
    const union vv_value *place = vv_table_get(&index->removal_ids, id);
    const bool done = place != NULL && index->removals[place->number].done;

    return done ? &index->removals[place->number] : NULL;
}

static bool was_removed(const struct vv_index *index, const uint8_t id[32])
{
    return removal_of(index, id) != NULL;
}

/* Where a commit lies since the last checkpoint, when it was moved. */
static const struct vv_index_commit *kept_as(const struct vv_index *index, const uint8_t id[32])
{
    const union vv_value *place = vv_table_get(&index->kept_ids, id);
    const bool done = place != NULL && index->kept[place->number].address != 0;

    return done ? &index->kept[place->number] : NULL;
}

/* In the middle of a walk, too. */
static varve_status find(const struct vv_index *index, const uint8_t id[32], uint64_t *address)
{
    struct vv_item item;
    bool present = false;
    const union vv_value *place = vv_table_get(&index->tail_ids, id);

    *address = 0;
    if (place != NULL) {
        *address = index->tail[place->number].address;
        return VARVE_OK;
    }
    if (was_removed(index, id))
        return VARVE_OK;
    const struct vv_index_commit *kept = kept_as(index, id);
    if (kept != NULL) {
        *address = kept->address;
        return VARVE_OK;
    }
    const varve_status rc = vv_trie_get(&index->ids, id, &item, &present);
    if (rc == VARVE_OK && present)
        *address = item.locator; /* 0: a tombstone */
    return rc;
}

varve_status vv_index_find(const struct vv_index *index, const uint8_t id[32], uint64_t *address)
{
    let_go_of_many(index);
    return find(index, id, address);
}

bool vv_index_begins(const uint8_t bytes[32], const uint8_t key[32], unsigned digits)
{
    if (memcmp(bytes, key, digits / 2) != 0)
        return false;
    return digits % 2 == 0 || bytes[digits / 2] >> 4 == key[digits / 2] >> 4;
}

/* What was found so far: up to two different keys, each with the id that it stands for. */
struct matches {
    uint8_t keys[2][32], ids[2][32];
    size_t count;
};

static bool is_matched(const struct matches *matches, const uint8_t key[32])
{
    for (size_t i = 0; i < matches->count; i++) {
        if (memcmp(matches->keys[i], key, 32) == 0)
            return true;
    }
    return false;
}

static void add_match(struct matches *matches, const uint8_t key[32], const uint8_t id[32])
{
    if (matches->count == 2 || is_matched(matches, key)) /* the tail was asked first, and is newer */
        return;
    memcpy(matches->keys[matches->count], key, 32);
    memcpy(matches->ids[matches->count++], id, 32);
}

/* The key behind this one; false: it was the last that there can be. */
static bool step_key(uint8_t key[32])
{
    size_t i = 32;

    while (i-- > 0)
        if (++key[i] != 0)
            return true;
    return false;
}

/* `stale`: items of commits that are gone are told so; NULL: they are passed over. */
static varve_status match_trie(const struct vv_index *index, const struct vv_trie *trie,
                               const uint8_t key[32], unsigned digits, struct matches *matches, bool *stale)
{
    varve_status rc = VARVE_OK;
    struct vv_item item;
    uint64_t address = 0;
    uint8_t from[32];
    bool present = false;

    memcpy(from, key, 32);
    for (;;) {
        TRY(vv_trie_next(trie, from, &item, &present));
        if (!present || !vv_index_begins(item.key, key, digits))
            break;
        TRY(find(index, stale == NULL ? item.key : item.hash, &address));
        if (address != 0)
            add_match(matches, item.key, stale == NULL ? item.key : item.hash);
        else if (stale != NULL && !is_matched(matches, item.key))
            *stale = true;
        if (matches->count == 2)
            break;
        memcpy(from, item.key, 32);
        if (!step_key(from))
            break;
    }
out:
    return rc;
}

static bool is_there(const struct vv_index_commit *commit)
{
    return commit->address != 0 && !commit->removed;
}

static void tell_matches(const struct matches *matches, uint8_t found[2][32], size_t *count)
{
    *count = matches->count;
    memcpy(found, matches->ids, sizeof matches->ids);
}

varve_status vv_index_find_id(const struct vv_index *index, const uint8_t key[32], unsigned digits,
                              uint8_t found[2][32], size_t *count)
{
    struct matches matches = { .count = 0 };

    let_go_of_many(index);
    for (size_t i = index->tail_count; i-- > 0;) {
        if (is_there(&index->tail[i]) && vv_index_begins(index->tail[i].id, key, digits))
            add_match(&matches, index->tail[i].id, index->tail[i].id);
    }
    const varve_status rc = match_trie(index, &index->ids, key, digits, &matches, NULL);
    tell_matches(&matches, found, count);
    return rc;
}

varve_status vv_index_find_root(const struct vv_index *index, const uint8_t key[32], unsigned digits,
                                uint8_t found[2][32], size_t *count, bool *stale)
{
    struct matches matches = { .count = 0 };

    *stale = false;
    let_go_of_many(index);
    for (size_t i = index->tail_count; i-- > 0;) { /* newest first */
        if (is_there(&index->tail[i]) && vv_index_begins(index->tail[i].root, key, digits))
            add_match(&matches, index->tail[i].root, index->tail[i].id);
    }
    const varve_status rc = match_trie(index, &index->roots, key, digits, &matches, stale);
    tell_matches(&matches, found, count);
    return rc;
}

/* A log whose beginning is gone may tell of a commit first by its kept record. */
static varve_status find_kept_number(const struct vv_index *index, uint64_t number, uint8_t id[32],
                                     uint64_t *address)
{
    for (size_t i = 0; i < index->kept_count; i++) {
        if (index->kept[i].number != number || was_removed(index, index->kept[i].id))
            continue;
        memcpy(id, index->kept[i].id, 32);
        *address = index->kept[i].address;
    }
    return VARVE_OK;
}

/* The first place in the tail of a commit with this number or a higher one. */
static size_t tail_from(const struct vv_index *index, uint64_t number)
{
    size_t low = 0;
    size_t high = index->tail_count;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (index->tail[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Where the commit lies that the saved index has at a number; 0: it is gone. */
static varve_status resolve_leaf(const struct vv_index *index, uint64_t number, const struct vv_leaf *leaf,
                                 uint64_t *address)
{
    const varve_status rc = find(index, leaf->hash, address);
    const struct vv_index_commit *kept = kept_as(index, leaf->hash);
    const bool moved = kept != NULL && kept->number == number && kept->address == *address;

    if (*address != leaf->locator && !moved)
        *address = 0; /* one with the same id may have been made again */
    return rc;
}

varve_status vv_index_find_number(const struct vv_index *index, uint64_t number, uint8_t id[32],
                                  uint64_t *address)
{
    struct vv_leaf leaf;
    bool present = false;
    const size_t place = tail_from(index, number);

    *address = 0;
    let_go_of_many(index);
    if (place < index->tail_count && index->tail[place].number == number) {
        memcpy(id, index->tail[place].id, 32);
        *address = index->tail[place].removed ? 0 : index->tail[place].address;
        return VARVE_OK;
    }
    if (number >= index->numbers.page_count)
        return find_kept_number(index, number, id, address);
    varve_status rc = vv_pagetree_get(&index->numbers, number, &leaf, &present);
    if (rc == VARVE_OK && present) {
        memcpy(id, leaf.hash, 32);
        rc = resolve_leaf(index, number, &leaf, address);
    }
    return rc;
}

struct first_leaf {
    const struct vv_index *index;
    uint64_t number, address;
    uint8_t id[32];
};

/* END at the first commit that is there. */
static varve_status take_leaf(void *context, uint64_t number, const struct vv_leaf *leaf)
{
    struct first_leaf *first = context;
    const varve_status rc = resolve_leaf(first->index, number, leaf, &first->address);

    if (rc != VARVE_OK || first->address == 0)
        return rc;
    first->number = number;
    memcpy(first->id, leaf->hash, 32);
    return VARVE_END;
}

varve_status vv_index_next_number(const struct vv_index *index, uint64_t after, uint64_t *number,
                                  uint8_t id[32], uint64_t *address)
{
    struct first_leaf first = { .index = index };

    let_go_of_many(index);
    const varve_status rc = vv_pagetree_each(&index->numbers, after + 1, take_leaf, &first);

    if (rc != VARVE_OK && rc != VARVE_END)
        return rc;
    size_t place = tail_from(index, after + 1);
    while (place < index->tail_count && !is_there(&index->tail[place]))
        place++;
    const struct vv_index_commit *best = place < index->tail_count ? &index->tail[place] : NULL;
    for (size_t i = 0; i < index->kept_count; i++) { /* those that only a kept record tells of */
        const struct vv_index_commit *kept = &index->kept[i];
        if (kept->number > after && kept->number >= index->numbers.page_count &&
            (best == NULL || kept->number < best->number) && !was_removed(index, kept->id))
            best = kept;
    }
    if (best != NULL && (first.address == 0 || best->number <= first.number)) {
        first.number = best->number;
        first.address = best->address;
        memcpy(first.id, best->id, 32);
    }
    *number = first.number;
    *address = first.address;
    memcpy(id, first.id, 32);
    return VARVE_OK;
}

/* ---- Removals --------------------------------------------------------------------------------- */

/* In a tombstone: there is no retained commit before this one. No hash is all ones. */
static void put_ancestor(uint8_t hash[32], const uint8_t ancestor[32])
{
    if (vv_hash_is_zero(ancestor))
        memset(hash, 0xff, 32);
    else
        memcpy(hash, ancestor, 32);
}

static void take_ancestor(uint8_t ancestor[32], const uint8_t hash[32])
{
    uint8_t none[32];

    memset(none, 0xff, sizeof none);
    memcpy(ancestor, memcmp(hash, none, sizeof none) == 0 ? vv_hash_zero : hash, 32);
}

varve_status vv_index_reserve_removals(struct vv_index *index, const struct vv_record_removal *removals,
                                       size_t count)
{
    varve_status rc = VARVE_OK;
    const size_t before = index->removal_count;

    if (index->removal_capacity - index->removal_count < count) {
        const size_t capacity = 2 * index->removal_count + count;
        TRY(vv_resize(&index->removals, capacity, sizeof *index->removals));
        index->removal_capacity = capacity;
    }
    for (size_t i = 0; i < count; i++) {
        struct vv_index_removal *removal = &index->removals[before + i];
        *removal = (struct vv_index_removal){ .number = removals[i].number };
        memcpy(removal->id, removals[i].id, 32);
        memcpy(removal->ancestor, removals[i].ancestor, 32);
        const union vv_value *older = vv_table_get(&index->removal_ids, removals[i].id);
        if (older ==
            NULL) /* so that there is a place for it in the table; until it is done it means nothing */
            TRY(vv_table_put(&index->removal_ids, removals[i].id, (union vv_value){ .number = before + i }));
        index->removal_count = before + i + 1;
    }
out:
    return rc;
}

void vv_index_remove(struct vv_index *index, const struct vv_record_removal *removal)
{
    const union vv_value *tail = vv_table_get(&index->tail_ids, removal->id);
    size_t place = index->removal_count;

    while (place-- > 0 &&
           (index->removals[place].done || memcmp(index->removals[place].id, removal->id, 32) != 0))
        continue;
    VV_ASSERT(place < index->removal_count);
    index->removals[place].done = true;
    vv_table_get(&index->removal_ids, removal->id)->number = place;
    if (tail != NULL) {
        index->tail[tail->number].removed = true;
        vv_table_remove(&index->tail_ids, removal->id, NULL);
    }
    /* Number 0: the store never had it; and a log whose beginning is gone removes what it never told of. */
    if (removal->number != 0 && index->commits > 0)
        index->commits--;
}

/* ---- Commits that lie elsewhere --------------------------------------------------------------- */

varve_status vv_index_reserve_kept(struct vv_index *index, const uint8_t id[32])
{
    varve_status rc = VARVE_OK;

    if (vv_table_get(&index->tail_ids, id) != NULL || vv_table_get(&index->kept_ids, id) != NULL)
        return VARVE_OK;
    if (index->kept_count == index->kept_capacity) {
        const size_t capacity = 2 * index->kept_count + 8;
        TRY(vv_resize(&index->kept, capacity, sizeof *index->kept));
        index->kept_capacity = capacity;
    }
    TRY(vv_table_put(&index->kept_ids, id, (union vv_value){ .number = index->kept_count }));
    index->kept[index->kept_count] = (struct vv_index_commit){ .number = 0 };
    memcpy(index->kept[index->kept_count++].id, id, 32);
out:
    return rc;
}

void vv_index_keep(struct vv_index *index, const struct vv_record *record)
{
    const union vv_value *tail = vv_table_get(&index->tail_ids, record->id);
    const union vv_value *place = vv_table_get(&index->kept_ids, record->id);

    if (was_removed(index, record->id) && tail == NULL)
        return; /* told of by a log that was removed from later */
    if (tail != NULL) {
        index->tail[tail->number].address = record->address;
        return;
    }
    VV_ASSERT(place != NULL);
    struct vv_index_commit *kept = &index->kept[place->number];
    memcpy(kept->root, record->root, 32);
    kept->number = record->number;
    kept->address = record->address;
}

varve_status vv_index_tombstones(const struct vv_index *index,
                                 varve_status (*each)(void *context, const uint8_t id[32]), void *context)
{
    varve_status rc = VARVE_OK;
    struct vv_item item;
    uint8_t from[32] = { 0 };
    bool present = false;

    for (;;) {
        let_go_of_many(index);
        TRY(vv_trie_next(&index->ids, from, &item, &present));
        if (!present)
            break;
        if (item.locator == 0)
            TRY(each(context, item.key));
        memcpy(from, item.key, 32);
        if (!step_key(from))
            break;
    }
out:
    return rc;
}

varve_status vv_index_forget(struct vv_index *index, const uint8_t id[32])
{
    return vv_trie_remove(&index->ids, id);
}

/* What a tombstone says; false: there is none. */
varve_status vv_index_tombstone(const struct vv_index *index, const uint8_t id[32], uint8_t ancestor[32],
                                bool *there)
{
    const struct vv_index_removal *removal = removal_of(index, id);
    struct vv_item item;

    let_go_of_many(index);
    if (removal != NULL) {
        *there = true;
        memcpy(ancestor, removal->ancestor, 32);
        return VARVE_OK;
    }
    const varve_status rc = vv_trie_get(&index->ids, id, &item, there);
    *there = rc == VARVE_OK && *there && item.locator == 0;
    if (*there)
        take_ancestor(ancestor, item.hash);
    return rc;
}

/* ---- Roots that lead to nothing --------------------------------------------------------------- */

varve_status vv_index_next_root(const struct vv_index *index, uint8_t from[32], uint8_t root[32], bool *gone,
                                bool *more)
{
    varve_status rc = VARVE_OK;
    struct vv_item item;
    uint64_t address = 0;

    *gone = false;
    let_go_of_many(index);
    TRY(vv_trie_next(&index->roots, from, &item, more));
    if (!*more)
        goto out;
    TRY(find(index, item.hash, &address));
    *gone = address == 0;
    memcpy(root, item.key, 32);
    memcpy(from, item.key, 32);
    *more = step_key(from);
out:
    return rc;
}

varve_status vv_index_mend_root(struct vv_index *index, const uint8_t root[32], uint64_t number)
{
    varve_status rc = VARVE_OK;
    struct vv_item item;
    uint64_t address = 0;
    bool there = false;

    TRY(vv_trie_get(&index->roots, root, &item, &there));
    if (there)
        TRY(find(index, item.hash, &address));
    if (!there || address != 0)
        goto out;
    if (number != 0)
        TRY(vv_index_find_number(index, number, item.hash, &item.locator));
    if (number == 0)
        TRY(vv_trie_remove(&index->roots, root));
    else if (item.locator != 0)
        TRY(vv_trie_set(&index->roots, &item));
    index->mended++;
out:
    return rc;
}

/* ---- Ancestors -------------------------------------------------------------------------------- */

varve_status vv_index_ancestor(const struct vv_index *index, const uint8_t id[32], uint8_t ancestor[32],
                               bool *removed)
{
    varve_status rc = VARVE_OK;
    uint64_t steps =
        index->last_number + index->removal_count + 1; /* no more, however a store contradicts itself */
    uint64_t address = 0;
    bool there = false;

    *removed = false;
    memcpy(ancestor, id, 32);
    while (!vv_hash_is_zero(ancestor)) {
        uint8_t before[32];
        TRY(vv_index_find(index, ancestor, &address));
        if (address != 0)
            break;
        TRY(vv_index_tombstone(index, ancestor, before, &there));
        if (!there)
            break;
        *removed = true;
        if (steps-- == 0)
            TRY(vv_fail(VARVE_CORRUPT, "commits that were removed name each other as ancestors"));
        memcpy(ancestor, before, 32);
    }
out:
    return rc;
}

/* ---- Refs ------------------------------------------------------------------------------------- */

static size_t ref_place(const struct vv_index *index, const char *name)
{
    size_t low = 0;
    size_t high = index->ref_count;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (strcmp(index->refs[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct vv_index_ref *vv_index_ref(const struct vv_index *index, const char *name)
{
    const size_t place = ref_place(index, name);
    const bool there = place < index->ref_count && strcmp(index->refs[place].name, name) == 0;

    return there ? &index->refs[place] : NULL;
}

const struct vv_index_ref *vv_index_ref_after(const struct vv_index *index, const char *after)
{
    size_t place = after == NULL ? 0 : ref_place(index, after);

    if (after != NULL && place < index->ref_count && strcmp(index->refs[place].name, after) == 0)
        place++;
    return place < index->ref_count ? &index->refs[place] : NULL;
}

varve_status vv_index_reserve(struct vv_index *index, size_t more)
{
    if (index->ref_capacity - index->ref_count >= more)
        return VARVE_OK;
    const size_t capacity = 2 * index->ref_count + more;
    const varve_status rc = vv_resize(&index->refs, capacity, sizeof *index->refs);
    if (rc == VARVE_OK)
        index->ref_capacity = capacity;
    return rc;
}

void vv_index_move(struct vv_index *index, const struct vv_record_move *move, uint64_t address)
{
    char name[VV_REF_NAME_MAX + 1] = "";

    VV_ASSERT(move->name.size > 0 && move->name.size <= VV_REF_NAME_MAX);
    memcpy(name, move->name.data, move->name.size);
    const size_t place = ref_place(index, name);
    if (place == index->ref_count || strcmp(index->refs[place].name, name) != 0) {
        VV_ASSERT(index->ref_count < index->ref_capacity);
        memmove(index->refs + place + 1, index->refs + place,
                (index->ref_count - place) * sizeof *index->refs);
        index->ref_count++;
        index->refs_size += move->name.size;
        memcpy(index->refs[place].name, name, sizeof name);
    }
    memcpy(index->refs[place].commit, move->to, 32);
    index->refs[place].moves = move->moves;
    index->refs[place].last = address;
}

/* ---- Checkpoints ------------------------------------------------------------------------------ */

void vv_index_encode_refs(const struct vv_index *index, struct vv_bytes *out)
{
    vv_bytes_varint(out, index->ref_count);
    for (size_t i = 0; i < index->ref_count; i++) {
        const struct vv_index_ref *ref = &index->refs[i];
        vv_bytes_blob(out, ref->name, strlen(ref->name));
        vv_bytes_put(out, ref->commit, 32);
        vv_bytes_varint(out, ref->moves);
        vv_bytes_varint(out, ref->last);
    }
}

varve_status vv_index_decode_refs(struct vv_index *index, struct vv_reader *reader)
{
    varve_status rc = VARVE_OK;
    const uint64_t count = vv_reader_varint(reader);
    struct vv_index_ref *refs = NULL;
    uint64_t names = 0;

    if (reader->bad || count > vv_reader_left(reader) / 32)
        return vv_fail(VARVE_CORRUPT, "the refs in a checkpoint do not decode");
    TRY(vv_alloc(&refs, count, sizeof *refs));
    for (size_t i = 0; i < count; i++) {
        size_t size = 0;
        const uint8_t *name = vv_reader_blob(reader, VV_REF_NAME_MAX, &size);
        names += size;
        if (name != NULL)
            memcpy(refs[i].name, name, size);
        vv_reader_copy(reader, refs[i].commit, 32);
        refs[i].moves = vv_reader_varint(reader);
        refs[i].last = vv_reader_varint(reader);
        if (reader->bad || size == 0 || (i > 0 && strcmp(refs[i - 1].name, refs[i].name) >= 0)) {
            rc = vv_fail(VARVE_CORRUPT, "the refs in a checkpoint do not decode");
            goto out;
        }
    }
    vv_free(index->refs);
    index->refs = refs;
    index->ref_count = count;
    index->ref_capacity = count;
    index->refs_size = names;
    refs = NULL;
out:
    vv_free(refs);
    return rc;
}

/* Tombstones, and nothing at the numbers. A root's newest commit may be gone: finding it out is the finder's. */
static varve_status put_removals(const struct vv_index *index, struct vv_index_saved *saved)
{
    varve_status rc = VARVE_OK;

    for (size_t i = 0; i < index->removal_count; i++) {
        const struct vv_index_removal *removal = &index->removals[i];
        struct vv_item item = { .locator = 0 };
        if (!removal->done)
            continue;
        memcpy(item.key, removal->id, 32);
        put_ancestor(item.hash, removal->ancestor);
        TRY(vv_trie_set(&saved->ids, &item));
        if (removal->number < saved->numbers.page_count)
            TRY(vv_pagetree_set(&saved->numbers, removal->number, NULL));
    }
out:
    return rc;
}

static varve_status put_kept(const struct vv_index *index, struct vv_index_saved *saved)
{
    varve_status rc = VARVE_OK;
    bool present = false;

    for (size_t i = 0; i < index->kept_count; i++) {
        const struct vv_index_commit *kept = &index->kept[i];
        struct vv_item item = { .locator = kept->address };
        struct vv_item root;
        struct vv_leaf leaf = { .locator = kept->address };
        if (kept->address == 0 || was_removed(index, kept->id))
            continue;
        memcpy(item.key, kept->id, 32);
        memcpy(item.hash, kept->id, 32);
        memcpy(leaf.hash, kept->id, 32);
        TRY(vv_trie_set(&saved->ids, &item));
        if (kept->number < saved->numbers.page_count)
            TRY(vv_pagetree_set(&saved->numbers, kept->number, &leaf));
        TRY(vv_trie_get(&saved->roots, kept->root, &root, &present));
        if (present && memcmp(root.hash, kept->id, 32) == 0) {
            root.locator = kept->address;
            TRY(vv_trie_set(&saved->roots, &root));
        }
    }
out:
    return rc;
}

static varve_status put_tail(const struct vv_index *index, struct vv_index_saved *saved)
{
    varve_status rc = VARVE_OK;

    TRY(vv_pagetree_resize(&saved->numbers, index->last_number + 1));
    for (size_t i = 0; i < index->tail_count; i++) {
        const struct vv_index_commit *commit = &index->tail[i];
        if (!is_there(commit))
            continue;
        struct vv_item item = { .locator = commit->address };
        struct vv_leaf leaf = { .locator = commit->address };
        memcpy(item.key, commit->id, 32);
        memcpy(item.hash, commit->id, 32);
        memcpy(leaf.hash, commit->id, 32);
        TRY(vv_trie_set(&saved->ids, &item));
        TRY(vv_pagetree_set(&saved->numbers, commit->number, &leaf));
        memcpy(item.key, commit->root, 32);
        TRY(vv_trie_set(&saved->roots, &item));
    }
out:
    return rc;
}

varve_status vv_index_save(const struct vv_index *index, uint64_t from, vv_node_write_fn write, void *context,
                           struct vv_checkpoint *checkpoint, struct vv_index_saved *saved)
{
    varve_status rc = VARVE_OK;

    vv_trie_copy(&saved->ids, &index->ids);
    vv_trie_copy(&saved->roots, &index->roots);
    vv_pagetree_copy(&saved->numbers, &index->numbers);
    TRY(put_kept(index, saved));
    TRY(put_removals(index, saved));
    TRY(put_tail(index, saved));
    TRY(vv_trie_top(&saved->ids, checkpoint->ids.hash));
    TRY(vv_trie_top(&saved->roots, checkpoint->roots.hash));
    TRY(vv_pagetree_top(&saved->numbers, checkpoint->numbers.hash));
    TRY(vv_trie_save(&saved->ids, write, context, &checkpoint->ids.address));
    TRY(vv_trie_save(&saved->roots, write, context, &checkpoint->roots.address));
    TRY(vv_pagetree_save(&saved->numbers, write, context, &checkpoint->numbers.address));
    checkpoint->number_pages = saved->numbers.page_count;
    checkpoint->commits = index->commits;
out:
    if (rc != VARVE_OK) {
        vv_index_unsave(saved, from);
        vv_index_saved_release(saved);
    }
    return rc;
}

void vv_index_saved_release(struct vv_index_saved *saved)
{
    vv_trie_release(&saved->ids);
    vv_trie_release(&saved->roots);
    vv_pagetree_release(&saved->numbers);
}

void vv_index_unsave(struct vv_index_saved *saved, uint64_t from)
{
    vv_trie_unsave(&saved->ids, from);
    vv_trie_unsave(&saved->roots, from);
    vv_pagetree_unsave(&saved->numbers, from);
}

varve_status vv_index_forget_below(struct vv_index *index, uint64_t start)
{
    varve_status rc = VARVE_OK;

    TRY(vv_trie_forget_below(&index->ids, start));
    TRY(vv_trie_forget_below(&index->roots, start));
    TRY(vv_pagetree_forget_below(&index->numbers, start));
out:
    return rc;
}

/* Whole lists: retention may have removed very many commits at once. */
static void drop_tail(struct vv_index *index)
{
    vv_table_release(&index->tail_ids);
    vv_table_release(&index->removal_ids);
    vv_table_release(&index->kept_ids);
    vv_free(index->tail);
    vv_free(index->removals);
    vv_free(index->kept);
    index->tail = NULL;
    index->removals = NULL;
    index->kept = NULL;
    index->tail_count = index->tail_capacity = 0;
    index->removal_count = index->removal_capacity = 0;
    index->kept_count = index->kept_capacity = 0;
    index->mended = 0;
}

void vv_index_adopt(struct vv_index *index, struct vv_index_saved *saved)
{
    vv_trie_release(&index->ids);
    vv_trie_release(&index->roots);
    vv_pagetree_release(&index->numbers);
    index->ids = saved->ids;
    index->roots = saved->roots;
    index->numbers = saved->numbers;
    drop_tail(index);
    let_go(index);
}

varve_status vv_index_open(struct vv_index *index, const struct vv_record *record,
                           const struct vv_checkpoint *checkpoint)
{
    varve_status rc = VARVE_OK;
    struct vv_index_saved saved;

    vv_trie_init(&saved.ids, &index->counted);
    vv_trie_init(&saved.roots, &index->counted);
    vv_pagetree_init(&saved.numbers, 0, &index->counted);
    if (checkpoint->number_pages > VV_PAGETREE_PAGES_MAX) {
        rc = vv_fail(VARVE_CORRUPT, "the checkpoint at address %llu counts too many commits",
                     (unsigned long long)record->address);
        goto out;
    }
    TRY(vv_trie_open(&saved.ids, checkpoint->ids.address, checkpoint->ids.hash, &index->counted));
    TRY(vv_trie_open(&saved.roots, checkpoint->roots.address, checkpoint->roots.hash, &index->counted));
    TRY(vv_pagetree_open(&saved.numbers, checkpoint->number_pages, checkpoint->numbers.address,
                         checkpoint->numbers.hash, &index->counted));
    vv_index_adopt(index, &saved);
    index->last_number = record->number;
    index->commits = checkpoint->commits;
out:
    if (rc != VARVE_OK)
        vv_index_saved_release(&saved);
    return rc;
}
