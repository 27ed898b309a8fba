/* tree.c - the layout tree: a directory for each state, complete in itself; the rest of it is hard links.
 *
 *   <ROOT>/index            every module and named value of the state                       (listing.h)
 *   <ROOT>/memory/<mod>       its base image: sparse, mapped as it lies; a hard link unless new
 *   <ROOT>/memory/<mod>.diff  the pages that differ from it; a hard link unless changed     (overlay.h)
 *   <ROOT>/tree/<mod>         the page hashes of the base image; a hard link unless new     (nodefile.h)
 *   <ROOT>/bytecode/<mod>     a hard link to .varve/code/<hash>
 *   .varve/history            what was committed, moved and removed: which directories count (ledger.h)
 *   .tmp-<n> .trash-<n>       a directory in the making; one that is being deleted
 * `tree` is one folder more than the note has: with it a page is checked when it is read, and the next root costs what
 * changed, not what there is.
 * Law of a crash: a commit is durable when `commit` returns; a crash leaves whole directories and, at most, debris, which
 * is named, and removed when the store is opened to write.
 *       (T3) A directory is built under a temporary name; its bytes and its names are synced, it gets its name by one
 *            rename, and that is synced, before the record that makes it a commit is written.
 *       (T4) No file of a directory that has its name is ever written to. A directory goes by a rename, when no hold is
 *            older than its last commit's removal, and is unlinked under that other name.
 * Moves:  OPEN     read the history, remove debris                             [vv_tree_open, remove.c]
 *         COMMIT   build, sync, rename, sync, record, sync                     [build.c, publish.c]
 *         READ     index -> module -> base image's tree and diff -> page       [read.c, shelf.c]
 *         REMOVE   record, sync; rename, sync; unlink                          [remove.c] */
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "store/codepool.h"
#include "store/tree/place.h"

/* ---- What all files use ------------------------------------------------------------------------- */

void vv_tree_find(struct vv_place *place, varve_severity severity, const char *file,
                  const varve_commit_id *commit, const char *text)
{
    const varve_finding finding = { .severity = severity, .file = file, .commit = commit, .text = text };

    if (place->options.finding != NULL)
        place->options.finding(place->options.context, &finding);
}

varve_status vv_tree_writable(struct vv_place *place)
{
    if (place->options.read_only)
        return vv_fail(VARVE_MISUSE, "the store is open for reading only");
    if (place->damaged)
        return vv_fail(VARVE_CORRUPT,
                       "the history of the store is damaged, so nothing is written to it; `varve clone --salvage` "
                       "takes what still opens into a new store");
    if (place->poisoned)
        return vv_fail(VARVE_UNCERTAIN,
                       "a sync failed before, so nothing more is written; close the store and open it again");
    return VARVE_OK;
}

varve_status vv_tree_poison_if(struct vv_place *place, varve_status rc)
{
    if (rc == VARVE_UNCERTAIN)
        place->poisoned = true;
    return rc;
}

static void count_sync(struct vv_place *place, uint64_t begin)
{
    place->sync_count++;
    place->sync_ns += vv_clock_monotonic_ns() - begin;
}

varve_status vv_tree_sync_file(struct vv_place *place, struct vv_file *file)
{
    const uint64_t begin = vv_clock_monotonic_ns();
    const varve_status rc = vv_tree_poison_if(place, vv_file_sync_new(file));

    count_sync(place, begin);
    return rc;
}

varve_status vv_tree_sync_dir(struct vv_place *place, const struct vv_dir *dir)
{
    const uint64_t begin = vv_clock_monotonic_ns();
    const varve_status rc = vv_tree_poison_if(place, vv_dir_sync(dir));

    count_sync(place, begin);
    return rc;
}

/* ---- Opening ------------------------------------------------------------------------------------ */

static varve_status take_record(void *context, uint32_t kind, struct vv_reader payload)
{
    struct vv_place *place = context;

    return vv_plain_apply(&place->plain, kind, payload, NULL);
}

static void take_damage(void *context, uint64_t at, const char *words)
{
    struct vv_place *place = context;
    char text[400];

    place->damaged = true;
    (void)snprintf(text, sizeof text, "damage at byte %llu: %s; the store is open for reading only",
                   (unsigned long long)at, words);
    vv_tree_find(place, VARVE_DAMAGE, ".varve/history", NULL, text);
}

static void take_debris(void *context, uint64_t at)
{
    struct vv_place *place = context;
    char text[160];

    (void)snprintf(text, sizeof text,
                   "what follows byte %llu is of an append that ended unfinished and was never acknowledged",
                   (unsigned long long)at);
    vv_tree_find(place, VARVE_NOTE, ".varve/history", NULL, text);
}

/* A directory for each root that a commit names. */
static varve_status know_directories(struct vv_place *place)
{
    varve_status rc = VARVE_OK;

    vv_shelf_lock(&place->shelf);
    for (size_t i = 0; i < place->plain.commit_count; i++) {
        const struct vv_plain_commit *commit = place->plain.commits[i];
        if (commit->removed)
            continue;
        struct vv_folder *folder = vv_shelf_folder(&place->shelf, &commit->facts.root);
        if (folder == NULL)
            TRY(vv_shelf_add(&place->shelf, &commit->facts.root, &folder));
        folder->commits++;
    }
out:
    vv_shelf_unlock(&place->shelf);
    return rc;
}

static varve_status load(struct vv_place *place)
{
    const struct vv_ledger_reading reading = {
        .record = take_record, .damage = take_damage, .debris = take_debris, .context = place
    };
    const bool write = !place->options.read_only;
    varve_status rc = VARVE_OK;

    TRY(vv_tree_poison_if(place, vv_ledger_open(&place->own, write, &reading, &place->ledger)));
    TRY(know_directories(place));
    /* A record that was found may be as new as a crash ago; then so is the name of its directory. */
    if (write && !place->damaged && place->ledger.end != place->ledger.acknowledged)
        TRY(vv_tree_sync_dir(place, &place->dir));
    TRY(vv_tree_sweep(place));
out:
    return rc;
}

varve_status vv_tree_open(const struct vv_dir *dir, const struct vv_layout_options *options,
                          struct vv_place **out)
{
    struct vv_place *place = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_alloc(&place, 1, sizeof *place));
    const struct vv_module_source modules = { .load = vv_tree_load_module, .context = place };
    vv_plain_init(&place->plain);
    VV_ASSERT(pthread_mutex_init(&place->writer, NULL) == 0);
    vv_table_init(&place->rotten, sizeof(varve_module_id));
    place->dir = *dir;
    place->own = VV_DIR_NONE;
    place->options = *options;
    place->retain = options->retain;
    place->ledger.file = VV_FILE_NONE;
    vv_shelf_init(&place->shelf, &place->dir, &modules);
    TRY(vv_dir_open_at(dir, ".varve", &place->own));
    TRY(load(place));
    *out = place;
    place = NULL;
out:
    if (place != NULL) {
        place->options.read_only = true; /* what did not open has nothing to say at its close */
        vv_tree_close(place);
    }
    return rc;
}

void vv_tree_close(struct vv_place *place)
{
    if (place == NULL)
        return;
    vv_tree_settle(place); /* nobody looks any more */
    if (vv_tree_writable(place) == VARVE_OK && place->ledger.file.fd != -1)
        (void)vv_ledger_acknowledge(&place->own, &place->ledger); /* a hint */
    vv_ledger_close(&place->ledger);
    vv_shelf_release(&place->shelf);
    vv_table_release(&place->rotten);
    vv_plain_release(&place->plain);
    (void)pthread_mutex_destroy(&place->writer);
    vv_dir_close(&place->own);
    vv_free(place);
}

/* ---- Entries of the table ----------------------------------------------------------------------- */

static varve_status tree_create(const struct vv_dir *dir, const struct vv_layout_options *options)
{
    struct vv_dir own = VV_DIR_NONE;
    varve_status rc = VARVE_OK;

    (void)options;
    TRY(vv_dir_open_at(dir, ".varve", &own));
    TRY(vv_ledger_create(&own));
out:
    vv_dir_close(&own);
    return rc;
}

static varve_status tree_code_put(struct vv_place *place, const uint8_t hash[32], const void *code,
                                  size_t size)
{
    varve_status rc = VARVE_OK;

    TRY(vv_tree_writable(place));
    TRY(vv_tree_poison_if(place, vv_codepool_put(&place->dir, hash, code, size)));
out:
    return rc;
}

static varve_status tree_code_get(struct vv_place *place, const uint8_t hash[32], uint8_t **code,
                                  size_t *size)
{
    return vv_codepool_get(&place->dir, hash, code, size);
}

/* Every commit is durable already. */
static varve_status tree_persist(struct vv_place *place)
{
    return vv_tree_writable(place);
}

static void tree_configure(struct vv_place *place, uint64_t retain, uint64_t snapshot_bytes)
{
    (void)snapshot_bytes;
    vv_plain_lock(&place->plain);
    place->retain = retain;
    vv_plain_unlock(&place->plain);
}

const struct vv_layout vv_layout_tree = {
    .id = VARVE_LAYOUT_TREE,
    .name = "tree",
    .can = VV_CAN_SESSIONS | VV_CAN_BRANCH | VV_CAN_DELETE | VV_CAN_DURABLE,
    .create = tree_create,
    .open = vv_tree_open,
    .close = vv_tree_close,
    .hold = vv_plain_hold,
    .drop = vv_plain_drop,
    .find_id = vv_plain_find_id,
    .find_root = vv_plain_find_root,
    .find_number = vv_plain_find_number,
    .facts = vv_plain_facts,
    .ancestor = vv_plain_ancestor,
    .last_number = vv_plain_last_number,
    .view = vv_tree_view,
    .changed = vv_plain_changed,
    .read = vv_tree_read,
    .source = vv_tree_source,
    .source_end = vv_tree_source_end,
    .source_version = vv_tree_source_version,
    .source_rotten = vv_tree_source_rotten,
    .source_sound = vv_tree_source_sound,
    .read_diff = vv_tree_read_diff,
    .snapshot = vv_plain_snapshot,
    .wants_frozen = vv_plain_wants_frozen,
    .freeze = vv_plain_freeze,
    .code_put = tree_code_put,
    .code_get = tree_code_get,
    .ref_get = vv_plain_ref_get,
    .ref_next = vv_plain_ref_next,
    .ref_move = vv_plain_ref_move,
    .move_refs = vv_tree_move_refs,
    .remove = vv_tree_remove,
    .bury = vv_tree_bury,
    .prepare = vv_tree_prepare,
    .publish = vv_tree_publish,
    .discard = vv_tree_discard,
    .persist = tree_persist,
    .configure = tree_configure,
    .maintain = vv_tree_maintain,
    .tidy = vv_tree_tidy,
    .settle = vv_tree_settle,
    .stat = vv_tree_stat,
    .files = vv_tree_files,
    .check = vv_tree_check,
};
