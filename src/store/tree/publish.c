/* publish.c - commits and moves of refs: the directory gets its name, then the history its record, which is the instant.
 *
 *   prepare   outside any lock: the directory of the commit, under a temporary name, synced       [build.c]
 *   publish   checks; rename, sync of the store's directory; one record with the commit and its ref's move, synced
 * A commit whose root has a directory already needs none. What fails before the record is written is undone: the
 * directory goes, nothing was made. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/plant.h"
#include "store/tree/build.h"

/* ---- Prepare ------------------------------------------------------------------------------------ */

/* Is there a directory of this root, that a new commit may share? */
static bool has_directory(struct vv_place *place, const varve_root *root)
{
    vv_shelf_lock(&place->shelf);
    const struct vv_folder *folder = vv_shelf_folder(&place->shelf, root);
    const bool there = folder != NULL && !folder->missing;
    vv_shelf_unlock(&place->shelf);
    return there;
}

void vv_tree_discard(struct vv_place *place, struct vv_pending *pending)
{
    if (pending == NULL)
        return;
    vv_tree_unbuild(place, pending);
    vv_plain_commit_free(pending->commit);
    vv_free(pending);
}

varve_status vv_tree_prepare(struct vv_place *place, struct vv_change *change, struct vv_pending **out)
{
    struct vv_pending *pending = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_tree_writable(place));
    TRY(vv_alloc(&pending, 1, sizeof *pending));
    TRY(vv_plain_commit_new(change, &pending->commit));
    if (!has_directory(place, &change->facts.root))
        TRY(vv_tree_poison_if(place, vv_tree_build(place, change, pending)));
    *out = pending;
    pending = NULL;
out:
    vv_tree_discard(place, pending);
    return rc;
}

/* ---- Records ------------------------------------------------------------------------------------ */

static void put_move(struct vv_bytes *group, const struct vv_ref_move *move, int64_t time_ns)
{
    struct vv_bytes payload = VV_BYTES_NONE;
    struct vv_plain_move record = { .facts = { .time_ns = time_ns } };

    (void)snprintf(record.name, sizeof record.name, "%s", move->name);
    (void)snprintf(record.facts.what, sizeof record.facts.what, "%s", move->what);
    if (move->to != NULL)
        record.facts.to = *move->to;
    vv_plain_encode_move(&record, &payload);
    vv_ledger_put(group, VV_PLAIN_MOVE, &payload);
    vv_bytes_release(&payload);
}

static void put_commit(struct vv_bytes *group, const struct vv_plain_commit *commit)
{
    struct vv_bytes payload = VV_BYTES_NONE;

    vv_plain_encode_commit(commit, &payload);
    vv_ledger_put(group, VV_PLAIN_COMMIT, &payload);
    vv_bytes_release(&payload);
}

/* Does the ref stand there already? The plain history is locked. */
static bool stands(const struct vv_plain *plain, const struct vv_ref_move *move)
{
    const varve_commit_id at = vv_plain_stands(plain, move->name);

    return move->to == NULL ? vv_id_is_zero(&at) : vv_id_equal(&at, move->to);
}

static bool names_twice(const struct vv_ref_move *moves, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < i; k++)
            if (strcmp(moves[i].name, moves[k].name) == 0)
                return true;
    return false;
}

/* `writer` is held. */
static varve_status check_moves(struct vv_place *place, const struct vv_ref_move *moves, size_t count,
                                const varve_commit_id *made)
{
    varve_status rc = VARVE_OK;

    if (names_twice(moves, count))
        return vv_fail(VARVE_MISUSE, "one ref cannot move twice at once");
    vv_plain_lock(&place->plain);
    for (size_t i = 0; rc == VARVE_OK && i < count; i++)
        rc = vv_plain_check_move(&place->plain, &moves[i], made);
    if (rc == VARVE_OK)
        rc = vv_plain_room(&place->plain, 1, count);
    vv_plain_unlock(&place->plain);
    return rc;
}

/* Moves that were checked and change something, in one record. */
static varve_status append_moves(struct vv_place *place, const struct vv_ref_move *moves, size_t count,
                                 int64_t time_ns)
{
    struct vv_bytes group = VV_BYTES_NONE;
    varve_status rc = VARVE_OK;

    vv_plain_lock(&place->plain);
    for (size_t i = 0; i < count; i++)
        if (!stands(&place->plain, &moves[i]))
            put_move(&group, &moves[i], time_ns);
    vv_plain_unlock(&place->plain);
    if (group.size == 0 && !group.failed)
        goto out;
    TRY(vv_tree_poison_if(place, vv_ledger_append(&place->ledger, &group)));
    vv_plain_lock(&place->plain);
    for (size_t i = 0; i < count; i++)
        if (!stands(&place->plain, &moves[i]))
            vv_plain_put_move(&place->plain, &moves[i], time_ns);
    vv_plain_unlock(&place->plain);
out:
    vv_bytes_release(&group);
    return rc;
}

varve_status vv_tree_move_refs(struct vv_place *place, const struct vv_ref_move *moves, size_t count,
                               int64_t time_ns)
{
    varve_status rc = VARVE_OK;

    VV_ASSERT(pthread_mutex_lock(&place->writer) == 0);
    TRY(vv_tree_writable(place));
    TRY(check_moves(place, moves, count, NULL));
    TRY(append_moves(place, moves, count, time_ns));
out:
    VV_ASSERT(pthread_mutex_unlock(&place->writer) == 0);
    return rc;
}

/* ---- The directory ------------------------------------------------------------------------------ */

/* What no commit names may have the name: what a deletion left that failed half-way, at this or an earlier opening. */
static varve_status make_way(struct vv_place *place, const char *hex)
{
    char trash[VV_TREE_NAME];
    varve_status rc = VARVE_OK;

    vv_tree_name(place, ".trash-", trash);
    rc = vv_dir_rename(&place->dir, hex, trash);
    if (rc == VARVE_OK)
        rc = vv_tree_unlink(place, trash, NULL);
    return rc;
}

/* Give the directory its name, durably. On failure it has not got it, unless UNCERTAIN. */
static varve_status name_directory(struct vv_place *place, struct vv_pending *pending, const varve_root *root)
{
    struct vv_dir there = VV_DIR_NONE;
    char hex[65];
    varve_status rc = VARVE_OK;

    vv_hex_format(root->bytes, hex);
    rc = vv_dir_open_at(&place->dir, hex, &there);
    vv_dir_close(&there);
    if (rc == VARVE_OK || rc == VARVE_CORRUPT)
        TRY(make_way(place, hex));
    else if (rc != VARVE_NOT_FOUND)
        goto out;
    TRY(vv_dir_rename(&place->dir, pending->name, hex));
    pending->name[0] = '\0';
    if (!VV_PLANT("tree-root-sync"))
        TRY(vv_tree_sync_dir(place, &place->dir));
out:
    return rc;
}

/* The record could not be written: nothing was made. */
static void unname_directory(struct vv_place *place, const varve_root *root)
{
    struct vv_last_words words;
    char hex[65];

    vv_words_keep(&words);
    vv_hex_format(root->bytes, hex);
    (void)make_way(place, hex); /* what stays is nobody's, and removed at the next opening */
    vv_words_bring_back(&words);
}

/* ---- Publish ------------------------------------------------------------------------------------ */

/* Where the pages of a module lie now: in its diff, where they differ from its base image; else in that. */
static varve_status locate_module(const struct vv_module_change *change, const struct vv_landing *landing)
{
    struct vv_pagetree *tree = &change->after->memory;
    varve_status rc = VARVE_OK;

    if (landing->base != NULL) { /* a new image: the whole tree is its own */
        vv_pagetree_release(tree);
        vv_pagetree_copy(tree, &landing->base->tree);
        return VARVE_OK;
    }
    for (size_t i = 0; i < change->page_count; i++) {
        const struct vv_page_change *page = &change->pages[i];
        const struct vv_tree_version *version = landing->above;
        struct vv_leaf leaf;
        bool present = false;
        if (page->bytes == NULL)
            continue;
        if (page->index < landing->below->tree.page_count)
            TRY(vv_pagetree_get(&landing->below->tree, page->index, &leaf, &present));
        if (present && vv_hash_equal(leaf.hash, page->hash))
            version = landing->below;
        VV_ASSERT(version != NULL);
        TRY(vv_pagetree_locate(tree, page->index, vv_locator_of(version, page->index)));
    }
out:
    return rc;
}

/* The commit is made: what it is lies in `folder`, and the state that it was made from says so too. */
static void take_up(struct vv_place *place, struct vv_change *change, struct vv_pending *pending,
                    struct vv_folder *folder)
{
    bool located = true;

    vv_shelf_lock(&place->shelf);
    for (size_t i = 0; i < pending->landing_count; i++) {
        struct vv_landing *landing = &pending->landings[i];
        if (landing->base != NULL && !vv_shelf_put(&place->shelf, landing->base, folder)) {
            vv_tree_version_free(landing->base); /* the same memory is known as another file */
            landing->base = NULL;
            located = false;
        }
        if (landing->diff != NULL && !vv_shelf_put(&place->shelf, landing->diff, folder)) {
            vv_tree_version_free(landing->diff);
            landing->diff = NULL;
            located = false;
        }
        if (landing->base != NULL)
            place->version++;
    }
    vv_shelf_unlock(&place->shelf);
    for (size_t i = 0; located && i < pending->landing_count; i++)
        if (change->modules[i].after != NULL)
            located = locate_module(&change->modules[i], &pending->landings[i]) == VARVE_OK;
    for (size_t i = 0; i < pending->landing_count; i++)
        pending->landings[i] = (struct vv_landing){ .base = NULL }; /* they are the shelf's */
    change->unlocated = change->unlocated || !located;
}

/* The store holds the commit already: only its ref moves. */
static varve_status adopt(struct vv_place *place, struct vv_change *change, const struct vv_ref_move *move)
{
    struct vv_commit_facts facts = { .locator = 0 };
    varve_status rc = VARVE_OK;

    TRY(vv_plain_facts(place, &change->facts.id, &facts));
    if (move != NULL)
        TRY(append_moves(place, move, 1, change->facts.time_ns));
    vv_commit_facts_release(&change->facts);
    change->facts = facts;
    facts = (struct vv_commit_facts){ .locator = 0 };
    change->unlocated = true;
out:
    vv_commit_facts_release(&facts);
    return rc;
}

static varve_status append_commit(struct vv_place *place, struct vv_change *change,
                                  struct vv_pending *pending, const struct vv_ref_move *move)
{
    struct vv_plain_commit *commit = pending->commit;
    struct vv_bytes group = VV_BYTES_NONE;
    varve_status rc = VARVE_OK;

    commit->facts.number = place->plain.last_number + 1; /* only we add commits, and we hold `writer` */
    commit->facts.bytes_written = pending->bytes;
    put_commit(&group, commit);
    if (move != NULL && !VV_PLANT("tree-ref-apart"))
        put_move(&group, move, change->facts.time_ns);
    TRY(vv_tree_poison_if(place, vv_ledger_append(&place->ledger, &group)));
    if (move != NULL && VV_PLANT("tree-ref-apart")) {
        vv_bytes_clear(&group);
        put_move(&group, move, change->facts.time_ns);
        TRY(vv_ledger_append(&place->ledger, &group));
    }
out:
    vv_bytes_release(&group);
    return rc;
}

static void reveal(struct vv_place *place, struct vv_change *change, struct vv_pending *pending,
                   const struct vv_ref_move *move)
{
    vv_plain_lock(&place->plain);
    vv_plain_add(&place->plain, pending->commit);
    change->facts.number = pending->commit->facts.number;
    change->facts.locator = pending->commit->facts.locator;
    change->facts.bytes_written = pending->commit->facts.bytes_written;
    change->unlocated = change->unlocated || change->hold < place->plain.generation;
    pending->commit = NULL;
    if (move != NULL)
        vv_plain_put_move(&place->plain, move, change->facts.time_ns);
    vv_plain_unlock(&place->plain);
}

/* The folder of the commit's root, as it is or new. `fresh`: it is not on the disk yet. */
static varve_status find_folder(struct vv_place *place, const struct vv_pending *pending,
                                const varve_root *root, struct vv_folder **folder, bool *made, bool *fresh)
{
    varve_status rc = VARVE_OK;

    vv_shelf_lock(&place->shelf);
    *folder = vv_shelf_folder(&place->shelf, root);
    *made = *folder == NULL;
    *fresh = *made || (*folder)->missing;
    if (*made)
        TRY(vv_shelf_add(&place->shelf, root, folder));
    if (*fresh)
        TRY(vv_shelf_reserve(&place->shelf, 2 * pending->landing_count));
out:
    if (rc != VARVE_OK && *made && *folder != NULL)
        vv_shelf_drop(&place->shelf, *folder);
    *made = *made && rc == VARVE_OK;
    vv_shelf_unlock(&place->shelf);
    return rc;
}

static varve_status publish_new(struct vv_place *place, struct vv_change *change, struct vv_pending *pending,
                                const struct vv_ref_move *move)
{
    const varve_root *root = &change->facts.root;
    struct vv_folder *folder = NULL;
    bool made = false, fresh = false, named = false;
    varve_status rc = VARVE_OK;

    if (!pending->built && !has_directory(place, root)) /* it went meanwhile */
        TRY(vv_tree_poison_if(place, vv_tree_build(place, change, pending)));
    TRY(find_folder(place, pending, root, &folder, &made, &fresh));
    if (fresh) {
        rc = vv_tree_poison_if(place, name_directory(place, pending, root));
        named = pending->name[0] == '\0';
    } else {
        vv_tree_unbuild(place, pending);
        pending->bytes = 0;
        change->unlocated = true;
    }
    if (rc == VARVE_OK)
        rc = append_commit(place, change, pending, move);
    if (rc != VARVE_OK) {
        if (named && rc != VARVE_UNCERTAIN)
            unname_directory(place, root);
        goto out;
    }
    folder->missing = false;
    folder->commits++;
    place->doomed -= folder->doomed_in != 0;
    folder->doomed_in = 0;
    made = false;
    reveal(place, change, pending, move);
    take_up(place, change, pending, folder);
out:
    if (made) {
        vv_shelf_lock(&place->shelf);
        vv_shelf_drop(&place->shelf, folder);
        vv_shelf_unlock(&place->shelf);
    }
    return rc;
}

varve_status vv_tree_publish(struct vv_place *place, struct vv_change *change, struct vv_pending *pending,
                             const struct vv_ref_move *move, varve_durability durability)
{
    const uint64_t begin = vv_clock_monotonic_ns();
    const varve_commit_id id = change->facts.id;
    struct vv_ref_move to_it;
    varve_status rc = VARVE_OK;

    (void)durability; /* BUFFERED gets more than it asks for: see docs/layouts.md */
    if (move != NULL) {
        to_it = *move;
        to_it.to = &id;
        move = &to_it;
    }
    VV_ASSERT(pthread_mutex_lock(&place->writer) == 0);
    TRY(vv_tree_writable(place));
    TRY(check_moves(place, move, move != NULL, &id));
    vv_plain_lock(&place->plain);
    const struct vv_plain_commit *known = vv_plain_commit_of(&place->plain, &change->facts.id);
    const bool there = known != NULL && !known->removed;
    vv_plain_unlock(&place->plain);
    TRY(there ? adopt(place, change, move) : publish_new(place, change, pending, move));
    place->commit_count++;
    place->commit_ns += vv_clock_monotonic_ns() - begin;
out:
    VV_ASSERT(pthread_mutex_unlock(&place->writer) == 0);
    vv_tree_discard(place, pending);
    return rc;
}
