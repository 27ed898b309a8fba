/* tell.c - what lies in a tree, for people: every file with what it is for, and counts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "store/tree/place.h"

/* ---- Files -------------------------------------------------------------------------------------- */

struct told {
    char *path;
    uint64_t bytes, links;
    const char *what;
};
struct telling {
    struct vv_place *place;
    struct told *list;
    size_t count, room;
    struct vv_table inodes;  /* files that an older commit has */
    struct vv_table modules; /* modules that an older commit has */
    char hex[65];            /* the directory that is told of */
    const char *part;        /* "": itself */
    const struct vv_dir *dir;
    varve_status rc;
};

static bool ends_in(const char *name, const char *end)
{
    const size_t size = strlen(name), end_size = strlen(end);

    return size >= end_size && strcmp(name + size - end_size, end) == 0;
}

/* Seen before? It is from now on. */
static varve_status see(struct vv_table *table, const void *key, bool *seen)
{
    *seen = vv_table_get(table, key) != NULL;
    return *seen ? VARVE_OK : vv_table_put(table, key, (union vv_value){ .number = 1 });
}

static varve_status words_for(struct telling *telling, const char *name, const struct vv_file *file,
                              const char **what)
{
    uint64_t size = 0, allocated = 0, inode = 0;
    varve_module_id id;
    bool shared = false, known = false;
    varve_status rc = VARVE_OK;

    *what = "not a file of this layout";
    if (telling->part[0] == '\0') {
        *what = strcmp(name, "index") == 0 ? "Module memory hashes" : *what;
        return VARVE_OK;
    }
    const int number = file->vfs->size(file->vfs, file->fd, &size, &allocated, &inode);
    if (number != 0)
        TRY(vv_fail_errno(number, "look at %s", name));
    TRY(see(&telling->inodes, &inode, &shared));
    if (shared) {
        *what = "Hard link";
    } else if (strcmp(telling->part, "tree") == 0) {
        *what = "Page hashes of the base image";
    } else if (ends_in(name, ".diff")) {
        *what = "Delta";
    } else if (vv_hex_parse(name, id.bytes) == VARVE_OK) {
        /* Each kind of file is one row of the note: a module's first bytecode, a module's first memory. */
        uint8_t key[33] = { (uint8_t)telling->part[0] };
        memcpy(key + 1, id.bytes, 32);
        TRY(see(&telling->modules, key, &known));
        *what = !known                                 ? "New module"
                : strcmp(telling->part, "memory") == 0 ? "Base image"
                                                       : "Module bytecode";
    }
out:
    return rc;
}

static varve_status note_file(struct telling *telling, const char *name)
{
    struct vv_file file = VV_FILE_NONE;
    struct told told = { .bytes = 0 };
    varve_status rc = vv_file_open(telling->dir, name, VV_OPEN_READ, &file);

    if (rc == VARVE_CORRUPT)
        return VARVE_OK; /* a directory: told by what is in it */
    TRY(rc);
    TRY(vv_file_size(&file, &told.bytes));
    TRY(vv_file_look(&file, &told.links, NULL));
    TRY(words_for(telling, name, &file, &told.what));
    TRY(vv_format(&told.path, "%s/%s%s%s", telling->hex, telling->part, telling->part[0] == '\0' ? "" : "/",
                  name));
    if (telling->count == telling->room) {
        const size_t room = 2 * telling->room + 64;
        TRY(vv_resize(&telling->list, room, sizeof *telling->list));
        telling->room = room;
    }
    telling->list[telling->count++] = told;
    told.path = NULL;
out:
    vv_free(told.path);
    vv_file_close(&file);
    return rc;
}

static int note_name(void *context, const char *name)
{
    struct telling *telling = context;

    telling->rc = note_file(telling, name);
    return telling->rc != VARVE_OK;
}

static varve_status note_directory(struct telling *telling, const varve_root *root)
{
    static const char *const parts[] = { "", "bytecode", "memory", "tree" };
    struct vv_dir dir = VV_DIR_NONE, in = VV_DIR_NONE;
    varve_status rc = VARVE_OK;

    vv_hex_format(root->bytes, telling->hex);
    rc = vv_root_open(&telling->place->dir, root, &dir);
    if (rc != VARVE_OK)
        return rc == VARVE_CORRUPT ? VARVE_OK : rc; /* that it is missing was told at open */
    for (size_t i = 0; rc == VARVE_OK && i < sizeof parts / sizeof *parts; i++) {
        telling->part = parts[i];
        telling->dir = &dir;
        if (i > 0) {
            rc = vv_dir_open_at(&dir, parts[i], &in);
            if (rc == VARVE_NOT_FOUND || rc == VARVE_CORRUPT) {
                rc = VARVE_OK;
                continue;
            }
            TRY(rc);
            telling->dir = &in;
        }
        rc = vv_dir_each(telling->dir, note_name, telling);
        if (rc == VARVE_OK)
            rc = telling->rc;
        vv_dir_close(&in);
    }
out:
    vv_dir_close(&dir);
    return rc;
}

static int by_path(const void *a, const void *b)
{
    const struct told *left = a, *right = b;

    return strcmp(left->path, right->path);
}

/* Roots of the commits that are there, each once, in the order of the commits. */
static varve_status list_roots(struct vv_place *place, varve_root **roots, size_t *count)
{
    struct vv_table seen;
    bool known = false;
    varve_status rc = VARVE_OK;

    vv_table_init(&seen, sizeof(varve_root));
    vv_plain_lock(&place->plain);
    TRY(vv_alloc(roots, place->plain.live_count, sizeof **roots));
    for (size_t i = 0; i < place->plain.commit_count; i++) {
        const struct vv_plain_commit *commit = place->plain.commits[i];
        if (commit->removed)
            continue;
        TRY(see(&seen, &commit->facts.root, &known));
        if (!known)
            (*roots)[(*count)++] = commit->facts.root;
    }
out:
    vv_plain_unlock(&place->plain);
    vv_table_release(&seen);
    return rc;
}

varve_status vv_tree_files(struct vv_place *place, vv_file_facts_fn each, void *context)
{
    struct telling telling = { .place = place };
    varve_root *roots = NULL;
    size_t root_count = 0;
    const uint64_t hold = vv_plain_hold(place);
    varve_status rc = VARVE_OK;

    vv_table_init(&telling.inodes, sizeof(uint64_t));
    vv_table_init(&telling.modules, 33);
    TRY(list_roots(place, &roots, &root_count));
    for (size_t i = 0; i < root_count; i++)
        TRY(note_directory(&telling, &roots[i]));
    if (telling.count > 1)
        qsort(telling.list, telling.count, sizeof *telling.list, by_path);
    for (size_t i = 0; rc == VARVE_OK && i < telling.count; i++) {
        const struct told *told = &telling.list[i];
        const struct vv_file_facts facts = {
            .path = told->path, .bytes = told->bytes, .links = told->links, .what = told->what
        };
        rc = each(context, &facts);
    }
out:
    vv_plain_drop(place, hold);
    for (size_t i = 0; i < telling.count; i++)
        vv_free(telling.list[i].path);
    vv_free(telling.list);
    vv_free(roots);
    vv_table_release(&telling.inodes);
    vv_table_release(&telling.modules);
    return rc;
}

/* ---- Counts ------------------------------------------------------------------------------------- */

void vv_tree_stat(struct vv_place *place, struct vv_layout_stat *stat)
{
    uint64_t written = 0, refs = 0;

    vv_plain_lock(&place->plain);
    for (size_t i = 0; i < place->plain.commit_count; i++)
        written += place->plain.commits[i]->removed ? 0 : place->plain.commits[i]->facts.bytes_written;
    for (size_t i = 0; i < place->plain.ref_count; i++)
        refs += !vv_id_is_zero(&place->plain.moves[place->plain.refs[i].newest - 1].facts.to);
    *stat = (struct vv_layout_stat){
        .commits = place->plain.live_count,
        .refs = refs,
        .bytes_stored = written,
        .commit_count = place->commit_count,
        .commit_ns_total = place->commit_ns,
        .sync_count = place->sync_count,
        .sync_ns_total = place->sync_ns,
        .poisoned = place->poisoned,
        .damaged = place->damaged,
    };
    vv_plain_unlock(&place->plain);
}
