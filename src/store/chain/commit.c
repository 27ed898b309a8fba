/* commit.c - one commit: what differs from the newest version of each line, written; then the one instant, in memory.
 *
 * A session's base may be older than the newest version (after a restore): the delta is against the newest all the
 * same, and the version's tree is made from that one's, so that its locators are true in commit order (C4).
 * Moves:  PREPARE  pages that differ, their bytes and bases, the delta's bytes                       [make_version]
 *         PUBLISH  checks, room; files written; then lines, history and ref at once, which cannot fail [take_up]
 *                  then names and newest images follow, which may fail: they are no part of the truth   [follow]
 * What fails before the instant leaves no file and no version. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/plant.h"
#include "store/chain/place.h"
#include "store/plain/memfile.h"

enum { COPIES_MAX = 1 << 20, ARENA = 64 };

/* One module of a commit on its way. */
struct making {
    const struct vv_module_change *change;
    uint64_t against;           /* serial of the newest version when it was made; 0: there was no line */
    struct vv_version *version; /* to be: without serial and number; NULL: nothing new is written */
    bool reuses;                /* it is as the newest version already is */
    bool rebuilt;               /* its tree was made from the newest version's */
    struct vv_deltafile_page *pages;
    size_t page_count, page_room;
    uint8_t **arena; /* pages that had to be read, ARENA to a piece */
    size_t arena_count;
    struct vv_bytes delta;
    struct vv_line *line; /* while it is published */
    bool new_line, has_file;
    char name[VV_CHAIN_NAME]; /* of the file that was written */
};
struct vv_pending {
    struct vv_plain_commit *commit;
    struct making *makings;
    size_t count;
};

static void making_clear(struct making *making)
{
    vv_chain_version_free(making->version);
    for (size_t i = 0; i * ARENA < making->arena_count; i++)
        vv_free(making->arena[i]);
    vv_free(making->arena);
    vv_free(making->pages);
    vv_bytes_release(&making->delta);
    *making = (struct making){ .change = making->change };
}

static void pending_free(struct vv_pending *pending)
{
    for (size_t i = 0; i < pending->count; i++)
        making_clear(&pending->makings[i]);
    vv_free(pending->makings);
    vv_plain_commit_free(pending->commit);
    vv_free(pending);
}

void vv_chain_discard(struct vv_place *place, struct vv_pending *pending)
{
    (void)place;
    pending_free(pending);
}

varve_status vv_chain_writable(const struct vv_place *place)
{
    if (place->options.read_only)
        return vv_fail(VARVE_MISUSE, "the store was opened read-only");
    if (place->poisoned)
        return vv_fail(VARVE_UNCERTAIN,
                       "a sync failed before, so nothing more is written; close the store and open it again");
    if (place->damaged)
        return vv_fail(VARVE_CORRUPT, "files of the store are damaged or missing, so nothing is added to it: "
                                      "`varve fsck` tells which, `varve clone --salvage` takes what can still be read");
    return VARVE_OK;
}

varve_status vv_chain_poison_if(struct vv_place *place, varve_status rc)
{
    place->poisoned = place->poisoned || rc == VARVE_UNCERTAIN;
    return rc;
}

/* ---- What differs ------------------------------------------------------------------------------- */

static const struct vv_page_change *changed_page(const struct vv_module_change *change, uint64_t index)
{
    size_t low = 0, high = change->page_count;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (change->pages[middle].index < index)
            low = middle + 1;
        else
            high = middle;
    }
    return low < change->page_count && change->pages[low].index == index ? &change->pages[low] : NULL;
}

static varve_status arena_page(struct making *making, uint8_t **page)
{
    const size_t piece = making->arena_count / ARENA, in = making->arena_count % ARENA;
    varve_status rc = VARVE_OK;

    if (in == 0) {
        TRY(vv_resize(&making->arena, piece + 1, sizeof *making->arena));
        TRY(vv_alloc(&making->arena[piece], ARENA, VV_PAGE_SIZE));
    }
    *page = making->arena[piece] + in * VV_PAGE_SIZE;
    making->arena_count++;
out:
    return rc;
}

struct differing {
    struct vv_place *place;
    struct making *making;
    uint64_t page_count;
};

static varve_status note_page(void *context, uint64_t index, const struct vv_leaf *from,
                              const struct vv_leaf *to)
{
    const struct differing *differing = context;
    struct making *making = differing->making;
    const struct vv_page_change *changed = changed_page(making->change, index);
    struct vv_deltafile_page page = { .index = (uint32_t)index };
    uint8_t *bytes = NULL;
    varve_status rc = VARVE_OK;

    if (index >= differing->page_count)
        return VARVE_OK;
    if (to != NULL && changed != NULL && vv_hash_equal(changed->hash, to->hash)) {
        page.bytes = changed->bytes;
    } else if (to != NULL) { /* it is as in the base, which is not the newest version */
        TRY(arena_page(making, &bytes));
        TRY(vv_chain_fetch_page(differing->place, VV_CHAIN_ANY, to, bytes));
        page.bytes = bytes;
    }
    if (page.bytes != NULL && from != NULL && vv_chain_depth(from->locator) + 1 < VV_CHAIN_DEPTH) {
        page.base_locator = from->locator;
        if (changed != NULL && changed->base != NULL && changed->base_locator == from->locator) {
            page.base = changed->base;
            page.runs = changed->runs;
            page.runs_size = changed->runs_size;
        } else {
            TRY(arena_page(making, &bytes));
            TRY(vv_chain_fetch_page(differing->place, VV_CHAIN_ANY, from, bytes));
            page.base = bytes;
        }
    }
    if (making->page_count == making->page_room) {
        const size_t room = 2 * making->page_room + 16;
        TRY(vv_resize(&making->pages, room, sizeof *making->pages));
        making->page_room = room;
    }
    making->pages[making->page_count++] = page;
out:
    return rc;
}

/* Is the module that the session began with the newest version? Then its tree has that version's locators. */
static varve_status begins_with(struct vv_place *place, const struct vv_change *change,
                                const varve_module_id *id, const struct vv_version *newest, bool *yes)
{
    struct vv_module *module = NULL;
    varve_status rc = VARVE_OK;

    *yes = false;
    if (change->base == NULL)
        return VARVE_OK;
    vv_plain_lock(&place->plain);
    struct vv_plain_commit *base = vv_plain_numbered(&place->plain, change->base->locator);
    if (base != NULL && base->has_state)
        rc = vv_state_get(&base->state, id, &module);
    *yes = rc == VARVE_OK && module == newest->module;
    vv_plain_unlock(&place->plain);
    return rc;
}

/* The newest version with the changed pages in it: the same memory as `after`, with locators in commit order. */
static varve_status rebuild_tree(const struct vv_version *newest, const struct making *making,
                                 const struct vv_module *after, struct vv_module **out)
{
    struct vv_module *module = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_module_clone(after, &module));
    vv_pagetree_release(&module->memory);
    vv_pagetree_copy(&module->memory, &newest->module->memory);
    TRY(vv_pagetree_resize(&module->memory, after->memory.page_count));
    for (size_t i = 0; i < making->page_count; i++) {
        struct vv_leaf leaf;
        bool present = false;
        TRY(vv_pagetree_get(&after->memory, making->pages[i].index, &leaf, &present));
        leaf.locator = 0;
        TRY(vv_pagetree_set(&module->memory, making->pages[i].index, present ? &leaf : NULL));
    }
    *out = module;
    module = NULL;
out:
    vv_module_drop(module);
    return rc;
}

static varve_status make_delta(struct vv_place *place, const struct vv_change *change, struct making *making,
                               const struct vv_line *line)
{
    const struct vv_version *newest = vv_chain_newest(line);
    struct vv_module *after = making->change->after;
    struct differing differing = { .place = place, .making = making, .page_count = after->memory.page_count };
    struct vv_codec codec = VV_CODEC_NONE;
    bool same = false;
    varve_status rc = VARVE_OK;

    TRY(vv_pagetree_diff(&newest->module->memory, &after->memory, note_page, &differing));
    TRY(vv_deltafile_encode(&codec, making->pages, making->page_count, &making->delta));
    TRY(begins_with(place, change, &line->id, newest, &same));
    making->rebuilt = !same;
    if (making->rebuilt)
        TRY(rebuild_tree(newest, making, after, &making->version->module));
out:
    vv_codec_release(&codec);
    return rc;
}

/* All of a memory that has no line yet; zero pages need no bytes. */
static varve_status note_whole(void *context, uint64_t index, const struct vv_leaf *leaf)
{
    return note_page(context, index, NULL, leaf);
}

static varve_status make_version(struct vv_place *place, const struct vv_change *change,
                                 struct making *making)
{
    struct vv_module *after = making->change->after;
    struct differing differing = { .place = place, .making = making };
    uint8_t leaf[VV_HASH_SIZE];
    varve_status rc = VARVE_OK;

    making_clear(making);
    if (after == NULL)
        return VARVE_OK;
    if (after->memory.page_count > VV_CHAIN_PAGES_MAX)
        return vv_fail(VARVE_UNSUPPORTED, "the layout chain has room for memories of 16 TiB");
    TRY(vv_module_leaf(after, leaf));
    const struct vv_line *line = vv_chain_line(place, &making->change->id);
    making->against = line == NULL || line->count == 0 ? 0 : vv_chain_newest(line)->serial;
    if (making->against != 0 && vv_hash_equal(vv_chain_newest(line)->leaf, leaf)) {
        making->reuses = true;
        return VARVE_OK;
    }
    TRY(vv_alloc(&making->version, 1, sizeof *making->version));
    memcpy(making->version->leaf, leaf, sizeof leaf);
    differing.page_count = after->memory.page_count;
    if (making->against == 0)
        TRY(vv_pagetree_each(&after->memory, 0, note_whole, &differing));
    else
        TRY(make_delta(place, change, making, line));
    if (making->version->module == NULL) {
        vv_module_hold(after);
        making->version->module = after;
    }
    making->version->pages = making->page_count;
out:
    if (rc != VARVE_OK)
        making_clear(making);
    return rc;
}

varve_status vv_chain_prepare(struct vv_place *place, struct vv_change *change, struct vv_pending **out)
{
    struct vv_pending *pending = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_chain_writable(place));
    TRY(vv_alloc(&pending, 1, sizeof *pending));
    TRY(vv_plain_commit_new(change, &pending->commit));
    TRY(vv_alloc(&pending->makings, change->module_count, sizeof *pending->makings));
    for (size_t i = 0; i < change->module_count; i++)
        pending->makings[pending->count++].change = &change->modules[i];
    vv_chain_read_lock(place);
    for (size_t i = 0; i < pending->count && rc == VARVE_OK; i++)
        rc = make_version(place, change, &pending->makings[i]);
    vv_chain_unlock(place);
    TRY(rc);
    *out = pending;
    pending = NULL;
out:
    if (pending != NULL)
        pending_free(pending);
    return rc;
}

/* ---- Files -------------------------------------------------------------------------------------- */

static varve_status is_free(const struct vv_place *place, const char *name, bool *yes)
{
    struct vv_file file = VV_FILE_NONE;
    const varve_status rc = vv_file_open(&place->dir, name, VV_OPEN_READ, &file);

    vv_file_close(&file);
    *yes = rc == VARVE_NOT_FOUND;
    return rc == VARVE_NOT_FOUND || rc == VARVE_CORRUPT ? VARVE_OK
                                                        : rc; /* what is no file is in the way, too */
}

/* The n of a new delta: behind those of equal versions, and of what an earlier life left. */
static varve_status choose_copy(const struct vv_place *place, const struct vv_line *line,
                                struct vv_version *version)
{
    char name[VV_CHAIN_NAME];
    varve_status rc = VARVE_OK;

    version->copy = 0;
    if (VV_PLANT("ordinal-reused"))
        return VARVE_OK;
    for (size_t i = line->count; i-- > 1 && version->copy == 0;)
        if (vv_hash_equal(line->versions[i]->leaf, version->leaf))
            version->copy = line->versions[i]->copy + 1;
    for (; version->copy < COPIES_MAX; version->copy++) {
        bool dotted = false, plain = false;
        vv_chain_delta_name(line, version, true, name);
        TRY(is_free(place, name, &dotted));
        vv_chain_delta_name(line, version, false, name);
        TRY(is_free(place, name, &plain));
        if (dotted && plain)
            return VARVE_OK;
    }
    rc = vv_fail(VARVE_FULL,
                 "%s: there is no number free for one more of this name: `varve gc` removes leftovers", name);
out:
    return rc;
}

static varve_status write_delta(struct vv_place *place, struct making *making, const varve_commit_id *commit)
{
    struct vv_version *version = making->version;
    const struct vv_version *before = vv_chain_newest(making->line);
    struct vv_deltafile_facts facts = { .serial = version->serial,
                                        .serial_before = before->serial,
                                        .page_count = version->module->memory.page_count };
    struct vv_file file = VV_FILE_NONE;
    const unsigned exclusive = VV_PLANT("ordinal-reused") ? 0 : VV_OPEN_EXCLUSIVE;
    varve_status rc = VARVE_OK;

    memcpy(facts.module, making->line->id.bytes, 32);
    memcpy(facts.leaf, version->leaf, VV_HASH_SIZE);
    memcpy(facts.before, before->leaf, VV_HASH_SIZE);
    memcpy(facts.commit, commit->bytes, 32);
    vv_deltafile_seal(&making->delta, &facts);
    TRY(choose_copy(place, making->line, version));
    vv_chain_delta_name(making->line, version, true, making->name);
    TRY(vv_file_open(&place->dir, making->name, VV_OPEN_WRITE | VV_OPEN_CREATE | exclusive, &file));
    making->has_file = true;
    TRY(vv_file_write(&file, making->delta.data, making->delta.size, 0));
    version->bytes = making->delta.size;
out:
    vv_file_close(&file);
    return rc;
}

/* The first version of a line. A file of this name is what an earlier life left. */
static varve_status write_first(struct vv_place *place, struct making *making)
{
    struct vv_memfile_writer writer = { .pages = NULL };
    struct vv_version *version = making->version;
    struct vv_file file = VV_FILE_NONE;
    varve_status rc = VARVE_OK;

    vv_chain_image_name(making->line, version, making->name);
    TRY(vv_dir_unlink(&place->dir, making->name));
    TRY(vv_file_open(&place->dir, making->name, VV_OPEN_WRITE | VV_OPEN_CREATE | VV_OPEN_EXCLUSIVE, &file));
    making->has_file = true;
    TRY(vv_memfile_begin(&writer, &file));
    for (size_t i = 0; i < making->page_count; i++)
        TRY(vv_memfile_put(&writer, making->pages[i].index, making->pages[i].bytes));
    TRY(vv_memfile_end(&writer, version->module->memory.page_count));
    version->bytes = writer.written;
out:
    vv_memfile_abandon(&writer);
    vv_file_close(&file);
    return rc;
}

/* Leaves say where their pages are from now on. */
static varve_status set_locators(struct making *making)
{
    struct vv_version *version = making->version;
    struct vv_pagetree *tree = &version->module->memory;
    varve_status rc = VARVE_OK;

    for (size_t i = 0; i < making->page_count; i++) {
        const struct vv_deltafile_page *page = &making->pages[i];
        if (page->bytes != NULL)
            TRY(vv_pagetree_locate(tree, page->index,
                                   vv_chain_locator(version->serial, page->depth, page->index)));
    }
    /* A page that a session wrote and that is as it was before keeps its place. */
    for (size_t i = 0; i < making->change->page_count && making->against != 0 && !making->rebuilt; i++) {
        const uint64_t index = making->change->pages[i].index;
        struct vv_leaf leaf, before;
        bool present = false;
        if (index >= tree->page_count)
            continue;
        TRY(vv_pagetree_get(tree, index, &leaf, &present));
        if (!present || leaf.locator != 0)
            continue;
        TRY(vv_pagetree_get(&vv_chain_newest(making->line)->module->memory, index, &before, &present));
        VV_ASSERT(present && vv_hash_equal(before.hash, leaf.hash));
        TRY(vv_pagetree_locate(tree, index, before.locator));
    }
out:
    return rc;
}

static varve_status find_line(struct vv_place *place, struct making *making, size_t count)
{
    varve_status rc = VARVE_OK;

    making->line = vv_chain_line(place, &making->change->id);
    if (making->line == NULL) {
        vv_chain_write_lock(place);
        rc = vv_chain_line_new(place, &making->change->id, &making->line);
        vv_chain_unlock(place);
    }
    if (rc == VARVE_OK) {
        vv_chain_write_lock(place);
        rc = vv_chain_room(place, making->line, count);
        vv_chain_unlock(place);
    }
    return rc;
}

static varve_status write_files(struct vv_place *place, struct vv_pending *pending, uint64_t *serial)
{
    struct vv_line **lines = NULL;
    size_t count = 0;
    varve_status rc = VARVE_OK;

    TRY(vv_alloc(&lines, pending->count, sizeof *lines));
    for (size_t i = 0; i < pending->count; i++) {
        struct making *making = &pending->makings[i];
        if (making->version == NULL)
            continue;
        if (*serial == VV_CHAIN_SERIAL_MAX)
            TRY(vv_fail(VARVE_FULL,
                        "the layout chain has room for %llu versions of modules: `varve clone` makes a "
                        "store that begins anew",
                        (unsigned long long)VV_CHAIN_SERIAL_MAX));
        making->version->serial = ++*serial;
        TRY(find_line(place, making, pending->count));
        TRY(making->against == 0 ? write_first(place, making)
                                 : write_delta(place, making, &pending->commit->facts.id));
        TRY(set_locators(making));
        lines[count++] = making->line;
    }
    TRY(vv_chain_unstamp(place, lines, count));
out:
    vv_free(lines);
    return rc;
}

static void remove_files(struct vv_place *place, struct vv_pending *pending)
{
    for (size_t i = 0; i < pending->count; i++)
        if (pending->makings[i].has_file)
            (void)vv_dir_unlink(&place->dir, pending->makings[i].name);
}

/* ---- The one instant ---------------------------------------------------------------------------- */

/* Something was committed or dropped since it was prepared: then it is made again. */
static varve_status make_current(struct vv_place *place, const struct vv_change *change,
                                 struct making *making)
{
    const struct vv_line *line = vv_chain_line(place, &making->change->id);
    const uint64_t newest = line == NULL || line->count == 0 ? 0 : vv_chain_newest(line)->serial;

    return newest == making->against || making->change->after == NULL ? VARVE_OK
                                                                      : make_version(place, change, making);
}

/* The commit's state has the versions' own modules, and the change learns when they are not its own. */
static varve_status make_state(struct vv_place *place, struct vv_change *change, struct vv_pending *pending)
{
    struct vv_plain_commit *commit = pending->commit;
    varve_status rc = VARVE_OK;

    TRY(vv_state_copy(&commit->state, change->after));
    commit->has_state = true;
    for (size_t i = 0; i < pending->count; i++) {
        struct making *making = &pending->makings[i];
        struct vv_plain_change *told = &commit->changes[i];
        struct vv_module *module = NULL;
        if (making->change->after == NULL)
            continue;
        const struct vv_version *version =
            making->reuses ? vv_chain_newest(vv_chain_line(place, &making->change->id)) : making->version;
        told->version = version->serial;
        told->bytes = making->reuses ? 0 : version->bytes;
        commit->facts.bytes_written += told->bytes;
        TRY(vv_state_get(&commit->state, &making->change->id, &module));
        if (module == version->module)
            continue;
        TRY(vv_state_set(&commit->state, version->module));
        change->unlocated = true;
    }
out:
    return rc;
}

/* Names follow: the delta of what was the newest version loses its dot. A name that stays is looked for, too. */
static void rename_before(struct vv_place *place, const struct vv_line *line)
{
    char from[VV_CHAIN_NAME], to[VV_CHAIN_NAME];

    if (line->count < 3)
        return; /* the first has no delta */
    vv_chain_delta_name(line, line->versions[line->count - 2], true, from);
    vv_chain_delta_name(line, line->versions[line->count - 2], false, to);
    (void)vv_dir_rename(&place->dir, from, to);
}

/* Nothing can fail here. */
static void take_up(struct vv_place *place, struct vv_change *change, struct vv_pending *pending,
                    const struct vv_ref_move *move, uint64_t serial)
{
    struct vv_plain_commit *commit = pending->commit;

    vv_chain_write_lock(place);
    vv_plain_lock(&place->plain);
    vv_plain_add(&place->plain, commit);
    vv_plain_put_move(&place->plain, move, change->facts.time_ns);
    change->facts.number = commit->facts.number;
    change->facts.locator = commit->facts.locator;
    change->facts.bytes_written = commit->facts.bytes_written;
    place->unpersisted++;
    place->dirty = true;
    vv_plain_unlock(&place->plain);
    for (size_t i = 0; i < pending->count; i++) {
        struct making *making = &pending->makings[i];
        if (making->version == NULL)
            continue;
        making->version->number = commit->facts.number;
        vv_chain_append(place, making->line, making->version);
        rename_before(place, making->line);
    }
    place->last_serial = serial;
    vv_chain_unlock(place);
    pending->commit = NULL;
}

/* Newest images, when the commit is made. */
static void follow(struct vv_place *place, struct vv_pending *pending)
{
    for (size_t i = 0; i < pending->count; i++) {
        struct making *making = &pending->makings[i];
        struct vv_chain_patch *patches = NULL;
        struct vv_line *line = making->line;
        if (making->version == NULL)
            continue;
        making->version = NULL; /* it is the line's */
        if (line->count == 1) {
            line->image = vv_chain_newest(line)->serial;
            continue;
        }
        const struct vv_version *before = line->versions[line->count - 2];
        if (vv_alloc(&patches, making->page_count, sizeof *patches) != VARVE_OK) {
            line->image = 0;
            vv_chain_drop_image(place, line, before);
            continue;
        }
        for (size_t k = 0; k < making->page_count; k++)
            patches[k] =
                (struct vv_chain_patch){ .index = making->pages[k].index, .bytes = making->pages[k].bytes };
        vv_chain_follow(place, line, before, patches, making->page_count);
        vv_free(patches);
    }
}

/* The store has a commit of this id: it is that one. */
static varve_status move_to_known(struct vv_place *place, struct vv_change *change,
                                  const struct vv_ref_move *move, bool *known)
{
    struct vv_commit_facts facts = { .locator = 0 };
    varve_status rc = VARVE_OK;

    vv_plain_lock(&place->plain);
    const struct vv_plain_commit *there = vv_plain_commit_of(&place->plain, &change->facts.id);
    *known = there != NULL && !there->removed;
    rc = vv_plain_check_move(&place->plain, move, &change->facts.id);
    if (rc == VARVE_OK)
        rc = vv_plain_room(&place->plain, 1, 1);
    if (rc == VARVE_OK && *known)
        rc = vv_commit_facts_copy(&facts, &there->facts);
    if (rc == VARVE_OK && *known) {
        vv_plain_put_move(&place->plain, move, change->facts.time_ns);
        place->unpersisted++;
        place->dirty = true;
        vv_commit_facts_release(&change->facts);
        change->facts = facts;
        change->unlocated = true;
    }
    vv_plain_unlock(&place->plain);
    return rc;
}

varve_status vv_chain_publish(struct vv_place *place, struct vv_change *change, struct vv_pending *pending,
                              const struct vv_ref_move *asked, varve_durability durability)
{
    const struct vv_ref_move *move = NULL;
    struct vv_ref_move made;
    const uint64_t begun = vv_clock_monotonic_ns();
    uint64_t serial = 0;
    bool known = false;
    varve_status rc = VARVE_OK;

    VV_ASSERT(pthread_mutex_lock(&place->writing) == 0);
    TRY(vv_chain_writable(place));
    if (asked == NULL || durability == VARVE_DURABLE)
        TRY(vv_fail(VARVE_UNSUPPORTED,
                    "the layout chain makes buffered commits of main only: tree and journal have "
                    "durable and detached ones"));
    made = *asked;
    made.to = &change->facts.id;
    move = &made;
    TRY(vv_plain_check_line(move->name, "chain"));
    TRY(move_to_known(place, change, move, &known));
    if (known)
        goto out;
    serial = place->last_serial;
    vv_chain_read_lock(place);
    for (size_t i = 0; i < pending->count && rc == VARVE_OK; i++)
        rc = make_current(place, change, &pending->makings[i]);
    vv_chain_unlock(place);
    TRY(rc);
    rc = write_files(place, pending, &serial);
    if (rc == VARVE_OK)
        rc = make_state(place, change, pending);
    if (rc != VARVE_OK) {
        remove_files(place, pending);
        goto out;
    }
    take_up(place, change, pending, move, serial);
    follow(place, pending);
    place->commit_count++;
    place->commit_ns += vv_clock_monotonic_ns() - begun;
out:
    (void)vv_chain_poison_if(place, rc);
    VV_ASSERT(pthread_mutex_unlock(&place->writing) == 0);
    pending_free(pending);
    return rc;
}

/* ---- Refs --------------------------------------------------------------------------------------- */

/* They become durable with `commits`: restoring changes no other file. */
varve_status vv_chain_move_refs(struct vv_place *place, const struct vv_ref_move *moves, size_t count,
                                int64_t time_ns)
{
    varve_status rc = VARVE_OK;

    VV_ASSERT(pthread_mutex_lock(&place->writing) == 0);
    vv_plain_lock(&place->plain);
    TRY(vv_chain_writable(place));
    for (size_t i = 0; i < count; i++) {
        TRY(vv_plain_check_line(moves[i].name, "chain"));
        TRY(vv_plain_check_move(&place->plain, &moves[i], NULL));
    }
    TRY(vv_plain_room(&place->plain, 0, count));
    for (size_t i = 0; i < count; i++)
        vv_plain_put_move(&place->plain, &moves[i], time_ns);
    place->unpersisted += count;
    place->dirty = place->dirty || count > 0;
out:
    vv_plain_unlock(&place->plain);
    VV_ASSERT(pthread_mutex_unlock(&place->writing) == 0);
    return rc;
}
