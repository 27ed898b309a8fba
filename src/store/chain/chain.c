/* chain.c - the layout chain (seed 001): its entries, opening and closing. The map and the laws are in place.h.
 *
 * Moves:  OPEN   read `commits`; look at every name; tell what is missing and what is left over; a writer syncs the
 *                names that it found, makes the newest images right that no stamp vouches for, and gives deltas the names
 *                that they should have
 *         CLOSE  newest images synced and stamped, so that the next opening need not look at them */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/plant.h"
#include "store/chain/place.h"
#include "store/codepool.h"

enum { TELL_MOST = 100 }; /* leftovers told one by one */

/* ---- Telling ------------------------------------------------------------------------------------ */

void vv_chain_find(const struct vv_place *place, varve_severity severity, const char *file,
                   const varve_commit_id *commit, const varve_module_id *module, const char *text)
{
    const varve_finding finding = {
        .severity = severity, .file = file, .commit = commit, .module = module, .text = text
    };

    if (place->options.finding != NULL)
        place->options.finding(place->options.context, &finding);
}

/* ---- A place ------------------------------------------------------------------------------------ */

varve_status vv_chain_init(const struct vv_dir *dir, const struct vv_layout_options *options,
                           struct vv_place **out)
{
    struct vv_place *place = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_alloc(&place, 1, sizeof *place));
    vv_plain_init(&place->plain);
    place->dir = *dir;
    place->own = VV_DIR_NONE;
    place->options = *options;
    place->nodes.file = VV_FILE_NONE;
    place->trim_due = true;
    VV_ASSERT(pthread_mutex_init(&place->writing, NULL) == 0);
    VV_ASSERT(pthread_mutex_init(&place->holding, NULL) == 0);
    VV_ASSERT(pthread_rwlock_init(&place->shape, NULL) == 0);
    vv_table_init(&place->by_id, sizeof(varve_module_id));
    vv_backings_init(&place->backings, &place->dir, place, vv_chain_read);
    *out = place;
out:
    return rc;
}

static void place_free(struct vv_place *place)
{
    vv_backings_release(&place->backings);
    vv_plain_release(&place->plain); /* states first: their modules' nodes may lie in the file */
    for (size_t i = 0; i < place->line_count; i++)
        vv_chain_line_free(place->lines[i]);
    vv_free(place->lines);
    vv_free(place->serials);
    vv_table_release(&place->by_id);
    vv_nodefile_close(&place->nodes);
    vv_dir_close(&place->own);
    (void)pthread_mutex_destroy(&place->writing);
    (void)pthread_mutex_destroy(&place->holding);
    (void)pthread_rwlock_destroy(&place->shape);
    vv_free(place);
}

void vv_chain_close(struct vv_place *place)
{
    if (place == NULL)
        return;
    VV_ASSERT(place->held == NULL);
    if (!place->options.read_only && !place->poisoned && !place->damaged)
        vv_chain_store_stamps(place);
    place_free(place);
}

static varve_status chain_create(const struct vv_dir *dir, const struct vv_layout_options *options)
{
    struct vv_nodefile nodes = { .file = VV_FILE_NONE };
    struct vv_dir own = VV_DIR_NONE;
    varve_status rc = VARVE_OK;

    (void)options;
    TRY(vv_dir_open_at(dir, ".varve", &own));
    rc = vv_nodefile_create(&own, "nodes", 0, 0, &nodes);
    if (rc == VARVE_EXISTS) { /* of a making that was cut short */
        TRY(vv_dir_unlink(&own, "nodes"));
        rc = vv_nodefile_create(&own, "nodes", 0, 0, &nodes);
    }
    TRY(rc);
    TRY(vv_nodefile_sync(&nodes));
    TRY(vv_dir_sync(&own));
out:
    vv_nodefile_close(&nodes);
    vv_dir_close(&own);
    return rc;
}

/* ---- Opening ------------------------------------------------------------------------------------ */

/* What a session commit that was never persisted left. */
struct leftover {
    varve_commit_id commit;
    unsigned files;
};
struct looking {
    struct vv_place *place;
    struct leftover *leftovers;
    size_t count;
    unsigned told;
};

static varve_status add_leftover(struct looking *looking, const varve_commit_id *commit)
{
    varve_status rc = VARVE_OK;

    for (size_t i = looking->count; i-- > 0;) {
        if (!vv_id_equal(&looking->leftovers[i].commit, commit))
            continue;
        looking->leftovers[i].files++;
        return VARVE_OK;
    }
    TRY(vv_resize(&looking->leftovers, looking->count + 1, sizeof *looking->leftovers));
    looking->leftovers[looking->count++] = (struct leftover){ .commit = *commit, .files = 1 };
out:
    return rc;
}

/* A delta says which commit wrote it; a full image does not. */
static varve_status look_at_debris(struct looking *looking, const char *name)
{
    struct vv_deltafile delta = VV_DELTAFILE_NONE;
    struct vv_file file = VV_FILE_NONE;
    struct vv_chain_name parsed;
    varve_commit_id commit;
    varve_status rc = VARVE_OK;

    if (vv_chain_parse_name(name, &parsed) && parsed.delta && looking->count < TELL_MOST &&
        vv_file_open(&looking->place->dir, name, VV_OPEN_READ, &file) == VARVE_OK &&
        vv_deltafile_read(&file, &delta) == VARVE_OK) {
        memcpy(commit.bytes, delta.facts.commit, sizeof commit.bytes);
        rc = add_leftover(looking, &commit);
    } else if (looking->told++ < TELL_MOST) {
        vv_chain_find(
            looking->place, VARVE_NOTE, name, NULL, NULL,
            "left over by what was never persisted, or by a deletion that was cut short: `varve gc` "
            "removes it");
    }
    vv_deltafile_release(&delta);
    vv_file_close(&file);
    return rc;
}

static varve_status look_at(void *context, const struct vv_chain_file *file)
{
    struct looking *looking = context;

    if (file->version != NULL &&
        (file->kind == VV_CHAIN_DELTA || vv_chain_is_first(file->line, file->version)))
        file->version->seen = true;
    return file->kind == VV_CHAIN_DEBRIS ? look_at_debris(looking, file->name) : VARVE_OK;
}

static void tell_leftovers(const struct looking *looking)
{
    for (size_t i = 0; i < looking->count; i++) {
        const struct leftover *leftover = &looking->leftovers[i];
        const struct vv_plain_commit *known = vv_plain_commit_of(&looking->place->plain, &leftover->commit);
        char text[160];
        (void)snprintf(text, sizeof text, "%s: %u file%s left of it: `varve gc` removes %s",
                       known != NULL ? "it needs no delta of a module any more" : "it was never persisted",
                       leftover->files, leftover->files == 1 ? " is" : "s are",
                       leftover->files == 1 ? "it" : "them");
        vv_chain_find(looking->place, VARVE_NOTE, NULL, &leftover->commit, NULL, text);
    }
}

static void tell_missing(struct vv_place *place)
{
    char name[VV_CHAIN_NAME];

    for (size_t i = 0; i < place->line_count; i++) {
        const struct vv_line *line = place->lines[i];
        for (size_t k = 0; k < line->count; k++) {
            const struct vv_version *version = line->versions[k];
            if (version->seen)
                continue;
            if (k == 0)
                vv_chain_image_name(line, version, name);
            else
                vv_chain_delta_name(line, version, version == vv_chain_newest(line), name);
            place->damaged = true;
            vv_chain_find(place, VARVE_DAMAGE, name, NULL, &line->id,
                          "the file is missing, and with it versions of this module");
        }
    }
}

static varve_status look_around(struct vv_place *place)
{
    struct looking looking = { .place = place };
    varve_status rc = VARVE_OK;

    TRY(vv_chain_each_file(place, look_at, &looking));
    tell_leftovers(&looking);
    tell_missing(place);
out:
    vv_free(looking.leftovers);
    return rc;
}

/* A crash may have left a delta with the name that it was about to lose, or had got too early. */
static void settle_names(struct vv_place *place)
{
    for (size_t i = 0; i < place->line_count; i++) {
        const struct vv_line *line = place->lines[i];
        for (size_t k = line->count > 2 ? line->count - 2 : 1; k < line->count; k++) {
            const bool newest = k + 1 == line->count;
            char from[VV_CHAIN_NAME], to[VV_CHAIN_NAME];
            struct vv_file file = VV_FILE_NONE;
            vv_chain_delta_name(line, line->versions[k], newest, to);
            vv_chain_delta_name(line, line->versions[k], !newest, from);
            if (vv_file_open(&place->dir, to, VV_OPEN_READ, &file) == VARVE_NOT_FOUND)
                (void)vv_dir_rename(&place->dir, from, to);
            vv_file_close(&file);
        }
    }
}

/* Newest images that no stamp vouches for. They are caches: the store opens without them, too. */
static varve_status settle_images(struct vv_place *place)
{
    varve_status rc = VARVE_OK;

    for (size_t i = 0; i < place->line_count; i++) {
        struct vv_line *line = place->lines[i];
        if (line->count < 2 || line->image == vv_chain_newest(line)->serial)
            continue;
        rc = vv_chain_rebuild(place, line);
        if (rc == VARVE_UNCERTAIN || rc == VARVE_MEMORY)
            break;
        rc = VARVE_OK;
    }
    return rc;
}

/* What was found may be of one who was killed between a rename and its sync, and then nothing but the page cache knows
 * it: what is promised now, and what goes now because `commits` does not need it, must not be on the disk without it. */
static varve_status settle(struct vv_place *place)
{
    varve_status rc = VARVE_OK;

    if (VV_PLANT("chain-settle-skipped"))
        return VARVE_OK;
    TRY(vv_dir_sync(&place->dir));
    TRY(vv_dir_sync(&place->own));
out:
    return rc;
}

varve_status vv_chain_open(const struct vv_dir *dir, const struct vv_layout_options *options,
                           struct vv_place **out)
{
    struct vv_place *place = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_chain_init(dir, options, &place));
    TRY(vv_dir_open_at(&place->dir, ".varve", &place->own));
    TRY(vv_chain_load(place));
    TRY(vv_chain_load_stamps(place));
    TRY(look_around(place));
    if (!options->read_only && !place->damaged) {
        TRY(settle(place));
        settle_names(place);
        TRY(settle_images(place));
    }
    *out = place;
    place = NULL;
out:
    if (place != NULL)
        place_free(place);
    return rc;
}

/* ---- The rest of the contract ------------------------------------------------------------------- */

static uint64_t chain_source_version(struct vv_place *place)
{
    return place->source_version;
}

static uint64_t chain_source_sound(struct vv_place *place)
{
    return place->source_sound;
}

static varve_status chain_live(struct vv_place *place, const varve_module_id *module,
                               const struct vv_pagetree *tree, const uint8_t *bytes)
{
    return place->options.read_only ? VARVE_OK : vv_backings_live(&place->backings, module, tree, bytes);
}

static varve_status chain_code_put(struct vv_place *place, const uint8_t hash[32], const void *code,
                                   size_t size)
{
    varve_status rc = VARVE_OK;

    VV_ASSERT(pthread_mutex_lock(&place->writing) == 0);
    rc = vv_chain_writable(place);
    if (rc == VARVE_OK)
        rc = vv_chain_poison_if(place, vv_codepool_put(&place->dir, hash, code, size));
    VV_ASSERT(pthread_mutex_unlock(&place->writing) == 0);
    return rc;
}

static varve_status chain_code_get(struct vv_place *place, const uint8_t hash[32], uint8_t **code,
                                   size_t *size)
{
    return vv_codepool_get(&place->dir, hash, code, size);
}

/* Images are brought up to date by every commit; those that could not be are made now. */
static varve_status chain_snapshot(struct vv_place *place, bool fork)
{
    bool more = true;
    varve_status rc = VARVE_OK;

    (void)fork;
    while (more && rc == VARVE_OK)
        rc = vv_chain_tidy(place, UINT64_MAX, &more);
    return rc;
}

static void chain_settle(struct vv_place *place)
{
    (void)place; /* what is not persisted is not to last; stamps are written when the place is closed */
}

struct measuring {
    struct vv_place *place;
    uint64_t stored, debris;
};

static varve_status measure(void *context, const struct vv_chain_file *file)
{
    struct measuring *measuring = context;
    struct vv_file open = VV_FILE_NONE;
    uint64_t bytes = 0;

    if (file->kind != VV_CHAIN_OTHER &&
        vv_file_open(&measuring->place->dir, file->name, VV_OPEN_READ, &open) == VARVE_OK &&
        vv_file_allocated(&open, &bytes) == VARVE_OK) {
        measuring->stored += bytes;
        measuring->debris += file->kind == VV_CHAIN_DEBRIS ? bytes : 0;
    }
    vv_file_close(&open);
    return VARVE_OK;
}

static void chain_stat(struct vv_place *place, struct vv_layout_stat *stat)
{
    struct measuring measuring = { .place = place };
    uint64_t refs = 0;

    VV_ASSERT(pthread_mutex_lock(&place->writing) == 0);
    (void)vv_chain_each_file(place, measure, &measuring);
    vv_plain_lock(&place->plain);
    for (size_t i = 0; i < place->plain.ref_count; i++) {
        const varve_commit_id at = vv_plain_stands(&place->plain, place->plain.refs[i].name);
        refs += !vv_id_is_zero(&at);
    }
    *stat = (struct vv_layout_stat){
        .commits = place->plain.live_count,
        .refs = refs,
        .bytes_stored = measuring.stored,
        .bytes_reclaimable = measuring.debris,
        .commit_count = place->commit_count,
        .commit_ns_total = place->commit_ns,
        .sync_count = place->sync_count,
        .sync_ns_total = place->sync_ns,
        .poisoned = place->poisoned,
        .damaged = place->damaged,
    };
    vv_plain_unlock(&place->plain);
    VV_ASSERT(pthread_mutex_unlock(&place->writing) == 0);
}

const struct vv_layout vv_layout_chain = {
    .id = VARVE_LAYOUT_CHAIN,
    .name = "chain",
    .can = 0,
    .create = chain_create,
    .open = vv_chain_open,
    .close = vv_chain_close,
    .hold = vv_plain_hold,
    .drop = vv_plain_drop,
    .find_id = vv_plain_find_id,
    .find_root = vv_plain_find_root,
    .find_number = vv_plain_find_number,
    .facts = vv_plain_facts,
    .last_number = vv_plain_last_number,
    .ancestor = vv_plain_ancestor,
    .view = vv_plain_view,
    .changed = vv_plain_changed,
    .read = vv_chain_read,
    .source = vv_chain_source,
    .source_end = vv_chain_source_end,
    .source_version = chain_source_version,
    .source_rotten = vv_chain_source_rotten,
    .source_sound = chain_source_sound,
    .read_diff = vv_chain_read_diff,
    .live = chain_live,
    .snapshot = chain_snapshot,
    .wants_frozen = vv_plain_wants_frozen,
    .freeze = vv_plain_freeze,
    .code_put = chain_code_put,
    .code_get = chain_code_get,
    .ref_get = vv_plain_ref_get,
    .ref_next = vv_plain_ref_next,
    .ref_move = vv_plain_ref_move,
    .move_refs = vv_chain_move_refs,
    .remove = vv_chain_remove,
    .bury = vv_plain_bury,
    .prepare = vv_chain_prepare,
    .publish = vv_chain_publish,
    .discard = vv_chain_discard,
    .persist = vv_chain_persist,
    .configure = vv_chain_configure,
    .maintain = vv_chain_maintain,
    .tidy = vv_chain_tidy,
    .settle = chain_settle,
    .stat = chain_stat,
    .files = vv_chain_files,
    .check = vv_chain_check,
};
