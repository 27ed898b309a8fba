/* version.c - module commits as files: their names, what is open, and reading pages.
 *
 *   locator = version number << 28 | page: so a page is found in its own version's file, whatever else is removed
 * What a reader needs is held before the lock goes: an open file outlives its name. */
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "store/flat/place.h"

enum { BATCH = 64 }; /* pages in one read */

/* ---- Names -------------------------------------------------------------------------------------- */

void vv_version_name(const struct vv_version *version, char name[VV_FLAT_NAME])
{
    vv_hex_format(version->module.bytes, name);
    name[64] = '_';
    vv_hex_format(version->leaf, name + 65);
}

bool vv_version_is_name(const char *name, uint8_t key[64])
{
    char text[65];

    if (strlen(name) != VV_FLAT_NAME - 1 || name[64] != '_')
        return false;
    for (unsigned half = 0; half < 2; half++) {
        varve_module_id id;
        memcpy(text, name + half * 65, 64);
        text[64] = '\0';
        if (!vv_backing_is_name(text, &id))
            return false;
        memcpy(key + half * 32, id.bytes, 32);
    }
    return true;
}

static void key_of(const varve_module_id *module, const uint8_t leaf[VV_HASH_SIZE], uint8_t key[64])
{
    memcpy(key, module->bytes, 32);
    memcpy(key + 32, leaf, VV_HASH_SIZE);
}

/* ---- The tables --------------------------------------------------------------------------------- */

struct vv_version *vv_version_numbered(const struct vv_place *place, uint64_t number)
{
    const union vv_value *value = vv_table_get(&place->versions, &number);

    return value == NULL ? NULL : value->pointer;
}

struct vv_version *vv_version_named(const struct vv_place *place, const varve_module_id *module,
                                    const uint8_t leaf[VV_HASH_SIZE])
{
    uint8_t key[64];

    key_of(module, leaf, key);
    const union vv_value *value = vv_table_get(&place->by_name, key);
    return value == NULL ? NULL : value->pointer;
}

varve_status vv_version_add(struct vv_place *place, struct vv_version *version)
{
    uint8_t key[64];
    varve_status rc = VARVE_OK;

    key_of(&version->module, version->leaf, key);
    TRY(vv_table_reserve(&place->versions, 1));
    TRY(vv_table_reserve(&place->by_name, 1)); /* so that it is put into both, or into none */
    TRY(vv_table_put(&place->versions, &version->number, (union vv_value){ .pointer = version }));
    TRY(vv_table_put(&place->by_name, key, (union vv_value){ .pointer = version }));
out:
    return rc;
}

void vv_version_free(struct vv_version *version)
{
    if (version == NULL)
        return;
    VV_ASSERT(version->open == NULL);
    vv_module_drop(version->entry);
    vv_free(version);
}

static void close_one(struct vv_version_file *file)
{
    if (--file->holders > 0)
        return;
    vv_file_close(&file->file);
    vv_free(file);
}

/* Take a version out of the open ones. */
static void shut(struct vv_place *place, struct vv_version *version)
{
    if (version->open == NULL)
        return;
    for (size_t i = 0; i < place->open_count; i++)
        if (place->open[i] == version) {
            place->open[i] = place->open[--place->open_count];
            break;
        }
    close_one(version->open);
    version->open = NULL;
}

void vv_version_drop(struct vv_place *place, struct vv_version *version)
{
    uint8_t key[64];

    key_of(&version->module, version->leaf, key);
    shut(place, version);
    (void)vv_table_remove(&place->by_name, key, NULL);
    (void)vv_table_remove(&place->versions, &version->number, NULL);
    vv_version_free(version);
}

/* ---- Open files --------------------------------------------------------------------------------- */

/* The one that was opened longest ago makes way. */
static void make_way(struct vv_place *place)
{
    if (place->open_count == VV_FLAT_OPEN_MAX)
        shut(place, place->open[0]);
}

/* `plain` is locked. */
static varve_status open_locked(struct vv_place *place, struct vv_version *version)
{
    struct vv_version_file *made = NULL;
    char name[VV_FLAT_NAME];
    varve_status rc = VARVE_OK;

    if (version->open != NULL)
        return VARVE_OK;
    vv_version_name(version, name);
    TRY(vv_alloc(&made, 1, sizeof *made));
    made->file = VV_FILE_NONE;
    made->holders = 1;
    rc = vv_file_open(place->dir, name, VV_OPEN_READ, &made->file);
    if (rc == VARVE_NOT_FOUND)
        rc = vv_fail(VARVE_CORRUPT, "%s: the file is missing, and with it this memory", name);
    TRY(rc);
    make_way(place);
    place->open[place->open_count++] = version;
    version->open = made;
    made = NULL;
out:
    vv_free(made);
    return rc;
}

varve_status vv_version_open(struct vv_place *place, struct vv_version *version, struct vv_version_file **file)
{
    vv_plain_lock(&place->plain);
    const varve_status rc = open_locked(place, version);
    if (rc == VARVE_OK) {
        *file = version->open;
        (*file)->holders++;
    }
    vv_plain_unlock(&place->plain);
    return rc;
}

void vv_version_let_go(struct vv_place *place, struct vv_version_file *file)
{
    if (file == NULL)
        return;
    vv_plain_lock(&place->plain);
    close_one(file);
    vv_plain_unlock(&place->plain);
}

void vv_versions_close(struct vv_place *place)
{
    size_t cursor = 0;
    const void *key = NULL;
    union vv_value *value = NULL;

    while (vv_table_next(&place->versions, &cursor, &key, &value)) {
        struct vv_version *version = value->pointer;
        if (version->open != NULL)
            close_one(version->open);
        version->open = NULL;
        vv_version_free(version);
    }
    place->open_count = 0;
    vv_table_release(&place->versions);
    vv_table_release(&place->by_name);
}

/* The file that a locator is of, held. Locators come from stored nodes, which are believed nothing. */
static varve_status open_at(struct vv_place *place, uint64_t locator, struct vv_version_file **file)
{
    varve_status rc = VARVE_OK;

    vv_plain_lock(&place->plain);
    struct vv_version *version = vv_version_numbered(place, locator >> VV_VERSION_PAGE_BITS);
    if (version == NULL)
        rc = vv_fail(VARVE_CORRUPT, "a page tree names a file that the store has not");
    else
        rc = open_locked(place, version);
    if (rc == VARVE_OK) {
        *file = version->open;
        (*file)->holders++;
    }
    vv_plain_unlock(&place->plain);
    return rc;
}

/* ---- Reading ------------------------------------------------------------------------------------ */

varve_status vv_flat_read(struct vv_place *place, const struct vv_leaf *leaf, uint8_t page[VV_PAGE_SIZE])
{
    struct vv_version_file *file = NULL;
    varve_status rc = open_at(place, leaf->locator, &file);

    if (rc == VARVE_OK)
        rc = vv_memfile_read(&file->file, leaf->locator & (VV_VERSION_PAGES_MAX - 1), leaf->hash, page);
    vv_version_let_go(place, file);
    return rc;
}

varve_status vv_version_reader_begin(struct vv_version_reader *reader, struct vv_place *place,
                                     varve_status (*put)(void *context, uint64_t index, const uint8_t *page),
                                     void *context)
{
    varve_status rc = VARVE_OK;

    *reader = (struct vv_version_reader){ .place = place, .put = put, .context = context };
    TRY(vv_alloc(&reader->bytes, BATCH, VV_PAGE_SIZE));
    TRY(vv_alloc(&reader->hashes, BATCH, VV_HASH_SIZE));
out:
    if (rc != VARVE_OK)
        vv_version_reader_release(reader);
    return rc;
}

void vv_version_reader_release(struct vv_version_reader *reader)
{
    vv_free(reader->bytes);
    vv_free(reader->hashes);
    *reader = (struct vv_version_reader){ .count = 0 };
}

static varve_status not_as_committed(const struct vv_version_file *file, uint64_t page)
{
    return vv_fail(VARVE_CORRUPT, "%s: page %llu is not what was committed", file->file.name,
                   (unsigned long long)page);
}

varve_status vv_version_reader_flush(struct vv_version_reader *reader)
{
    const uint64_t first = reader->locator & (VV_VERSION_PAGES_MAX - 1);
    const size_t count = reader->count;
    const uint8_t *pages[BATCH];
    uint8_t found[BATCH][VV_HASH_SIZE];
    struct vv_version_file *file = NULL;
    size_t got = 0;
    varve_status rc = VARVE_OK;

    reader->count = 0;
    if (count == 0)
        return VARVE_OK;
    TRY(open_at(reader->place, reader->locator, &file));
    TRY(vv_file_read_some(&file->file, reader->bytes, count * VV_PAGE_SIZE, first * VV_PAGE_SIZE, &got));
    memset(reader->bytes + got, 0, count * VV_PAGE_SIZE - got);
    for (size_t i = 0; i < count; i++)
        pages[i] = reader->bytes + i * VV_PAGE_SIZE;
    vv_hash_pages(pages, count, found);
    for (size_t i = 0; i < count; i++)
        if (!vv_hash_equal(found[i], reader->hashes[i])) {
            rc = not_as_committed(file, first + i);
            goto out;
        }
    for (size_t i = 0; i < count; i++)
        TRY(reader->put(reader->context, reader->index + i, pages[i]));
out:
    vv_version_let_go(reader->place, file);
    return rc;
}

varve_status vv_version_reader_put(struct vv_version_reader *reader, uint64_t index, const struct vv_leaf *leaf)
{
    varve_status rc = VARVE_OK;

    if (reader->count == BATCH || (reader->count > 0 && (index != reader->index + reader->count ||
                                                         leaf->locator != reader->locator + reader->count)))
        TRY(vv_version_reader_flush(reader));
    if (reader->count == 0) {
        reader->index = index;
        reader->locator = leaf->locator;
    }
    memcpy(reader->hashes[reader->count++], leaf->hash, VV_HASH_SIZE);
out:
    return rc;
}

struct filling {
    struct vv_version_reader reader;
    uint64_t page_count;
};

static varve_status fill_leaf(void *context, uint64_t index, const struct vv_leaf *from, const struct vv_leaf *to)
{
    struct filling *filling = context;

    (void)from;
    if (index >= filling->page_count)
        return VARVE_OK;
    return to == NULL ? filling->reader.put(filling->reader.context, index, NULL)
                      : vv_version_reader_put(&filling->reader, index, to);
}

varve_status vv_flat_read_diff(struct vv_place *place, const struct vv_pagetree *from,
                               const struct vv_pagetree *tree,
                               varve_status (*put)(void *context, uint64_t index, const uint8_t *page),
                               void *context)
{
    struct filling filling = { .page_count = tree->page_count };
    varve_status rc = VARVE_OK;

    TRY(vv_version_reader_begin(&filling.reader, place, put, context));
    TRY(vv_pagetree_diff(from, tree, fill_leaf, &filling));
    TRY(vv_version_reader_flush(&filling.reader));
out:
    vv_version_reader_release(&filling.reader);
    return rc;
}

/* ---- Files to map ------------------------------------------------------------------------------- */

/* What is lent until source_end. */
struct lent {
    struct vv_version_file *file;
    struct vv_flat_nodes *nodes;
    struct vv_pagetree tree;
};

static varve_status first_leaf(void *context, uint64_t index, const struct vv_leaf *leaf)
{
    uint64_t *locator = context;

    (void)index;
    *locator = leaf->locator;
    return VARVE_END;
}

/* The version that a tree is of, by any of its leaves; NULL when it is of none that may be mapped. `plain` is locked. */
static struct vv_version *version_of(const struct vv_place *place, uint64_t locator, const varve_module_id *module)
{
    struct vv_version *version = vv_version_numbered(place, locator >> VV_VERSION_PAGE_BITS);

    if (version == NULL || version->rotten || memcmp(&version->module, module, sizeof *module) != 0)
        return NULL;
    return version;
}

/* `plain` is locked. */
static bool lend(struct vv_place *place, struct vv_version *version, struct lent *lent, struct vv_source *source)
{
    const uint64_t pages = version->entry->memory.page_count;
    uint64_t size = 0;

    if (open_locked(place, version) != VARVE_OK || vv_file_size(&version->open->file, &size) != VARVE_OK ||
        size != pages * VV_PAGE_SIZE)
        return false; /* whoever reads it page by page is told why */
    lent->file = version->open;
    lent->file->holders++;
    lent->nodes = place->nodes;
    lent->nodes->lent++;
    vv_pagetree_copy(&lent->tree, &version->entry->memory);
    *source = (struct vv_source){
        .file = lent->file->file, .pages = pages, .tree = &lent->tree, .owner = lent
    };
    return true;
}

void vv_flat_source(struct vv_place *place, const varve_module_id *module, const struct vv_pagetree *wanted,
                    struct vv_source *source)
{
    struct lent *lent = NULL;
    uint64_t locator = 0;
    bool found = false;

    *source = (struct vv_source){ .file = VV_FILE_NONE };
    if (vv_pagetree_each(wanted, 0, first_leaf, &locator) != VARVE_END || locator == 0 ||
        vv_alloc(&lent, 1, sizeof *lent) != VARVE_OK)
        return;
    vv_plain_lock(&place->plain);
    struct vv_version *version = version_of(place, locator, module);
    if (version != NULL)
        found = lend(place, version, lent, source);
    vv_plain_unlock(&place->plain);
    if (!found)
        vv_free(lent);
}

void vv_flat_source_end(struct vv_place *place, struct vv_source *source)
{
    struct lent *lent = source->owner;

    if (lent == NULL)
        return;
    vv_pagetree_release(&lent->tree);
    vv_plain_lock(&place->plain);
    lent->nodes->lent--;
    close_one(lent->file);
    vv_plain_unlock(&place->plain);
    vv_free(lent);
    *source = (struct vv_source){ .file = VV_FILE_NONE };
}

uint64_t vv_flat_source_version(struct vv_place *place)
{
    vv_plain_lock(&place->plain);
    const uint64_t version = place->source_version;
    vv_plain_unlock(&place->plain);
    return version;
}

/* All files of the module that there are: which of them was mapped is not told. What is written later is sound. */
void vv_flat_source_rotten(struct vv_place *place, const varve_module_id *module)
{
    size_t cursor = 0;
    const void *key = NULL;
    union vv_value *value = NULL;

    vv_plain_lock(&place->plain);
    while (vv_table_next(&place->versions, &cursor, &key, &value)) {
        struct vv_version *version = value->pointer;
        if (memcmp(&version->module, module, sizeof *module) == 0)
            version->rotten = true;
    }
    place->rotten_in = ++place->source_version;
    vv_plain_unlock(&place->plain);
}

uint64_t vv_flat_source_sound(struct vv_place *place)
{
    vv_plain_lock(&place->plain);
    const uint64_t sound = place->rotten_in;
    vv_plain_unlock(&place->plain);
    return sound;
}
