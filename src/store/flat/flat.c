/* flat.c - the layout flat (seeds 000 and 002): every module commit is a file of its own, whole, as it is mapped.
 *
 *   <mod>                live backing file: the memory as calls change it; a cache                       plain/backing.c
 *   <mod>_<modcommit>    a module's memory as a session commit left it: sparse, 0444, never changed     version.c
 *   <mod>_last           symbolic link; its text names the file that a fresh instance starts with       pointer.c
 *   commits              session commit -> module -> module commit, published by persist                ledger.c
 *   .varve/last          moves of refs since `commits` was published
 *   .varve/nodes.<n>     page trees of the files, so that none is read to know its hashes
 * Laws: (F1) All pointers `_last` belong to one session commit after a crash at any instant: that of `main` as `commits`
 *            and `.varve/last` have it. Pointers follow it when the store is opened.
 *       (F2) What `commits` names was synced before it is published; what it names is never written again.
 *       (F3) Commits are in memory until persist. After a restart there is what was persisted and nothing else; a
 *            file of no commit is told of when the store is opened, and goes with gc.
 *       (F4) Every file has a page tree of its own whose locators name that file, so any commit can go.
 * Moves: COMMIT   files written whole, pointers, history in memory      [commit.c]
 *        RESTORE  `.varve/last`, then pointers                          [commit.c, move_refs]
 *        GC       retention, files of no commit, saved nodes written anew [keep.c, compact.c]
 *        PERSIST  sync files, names, nodes; publish `commits`           [keep.c]
 *        OPEN     load, tell of debris, sync names, let pointers follow [vv_flat_open] */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/plant.h"
#include "store/codepool.h"
#include "store/flat/place.h"

enum { TOLD = 16 }; /* so many files of no commit are told of one by one */

/* ---- What all files share ----------------------------------------------------------------------- */

varve_status vv_flat_writable(const struct vv_place *place)
{
    if (place->read_only)
        return vv_fail(VARVE_MISUSE, "the store was opened read-only");
    if (place->poisoned)
        return vv_fail(VARVE_UNCERTAIN, "a sync failed before: close the store and open it again");
    if (place->damaged)
        return vv_fail(VARVE_CORRUPT, "the store is damaged: it can be read; `varve clone --salvage` what still opens");
    return VARVE_OK;
}

varve_status vv_flat_poison_if(struct vv_place *place, varve_status rc)
{
    if (rc == VARVE_UNCERTAIN)
        place->poisoned = true;
    return rc;
}

void vv_flat_tell(const struct vv_place *place, varve_severity severity, const char *file, const char *text)
{
    const varve_finding finding = { .severity = severity, .file = file, .text = text };

    if (place->finding != NULL)
        place->finding(place->context, &finding);
}

const struct vv_state *vv_flat_main(const struct vv_place *place)
{
    const varve_commit_id at = vv_plain_stands(&place->plain, "main");
    const struct vv_plain_commit *commit = vv_plain_commit_of(&place->plain, &at);

    return commit == NULL || commit->removed || !commit->has_state ? NULL : &commit->state;
}

void vv_flat_nodes_name(uint64_t number, char name[32])
{
    (void)snprintf(name, 32, "nodes.%llu", (unsigned long long)number);
}

static void nodes_free(struct vv_flat_nodes *nodes)
{
    vv_nodefile_close(&nodes->file);
    vv_free(nodes);
}

void vv_flat_close_nodes(struct vv_place *place)
{
    vv_plain_lock(&place->plain);
    const uint64_t oldest = vv_plain_oldest_hold(&place->plain);
    for (struct vv_flat_nodes **at = &place->nodes->next; *at != NULL;) {
        struct vv_flat_nodes *nodes = *at;
        if (nodes->lent > 0 || oldest < nodes->retired_in) {
            at = &nodes->next;
            continue;
        }
        *at = nodes->next;
        nodes_free(nodes);
    }
    vv_plain_unlock(&place->plain);
}

/* ---- Create ------------------------------------------------------------------------------------- */

static varve_status flat_create(const struct vv_dir *dir, const struct vv_layout_options *options)
{
    struct vv_place place = { .dir = dir, .own = VV_DIR_NONE };
    struct vv_nodefile nodes = { .file = VV_FILE_NONE };
    char name[32];
    varve_status rc = VARVE_OK;

    (void)options;
    vv_plain_init(&place.plain);
    vv_flat_nodes_name(1, name);
    TRY(vv_dir_open_at(dir, ".varve", &place.own));
    TRY(vv_dir_unlink(&place.own, name)); /* of a making that was cut short */
    TRY(vv_nodefile_create(&place.own, name, 0, UINT64_C(1) << VV_FLAT_NODE_BITS, &nodes));
    TRY(vv_nodefile_sync(&nodes));
    TRY(vv_flat_publish_last(&place, NULL, NULL, 0, 0)); /* syncs the names, too */
out:
    vv_nodefile_close(&nodes);
    vv_dir_close(&place.own);
    vv_plain_release(&place.plain);
    return rc;
}

/* ---- Open --------------------------------------------------------------------------------------- */

void vv_flat_close(struct vv_place *place)
{
    if (place == NULL)
        return;
    vv_backings_release(&place->backings);
    vv_plain_release(&place->plain);
    vv_versions_close(place);
    while (place->nodes != NULL) {
        struct vv_flat_nodes *nodes = place->nodes;
        place->nodes = nodes->next;
        nodes_free(nodes);
    }
    vv_dir_close(&place->own);
    (void)pthread_mutex_destroy(&place->writer);
    vv_free(place);
}

static varve_status place_new(const struct vv_dir *dir, const struct vv_layout_options *options,
                              struct vv_place **out)
{
    struct vv_place *place = NULL;
    const varve_status rc = vv_alloc(&place, 1, sizeof *place);

    if (rc != VARVE_OK)
        return rc;
    vv_plain_init(&place->plain);
    VV_ASSERT(pthread_mutex_init(&place->writer, NULL) == 0);
    vv_table_init(&place->versions, sizeof(uint64_t));
    vv_table_init(&place->by_name, 64);
    vv_backings_init(&place->backings, dir, place, vv_flat_read);
    place->dir = dir;
    place->own = VV_DIR_NONE;
    place->vfs = options->vfs;
    place->read_only = options->read_only;
    place->retain = options->retain;
    place->finding = options->finding;
    place->context = options->context;
    *out = place;
    return VARVE_OK;
}

/* What the directory has and what it lacks. */
struct census {
    struct vv_place *place;
    uint64_t debris, seen;
    varve_status rc;
};

static int count_name(void *context, const char *name)
{
    struct census *census = context;
    uint8_t key[64];

    if (!vv_version_is_name(name, key))
        return 0;
    if (!vv_flat_is_debris(census->place, name)) {
        varve_module_id module;
        memcpy(module.bytes, key, sizeof module.bytes);
        vv_version_named(census->place, &module, key + 32)->needed = true;
        return 0;
    }
    if (++census->debris <= TOLD)
        vv_flat_tell(census->place, VARVE_NOTE, name,
                     "a module commit of a session commit that was never persisted: gc removes it");
    return 0;
}

static void tell_missing(struct vv_place *place, struct vv_version *version)
{
    const struct vv_plain_commit *commit = vv_plain_numbered(&place->plain, version->first);
    char name[VV_FLAT_NAME];
    const varve_finding finding = { .severity = VARVE_DAMAGE,
                                    .file = name,
                                    .commit = commit == NULL || commit->removed ? NULL : &commit->facts.id,
                                    .module = &version->module,
                                    .text = "the file is missing: commits that have this memory cannot be read" };

    vv_version_name(version, name);
    place->damaged = version->missing = true;
    if (place->finding != NULL)
        place->finding(place->context, &finding);
}

static varve_status take_census(struct vv_place *place)
{
    struct census census = { .place = place };
    char text[96];
    size_t cursor = 0;
    const void *key = NULL;
    union vv_value *value = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_dir_each(place->dir, count_name, &census));
    if (census.debris > TOLD) {
        (void)snprintf(text, sizeof text, "and %llu more such files",
                       (unsigned long long)(census.debris - TOLD));
        vv_flat_tell(place, VARVE_NOTE, NULL, text);
    }
    while (vv_table_next(&place->versions, &cursor, &key, &value)) {
        struct vv_version *version = value->pointer;
        if (!version->needed)
            tell_missing(place, version);
        version->needed = false;
    }
out:
    return rc;
}

static int drop_own(void *context, const char *name)
{
    const struct vv_place *place = context;
    char current[32];

    vv_flat_nodes_name(place->nodes->number, current);
    if (strcmp(name, "last.tmp") == 0 || (strncmp(name, "nodes.", 6) == 0 && strcmp(name, current) != 0))
        (void)vv_dir_unlink(&place->own, name);
    return 0;
}

/* What was found may be of one who was killed between a rename and its sync, and then nothing but the page cache knows
 * it: what is promised now, moved on from it, or taken away because of it, must not be on the disk without it. */
static varve_status settle(struct vv_place *place)
{
    varve_status rc = VARVE_OK;

    if (VV_PLANT("flat-settle-skipped"))
        return VARVE_OK;
    TRY(vv_dir_sync(place->dir));
    TRY(vv_dir_sync(&place->own));
out:
    return rc;
}

varve_status vv_flat_open(const struct vv_dir *dir, const struct vv_layout_options *options, struct vv_place **out)
{
    struct vv_place *place = NULL;
    varve_status last = VARVE_OK;
    varve_status rc = VARVE_OK;

    TRY(place_new(dir, options, &place));
    TRY(vv_dir_open_at(dir, ".varve", &place->own));
    TRY(vv_flat_load(place, &last));
    if (last != VARVE_OK) {
        place->damaged = true;
        vv_flat_tell(place, VARVE_DAMAGE, ".varve/last", vv_words());
    }
    TRY(take_census(place));
    if (!place->read_only && !place->damaged) {
        TRY(settle(place));
        TRY(vv_dir_each(&place->own, drop_own, place));
        TRY(vv_pointers_follow(place));
    }
    *out = place;
    place = NULL;
out:
    vv_flat_close(place);
    return rc;
}

/* ---- Entries ------------------------------------------------------------------------------------ */

static varve_status flat_code_put(struct vv_place *place, const uint8_t hash[32], const void *code, size_t size)
{
    varve_status rc = vv_flat_writable(place);

    if (rc == VARVE_OK)
        rc = vv_flat_poison_if(place, vv_codepool_put(place->dir, hash, code, size));
    return rc;
}

static varve_status flat_code_get(struct vv_place *place, const uint8_t hash[32], uint8_t **code, size_t *size)
{
    return vv_codepool_get(place->dir, hash, code, size);
}

static varve_status flat_live(struct vv_place *place, const varve_module_id *module,
                              const struct vv_pagetree *tree, const uint8_t *bytes)
{
    return place->read_only ? VARVE_OK : vv_backings_live(&place->backings, module, tree, bytes);
}

static void flat_configure(struct vv_place *place, uint64_t retain, uint64_t snapshot_bytes)
{
    (void)snapshot_bytes;
    vv_flat_take_turn(place);
    place->retain = retain;
    vv_flat_end_turn(place);
}

static void flat_settle(struct vv_place *place)
{
    bool more = false;

    (void)vv_flat_tidy(place, UINT64_MAX, &more);
}

const struct vv_layout vv_layout_flat = {
    .id = VARVE_LAYOUT_FLAT,
    .name = "flat",
    .can = VV_CAN_DELETE,
    .create = flat_create,
    .open = vv_flat_open,
    .close = vv_flat_close,
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
    .read = vv_flat_read,
    .source = vv_flat_source,
    .source_end = vv_flat_source_end,
    .source_version = vv_flat_source_version,
    .source_rotten = vv_flat_source_rotten,
    .source_sound = vv_flat_source_sound,
    .read_diff = vv_flat_read_diff,
    .live = flat_live,
    .snapshot = vv_plain_snapshot,
    .wants_frozen = vv_plain_wants_frozen,
    .freeze = vv_plain_freeze,
    .code_put = flat_code_put,
    .code_get = flat_code_get,
    .ref_get = vv_plain_ref_get,
    .ref_next = vv_plain_ref_next,
    .ref_move = vv_plain_ref_move,
    .move_refs = vv_flat_move_refs,
    .remove = vv_flat_remove,
    .bury = vv_plain_bury,
    .prepare = vv_flat_prepare,
    .publish = vv_flat_publish,
    .discard = vv_flat_discard,
    .persist = vv_flat_persist,
    .configure = flat_configure,
    .maintain = vv_flat_maintain,
    .tidy = vv_flat_tidy,
    .settle = flat_settle,
    .stat = vv_flat_stat,
    .files = vv_flat_files,
    .check = vv_flat_check,
};
