/* commit.c - a session commit: full copies of the modules that it changed, pointers, and the history in memory.
 *
 *   prepare   each changed module: a version that is there already, or its file written whole and its tree saved
 *   publish   pointers made ready; then, where nothing fails any more: pointers, history, trees
 *   move refs what names durable commits is durable first (`.varve/last`), then pointers, then memory
 * A file whose name exists and that no version names is what a life before this one left: it makes way. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "store/flat/place.h"

struct vv_pending {
    struct vv_plain_commit *commit;
    struct vv_version **versions; /* of the changed modules, pinned; NULL where one was removed */
    size_t count;
};

/* ---- One version -------------------------------------------------------------------------------- */

/* A version on its way to its file. */
struct writing {
    struct vv_place *place;
    const struct vv_module_change *change;
    size_t at; /* pages of the change below this were passed */
    uint64_t number;
    struct vv_pagetree tree; /* of the version: locators name its own file */
    struct vv_version_reader reader; /* of pages that lie in other versions */
    struct vv_memfile_writer writer;
};

static const struct vv_page_change *change_of(struct writing *writing, uint64_t index)
{
    const struct vv_module_change *change = writing->change;

    while (writing->at < change->page_count && change->pages[writing->at].index < index)
        writing->at++;
    if (writing->at == change->page_count || change->pages[writing->at].index != index)
        return NULL;
    return &change->pages[writing->at];
}

static varve_status copy_page(void *context, uint64_t index, const uint8_t *page)
{
    struct writing *writing = context;

    return vv_memfile_put(&writing->writer, index, page);
}

static varve_status write_leaf(void *context, uint64_t index, const struct vv_leaf *leaf)
{
    struct writing *writing = context;
    const struct vv_page_change *page = change_of(writing, index);
    varve_status rc = VARVE_OK;

    if (page != NULL && page->bytes != NULL) {
        TRY(vv_version_reader_flush(&writing->reader)); /* pages go out in rising order */
        TRY(vv_memfile_put(&writing->writer, index, page->bytes));
    } else if (leaf->locator != 0) {
        TRY(vv_version_reader_put(&writing->reader, index, leaf));
    } else {
        TRY(vv_fail(VARVE_MISUSE, "page %llu changed and its bytes were not given", (unsigned long long)index));
    }
    TRY(vv_pagetree_locate(&writing->tree, index, writing->number << VV_VERSION_PAGE_BITS | index));
out:
    return rc;
}

static varve_status write_pages(struct writing *writing, struct vv_file *file)
{
    const struct vv_pagetree *memory = &writing->change->after->memory;
    varve_status rc = VARVE_OK;

    TRY(vv_memfile_begin(&writing->writer, file));
    TRY(vv_version_reader_begin(&writing->reader, writing->place, copy_page, writing));
    TRY(vv_pagetree_each(memory, 0, write_leaf, writing));
    TRY(vv_version_reader_flush(&writing->reader));
    TRY(vv_memfile_end(&writing->writer, memory->page_count));
out:
    vv_version_reader_release(&writing->reader);
    if (rc != VARVE_OK)
        vv_memfile_abandon(&writing->writer);
    return rc;
}

/* What a life before this one left under the name makes way: nobody knows whether its bytes are whole. */
static varve_status create_file(const struct vv_dir *dir, const char *name, struct vv_file *file)
{
    enum { FLAGS = VV_OPEN_WRITE | VV_OPEN_CREATE | VV_OPEN_EXCLUSIVE | VV_OPEN_FROZEN };
    varve_status rc = vv_file_open(dir, name, FLAGS, file);

    if (rc != VARVE_EXISTS)
        return rc;
    TRY(vv_dir_unlink(dir, name));
    TRY(vv_file_open(dir, name, FLAGS, file));
out:
    return rc;
}

/* The file, and the tree's nodes. On failure neither is there. */
static varve_status write_version(struct vv_place *place, struct vv_version *version,
                                  const struct vv_module_change *change)
{
    struct writing writing = { .place = place, .change = change, .number = version->number };
    struct vv_nodefile *nodes = &place->nodes->file;
    const uint64_t nodes_end = nodes->end;
    struct vv_file file = VV_FILE_NONE;
    char name[VV_FLAT_NAME];
    uint8_t top[VV_HASH_SIZE];
    bool made = false;
    varve_status rc = VARVE_OK;

    vv_version_name(version, name);
    vv_pagetree_copy(&writing.tree, &change->after->memory);
    TRY(create_file(place->dir, name, &file));
    made = true;
    TRY(write_pages(&writing, &file));
    version->file_bytes = writing.writer.written;
    TRY(vv_pagetree_top(&writing.tree, top));
    TRY(vv_pagetree_save(&writing.tree, vv_nodefile_put, nodes, &version->address));
    version->node_bytes = nodes->end - nodes_end;
    TRY(vv_module_clone(change->after, &version->entry));
    vv_pagetree_release(&version->entry->memory);
    TRY(vv_pagetree_open(&version->entry->memory, change->after->memory.page_count, version->address, top,
                         &nodes->source));
out:
    vv_file_close(&file);
    vv_pagetree_release(&writing.tree);
    if (rc != VARVE_OK) {
        vv_nodefile_cut(nodes, nodes_end);
        if (made)
            (void)vv_dir_unlink(place->dir, name);
    }
    return rc;
}

static varve_status make_version(struct vv_place *place, const struct vv_module_change *change,
                                 const uint8_t leaf[VV_HASH_SIZE], struct vv_version **out)
{
    struct vv_version *version = NULL;
    char name[VV_FLAT_NAME];
    varve_status rc = VARVE_OK;

    if (change->after->memory.page_count > VV_VERSION_PAGES_MAX)
        return vv_fail(VARVE_LIMIT, "a memory of %llu pages: the layout flat has at most %llu",
                       (unsigned long long)change->after->memory.page_count,
                       (unsigned long long)VV_VERSION_PAGES_MAX);
    TRY(vv_alloc(&version, 1, sizeof *version));
    version->number = place->last_version + 1;
    version->module = change->id;
    memcpy(version->leaf, leaf, VV_HASH_SIZE);
    TRY(write_version(place, version, change));
    vv_plain_lock(&place->plain);
    rc = vv_version_add(place, version);
    vv_plain_unlock(&place->plain);
    if (rc != VARVE_OK) {
        vv_version_name(version, name);
        (void)vv_dir_unlink(place->dir, name);
        goto out;
    }
    place->last_version++;
    *out = version;
    version = NULL;
out:
    vv_version_free(version);
    return rc;
}

/* ---- Prepare ------------------------------------------------------------------------------------ */

static void pending_free(struct vv_place *place, struct vv_pending *pending)
{
    char name[VV_FLAT_NAME];

    if (pending == NULL)
        return;
    place->pending_count--;
    for (size_t i = 0; i < pending->count; i++) {
        struct vv_version *version = pending->versions[i];
        if (version == NULL || --version->pins > 0 || version->used)
            continue;
        vv_version_name(version, name);
        (void)vv_dir_unlink(place->dir, name);
        vv_plain_lock(&place->plain);
        vv_version_drop(place, version);
        vv_plain_unlock(&place->plain);
    }
    vv_free(pending->versions);
    vv_plain_commit_free(pending->commit);
    vv_free(pending);
}

void vv_flat_discard(struct vv_place *place, struct vv_pending *pending)
{
    vv_flat_take_turn(place);
    pending_free(place, pending);
    vv_flat_end_turn(place);
}

/* The commit that this one follows, as it is now; NULL: none. */
static varve_status find_base(const struct vv_place *place, const struct vv_change *change,
                              const struct vv_plain_commit **base)
{
    char hex[65];

    *base = NULL;
    if (change->base == NULL)
        return VARVE_OK;
    *base = vv_plain_commit_of(&place->plain, &change->base->id);
    if (*base != NULL && !(*base)->removed)
        return VARVE_OK;
    varve_hex_format(change->base->id.bytes, hex);
    return vv_fail(VARVE_CONFLICT, "commit %s, which this one would follow, was deleted", hex);
}

static varve_status take_module(struct vv_place *place, struct vv_pending *pending,
                                const struct vv_module_change *change)
{
    struct vv_plain_commit *commit = pending->commit;
    struct vv_plain_change *noted = &commit->changes[pending->count];
    uint8_t leaf[VV_HASH_SIZE];
    varve_status rc = VARVE_OK;

    if (change->after == NULL) {
        pending->versions[pending->count++] = NULL;
        return vv_state_remove(&commit->state, &change->id);
    }
    TRY(vv_module_leaf(change->after, leaf));
    struct vv_version *version = vv_version_named(place, &change->id, leaf);
    if (version == NULL) {
        TRY(make_version(place, change, leaf, &version));
        noted->bytes = version->file_bytes;
        commit->facts.bytes_written += version->file_bytes;
    }
    version->pins++;
    pending->versions[pending->count++] = version;
    noted->version = version->number;
    TRY(vv_state_set(&commit->state, version->entry));
out:
    return rc;
}

static varve_status take_meta(const struct vv_change *change, struct vv_state *state)
{
    varve_status rc = VARVE_OK;

    for (size_t i = 0; i < change->meta_set_count; i++)
        TRY(vv_state_set_meta(state, change->meta_set[i]->key, change->meta_set[i]->value,
                              change->meta_set[i]->value_size));
    for (size_t i = 0; i < change->meta_removed_count; i++)
        TRY(vv_state_set_meta(state, change->meta_removed[i], NULL, 0));
out:
    return rc;
}

/* The new state, from the base's as it lies here now. */
static varve_status build_state(struct vv_place *place, struct vv_pending *pending, const struct vv_change *change,
                                const struct vv_plain_commit *base)
{
    struct vv_plain_commit *commit = pending->commit;
    varve_root root;
    varve_status rc = VARVE_OK;

    TRY(base == NULL ? vv_state_init(&commit->state, NULL, NULL) : vv_state_copy(&commit->state, &base->state));
    commit->has_state = true;
    TRY(vv_alloc(&pending->versions, change->module_count, sizeof(struct vv_version *)));
    for (size_t i = 0; i < change->module_count; i++)
        TRY(take_module(place, pending, &change->modules[i]));
    TRY(take_meta(change, &commit->state));
    TRY(vv_state_root(&commit->state, &root));
    if (memcmp(root.bytes, change->facts.root.bytes, sizeof root.bytes) != 0)
        rc = vv_fail(VARVE_MISUSE, "the commit's root is not that of its state");
out:
    return rc;
}

varve_status vv_flat_prepare(struct vv_place *place, struct vv_change *change, struct vv_pending **out)
{
    const struct vv_plain_commit *base = NULL;
    struct vv_pending *pending = NULL;
    varve_status rc = VARVE_OK;

    vv_flat_take_turn(place);
    TRY(vv_flat_writable(place));
    TRY(find_base(place, change, &base));
    TRY(vv_alloc(&pending, 1, sizeof *pending));
    place->pending_count++;
    TRY(vv_plain_commit_new(change, &pending->commit));
    TRY(build_state(place, pending, change, base));
    *out = pending;
    pending = NULL;
out:
    pending_free(place, pending);
    vv_flat_end_turn(place);
    return rc;
}

/* ---- Refs --------------------------------------------------------------------------------------- */

static varve_status check_moves(const struct vv_place *place, const struct vv_ref_move *moves, size_t count,
                                const varve_commit_id *made)
{
    varve_status rc = VARVE_OK;

    for (size_t i = 0; i < count; i++) {
        TRY(vv_plain_check_line(moves[i].name, "flat"));
        TRY(vv_plain_check_move(&place->plain, &moves[i], made));
    }
out:
    return rc;
}

/* Is there such a ref in what is durable? */
static bool lasts(const struct vv_plain *plain, const char *name)
{
    for (size_t i = plain->move_count; i-- > 0;)
        if (plain->moves[i].written && strcmp(plain->moves[i].name, name) == 0)
            return !vv_id_is_zero(&plain->moves[i].facts.to);
    return false;
}

/* Which of the moves last at once: those that name what lasts, and those that end a ref which does. */
static varve_status weigh_moves(const struct vv_plain *plain, const struct vv_ref_move *moves, size_t count,
                                bool **durable)
{
    const varve_status rc = vv_alloc(durable, count, sizeof **durable);

    for (size_t i = 0; rc == VARVE_OK && i < count; i++) {
        const struct vv_plain_commit *commit = moves[i].to == NULL ? NULL : vv_plain_commit_of(plain, moves[i].to);
        (*durable)[i] = commit == NULL ? lasts(plain, moves[i].name) : !commit->removed && commit->written;
        for (size_t k = 0; commit == NULL && k < i; k++)
            if (strcmp(moves[k].name, moves[i].name) == 0 && (*durable)[k])
                (*durable)[i] = moves[k].to != NULL;
    }
    return rc;
}

static const struct vv_state *state_at(const struct vv_place *place, const varve_commit_id *id)
{
    const struct vv_plain_commit *commit = id == NULL ? NULL : vv_plain_commit_of(&place->plain, id);

    return commit == NULL || commit->removed ? NULL : &commit->state;
}

/* In a turn, checked. */
static varve_status move_refs(struct vv_place *place, const struct vv_ref_move *moves, size_t count, int64_t time_ns)
{
    struct vv_pointers pointers = { .count = 0 };
    bool *durable = NULL, any = false;
    const struct vv_state *main = vv_flat_main(place), *after = main;
    varve_status rc = VARVE_OK;

    vv_plain_lock(&place->plain);
    rc = vv_plain_room(&place->plain, 0, count);
    vv_plain_unlock(&place->plain);
    TRY(rc);
    for (size_t i = 0; i < count; i++)
        if (strcmp(moves[i].name, "main") == 0)
            after = state_at(place, moves[i].to);
    TRY(vv_pointers_plan(main, after, &pointers));
    TRY(vv_pointers_ready(place, &pointers));
    TRY(weigh_moves(&place->plain, moves, count, &durable));
    for (size_t i = 0; i < count; i++)
        any = any || durable[i];
    if (any)
        TRY(vv_flat_publish_last(place, moves, durable, count, time_ns));
    vv_pointers_move(place, &pointers);
    vv_plain_lock(&place->plain);
    for (size_t i = 0; i < count; i++) {
        vv_plain_put_move(&place->plain, &moves[i], time_ns);
        place->plain.moves[place->plain.move_count - 1].written = durable[i];
    }
    vv_plain_unlock(&place->plain);
out:
    vv_pointers_release(place, &pointers);
    vv_free(durable);
    return rc;
}

varve_status vv_flat_move_refs(struct vv_place *place, const struct vv_ref_move *moves, size_t count,
                               int64_t time_ns)
{
    varve_status rc = VARVE_OK;

    vv_flat_take_turn(place);
    TRY(vv_flat_writable(place));
    TRY(check_moves(place, moves, count, NULL));
    TRY(move_refs(place, moves, count, time_ns));
out:
    vv_flat_end_turn(place);
    return rc;
}

/* ---- Publish ------------------------------------------------------------------------------------ */

/* The store has this commit already: only the ref moves. */
static varve_status publish_known(struct vv_place *place, struct vv_change *change,
                                  const struct vv_plain_commit *known, const struct vv_ref_move *move)
{
    struct vv_commit_facts facts = { .locator = 0 };
    varve_status rc = VARVE_OK;

    TRY(vv_commit_facts_copy(&facts, &known->facts));
    rc = move_refs(place, move, 1, change->facts.time_ns);
    if (rc != VARVE_OK) {
        vv_commit_facts_release(&facts);
        goto out;
    }
    vv_commit_facts_release(&change->facts);
    change->facts = facts;
    change->unlocated = true;
out:
    return rc;
}

/* The session's trees go on as the versions': they learn where the pages lie. */
static void locate(struct vv_change *change, const struct vv_pending *pending)
{
    for (size_t i = 0; i < pending->count; i++) {
        struct vv_module *after = change->modules[i].after;
        if (after == NULL)
            continue;
        vv_pagetree_release(&after->memory);
        vv_pagetree_copy(&after->memory, &pending->versions[i]->entry->memory);
    }
}

/* Nothing fails from here on. */
static void make_visible(struct vv_place *place, struct vv_change *change, struct vv_pending *pending,
                         const struct vv_ref_move *move)
{
    struct vv_plain_commit *commit = pending->commit;

    pending->commit = NULL;
    vv_plain_lock(&place->plain);
    vv_plain_add(&place->plain, commit);
    vv_plain_put_move(&place->plain, move, change->facts.time_ns);
    for (size_t i = 0; i < pending->count; i++) {
        struct vv_version *version = pending->versions[i];
        if (version == NULL)
            continue;
        version->used = true;
        if (version->first == 0)
            version->first = commit->facts.number;
    }
    place->source_version++;
    change->unlocated = change->hold < place->nodes_since;
    vv_plain_unlock(&place->plain);
    change->facts.number = change->facts.locator = commit->facts.number;
    change->facts.bytes_written = commit->facts.bytes_written;
    locate(change, pending);
}

static varve_status publish_new(struct vv_place *place, struct vv_change *change, struct vv_pending *pending,
                                const struct vv_ref_move *move)
{
    const struct vv_state *main = vv_flat_main(place);
    struct vv_pointers pointers = { .count = 0 };
    varve_status rc = VARVE_OK;

    vv_plain_lock(&place->plain);
    rc = vv_plain_room(&place->plain, 1, 1);
    vv_plain_unlock(&place->plain);
    TRY(rc);
    if (strcmp(move->name, "main") == 0)
        TRY(vv_pointers_plan(main, &pending->commit->state, &pointers));
    TRY(vv_pointers_ready(place, &pointers));
    vv_pointers_move(place, &pointers);
    make_visible(place, change, pending, move);
out:
    vv_pointers_release(place, &pointers);
    return rc;
}

varve_status vv_flat_publish(struct vv_place *place, struct vv_change *change, struct vv_pending *pending,
                             const struct vv_ref_move *move, varve_durability durability)
{
    const uint64_t start = vv_clock_monotonic_ns();
    const struct vv_plain_commit *base = NULL;
    struct vv_ref_move to_it; /* whatever the caller says, it is this commit that the ref moves to */
    varve_status rc = VARVE_OK;

    VV_ASSERT(durability == VARVE_BUFFERED);
    vv_flat_take_turn(place);
    TRY(vv_flat_writable(place));
    if (move == NULL)
        TRY(vv_fail(VARVE_UNSUPPORTED, "the layout flat keeps one line, main, and has no commits beside it: tree and "
                                       "journal have detached sessions"));
    TRY(find_base(place, change, &base));
    to_it = *move;
    to_it.to = &change->facts.id;
    TRY(check_moves(place, &to_it, 1, &change->facts.id));
    const struct vv_plain_commit *known = vv_plain_commit_of(&place->plain, &change->facts.id);
    if (known != NULL && !known->removed)
        TRY(publish_known(place, change, known, &to_it));
    else
        TRY(publish_new(place, change, pending, &to_it));
    place->commit_count++;
    place->commit_ns += vv_clock_monotonic_ns() - start;
out:
    pending_free(place, pending);
    vv_flat_end_turn(place);
    return rc;
}
