/* backing.c - see backing.h.
 *
 * Moves:  LEARN   read a file of an earlier life, hash its pages                     [learn]
 *         LIVE    write the pages where `known` differs from the memory, set the length  [bring_up]
 * `known` is a tree of its own, all in memory: what it was made from may go any time. */
#include "store/plain/backing.h"

#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"

enum { BATCH = 64 }; /* pages in one read or write */

struct backing {
    struct vv_pagetree known; /* of the file; its locators mean nothing */
    uint64_t size;            /* of the file */
    bool is_known;
};

void vv_backings_init(struct vv_backings *backings, const struct vv_dir *dir, struct vv_place *place,
                      vv_backing_read read)
{
    *backings = (struct vv_backings){ .dir = dir, .place = place, .read = read };
    VV_ASSERT(pthread_mutex_init(&backings->mutex, NULL) == 0);
    vv_table_init(&backings->files, sizeof(varve_module_id));
}

static void backing_free(struct backing *backing)
{
    vv_pagetree_release(&backing->known);
    vv_free(backing);
}

void vv_backings_release(struct vv_backings *backings)
{
    size_t cursor = 0;
    const void *key = NULL;
    union vv_value *value = NULL;

    if (backings->dir == NULL)
        return;
    while (vv_table_next(&backings->files, &cursor, &key, &value))
        backing_free(value->pointer);
    vv_table_release(&backings->files);
    (void)pthread_mutex_destroy(&backings->mutex);
    backings->dir = NULL;
}

bool vv_backing_is_name(const char *name, varve_module_id *module)
{
    varve_module_id id;
    char canonical[65];

    if (vv_hex_parse(name, id.bytes) != VARVE_OK)
        return false;
    vv_hex_format(id.bytes, canonical);
    if (strcmp(name, canonical) != 0)
        return false;
    if (module != NULL)
        *module = id;
    return true;
}

/* ---- What a file holds -------------------------------------------------------------------------- */

static void forget(struct backing *backing)
{
    vv_pagetree_release(&backing->known);
    backing->is_known = false;
}

static void know_nothing_is_there(struct backing *backing)
{
    vv_pagetree_release(&backing->known);
    vv_pagetree_init(&backing->known, 0, NULL);
    backing->size = 0;
    backing->is_known = true;
}

/* Put what these pages hash to. */
static varve_status learn_pages(struct vv_pagetree *known, uint64_t first, const uint8_t *bytes, size_t count)
{
    const uint8_t *pages[BATCH];
    uint8_t hashes[BATCH][VV_HASH_SIZE];
    varve_status rc = VARVE_OK;

    for (size_t i = 0; i < count; i++)
        pages[i] = bytes + i * VV_PAGE_SIZE;
    vv_hash_pages(pages, count, hashes);
    for (size_t i = 0; i < count; i++) {
        struct vv_leaf leaf = { .locator = 1 };
        if (vv_hash_is_zero(hashes[i]))
            continue;
        memcpy(leaf.hash, hashes[i], VV_HASH_SIZE);
        TRY(vv_pagetree_set(known, first + i, &leaf));
    }
out:
    return rc;
}

/* Learn the first `page_count` pages; what is longer will be cut. */
static varve_status learn(struct backing *backing, const struct vv_file *file, uint64_t page_count)
{
    uint8_t *batch = NULL;
    uint64_t size = 0;
    varve_status rc = VARVE_OK;

    forget(backing);
    TRY(vv_alloc(&batch, BATCH, VV_PAGE_SIZE));
    TRY(vv_file_size(file, &size));
    const uint64_t there = vv_pages_for(size);
    vv_pagetree_init(&backing->known, page_count, NULL);
    for (uint64_t first = 0; first < page_count && first < there; first += BATCH) {
        const uint64_t left = (page_count < there ? page_count : there) - first;
        const size_t count = left < BATCH ? (size_t)left : BATCH;
        size_t got = 0;
        TRY(vv_file_read_some(file, batch, count * VV_PAGE_SIZE, first * VV_PAGE_SIZE, &got));
        memset(batch + got, 0, count * VV_PAGE_SIZE - got);
        TRY(learn_pages(&backing->known, first, batch, count));
    }
    backing->size = size;
    backing->is_known = true;
out:
    if (rc != VARVE_OK)
        forget(backing);
    vv_free(batch);
    return rc;
}

/* ---- Bringing it up to date --------------------------------------------------------------------- */

/* Pages on their way, neighbours together. */
struct bringing {
    const struct vv_backings *backings;
    struct vv_file *file;
    struct vv_pagetree next; /* what the file holds when all of it is written */
    const uint8_t *bytes;    /* of the memory; NULL: they are read into `batch` */
    uint8_t *batch;
    uint64_t first;
    size_t count;
};

static varve_status flush(struct bringing *bringing)
{
    const uint8_t *from =
        bringing->bytes == NULL ? bringing->batch : bringing->bytes + bringing->first * VV_PAGE_SIZE;
    const size_t count = bringing->count;

    bringing->count = 0;
    return count == 0 ? VARVE_OK
                      : vv_file_write(bringing->file, from, count * VV_PAGE_SIZE, bringing->first * VV_PAGE_SIZE);
}

/* Zeros are written too: where a hole cannot be made, the page must not stay as it was. */
static varve_status clear_page(struct bringing *bringing, uint64_t index)
{
    static const uint8_t zeros[VV_PAGE_SIZE];
    varve_status rc = VARVE_OK;

    TRY(flush(bringing));
    TRY(vv_file_write(bringing->file, zeros, sizeof zeros, index * VV_PAGE_SIZE));
    TRY(vv_file_punch(bringing->file, index * VV_PAGE_SIZE, sizeof zeros));
    TRY(vv_pagetree_set(&bringing->next, index, NULL));
out:
    return rc;
}

static varve_status put_page(struct bringing *bringing, uint64_t index, const struct vv_leaf *leaf)
{
    const struct vv_backings *backings = bringing->backings;
    struct vv_leaf known = { .locator = 1 };
    varve_status rc = VARVE_OK;

    if (bringing->count == BATCH || (bringing->count > 0 && index != bringing->first + bringing->count))
        TRY(flush(bringing));
    if (bringing->count == 0)
        bringing->first = index;
    if (bringing->bytes == NULL)
        TRY(backings->read(backings->place, leaf, bringing->batch + bringing->count * VV_PAGE_SIZE));
    bringing->count++;
    memcpy(known.hash, leaf->hash, VV_HASH_SIZE);
    TRY(vv_pagetree_set(&bringing->next, index, &known));
out:
    return rc;
}

static varve_status bring_page(void *context, uint64_t index, const struct vv_leaf *from, const struct vv_leaf *to)
{
    struct bringing *bringing = context;

    (void)from;
    if (index >= bringing->next.page_count)
        return VARVE_OK; /* beyond the end: cut off */
    return to == NULL ? clear_page(bringing, index) : put_page(bringing, index, to);
}

/* On failure nothing is known of the file. */
static varve_status bring_up(const struct vv_backings *backings, struct backing *backing, struct vv_file *file,
                             const struct vv_pagetree *tree, const uint8_t *bytes)
{
    struct bringing bringing = { .backings = backings, .file = file, .bytes = bytes };
    const uint64_t size = tree->page_count * VV_PAGE_SIZE;
    varve_status rc = VARVE_OK;

    vv_pagetree_copy(&bringing.next, &backing->known);
    if (bytes == NULL)
        TRY(vv_alloc(&bringing.batch, BATCH, VV_PAGE_SIZE));
    TRY(vv_pagetree_resize(&bringing.next, tree->page_count));
    TRY(vv_pagetree_diff(&backing->known, tree, bring_page, &bringing));
    TRY(flush(&bringing));
    if (backing->size != size)
        TRY(vv_file_truncate(file, size));
    vv_pagetree_release(&backing->known);
    backing->known = bringing.next;
    backing->size = size;
    vv_pagetree_init(&bringing.next, 0, NULL);
out:
    if (rc != VARVE_OK)
        forget(backing);
    vv_pagetree_release(&bringing.next);
    vv_free(bringing.batch);
    return rc;
}

/* ---- The entry ---------------------------------------------------------------------------------- */

static varve_status backing_of(struct vv_backings *backings, const varve_module_id *module, struct backing **out)
{
    const union vv_value *value = vv_table_get(&backings->files, module);
    struct backing *backing = NULL;
    varve_status rc = VARVE_OK;

    if (value != NULL) {
        *out = value->pointer;
        return VARVE_OK;
    }
    TRY(vv_alloc(&backing, 1, sizeof *backing));
    vv_pagetree_init(&backing->known, 0, NULL);
    TRY(vv_table_put(&backings->files, module, (union vv_value){ .pointer = backing }));
    *out = backing;
    backing = NULL;
out:
    vv_free(backing);
    return rc;
}

/* The file, and what is known of it. Whatever else has its name, or cannot be read, makes way for a new one. */
static varve_status open_file(const struct vv_backings *backings, struct backing *backing, const char *name,
                              uint64_t page_count, struct vv_file *file)
{
    varve_status rc = vv_file_open(backings->dir, name, VV_OPEN_WRITE, file);

    if (rc == VARVE_OK && !backing->is_known) {
        rc = learn(backing, file, page_count);
        if (rc == VARVE_IO || rc == VARVE_CORRUPT) {
            vv_file_close(file);
            rc = VARVE_CORRUPT;
        }
    }
    if (rc == VARVE_CORRUPT) {
        TRY(vv_dir_unlink(backings->dir, name));
        rc = VARVE_NOT_FOUND;
    }
    if (rc == VARVE_NOT_FOUND) {
        know_nothing_is_there(backing);
        rc = vv_file_open(backings->dir, name, VV_OPEN_WRITE | VV_OPEN_CREATE | VV_OPEN_EXCLUSIVE, file);
    }
out:
    return rc;
}

static varve_status drop_file(struct vv_backings *backings, const varve_module_id *module, const char *name)
{
    union vv_value value;

    if (vv_table_remove(&backings->files, module, &value))
        backing_free(value.pointer);
    return vv_dir_unlink(backings->dir, name);
}

varve_status vv_backings_live(struct vv_backings *backings, const varve_module_id *module,
                              const struct vv_pagetree *tree, const uint8_t *bytes)
{
    struct vv_file file = VV_FILE_NONE;
    struct backing *backing = NULL;
    char name[65];
    varve_status rc = VARVE_OK;

    vv_hex_format(module->bytes, name);
    VV_ASSERT(pthread_mutex_lock(&backings->mutex) == 0);
    if (tree == NULL) {
        rc = drop_file(backings, module, name);
        goto out;
    }
    TRY(backing_of(backings, module, &backing));
    TRY(open_file(backings, backing, name, tree->page_count, &file));
    TRY(bring_up(backings, backing, &file, tree, bytes));
out:
    vv_file_close(&file);
    VV_ASSERT(pthread_mutex_unlock(&backings->mutex) == 0);
    return rc;
}

bool vv_backings_show(struct vv_backings *backings, const varve_module_id *module)
{
    VV_ASSERT(pthread_mutex_lock(&backings->mutex) == 0);
    const bool shown = vv_table_get(&backings->files, module) != NULL;
    VV_ASSERT(pthread_mutex_unlock(&backings->mutex) == 0);
    return shown;
}
