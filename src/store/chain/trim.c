/* trim.c - what goes: commits at the ends of the line, and the versions and files that then nobody needs.
 *
 * A version is needed while a commit that is there, or one that somebody still holds, has it in its state. Versions go
 * from the ends of their line only: those between are what later ones are made from.
 * Moves:  PLAN     per line, how many go at either end; where the oldest goes, the full image of the next one is made,
 *                  and is durable                                                        [vv_chain_plan_trim]
 *         then a `commits` is published that names them no more                          [vv_chain_persist_locked]
 *         TRIMMED  lines and serials follow, files go                                    [vv_chain_trimmed]
 * A crash before the second leaves an image too many, after it files too many: leftovers, which gc removes. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "store/chain/place.h"

/* ---- What is needed ----------------------------------------------------------------------------- */

/* Commits that are to count as gone, though they are there; for what would be if. */
struct without {
    const varve_commit_id *ids;
    size_t count;
    uint64_t oldest_hold;
};

static bool counts(const struct vv_plain_commit *commit, const struct without *without)
{
    for (size_t i = 0; i < without->count; i++)
        if (vv_id_equal(&commit->facts.id, &without->ids[i]))
            return false;
    return commit->has_state && (!commit->removed || without->oldest_hold < commit->removed_in);
}

static bool has_version(struct vv_plain_commit *commit, const struct vv_version *version)
{
    struct vv_module *module = NULL;

    return vv_state_get(&commit->state, &version->module->id, &module) != VARVE_OK ||
           module == version->module;
}

/* The plain's lock is held. From the end at which a commit that needs it is most likely. */
static bool is_needed(const struct vv_plain *plain, const struct without *without,
                      const struct vv_version *version, bool newest_first)
{
    for (size_t i = 0; i < plain->commit_count; i++) {
        struct vv_plain_commit *commit = plain->commits[newest_first ? plain->commit_count - 1 - i : i];
        if (counts(commit, without) && has_version(commit, version))
            return true;
    }
    return false;
}

static void plan_line(struct vv_plain *plain, const struct without *without, struct vv_line *line)
{
    line->drop_front = line->drop_back = 0;
    while (line->drop_front < line->count &&
           !is_needed(plain, without, line->versions[line->drop_front], false))
        line->drop_front++;
    while (line->drop_front + line->drop_back < line->count &&
           !is_needed(plain, without, line->versions[line->count - 1 - line->drop_back], true))
        line->drop_back++;
}

static void plan_lines(struct vv_place *place, const varve_commit_id *ids, size_t count)
{
    vv_plain_lock(&place->plain);
    const struct without without = { .ids = ids,
                                     .count = count,
                                     .oldest_hold = vv_plain_oldest_hold(&place->plain) };
    for (size_t i = 0; i < place->line_count; i++)
        plan_line(&place->plain, &without, place->lines[i]);
    vv_plain_unlock(&place->plain);
}

/* ---- The next first image ----------------------------------------------------------------------- */

struct collecting {
    uint64_t first;
    uint64_t *serials;
    size_t count, room;
};

static varve_status collect_serial(void *context, uint64_t index, const struct vv_leaf *leaf)
{
    struct collecting *collecting = context;
    const uint64_t serial = vv_chain_serial(leaf->locator);
    varve_status rc = VARVE_OK;

    (void)index;
    if (serial >= collecting->first ||
        (collecting->count > 0 && collecting->serials[collecting->count - 1] == serial))
        return VARVE_OK;
    if (collecting->count == collecting->room) {
        const size_t room = 2 * collecting->room + 16;
        TRY(vv_resize(&collecting->serials, room, sizeof *collecting->serials));
        collecting->room = room;
    }
    collecting->serials[collecting->count++] = serial;
out:
    return rc;
}

static int by_number(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* Which versions before `first` its pages name. */
static varve_status collect_gone(const struct vv_version *first, struct vv_gone *gone)
{
    struct collecting collecting = { .first = first->serial };
    size_t kept = 0;
    varve_status rc = vv_pagetree_each(&first->module->memory, 0, collect_serial, &collecting);

    if (rc != VARVE_OK) {
        vv_free(collecting.serials);
        return rc;
    }
    if (collecting.count > 1)
        qsort(collecting.serials, collecting.count, sizeof *collecting.serials, by_number);
    for (size_t i = 0; i < collecting.count; i++)
        if (kept == 0 || collecting.serials[kept - 1] != collecting.serials[i])
            collecting.serials[kept++] = collecting.serials[i];
    *gone = (struct vv_gone){ .serials = collecting.serials, .count = kept };
    return VARVE_OK;
}

varve_status vv_chain_plan_trim(struct vv_place *place)
{
    varve_status rc = VARVE_OK;

    if (!place->trim_due)
        return VARVE_OK;
    plan_lines(place, NULL, 0);
    for (size_t i = 0; i < place->line_count; i++) {
        struct vv_line *line = place->lines[i];
        if (line->drop_front == 0 || line->drop_front == line->count)
            continue;
        TRY(collect_gone(line->versions[line->drop_front], &line->next_gone));
        TRY(vv_chain_write_image(place, line, line->versions[line->drop_front], true, NULL));
    }
out:
    if (rc != VARVE_OK)
        vv_chain_untrim(place);
    return rc;
}

void vv_chain_untrim(struct vv_place *place)
{
    for (size_t i = 0; i < place->line_count; i++) {
        struct vv_line *line = place->lines[i];
        const struct vv_version *next =
            line->drop_front > 0 && line->drop_front < line->count ? line->versions[line->drop_front] : NULL;
        char name[VV_CHAIN_NAME];
        if (next != NULL && !place->poisoned && vv_chain_whose_image(line, next->leaf) == NULL) {
            vv_chain_image_name(line, next, name);
            (void)vv_dir_unlink(&place->dir, name);
        }
        line->drop_front = line->drop_back = 0;
        vv_free(line->next_gone.serials);
        line->next_gone = (struct vv_gone){ .count = 0 };
    }
}

/* ---- Going -------------------------------------------------------------------------------------- */

/* Files that go when lines and names are what they are to be. */
struct going {
    char (*names)[VV_CHAIN_NAME];
    size_t count, room;
};

/* What there is no memory to remember is left over, and told of at the next opening. */
static void add_name(struct going *going, const char *name)
{
    if (going->count == going->room) {
        const size_t room = 2 * going->room + 16;
        if (vv_resize(&going->names, room, sizeof *going->names) != VARVE_OK)
            return;
        going->room = room;
    }
    memcpy(going->names[going->count++], name, strlen(name) + 1);
}

static void add_delta(struct going *going, const struct vv_line *line, const struct vv_version *version)
{
    char name[VV_CHAIN_NAME];

    for (unsigned newest = 0; newest < 2; newest++) {
        vv_chain_delta_name(line, version, newest == 1, name);
        add_name(going, name);
    }
}

static bool is_gone(const struct vv_line *line, uint64_t serial)
{
    for (size_t i = 0; i < line->gone.count; i++)
        if (line->gone.serials[i] == serial)
            return true;
    return false;
}

/* Serials of the line's that name versions which are there, or pages of its first image. */
static void settle_serials(struct vv_place *place, const struct vv_line *line)
{
    size_t kept = 0;

    for (size_t i = 0; i < place->serial_count; i++) {
        struct vv_serial *serial = &place->serials[i];
        if (serial->line == line) {
            const bool there = serial->version != NULL && line->count > 0 &&
                               serial->serial >= line->versions[0]->serial &&
                               serial->serial <= vv_chain_newest(line)->serial;
            if (!there)
                serial->version = NULL;
            if (!there && !is_gone(line, serial->serial))
                continue;
        }
        place->serials[kept++] = *serial;
    }
    place->serial_count = kept;
}

/* The newest goes: the one before it is the newest now, and its delta has a dot again. */
static void fall_back(struct vv_place *place, struct vv_line *line, const struct vv_version *was)
{
    char from[VV_CHAIN_NAME], to[VV_CHAIN_NAME];

    line->image = 0;
    line->stamped = false;
    vv_chain_drop_image(place, line, was);
    if (line->count == 0)
        return;
    if (vv_chain_shares_first(line))
        line->image = vv_chain_newest(line)->serial;
    if (line->count < 2)
        return;
    vv_chain_delta_name(line, vv_chain_newest(line), false, from);
    vv_chain_delta_name(line, vv_chain_newest(line), true, to);
    (void)vv_dir_rename(&place->dir, from, to);
}

static void trim_line(struct vv_place *place, struct vv_line *line, struct going *going)
{
    const size_t front = line->drop_front, back = line->drop_back, kept = line->count - front - back;
    struct vv_version **dropped = line->versions;
    struct vv_version *newest = vv_chain_newest(line);
    char name[VV_CHAIN_NAME];

    if (front > 0) {
        vv_chain_image_name(line, line->versions[0], name);
        add_name(going, name);
    }
    for (size_t i = 1; i < line->count; i++)
        if (i < front + (front > 0) || i >= front + kept) /* what is the first now needs its delta no more */
            add_delta(going, line, line->versions[i]);
    for (size_t i = front + kept; i < line->count; i++)
        if (line->versions[i] != newest)
            vv_chain_version_free(line->versions[i]);
    for (size_t i = 0; i < front; i++)
        if (line->versions[i] != newest)
            vv_chain_version_free(line->versions[i]);
    memmove(dropped, dropped + front, kept * sizeof(struct vv_version *));
    line->count = kept;
    if (front > 0) {
        vv_free(line->gone.serials);
        line->gone = line->next_gone;
        line->next_gone = (struct vv_gone){ .count = 0 };
    }
    settle_serials(place, line);
    if (back > 0 || kept == 0) {
        fall_back(place, line, newest);
        vv_chain_version_free(newest);
    } else if (vv_chain_shares_first(line)) {
        line->image = vv_chain_newest(line)->serial;
    }
    line->drop_front = line->drop_back = 0;
}

static void forget_commits(struct vv_place *place)
{
    vv_plain_lock(&place->plain);
    const uint64_t oldest = vv_plain_oldest_hold(&place->plain);
    for (size_t i = 0; i < place->plain.commit_count; i++) {
        struct vv_plain_commit *commit = place->plain.commits[i];
        if (commit->removed && commit->has_state && oldest >= commit->removed_in)
            vv_plain_forget(commit);
        place->trim_due = place->trim_due || (commit->removed && commit->has_state); /* it is held still */
    }
    vv_plain_unlock(&place->plain);
}

static void unlink_counted(struct vv_place *place, const char *name)
{
    struct vv_file file = VV_FILE_NONE;
    uint64_t bytes = 0;

    if (vv_file_open(&place->dir, name, VV_OPEN_READ, &file) != VARVE_OK)
        return;
    if (vv_file_allocated(&file, &bytes) != VARVE_OK)
        bytes = 0;
    vv_file_close(&file);
    if (vv_dir_unlink(&place->dir, name) == VARVE_OK)
        place->freed += bytes;
}

static bool is_used(struct vv_place *place, const char *name)
{
    struct vv_chain_name parsed;
    const struct vv_line *line = NULL;

    if (!vv_chain_parse_name(name, &parsed))
        return false;
    line = vv_chain_line(place, &parsed.module);
    if (line == NULL || !parsed.delta)
        return line != NULL && vv_chain_whose_image(line, parsed.leaf) != NULL;
    for (size_t i = 1; i < line->count; i++)
        if (line->versions[i]->copy == parsed.copy && vv_hash_equal(line->versions[i]->leaf, parsed.leaf))
            return true;
    return false;
}

void vv_chain_trimmed(struct vv_place *place)
{
    struct going going = { .count = 0 };

    if (!place->trim_due)
        return;
    place->trim_due = false;
    vv_chain_write_lock(place);
    for (size_t i = 0; i < place->line_count; i++)
        if (place->lines[i]->count > 0 && place->lines[i]->drop_front + place->lines[i]->drop_back > 0)
            trim_line(place, place->lines[i], &going);
    vv_chain_unlock(place);
    forget_commits(place);
    for (size_t i = 0; i < going.count; i++)
        if (!is_used(place, going.names[i]))
            unlink_counted(place, going.names[i]);
    vv_free(going.names);
}

/* ---- Taking commits out ------------------------------------------------------------------------- */

static bool is_among(const varve_commit_id *ids, size_t count, const varve_commit_id *id)
{
    for (size_t i = 0; i < count; i++)
        if (vv_id_equal(&ids[i], id))
            return true;
    return false;
}

/* What stays must lie side by side. */
static varve_status check_ends(const struct vv_plain *plain, const varve_commit_id *ids, size_t count)
{
    unsigned changes = 0;
    bool before = false;

    for (size_t i = 0; i < plain->commit_count; i++) {
        if (plain->commits[i]->removed)
            continue;
        const bool stays = !is_among(ids, count, &plain->commits[i]->facts.id);
        changes += stays != before;
        before = stays;
    }
    if (changes + before > 2)
        return vv_fail(VARVE_UNSUPPORTED,
                       "the layout chain deletes its oldest or its newest commits only, as those "
                       "between are what later ones are made from: flat, tree and journal delete any");
    return VARVE_OK;
}

static void put_back(struct vv_plain *plain, const varve_commit_id *ids, size_t count)
{
    for (size_t i = 0; i < plain->commit_count; i++) {
        struct vv_plain_commit *commit = plain->commits[i];
        if (commit->removed && commit->removed_in == plain->generation &&
            is_among(ids, count, &commit->facts.id)) {
            commit->removed = false;
            plain->live_count++;
        }
    }
}

varve_status vv_chain_remove(struct vv_place *place, const varve_commit_id *ids, size_t count,
                             int64_t time_ns)
{
    varve_status rc = VARVE_OK;
    bool dirty = false, removed = false;

    (void)time_ns;
    VV_ASSERT(pthread_mutex_lock(&place->writing) == 0);
    TRY(vv_chain_writable(place));
    vv_plain_lock(&place->plain);
    rc = vv_plain_check_removal(&place->plain, ids, count);
    if (rc == VARVE_OK)
        rc = check_ends(&place->plain, ids, count);
    removed = rc == VARVE_OK && count > 0;
    if (removed)
        vv_plain_remove(&place->plain, ids, count);
    place->trim_due = place->trim_due || removed;
    vv_plain_unlock(&place->plain);
    if (!removed)
        goto out;
    dirty = place->dirty;
    place->dirty = true;
    rc = vv_chain_persist_locked(place);
    if (rc == VARVE_OK || rc == VARVE_UNCERTAIN)
        goto out;
    place->dirty = dirty;
    vv_plain_lock(&place->plain);
    put_back(&place->plain, ids, count);
    vv_plain_unlock(&place->plain);
out:
    VV_ASSERT(pthread_mutex_unlock(&place->writing) == 0);
    return rc;
}

/* The oldest commits, up to the first that retention keeps. */
static varve_status retired(struct vv_place *place, varve_commit_id **ids, size_t *count)
{
    varve_commit_id *victims = NULL;
    size_t victim_count = 0, kept = 0;
    varve_status rc = VARVE_OK;

    *ids = NULL;
    *count = 0;
    vv_plain_lock(&place->plain);
    rc = vv_plain_victims(&place->plain, place->options.retain, &victims, &victim_count);
    for (size_t i = 0; rc == VARVE_OK && i < place->plain.commit_count && kept < victim_count; i++) {
        const struct vv_plain_commit *commit = place->plain.commits[i];
        if (commit->removed)
            continue;
        if (!vv_id_equal(&commit->facts.id, &victims[kept])) /* they are in the order of commits */
            break;
        kept++;
    }
    vv_plain_unlock(&place->plain);
    if (rc == VARVE_OK && kept > 0) {
        *ids = victims;
        *count = kept;
        victims = NULL;
    }
    vv_free(victims);
    return rc;
}

/* Is there a tombstone whose last holder is gone? */
static bool is_forgettable(struct vv_place *place)
{
    bool found = false;

    vv_plain_lock(&place->plain);
    const uint64_t oldest = vv_plain_oldest_hold(&place->plain);
    for (size_t i = 0; i < place->plain.commit_count && !found; i++) {
        const struct vv_plain_commit *commit = place->plain.commits[i];
        found = commit->removed && commit->has_state && oldest >= commit->removed_in;
    }
    vv_plain_unlock(&place->plain);
    return found;
}

/* Retention; and when all that was committed is persisted, the files follow. `writing` is held. */
static varve_status give_up(struct vv_place *place)
{
    varve_commit_id *ids = NULL;
    size_t count = 0;
    varve_status rc = VARVE_OK;

    TRY(retired(place, &ids, &count));
    if (count > 0) {
        vv_plain_lock(&place->plain);
        vv_plain_remove(&place->plain, ids, count);
        vv_plain_unlock(&place->plain);
        place->trim_due = true;
    }
    place->dirty = place->dirty || count > 0 || is_forgettable(place);
    if (place->unpersisted == 0)
        TRY(vv_chain_persist_locked(place));
out:
    vv_free(ids);
    return rc;
}

void vv_chain_configure(struct vv_place *place, uint64_t retain, uint64_t snapshot_bytes)
{
    vv_plain_lock(&place->plain);
    place->options.retain = retain;
    place->options.snapshot_bytes = snapshot_bytes;
    vv_plain_unlock(&place->plain);
}

/* ---- In the background -------------------------------------------------------------------------- */

static bool lacks_image(const struct vv_line *line)
{
    return line->count > 0 && line->image != vv_chain_newest(line)->serial;
}

/* Newest images that are missing are made, one at a step. */
static varve_status make_image(struct vv_place *place, bool *more)
{
    bool made = false;
    varve_status rc = VARVE_OK;

    for (size_t i = 0; i < place->line_count && rc == VARVE_OK && !*more; i++) {
        if (!lacks_image(place->lines[i]))
            continue;
        *more = made;
        if (!made)
            rc = vv_chain_poison_if(place, vv_chain_rebuild(place, place->lines[i]));
        made = true;
    }
    return rc;
}

varve_status vv_chain_tidy(struct vv_place *place, uint64_t budget, bool *more)
{
    varve_status rc = VARVE_OK;

    (void)budget;
    *more = false;
    VV_ASSERT(pthread_mutex_lock(&place->writing) == 0);
    if (!place->options.read_only && !place->poisoned && !place->damaged) {
        rc = give_up(place);
        if (rc == VARVE_OK)
            rc = make_image(place, more);
    }
    VV_ASSERT(pthread_mutex_unlock(&place->writing) == 0);
    return rc;
}

/* ---- Leftovers ---------------------------------------------------------------------------------- */

/* A delta by what its name says. */
struct delta_key {
    uint8_t module[32], leaf[VV_HASH_SIZE], copy[4];
};
struct listing {
    struct vv_place *place;
    struct vv_table deltas; /* delta_key: place in its line */
    vv_chain_file_fn each;
    void *context;
    varve_status rc;
};

static struct delta_key key_of(const uint8_t module[32], const uint8_t leaf[VV_HASH_SIZE], uint32_t copy)
{
    struct delta_key key;

    memcpy(key.module, module, 32);
    memcpy(key.leaf, leaf, VV_HASH_SIZE);
    vv_put_u32(key.copy, copy);
    return key;
}

static bool ends_with(const char *name, const char *end)
{
    const size_t length = strlen(name), tail = strlen(end);

    return length >= tail && strcmp(name + length - tail, end) == 0;
}

static void classify(const struct listing *listing, struct vv_chain_file *file)
{
    struct vv_chain_name parsed;

    if (strcmp(file->name, "commits") == 0)
        file->kind = VV_CHAIN_COMMITS;
    else if (vv_backing_is_name(file->name, NULL))
        file->kind = VV_CHAIN_BACKING;
    else if (strcmp(file->name, "commits.tmp") == 0 ||
             (ends_with(file->name, ".tmp") && file->name[0] != '.' && strlen(file->name) == 2 * 64 + 1 + 4))
        file->kind = VV_CHAIN_DEBRIS;
    else if (vv_chain_parse_name(file->name, &parsed)) {
        const struct delta_key key = key_of(parsed.module.bytes, parsed.leaf, parsed.copy);
        const union vv_value *at = parsed.delta ? vv_table_get(&listing->deltas, &key) : NULL;
        file->line = vv_chain_line(listing->place, &parsed.module);
        if (file->line != NULL && !parsed.delta)
            file->version = vv_chain_whose_image(file->line, parsed.leaf);
        else if (at != NULL)
            file->version = file->line->versions[at->number];
        file->kind = file->version == NULL ? VV_CHAIN_DEBRIS : parsed.delta ? VV_CHAIN_DELTA : VV_CHAIN_IMAGE;
    }
}

static int list_name(void *context, const char *name)
{
    struct listing *listing = context;
    struct vv_chain_file file = { .name = name, .kind = VV_CHAIN_OTHER };

    if (strcmp(name, ".varve") == 0)
        return 0;
    classify(listing, &file);
    listing->rc = listing->each(listing->context, &file);
    return listing->rc != VARVE_OK;
}

varve_status vv_chain_each_file(struct vv_place *place, vv_chain_file_fn each, void *context)
{
    struct listing listing = { .place = place, .each = each, .context = context };
    varve_status rc = VARVE_OK;

    vv_table_init(&listing.deltas, sizeof(struct delta_key));
    for (size_t i = 0; i < place->line_count; i++) {
        const struct vv_line *line = place->lines[i];
        for (size_t k = 1; k < line->count; k++) {
            const struct delta_key key =
                key_of(line->id.bytes, line->versions[k]->leaf, line->versions[k]->copy);
            TRY(vv_table_put(&listing.deltas, &key, (union vv_value){ .number = k }));
        }
    }
    TRY(vv_dir_each(&place->dir, list_name, &listing));
    rc = listing.rc;
out:
    vv_table_release(&listing.deltas);
    return rc;
}

struct sweeping {
    struct vv_place *place;
    struct going going;
    uint64_t bytes;
};

static varve_status note_debris(void *context, const struct vv_chain_file *file)
{
    struct sweeping *sweeping = context;
    struct vv_file open = VV_FILE_NONE;
    uint64_t bytes = 0;

    if (file->kind != VV_CHAIN_DEBRIS)
        return VARVE_OK;
    if (vv_file_open(&sweeping->place->dir, file->name, VV_OPEN_READ, &open) == VARVE_OK &&
        vv_file_allocated(&open, &bytes) == VARVE_OK)
        sweeping->bytes += bytes;
    vv_file_close(&open);
    add_name(&sweeping->going, file->name);
    return VARVE_OK;
}

/* About what going would give back: deltas, and the difference of two full images. */
static uint64_t estimate(struct vv_place *place, const varve_commit_id *ids, size_t count)
{
    uint64_t bytes = 0;

    plan_lines(place, ids, count);
    for (size_t i = 0; i < place->line_count; i++) {
        struct vv_line *line = place->lines[i];
        for (size_t k = 1; k < line->count; k++)
            if (k < line->drop_front + (line->drop_front > 0) || k >= line->count - line->drop_back)
                bytes += line->versions[k]->bytes;
        if (line->count > 0 && line->drop_front == line->count)
            bytes += line->versions[0]->bytes;
        line->drop_front = line->drop_back = 0;
    }
    return bytes;
}

varve_status vv_chain_maintain(struct vv_place *place, uint32_t flags, varve_progress_fn progress,
                               void *context, uint64_t *freed)
{
    struct sweeping sweeping = { .place = place };
    varve_commit_id *ids = NULL;
    size_t count = 0;
    bool more = true;
    varve_status rc = VARVE_OK;

    (void)progress;
    (void)context;
    *freed = 0;
    VV_ASSERT(pthread_mutex_lock(&place->writing) == 0);
    TRY(vv_chain_writable(place));
    if (flags & VARVE_MAINTAIN_DRY_RUN) {
        TRY(retired(place, &ids, &count));
        *freed = estimate(place, ids, count);
        TRY(vv_chain_each_file(place, note_debris, &sweeping));
        *freed += sweeping.bytes;
        goto out;
    }
    place->freed = 0;
    TRY(give_up(place));
    TRY(vv_chain_each_file(place, note_debris, &sweeping));
    for (size_t i = 0; i < sweeping.going.count; i++)
        unlink_counted(place, sweeping.going.names[i]);
    if (sweeping.going.count > 0)
        TRY(vv_chain_poison_if(place, vv_dir_sync(&place->dir)));
    *freed = place->freed;
    while (more) {
        more = false;
        TRY(make_image(place, &more));
    }
out:
    vv_free(ids);
    vv_free(sweeping.going.names);
    VV_ASSERT(pthread_mutex_unlock(&place->writing) == 0);
    return rc;
}
