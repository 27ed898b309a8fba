/* remove.c - taking commits out of the history, and their directories off the disk.
 *
 *   removed   a record says so; the directory of a root that no commit has any more is doomed
 *   trashed   no hold is older: it is renamed to .trash-..., the store's directory is synced; nobody finds it any more
 *   gone      its files are unlinked, and it is removed
 * Deleting in place would leave, for a while, a directory that looks like a commit's and is half of one: another commit
 * of the same root would take it for its own. What a crash leaves of a deletion, or of a commit that was never made,
 * goes when the store is opened to write: there is nobody beside it then. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/plant.h"
#include "store/codepool.h"
#include "store/tree/place.h"

enum { BATCH = 1024, DEPTH = 2 /* directories below a commit's, itself counted */ };

void vv_tree_name(struct vv_place *place, const char *prefix, char name[VV_TREE_NAME])
{
    (void)snprintf(name, VV_TREE_NAME, "%s%llu", prefix, (unsigned long long)++place->made);
}

/* ---- Unlinking ---------------------------------------------------------------------------------- */

/* What a file's last name gives back. */
static void count_file(const struct vv_dir *dir, const char *name, uint64_t *freed)
{
    struct vv_file file = VV_FILE_NONE;
    uint64_t bytes = 0, links = 0;

    if (vv_file_open(dir, name, VV_OPEN_READ, &file) == VARVE_OK &&
        vv_file_look(&file, &links, NULL) == VARVE_OK && links == 1 &&
        vv_file_allocated(&file, &bytes) == VARVE_OK)
        *freed += bytes;
    vv_file_close(&file);
}

static varve_status unlink_in(const struct vv_dir *parent, const char *name, unsigned depth, uint64_t *freed)
{
    struct vv_names names = VV_NAMES_NONE;
    struct vv_dir dir = VV_DIR_NONE;
    varve_status rc = vv_dir_open_at(parent, name, &dir);

    if (rc == VARVE_NOT_FOUND)
        return VARVE_OK;
    if (rc == VARVE_CORRUPT) { /* no directory */
        if (freed != NULL)
            count_file(parent, name, freed);
        return vv_dir_unlink(parent, name);
    }
    TRY(rc);
    if (depth > DEPTH)
        TRY(vv_fail(VARVE_CORRUPT, "%s: there is a directory in it that is nobody's", name));
    TRY(vv_dir_names(&dir, &names));
    for (size_t i = 0; rc == VARVE_OK && i < names.count; i++)
        if (strlen(names.list[i]) <
            VV_TREE_NAME) /* a longer one is nothing of ours: it is left, and its directory */
            rc = unlink_in(&dir, names.list[i], depth + 1, freed);
    vv_names_release(&names);
    vv_dir_close(&dir);
    TRY(rc);
    TRY(vv_dir_remove(parent, name));
out:
    vv_dir_close(&dir);
    return rc;
}

varve_status vv_tree_unlink(struct vv_place *place, const char *name, uint64_t *freed)
{
    return unlink_in(&place->dir, name, 0, freed);
}

/* ---- Directories that no commit names any more -------------------------------------------------- */

/* A doomed directory that no hold needs; NULL: there is none. */
static struct vv_folder *next_doomed(struct vv_place *place)
{
    size_t cursor = 0;
    const void *key = NULL;
    union vv_value *value = NULL;
    struct vv_folder *found = NULL;

    vv_plain_lock(&place->plain);
    const uint64_t oldest = vv_plain_oldest_hold(&place->plain);
    vv_plain_unlock(&place->plain);
    vv_shelf_lock(&place->shelf);
    while (found == NULL && vv_table_next(&place->shelf.roots, &cursor, &key, &value)) {
        struct vv_folder *folder = value->pointer;
        if (folder->doomed_in != 0 && folder->pins == 0 &&
            (oldest >= folder->doomed_in || VV_PLANT("tree-hold-ignored")))
            found = folder;
    }
    vv_shelf_unlock(&place->shelf);
    return found;
}

static void forget(struct vv_place *place, struct vv_folder *folder)
{
    vv_shelf_lock(&place->shelf);
    vv_shelf_drop(&place->shelf, folder);
    vv_shelf_unlock(&place->shelf);
    place->doomed--;
}

/* `writer` is held. */
static varve_status trash(struct vv_place *place, struct vv_folder *folder, uint64_t *freed)
{
    char hex[65], name[VV_TREE_NAME];
    varve_status rc = VARVE_OK;

    vv_hex_format(folder->root.bytes, hex);
    if (VV_PLANT("directory-in-place")) {
        TRY(vv_tree_unlink(place, hex, freed));
        forget(place, folder);
        return VARVE_OK;
    }
    if (!folder->missing) {
        vv_tree_name(place, ".trash-", name);
        TRY(vv_tree_poison_if(place, vv_dir_rename(&place->dir, hex, name)));
        forget(place, folder);
        TRY(vv_tree_sync_dir(place, &place->dir));
        TRY(vv_tree_unlink(place, name, freed));
    } else {
        forget(place, folder);
    }
out:
    return rc;
}

/* What removed commits changed may be asked for by those who hold them; afterwards it goes. */
static void forget_commits(struct vv_place *place)
{
    if (place->remembered == 0)
        return;
    vv_plain_lock(&place->plain);
    const uint64_t oldest = vv_plain_oldest_hold(&place->plain);
    place->remembered = 0;
    for (size_t i = 0; i < place->plain.commit_count; i++) {
        struct vv_plain_commit *commit = place->plain.commits[i];
        if (commit->removed && oldest >= commit->removed_in)
            vv_plain_forget(commit);
        else
            place->remembered += commit->removed;
    }
    vv_plain_unlock(&place->plain);
}

/* At most `most` directories that are due. `writer` is held. */
static varve_status trash_due(struct vv_place *place, uint64_t most, uint64_t *freed, bool *more)
{
    varve_status rc = VARVE_OK;

    *more = false;
    forget_commits(place);
    for (uint64_t i = 0; place->doomed > 0; i++) {
        struct vv_folder *folder = next_doomed(place);
        if (folder == NULL)
            break;
        if (i == most) {
            *more = true;
            break;
        }
        TRY(trash(place, folder, freed));
    }
out:
    return rc;
}

/* ---- Removal ------------------------------------------------------------------------------------ */

static varve_status put_removals(struct vv_place *place, const varve_commit_id *ids, size_t count,
                                 struct vv_bytes *group)
{
    for (size_t i = 0; i < count; i++) {
        struct vv_bytes payload = VV_BYTES_NONE;
        vv_plain_encode_removal(vv_plain_commit_of(&place->plain, &ids[i]), &payload);
        vv_ledger_put(group, VV_PLAIN_REMOVAL, &payload);
        vv_bytes_release(&payload);
    }
    return vv_bytes_done(group);
}

static bool names_twice(const varve_commit_id *ids, size_t count)
{
    for (size_t i = 1; i < count; i++)
        for (size_t k = 0; k < i; k++)
            if (vv_id_equal(&ids[i], &ids[k]))
                return true;
    return false;
}

/* The directory of a commit that went, unless others have the same root. */
static void leave(struct vv_place *place, const varve_root *root, uint64_t generation)
{
    struct vv_folder *folder = vv_shelf_folder(&place->shelf, root);

    VV_ASSERT(folder != NULL && folder->commits > 0);
    if (--folder->commits > 0)
        return;
    folder->doomed_in = generation;
    place->doomed++;
}

static varve_status remove_batch(struct vv_place *place, const varve_commit_id *ids, size_t count)
{
    struct vv_bytes group = VV_BYTES_NONE;
    varve_status rc = VARVE_OK;

    if (names_twice(ids, count))
        TRY(vv_fail(VARVE_MISUSE, "one commit cannot be removed twice at once"));
    vv_plain_lock(&place->plain);
    rc = vv_plain_check_removal(&place->plain, ids, count);
    if (rc == VARVE_OK)
        rc = put_removals(place, ids, count, &group);
    vv_plain_unlock(&place->plain);
    TRY(rc);
    TRY(vv_tree_poison_if(place, vv_ledger_append(&place->ledger, &group)));
    vv_plain_lock(&place->plain);
    vv_plain_remove(&place->plain, ids, count);
    vv_shelf_lock(&place->shelf);
    for (size_t i = 0; i < count; i++) {
        struct vv_plain_commit *commit = vv_plain_commit_of(&place->plain, &ids[i]);
        leave(place, &commit->facts.root, place->plain.generation);
        place->remembered++;
    }
    vv_shelf_unlock(&place->shelf);
    vv_plain_unlock(&place->plain);
out:
    vv_bytes_release(&group);
    return rc;
}

/* `writer` is held. */
static varve_status remove_all(struct vv_place *place, const varve_commit_id *ids, size_t count)
{
    varve_status rc = VARVE_OK;

    while (rc == VARVE_OK && count > 0) {
        const size_t now = count < BATCH ? count : BATCH;
        rc = remove_batch(place, ids, now);
        ids += now;
        count -= now;
    }
    return rc;
}

varve_status vv_tree_remove(struct vv_place *place, const varve_commit_id *ids, size_t count, int64_t time_ns)
{
    bool more = false;
    varve_status rc = VARVE_OK;

    (void)time_ns; /* a removal has no moment of its own here */
    VV_ASSERT(pthread_mutex_lock(&place->writer) == 0);
    TRY(vv_tree_writable(place));
    TRY(remove_all(place, ids, count));
    /* They are removed; what cannot be unlinked now is later. */
    rc = trash_due(place, count, NULL, &more);
    if (rc != VARVE_UNCERTAIN)
        rc = VARVE_OK;
out:
    VV_ASSERT(pthread_mutex_unlock(&place->writer) == 0);
    return rc;
}

varve_status vv_tree_bury(struct vv_place *place, const varve_commit_id *id, const varve_commit_id *before)
{
    struct vv_bytes payload = VV_BYTES_NONE, group = VV_BYTES_NONE;
    struct vv_plain_commit *commit = NULL;
    varve_status rc = VARVE_OK;

    VV_ASSERT(pthread_mutex_lock(&place->writer) == 0);
    TRY(vv_tree_writable(place));
    TRY(vv_plain_tombstone(id, before, &commit));
    vv_plain_lock(&place->plain);
    rc = vv_plain_commit_of(&place->plain, id) != NULL ? vv_bury_known() : vv_plain_room(&place->plain, 1, 0);
    commit->facts.number = place->plain.last_number + 1;
    vv_plain_unlock(&place->plain);
    TRY(rc);
    vv_plain_encode_removal(commit, &payload);
    vv_ledger_put(&group, VV_PLAIN_REMOVAL, &payload);
    TRY(vv_bytes_done(&group));
    TRY(vv_tree_poison_if(place, vv_ledger_append(&place->ledger, &group)));
    vv_plain_lock(&place->plain);
    vv_plain_add(&place->plain, commit);
    vv_plain_unlock(&place->plain);
    commit = NULL;
out:
    VV_ASSERT(pthread_mutex_unlock(&place->writer) == 0);
    vv_plain_commit_free(commit);
    vv_bytes_release(&payload);
    vv_bytes_release(&group);
    return rc;
}

/* ---- Retention and reclaim ---------------------------------------------------------------------- */

static varve_status victims(struct vv_place *place, varve_commit_id **ids, size_t *count)
{
    vv_plain_lock(&place->plain);
    const varve_status rc = vv_plain_victims(&place->plain, place->retain, ids, count);
    vv_plain_unlock(&place->plain);
    return rc;
}

varve_status vv_tree_tidy(struct vv_place *place, uint64_t budget, bool *more)
{
    varve_commit_id *ids = NULL;
    size_t count = 0;
    varve_status rc = VARVE_OK;

    (void)budget; /* a step is a directory or two: none is worth less than it takes to ask */
    *more = false;
    if (vv_tree_writable(place) != VARVE_OK)
        return VARVE_OK;
    VV_ASSERT(pthread_mutex_lock(&place->writer) == 0);
    TRY(victims(place, &ids, &count));
    TRY(remove_all(place, ids, count));
    TRY(trash_due(place, 2, NULL, more));
out:
    VV_ASSERT(pthread_mutex_unlock(&place->writer) == 0);
    vv_free(ids);
    return rc;
}

void vv_tree_settle(struct vv_place *place)
{
    bool more = false;

    if (vv_tree_writable(place) != VARVE_OK)
        return;
    VV_ASSERT(pthread_mutex_lock(&place->writer) == 0);
    (void)trash_due(place, UINT64_MAX, NULL, &more); /* what is left goes at the next opening */
    VV_ASSERT(pthread_mutex_unlock(&place->writer) == 0);
}

/* Files of directories that are to go, by inode: how many of their names would. */
struct going {
    struct vv_table files; /* inode: names seen */
    uint64_t freed;
    varve_status rc;
    const struct vv_dir *dir;
};

/* The last of a file's names that is seen gives it back. */
static int count_going(void *context, const char *name)
{
    struct going *going = context;
    struct vv_file file = VV_FILE_NONE;
    uint64_t size = 0, allocated = 0, inode = 0, links = 0;

    if (vv_file_open(going->dir, name, VV_OPEN_READ, &file) != VARVE_OK)
        return 0; /* a directory */
    if (file.vfs->size(file.vfs, file.fd, &size, &allocated, &inode) == 0 &&
        vv_file_look(&file, &links, NULL) == VARVE_OK) {
        union vv_value *seen = vv_table_get(&going->files, &inode);
        const uint64_t names = seen == NULL ? 1 : seen->number + 1;
        going->rc = vv_table_put(&going->files, &inode, (union vv_value){ .number = names });
        if (names == links)
            going->freed += allocated;
    }
    vv_file_close(&file);
    return going->rc != VARVE_OK;
}

static varve_status count_directory(struct vv_place *place, const varve_root *root, struct going *going)
{
    static const char *const parts[] = { "bytecode", "memory", "tree" };
    struct vv_dir dir = VV_DIR_NONE;
    varve_status rc = VARVE_OK;

    if (vv_root_open(&place->dir, root, &dir) != VARVE_OK)
        return VARVE_OK;
    going->dir = &dir;
    TRY(vv_dir_each(&dir, count_going, going));
    for (size_t i = 0; going->rc == VARVE_OK && i < 3; i++) {
        struct vv_dir in = VV_DIR_NONE;
        if (vv_dir_open_at(&dir, parts[i], &in) != VARVE_OK)
            continue;
        going->dir = &in;
        rc = vv_dir_each(&in, count_going, going);
        vv_dir_close(&in);
        TRY(rc);
    }
    TRY(going->rc);
out:
    vv_dir_close(&dir);
    return rc;
}

/* Roots that no commit will have when `ids` are gone; those that are doomed already. */
static varve_status roots_to_go(struct vv_place *place, const varve_commit_id *ids, size_t count,
                                varve_root **roots, size_t *root_count)
{
    struct vv_table leaving; /* root: commits that go */
    size_t cursor = 0;
    const void *key = NULL;
    union vv_value *value = NULL;
    varve_status rc = VARVE_OK;

    vv_table_init(&leaving, sizeof(varve_root));
    vv_plain_lock(&place->plain);
    for (size_t i = 0; rc == VARVE_OK && i < count; i++) {
        const varve_root *root = &vv_plain_commit_of(&place->plain, &ids[i])->facts.root;
        const union vv_value *there = vv_table_get(&leaving, root);
        rc =
            vv_table_put(&leaving, root, (union vv_value){ .number = there == NULL ? 1 : there->number + 1 });
    }
    vv_plain_unlock(&place->plain);
    vv_shelf_lock(&place->shelf);
    TRY(rc);
    TRY(vv_alloc(roots, place->shelf.roots.count, sizeof **roots));
    while (vv_table_next(&place->shelf.roots, &cursor, &key, &value)) {
        const struct vv_folder *folder = value->pointer;
        const union vv_value *go = vv_table_get(&leaving, &folder->root);
        if (folder->commits == (go == NULL ? 0 : go->number))
            (*roots)[(*root_count)++] = folder->root;
    }
out:
    vv_shelf_unlock(&place->shelf);
    vv_table_release(&leaving);
    return rc;
}

static varve_status count_freed(struct vv_place *place, const varve_commit_id *ids, size_t count,
                                uint64_t *freed)
{
    struct going going = { .rc = VARVE_OK };
    varve_root *roots = NULL;
    size_t root_count = 0;
    varve_status rc = VARVE_OK;

    vv_table_init(&going.files, sizeof(uint64_t));
    TRY(roots_to_go(place, ids, count, &roots, &root_count));
    for (size_t i = 0; i < root_count; i++)
        TRY(count_directory(place, &roots[i], &going));
    *freed = going.freed;
out:
    vv_free(roots);
    vv_table_release(&going.files);
    return rc;
}

/* More than half of the history tells of commits that are gone: written anew it is shorter. `writer` is held. */
static varve_status rewrite_history(struct vv_place *place)
{
    varve_status rc = VARVE_OK;

    vv_plain_lock(&place->plain);
    const size_t gone = place->plain.commit_count - place->plain.live_count;
    const bool due = gone > 16 && gone > place->plain.live_count;
    vv_plain_unlock(&place->plain);
    if (!due)
        return VARVE_OK;
    vv_plain_lock(&place->plain); /* held across a sync, here alone: nothing may change what is written */
    rc = vv_ledger_rewrite(&place->own, &place->plain, &place->ledger);
    vv_plain_unlock(&place->plain);
    return vv_tree_poison_if(place, rc);
}

varve_status vv_tree_maintain(struct vv_place *place, uint32_t flags, varve_progress_fn progress,
                              void *context, uint64_t *freed)
{
    varve_commit_id *ids = NULL;
    size_t count = 0;
    bool more = false;
    varve_status rc = VARVE_OK;

    (void)progress;
    (void)context;
    *freed = 0;
    VV_ASSERT(pthread_mutex_lock(&place->writer) == 0);
    TRY(vv_tree_writable(place));
    TRY(victims(place, &ids, &count));
    if (flags & VARVE_MAINTAIN_DRY_RUN) {
        TRY(count_freed(place, ids, count, freed));
        goto out;
    }
    TRY(remove_all(place, ids, count));
    TRY(trash_due(place, UINT64_MAX, freed, &more));
    TRY(rewrite_history(place));
out:
    VV_ASSERT(pthread_mutex_unlock(&place->writer) == 0);
    vv_free(ids);
    return rc;
}

/* ---- At open ------------------------------------------------------------------------------------ */

static bool is_root(const char *name, varve_root *root)
{
    char canonical[65];

    if (strlen(name) != 64 || vv_hex_parse(name, root->bytes) != VARVE_OK)
        return false;
    vv_hex_format(root->bytes, canonical);
    return strcmp(canonical, name) == 0;
}

static bool begins(const char *name, const char *with)
{
    return strncmp(name, with, strlen(with)) == 0;
}

/* What is it, when it is nothing that a commit names? NULL: it is nothing of ours, and stays. */
static const char *debris_words(struct vv_place *place, const char *name)
{
    varve_root root;

    if (begins(name, ".tmp-"))
        return "a commit that was never made";
    if (begins(name, ".trash-"))
        return "a deletion that was not finished";
    if (!is_root(name, &root))
        return NULL;
    vv_shelf_lock(&place->shelf);
    const bool named = vv_shelf_folder(&place->shelf, &root) != NULL;
    vv_shelf_unlock(&place->shelf);
    return named
               ? NULL
               : "no commit has this root: a commit that was never made, or a deletion that was not finished";
}

static void sweep_one(struct vv_place *place, const char *name)
{
    const char *what = debris_words(place, name);
    char text[200];

    if (what == NULL)
        return;
    const bool stays = place->options.read_only || place->damaged;
    const varve_status rc = stays ? VARVE_OK : vv_tree_unlink(place, name, NULL);
    (void)snprintf(text, sizeof text, "%s%s", what,
                   place->damaged   ? "; it stays, for the history is damaged"
                   : stays          ? "; whoever opens the store to write removes it"
                   : rc == VARVE_OK ? "; removed"
                                    : "; it could not be removed");
    vv_tree_find(place, rc == VARVE_OK ? VARVE_NOTE : VARVE_WARNING, name, NULL, text);
}

/* Directories that should be there. */
static void tell_missing(struct vv_place *place, const struct vv_names *names)
{
    struct vv_table there;
    varve_root root;
    bool listed = true;

    vv_table_init(&there, sizeof(varve_root));
    for (size_t i = 0; i < names->count && listed; i++)
        if (is_root(names->list[i], &root))
            listed = vv_table_put(&there, &root, (union vv_value){ .number = 1 }) == VARVE_OK;
    for (size_t i = 0; listed && i < place->plain.commit_count; i++) {
        const struct vv_plain_commit *commit = place->plain.commits[i];
        char hex[65];
        if (commit->removed || vv_table_get(&there, &commit->facts.root) != NULL)
            continue;
        vv_hex_format(commit->facts.root.bytes, hex);
        struct vv_folder *folder = vv_shelf_folder(&place->shelf, &commit->facts.root);
        if (folder != NULL)
            folder->missing = true;
        vv_tree_find(place, VARVE_DAMAGE, hex, &commit->facts.id, "the directory of this commit is missing");
    }
    vv_table_release(&there);
}

varve_status vv_tree_sweep(struct vv_place *place)
{
    struct vv_names names = VV_NAMES_NONE;
    varve_status rc = VARVE_OK;

    TRY(vv_dir_names(&place->dir, &names));
    tell_missing(place, &names);
    for (size_t i = 0; i < names.count; i++)
        sweep_one(place, names.list[i]);
    vv_names_release(&names);
out:
    return rc;
}
