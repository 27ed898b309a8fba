/* keep.c - what lasts and what goes: persist, remove, retention, and the files that nobody needs any more.
 *
 *   PERSIST   nodes, files and their names are synced, then `commits` is published: the one instant     [vv_flat_persist]
 *   REMOVE    tombstones; of a commit that was persisted: published too, so that it never comes back   [remove_commits]
 *   RECLAIM   states that no hold is older than go, then the files that no state has                  [vv_flat_reclaim]
 *   MAINTAIN  and what lives before this one left                                                      [drop_debris] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/plant.h"
#include "store/files.h"
#include "store/flat/place.h"

/* ---- What is needed ----------------------------------------------------------------------------- */

static varve_status mark_item(void *context, const struct vv_item *from, const struct vv_item *to)
{
    const struct vv_place *place = context;
    varve_module_id module;

    (void)from;
    if (to == NULL)
        return VARVE_OK;
    memcpy(module.bytes, to->key, sizeof module.bytes);
    struct vv_version *version = vv_version_named(place, &module, to->hash);
    VV_ASSERT(version != NULL);
    version->needed = true;
    return VARVE_OK;
}

/* By the states that `wanted` names, NULL: by all, and by what is on its way. */
static varve_status mark(struct vv_place *place, bool (*wanted)(const struct vv_plain_commit *commit))
{
    const struct vv_trie *before = NULL;
    size_t cursor = 0;
    const void *key = NULL;
    union vv_value *value = NULL;
    varve_status rc = VARVE_OK;

    while (vv_table_next(&place->versions, &cursor, &key, &value)) {
        struct vv_version *version = value->pointer;
        version->needed = version->pins > 0;
    }
    for (size_t i = 0; i < place->plain.commit_count; i++) {
        struct vv_plain_commit *commit = place->plain.commits[i];
        if (!commit->has_state || (wanted != NULL && !wanted(commit)))
            continue;
        TRY(vv_trie_diff(before, &commit->state.trie, mark_item, place));
        before = &commit->state.trie;
    }
out:
    return rc;
}

static bool is_live(const struct vv_plain_commit *commit)
{
    return !commit->removed;
}

/* ---- Persist ------------------------------------------------------------------------------------ */

static varve_status sync_timed(struct vv_place *place, struct vv_file *file)
{
    const uint64_t start = vv_clock_monotonic_ns();
    const varve_status rc = vv_flat_poison_if(place, vv_file_sync_new(file));

    place->sync_count++;
    place->sync_ns += vv_clock_monotonic_ns() - start;
    return rc;
}

static varve_status sync_version(struct vv_place *place, struct vv_version *version)
{
    struct vv_version_file *file = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_version_open(place, version, &file));
    if (!VV_PLANT("persist-unsynced"))
        TRY(sync_timed(place, &file->file));
    version->synced = true;
out:
    vv_version_let_go(place, file);
    return rc;
}

static bool is_all_written(const struct vv_plain *plain)
{
    for (size_t i = plain->commit_count; i-- > 0;)
        if (!plain->commits[i]->written)
            return false;
    for (size_t i = plain->move_count; i-- > 0;)
        if (!plain->moves[i].written)
            return false;
    return true;
}

/* Everything that all of the history names is durable when it returns. */
static varve_status sync_all(struct vv_place *place)
{
    size_t cursor = 0;
    const void *key = NULL;
    union vv_value *value = NULL;
    varve_status rc = VARVE_OK;

    TRY(mark(place, is_live));
    TRY(vv_nodefile_flush(&place->nodes->file));
    TRY(vv_flat_poison_if(place, vv_nodefile_sync(&place->nodes->file)));
    place->nodes->durable = place->nodes->file.end;
    while (vv_table_next(&place->versions, &cursor, &key, &value)) {
        struct vv_version *version = value->pointer;
        if (version->needed && !version->synced)
            TRY(sync_version(place, version));
    }
    if (!VV_PLANT("persist-dir-unsynced"))
        TRY(vv_flat_poison_if(place, vv_dir_sync(place->dir)));
out:
    return rc;
}

/* In a turn. Publish all of the history, without `gone`. */
static varve_status publish_all(struct vv_place *place, const varve_commit_id *gone, size_t count)
{
    varve_status rc = VARVE_OK;

    TRY(sync_all(place));
    TRY(vv_flat_publish_commits(place, true, gone, count));
    if (place->generation == 1) {
        /* From now on `commits` must be there. Without this only a loss would go unseen. */
        rc = vv_flat_publish_last(place, NULL, NULL, 0, 0);
        if (rc != VARVE_UNCERTAIN)
            rc = VARVE_OK;
    }
out:
    return rc;
}

varve_status vv_flat_persist(struct vv_place *place)
{
    varve_status rc = VARVE_OK;

    vv_flat_take_turn(place);
    TRY(vv_flat_writable(place));
    if (!is_all_written(&place->plain))
        TRY(publish_all(place, NULL, 0));
    if (place->behind)
        (void)vv_pointers_follow(place);
out:
    vv_flat_end_turn(place);
    return rc;
}

/* ---- Remove ------------------------------------------------------------------------------------- */

static bool is_among(const varve_commit_id *id, const varve_commit_id *ids, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (vv_id_equal(id, &ids[i]))
            return true;
    return false;
}

/* Does a ref, as it is durable, stand on one of them? */
static bool stands_on(const struct vv_plain *plain, const varve_commit_id *ids, size_t count)
{
    for (size_t i = 0; i < plain->ref_count; i++)
        for (size_t k = plain->move_count; k-- > 0;)
            if (plain->moves[k].written && strcmp(plain->moves[k].name, plain->refs[i].name) == 0) {
                if (is_among(&plain->moves[k].facts.to, ids, count))
                    return true;
                break;
            }
    return false;
}

static varve_status check_removal(const struct vv_plain *plain, const varve_commit_id *ids, size_t count)
{
    varve_status rc = VARVE_OK;

    TRY(vv_plain_check_removal(plain, ids, count));
    for (size_t i = 1; i < count; i++)
        if (is_among(&ids[i], ids, i))
            TRY(vv_fail(VARVE_MISUSE, "one commit cannot be removed twice at once"));
out:
    return rc;
}

/* In a turn. What was persisted must never come back: then `commits` says so before anybody is told. */
static varve_status remove_commits(struct vv_place *place, const varve_commit_id *ids, size_t count)
{
    struct vv_plain *plain = &place->plain;
    bool was_written = false;
    varve_status rc = VARVE_OK;

    TRY(check_removal(plain, ids, count));
    for (size_t i = 0; i < count; i++)
        was_written = was_written || vv_plain_commit_of(plain, &ids[i])->written;
    /* The branch as it is durable stands there: where it stands now must last first. */
    if (was_written && stands_on(plain, ids, count))
        TRY(publish_all(place, ids, count));
    else if (was_written)
        TRY(vv_flat_publish_commits(place, false, ids, count));
    vv_plain_lock(plain);
    vv_plain_remove(plain, ids, count);
    vv_plain_unlock(plain);
    place->reclaim_due = true;
out:
    return rc;
}

varve_status vv_flat_remove(struct vv_place *place, const varve_commit_id *ids, size_t count, int64_t time_ns)
{
    uint64_t freed = 0;
    varve_status rc = VARVE_OK;

    (void)time_ns;
    vv_flat_take_turn(place);
    TRY(vv_flat_writable(place));
    TRY(remove_commits(place, ids, count));
    (void)vv_flat_reclaim(place, &freed); /* later, if not now */
out:
    vv_flat_end_turn(place);
    return rc;
}

/* ---- Reclaim ------------------------------------------------------------------------------------ */

/* Tombstones that no hold is older than forget their states. Are there others? */
static bool forget_states(struct vv_plain *plain)
{
    bool others = false;

    vv_plain_lock(plain);
    const uint64_t oldest = vv_plain_oldest_hold(plain);
    for (size_t i = 0; i < plain->commit_count; i++) {
        struct vv_plain_commit *commit = plain->commits[i];
        if (!commit->removed || !commit->has_state)
            continue;
        if (oldest >= commit->removed_in)
            vv_plain_forget(commit);
        else
            others = true;
    }
    vv_plain_unlock(plain);
    return others;
}

static varve_status drop_file(struct vv_place *place, struct vv_version *version, uint64_t *freed)
{
    char name[VV_FLAT_NAME];
    varve_status rc = VARVE_OK;

    vv_version_name(version, name);
    TRY(vv_dir_unlink(place->dir, name));
    *freed += version->file_bytes;
    vv_plain_lock(&place->plain);
    vv_version_drop(place, version);
    vv_plain_unlock(&place->plain);
out:
    return rc;
}

/* Any that no state has; NULL. Dropping one disturbs the walk over the table. */
static struct vv_version *needless(const struct vv_place *place)
{
    size_t cursor = 0;
    const void *key = NULL;
    union vv_value *value = NULL;

    while (vv_table_next(&place->versions, &cursor, &key, &value)) {
        struct vv_version *version = value->pointer;
        if (!version->needed && version->pins == 0)
            return version;
    }
    return NULL;
}

varve_status vv_flat_reclaim(struct vv_place *place, uint64_t *freed)
{
    struct vv_version *version = NULL;
    varve_status rc = VARVE_OK;

    vv_flat_close_nodes(place);
    if (!place->reclaim_due)
        return VARVE_OK;
    const bool others = forget_states(&place->plain);
    TRY(mark(place, NULL));
    while ((version = needless(place)) != NULL)
        TRY(drop_file(place, version, freed));
    place->reclaim_due = others;
out:
    return rc;
}

/* ---- Retention and maintenance ------------------------------------------------------------------ */

static varve_status apply_retention(struct vv_place *place)
{
    varve_commit_id *victims = NULL;
    size_t count = 0;
    varve_status rc = VARVE_OK;

    TRY(vv_plain_victims(&place->plain, place->retain, &victims, &count));
    if (count > 0)
        TRY(remove_commits(place, victims, count));
out:
    vv_free(victims);
    return rc;
}

varve_status vv_flat_tidy(struct vv_place *place, uint64_t budget, bool *more)
{
    uint64_t freed = 0;
    varve_status rc = VARVE_OK;

    (void)budget;
    *more = false;
    vv_flat_take_turn(place);
    if (vv_flat_writable(place) != VARVE_OK)
        goto out;
    TRY(apply_retention(place));
    TRY(vv_flat_reclaim(place, &freed));
    if (place->behind)
        TRY(vv_pointers_follow(place));
out:
    vv_flat_end_turn(place);
    return rc;
}

bool vv_flat_is_debris(const struct vv_place *place, const char *name)
{
    varve_module_id module;
    uint8_t key[64];

    if (vv_version_is_name(name, key)) {
        memcpy(module.bytes, key, sizeof module.bytes);
        return vv_version_named(place, &module, key + 32) == NULL;
    }
    return strcmp(name, "commits.tmp") == 0;
}

/* A backing file that shows a module of no commit, nor of a session that lives. */
static bool shows_nothing(struct vv_place *place, const char *name)
{
    varve_module_id module;
    size_t cursor = 0;
    const void *key = NULL;
    union vv_value *value = NULL;

    if (!vv_backing_is_name(name, &module) || vv_backings_show(&place->backings, &module))
        return false;
    while (vv_table_next(&place->versions, &cursor, &key, &value))
        if (memcmp(&((struct vv_version *)value->pointer)->module, &module, sizeof module) == 0)
            return false;
    return true;
}

static uint64_t bytes_of(const struct vv_dir *dir, const char *name)
{
    struct vv_file file = VV_FILE_NONE;
    uint64_t bytes = 0;

    if (vv_file_open(dir, name, VV_OPEN_READ, &file) == VARVE_OK)
        (void)vv_file_allocated(&file, &bytes);
    vv_file_close(&file);
    return bytes;
}

static varve_status drop_debris(struct vv_place *place, bool dry, uint64_t *freed)
{
    struct vv_names names;
    varve_status rc = VARVE_OK;

    TRY(vv_dir_names(place->dir, &names));
    for (size_t i = 0; rc == VARVE_OK && i < names.count; i++) {
        if (!vv_flat_is_debris(place, names.list[i]) && !shows_nothing(place, names.list[i]))
            continue;
        const uint64_t bytes = bytes_of(place->dir, names.list[i]);
        if (!dry)
            rc = vv_dir_unlink(place->dir, names.list[i]);
        if (rc == VARVE_OK)
            *freed += bytes;
    }
    vv_names_release(&names);
out:
    return rc;
}

/* Of versions that only removed commits have, and those that retention would remove. */
static varve_status estimate_versions(struct vv_place *place, uint64_t *freed)
{
    varve_commit_id *victims = NULL;
    size_t count = 0, cursor = 0;
    const void *key = NULL;
    union vv_value *value = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_plain_victims(&place->plain, place->retain, &victims, &count));
    vv_plain_lock(&place->plain);
    for (size_t i = 0; i < count; i++)
        vv_plain_commit_of(&place->plain, &victims[i])->removed = true;
    rc = mark(place, is_live);
    for (size_t i = 0; i < count; i++)
        vv_plain_commit_of(&place->plain, &victims[i])->removed = false;
    vv_plain_unlock(&place->plain);
    TRY(rc);
    while (vv_table_next(&place->versions, &cursor, &key, &value)) {
        const struct vv_version *version = value->pointer;
        if (!version->needed)
            *freed += version->file_bytes;
    }
out:
    vv_free(victims);
    return rc;
}

varve_status vv_flat_maintain(struct vv_place *place, uint32_t flags, varve_progress_fn progress, void *context,
                              uint64_t *freed)
{
    const bool dry = flags & VARVE_MAINTAIN_DRY_RUN;
    varve_status rc = VARVE_OK;

    (void)progress;
    (void)context;
    *freed = 0;
    vv_flat_take_turn(place);
    TRY(dry ? VARVE_OK : vv_flat_writable(place));
    if (dry) {
        TRY(estimate_versions(place, freed));
        if (vv_flat_compacts(place))
            *freed += vv_flat_node_garbage(place);
    } else {
        TRY(apply_retention(place));
        TRY(vv_flat_reclaim(place, freed));
        TRY(vv_flat_compact(place, freed));
    }
    TRY(drop_debris(place, dry, freed));
    if (!dry && place->behind)
        TRY(vv_pointers_follow(place));
out:
    vv_flat_end_turn(place);
    return rc;
}

/* ---- Telling ------------------------------------------------------------------------------------ */

void vv_flat_stat(struct vv_place *place, struct vv_layout_stat *stat)
{
    const struct vv_plain *plain = &place->plain;
    size_t cursor = 0;
    const void *key = NULL;
    union vv_value *value = NULL;

    vv_flat_take_turn(place);
    *stat = (struct vv_layout_stat){
        .commits = plain->live_count,
        .bytes_stored = place->commits_bytes + place->nodes->file.end,
        .commit_count = place->commit_count,
        .commit_ns_total = place->commit_ns,
        .sync_count = place->sync_count,
        .sync_ns_total = place->sync_ns,
        .poisoned = place->poisoned,
        .damaged = place->damaged,
    };
    for (size_t i = 0; i < plain->ref_count; i++) {
        const varve_commit_id at = vv_plain_stands(plain, plain->refs[i].name);
        stat->refs += !vv_id_is_zero(&at);
    }
    const bool marked = mark(place, is_live) == VARVE_OK;
    while (vv_table_next(&place->versions, &cursor, &key, &value)) {
        const struct vv_version *version = value->pointer;
        stat->bytes_stored += version->file_bytes;
        if (marked && !version->needed)
            stat->bytes_reclaimable += version->file_bytes;
    }
    if (vv_flat_compacts(place))
        stat->bytes_reclaimable += vv_flat_node_garbage(place);
    vv_flat_end_turn(place);
}

struct numbering {
    struct vv_place *place;
    uint64_t number;
};

static varve_status number_item(void *context, const struct vv_item *from, const struct vv_item *to)
{
    const struct numbering *numbering = context;
    varve_module_id module;

    (void)from;
    if (to == NULL)
        return VARVE_OK;
    memcpy(module.bytes, to->key, sizeof module.bytes);
    struct vv_version *version = vv_version_named(numbering->place, &module, to->hash);
    if (version->first == 0)
        version->first = numbering->number;
    return VARVE_OK;
}

varve_status vv_flat_number_versions(struct vv_place *place)
{
    struct numbering numbering = { .place = place };
    const struct vv_trie *before = NULL;
    size_t cursor = 0;
    const void *key = NULL;
    union vv_value *value = NULL;
    varve_status rc = VARVE_OK;

    while (vv_table_next(&place->versions, &cursor, &key, &value))
        ((struct vv_version *)value->pointer)->first = 0;
    for (size_t i = 0; i < place->plain.commit_count; i++) {
        struct vv_plain_commit *commit = place->plain.commits[i];
        if (commit->removed)
            continue;
        numbering.number = commit->facts.number;
        TRY(vv_trie_diff(before, &commit->state.trie, number_item, &numbering));
        before = &commit->state.trie;
    }
out:
    return rc;
}

static const struct vv_version *version_by_text(const struct vv_place *place, const char *text)
{
    varve_module_id module;
    uint8_t key[64];

    if (!vv_version_is_name(text, key))
        return NULL;
    memcpy(module.bytes, key, sizeof module.bytes);
    return vv_version_named(place, &module, key + 32);
}

/* In the notes' words. */
static const char *describe(void *context, const char *name, char words[VV_FILES_WORDS])
{
    const struct vv_place *place = context;
    const struct vv_version *version = version_by_text(place, name);
    char text[VV_FLAT_NAME];

    if (version != NULL && version->first == 0)
        return "module commit of a deleted commit";
    if (version != NULL) {
        (void)snprintf(words, VV_FILES_WORDS, "module commit of r%llu", (unsigned long long)version->first);
        return words;
    }
    if (vv_pointer_is_name(name, NULL)) {
        if (vv_dir_readlink(place->dir, name, text, sizeof text) == VARVE_OK)
            version = version_by_text(place, text);
        if (version == NULL || version->first == 0)
            return "points to no commit";
        (void)snprintf(words, VV_FILES_WORDS, "points to commit%llu", (unsigned long long)version->first);
        return words;
    }
    if (vv_backing_is_name(name, NULL))
        return "mmap backing file";
    if (strcmp(name, "commits") == 0)
        return "contains commits' store";
    return vv_flat_is_debris(place, name) ? "of no commit: gc removes it" : "not a file of the store";
}

varve_status vv_flat_files(struct vv_place *place, vv_file_facts_fn each, void *context)
{
    varve_status rc = VARVE_OK;

    vv_flat_take_turn(place);
    TRY(vv_flat_number_versions(place));
    TRY(vv_files_each(place->dir, "", describe, place, each, context));
out:
    vv_flat_end_turn(place);
    return rc;
}
