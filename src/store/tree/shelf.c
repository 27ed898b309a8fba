/* shelf.c - see shelf.h.
 *
 * Moves:  PIN    an index is read, once; others that nobody uses make way        [vv_shelf_pin]
 *         LOOK   what the index names becomes known, and is at home there        [vv_shelf_look]
 *         TAKE   a file of a version is opened at its home, checked, kept open   [vv_tree_version_take]
 *         DROP   a directory goes, and what is at home in it                     [vv_shelf_drop] */
#include "store/tree/shelf.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "store/plain/memfile.h"

#ifdef VV_TORTURE
enum { OPEN_FILES = 2, LOADED = 1 };
#else
enum {
    OPEN_FILES = 256, /* that nobody uses just now, before the one used longest ago is closed */
    LOADED = 16       /* indexes, the same */
};
#endif
enum { LISTING_MAX = 1 << 30 };

const char *const vv_part_dirs[] = { "memory", "tree", "memory" };

/* ---- Names -------------------------------------------------------------------------------------- */

void vv_part_name(const varve_module_id *id, enum vv_part part, char name[VV_PART_NAME])
{
    vv_hex_format(id->bytes, name);
    if (part == VV_PART_DIFF)
        memcpy(name + 64, ".diff", sizeof ".diff");
}

void vv_part_path(const varve_root *root, const varve_module_id *id, enum vv_part part, char path[160])
{
    char name[VV_PART_NAME], hex[65];

    vv_hex_format(root->bytes, hex);
    vv_part_name(id, part, name);
    (void)snprintf(path, 160, "%s/%s/%s", hex, vv_part_dirs[part], name);
}

varve_status vv_root_open(const struct vv_dir *store, const varve_root *root, struct vv_dir *dir)
{
    char hex[65];

    vv_hex_format(root->bytes, hex);
    const varve_status rc = vv_dir_open_at(store, hex, dir);
    return rc == VARVE_NOT_FOUND ? vv_fail(VARVE_CORRUPT, "%s: the directory of a commit is missing", hex)
                                 : rc;
}

varve_status vv_root_open_in(const struct vv_dir *dir, const char *name, const varve_root *root,
                             struct vv_dir *in)
{
    char hex[65];
    const varve_status rc = vv_dir_open_at(dir, name, in);

    if (rc != VARVE_NOT_FOUND && rc != VARVE_CORRUPT)
        return rc;
    vv_hex_format(root->bytes, hex);
    return vv_fail(VARVE_CORRUPT, "%s/%s: missing, or no directory", hex, name);
}

/* ---- Locators ----------------------------------------------------------------------------------- */

/* A node has the number of its first slot in use as it is, of each other the difference (docs/format.md): so one number
 * is all that has to be moved. */
varve_status vv_node_shift(struct vv_bytes *node, size_t from, uint64_t by)
{
    enum { AT = 5 + VV_HASH_SIZE };
    struct vv_reader reader = vv_reader_of(node->data + from, node->size - from);
    struct vv_bytes moved = VV_BYTES_NONE;
    varve_status rc = VARVE_OK;

    vv_bytes_put(&moved, reader.data, reader.size < AT ? reader.size : AT);
    (void)vv_reader_take(&reader, AT);
    const uint64_t number = vv_unzigzag(vv_reader_varint(&reader));
    if (reader.bad || number == 0 || number > UINT32_MAX) {
        rc = vv_fail(VARVE_CORRUPT, "a saved node of a page tree is damaged");
        goto out;
    }
    vv_bytes_varint(&moved, vv_zigzag(number + by));
    vv_bytes_put(&moved, reader.data + reader.offset, vv_reader_left(&reader));
    TRY(vv_bytes_done(&moved));
    vv_bytes_cut(node, from);
    vv_bytes_put(node, moved.data, moved.size);
    TRY(vv_bytes_done(node));
out:
    vv_bytes_release(&moved);
    return rc;
}

static varve_status read_node(void *context, uint64_t address, struct vv_bytes *bytes)
{
    struct vv_tree_version *version = context;
    struct vv_handle *handle = NULL;
    const size_t before = bytes->size;
    varve_status rc = VARVE_OK;

    if (address >> 32 != version->number)
        return vv_fail(VARVE_CORRUPT, "a node of a page tree lies in another file than its tree");
    TRY(vv_tree_version_take(version, VV_PART_NODES, &handle));
    TRY(handle->nodes.source.read(handle->nodes.source.context, address & UINT32_MAX, bytes));
    rc = vv_node_shift(bytes, before, (uint64_t)version->number << 32);
    if (rc == VARVE_CORRUPT)
        rc = vv_fail_within(rc, "%s", handle->nodes.file.name);
out:
    if (handle != NULL)
        vv_tree_version_give(handle);
    return rc;
}

/* ---- Versions ----------------------------------------------------------------------------------- */

/* What a version holds, as a key. */
enum { KEY_SIZE = 1 + 32 + 2 * (8 + VV_HASH_SIZE) + 2 * 8 };

static void put_key(uint8_t *out, const struct vv_memory_key *key)
{
    vv_put_u64(out, key->pages);
    memcpy(out + 8, key->top, VV_HASH_SIZE);
}

/* The same memory may have been written twice, as files that are not alike: these are two versions. */
static void key_of(const struct vv_listing_entry *entry, bool is_diff, uint8_t key[KEY_SIZE])
{
    uint8_t *at = key;

    *at++ = is_diff;
    memcpy(at, entry->id.bytes, 32);
    at += 32;
    put_key(at, &entry->base);
    at += 8 + VV_HASH_SIZE;
    put_key(at, is_diff ? &entry->memory : &entry->base);
    at += 8 + VV_HASH_SIZE;
    vv_put_u64(at, is_diff ? entry->diff_size : entry->nodes_size);
    vv_put_u64(at + 8, is_diff ? 0 : entry->address);
}

static void key_of_version(const struct vv_tree_version *version, uint8_t key[KEY_SIZE])
{
    const struct vv_listing_entry entry = { .id = version->module,
                                            .base = version->base,
                                            .memory = version->memory,
                                            .nodes_size = version->nodes_size,
                                            .diff_size = version->diff_size,
                                            .address = version->address };

    key_of(&entry, version->is_diff, key);
}

static struct vv_tree_version *find_version(const struct vv_shelf *shelf,
                                            const struct vv_listing_entry *entry, bool is_diff)
{
    uint8_t key[KEY_SIZE];

    key_of(entry, is_diff, key);
    const union vv_value *value = vv_table_get(&shelf->versions, key);
    return value == NULL ? NULL : value->pointer;
}

struct vv_tree_version *vv_shelf_base(const struct vv_shelf *shelf, const struct vv_listing_entry *entry)
{
    return find_version(shelf, entry, false);
}

struct vv_tree_version *vv_shelf_diff(const struct vv_shelf *shelf, const struct vv_listing_entry *entry)
{
    return entry->diff_size == 0 ? NULL : find_version(shelf, entry, true);
}

struct vv_tree_version *vv_shelf_version(const struct vv_shelf *shelf, uint32_t number)
{
    const union vv_value *value = vv_table_get(&shelf->by_number, &number);

    return value == NULL ? NULL : value->pointer;
}

static varve_status take_number(struct vv_shelf *shelf, uint32_t *number)
{
    if (shelf->last_number == UINT32_MAX)
        return vv_fail(VARVE_LIMIT,
                       "as many files as can be told apart were opened: close the store and open it again");
    *number = ++shelf->last_number;
    return VARVE_OK;
}

varve_status vv_tree_version_new(struct vv_shelf *shelf, const struct vv_listing_entry *entry, bool is_diff,
                                 struct vv_tree_version **out)
{
    struct vv_tree_version *version = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_alloc(&version, 1, sizeof *version));
    TRY(take_number(shelf, &version->number));
    version->shelf = shelf;
    version->is_diff = is_diff;
    version->module = entry->id;
    version->base = entry->base;
    version->memory = is_diff ? entry->memory : entry->base;
    version->nodes_size = entry->nodes_size;
    version->diff_size = is_diff ? entry->diff_size : 0;
    version->address = entry->address;
    for (size_t i = 0; i < 2; i++) {
        version->handles[i] = (struct vv_handle){ .version = version, .file = VV_FILE_NONE };
        version->handles[i].nodes.file = version->handles[i].overlay.file = VV_FILE_NONE;
        version->handles[i].part = is_diff ? VV_PART_DIFF : i == 0 ? VV_PART_MEMORY : VV_PART_NODES;
    }
    version->source = (struct vv_node_source){ .read = read_node, .context = version };
    if (!is_diff) {
        const uint64_t address = entry->address == 0 ? 0 : (uint64_t)version->number << 32 | entry->address;
        TRY(vv_pagetree_open(&version->tree, entry->base.pages, address, entry->base.top, &version->source));
    }
    *out = version;
    version = NULL;
out:
    vv_free(version);
    return rc;
}

static void close_handle(struct vv_handle *handle)
{
    if (!handle->open)
        return;
    handle->open = false;
    handle->version->shelf->open_count--;
    if (handle->part == VV_PART_DIFF)
        vv_overlay_close(&handle->overlay);
    else if (handle->part == VV_PART_NODES)
        vv_nodefile_close(&handle->nodes);
    else
        vv_file_close(&handle->file);
}

void vv_tree_version_free(struct vv_tree_version *version)
{
    if (version == NULL)
        return;
    for (size_t i = 0; i < 2; i++)
        close_handle(&version->handles[i]);
    if (!version->is_diff)
        vv_pagetree_release(&version->tree);
    vv_free(version);
}

varve_status vv_shelf_reserve(struct vv_shelf *shelf, size_t versions)
{
    varve_status rc = VARVE_OK;

    TRY(vv_table_reserve(&shelf->versions, versions));
    TRY(vv_table_reserve(&shelf->by_number, versions));
out:
    return rc;
}

static void leave_home(struct vv_tree_version *version)
{
    if (version->home == NULL)
        return;
    if (version->previous != NULL)
        version->previous->next = version->next;
    else
        version->home->versions = version->next;
    if (version->next != NULL)
        version->next->previous = version->previous;
    version->home = NULL;
    version->next = version->previous = NULL;
}

static void move_home(struct vv_tree_version *version, struct vv_folder *home)
{
    if (version->home == home)
        return;
    leave_home(version);
    version->home = home;
    version->next = home->versions;
    if (version->next != NULL)
        version->next->previous = version;
    home->versions = version;
}

bool vv_shelf_put(struct vv_shelf *shelf, struct vv_tree_version *version, struct vv_folder *home)
{
    uint8_t key[KEY_SIZE];

    key_of_version(version, key);
    if (vv_table_get(&shelf->versions, key) != NULL)
        return false;
    const union vv_value value = { .pointer = version };
    const varve_status first = vv_table_put(&shelf->versions, key, value);
    const varve_status second = vv_table_put(&shelf->by_number, &version->number, value);
    VV_ASSERT(first == VARVE_OK && second == VARVE_OK); /* there is room */
    move_home(version, home);
    return true;
}

/* (D2) */
static void drop_version(struct vv_shelf *shelf, struct vv_tree_version *version)
{
    uint8_t key[KEY_SIZE];

    key_of_version(version, key);
    (void)vv_table_remove(&shelf->versions, key, NULL);
    (void)vv_table_remove(&shelf->by_number, &version->number, NULL);
    leave_home(version);
    version->homeless = true;
    if (version->uses == 0)
        vv_tree_version_free(version);
}

/* ---- Files -------------------------------------------------------------------------------------- */

static struct vv_handle *handle_of(struct vv_tree_version *version, enum vv_part part)
{
    return &version->handles[part == VV_PART_NODES];
}

static varve_status check_length(const struct vv_file *file, uint64_t wanted)
{
    uint64_t size = 0;
    varve_status rc = VARVE_OK;

    TRY(vv_file_size(file, &size));
    if (size != wanted)
        rc = vv_fail(VARVE_CORRUPT, "%s: %llu bytes long, where %llu should be", file->name,
                     (unsigned long long)size, (unsigned long long)wanted);
out:
    return rc;
}

static varve_status open_memory(const struct vv_dir *dir, const char *name, const char *path,
                                struct vv_handle *handle)
{
    const struct vv_tree_version *version = handle->version;
    varve_status rc = VARVE_OK;

    TRY(vv_file_open(dir, name, VV_OPEN_READ, &handle->file));
    (void)snprintf(handle->file.name, sizeof handle->file.name, "%s", path);
    rc = check_length(&handle->file, version->base.pages * VV_PAGE_SIZE);
    if (rc != VARVE_OK)
        vv_file_close(&handle->file);
out:
    return rc;
}

static varve_status open_nodes(const struct vv_dir *dir, const char *name, const char *path,
                               struct vv_handle *handle)
{
    const struct vv_tree_version *version = handle->version;
    varve_status rc = VARVE_OK;

    TRY(vv_nodefile_open(dir, name, false, version->nodes_size, 0, &handle->nodes));
    (void)snprintf(handle->nodes.file.name, sizeof handle->nodes.file.name, "%s", path);
    rc = check_length(&handle->nodes.file, version->nodes_size);
    if (rc != VARVE_OK)
        vv_nodefile_close(&handle->nodes);
out:
    return rc;
}

static varve_status open_overlay(const struct vv_dir *dir, const char *name, const char *path,
                                 struct vv_handle *handle)
{
    const struct vv_tree_version *version = handle->version;
    varve_status rc = VARVE_OK;

    TRY(vv_overlay_open(dir, name, &handle->overlay));
    (void)snprintf(handle->overlay.file.name, sizeof handle->overlay.file.name, "%s", path);
    rc = check_length(&handle->overlay.file, version->diff_size);
    if (rc == VARVE_OK && (memcmp(&handle->overlay.module, &version->module, sizeof version->module) != 0 ||
                           !vv_memory_key_equal(&handle->overlay.base, &version->base) ||
                           !vv_memory_key_equal(&handle->overlay.memory, &version->memory)))
        rc = vv_fail(VARVE_CORRUPT, "%s: it is the diff of another memory", path);
    if (rc != VARVE_OK)
        vv_overlay_close(&handle->overlay);
out:
    return rc;
}

static varve_status open_handle(struct vv_shelf *shelf, struct vv_handle *handle)
{
    const struct vv_tree_version *version = handle->version;
    struct vv_dir root = VV_DIR_NONE, dir = VV_DIR_NONE;
    char name[VV_PART_NAME], path[160];
    varve_status rc = VARVE_OK;

    VV_ASSERT(version->home != NULL);
    vv_part_name(&version->module, handle->part, name);
    vv_part_path(&version->home->root, &version->module, handle->part, path);
    TRY(vv_root_open(shelf->dir, &version->home->root, &root));
    TRY(vv_root_open_in(&root, vv_part_dirs[handle->part], &version->home->root, &dir));
    rc = handle->part == VV_PART_MEMORY  ? open_memory(&dir, name, path, handle)
         : handle->part == VV_PART_NODES ? open_nodes(&dir, name, path, handle)
                                         : open_overlay(&dir, name, path, handle);
    if (rc == VARVE_NOT_FOUND)
        rc = vv_fail(VARVE_CORRUPT, "%s: the file is missing", path);
    else if (rc == VARVE_CORRUPT && strstr(vv_words(), path) == NULL)
        rc = vv_fail_within(rc, "%s", path);
    TRY(rc);
    handle->open = true;
    shelf->open_count++;
out:
    vv_dir_close(&dir);
    vv_dir_close(&root);
    return rc;
}

static void close_idle(struct vv_shelf *shelf)
{
    size_t cursor = 0;
    const void *key = NULL;
    union vv_value *value = NULL;
    struct vv_handle *oldest = NULL;

    while (vv_table_next(&shelf->by_number, &cursor, &key, &value)) {
        struct vv_tree_version *version = value->pointer;
        for (size_t i = 0; i < 2; i++) {
            struct vv_handle *handle = &version->handles[i];
            if (handle->open && handle->uses == 0 && (oldest == NULL || handle->used < oldest->used))
                oldest = handle;
        }
    }
    if (oldest != NULL)
        close_handle(oldest);
}

varve_status vv_tree_version_take(struct vv_tree_version *version, enum vv_part part, struct vv_handle **out)
{
    struct vv_shelf *shelf = version->shelf;
    struct vv_handle *handle = handle_of(version, part);
    varve_status rc = VARVE_OK;

    vv_shelf_lock(shelf);
    if (!handle->open) {
        if (shelf->open_count >= OPEN_FILES)
            close_idle(shelf);
        TRY(open_handle(shelf, handle));
    }
    handle->uses++;
    handle->used = ++shelf->clock;
    version->uses++;
    *out = handle;
out:
    vv_shelf_unlock(shelf);
    return rc;
}

void vv_tree_version_give(struct vv_handle *handle)
{
    struct vv_tree_version *version = handle->version;
    struct vv_shelf *shelf = version->shelf;

    vv_shelf_lock(shelf);
    VV_ASSERT(handle->uses > 0);
    handle->uses--;
    version->uses--;
    if (version->homeless && version->uses == 0)
        vv_tree_version_free(version);
    else if (handle->uses == 0 && shelf->open_count > OPEN_FILES)
        close_handle(handle);
    vv_shelf_unlock(shelf);
}

bool vv_shelf_is_crowded(struct vv_shelf *shelf)
{
    vv_shelf_lock(shelf);
    const bool crowded = shelf->open_count > OPEN_FILES;
    vv_shelf_unlock(shelf);
    return crowded;
}

/* ---- Directories -------------------------------------------------------------------------------- */

void vv_shelf_init(struct vv_shelf *shelf, const struct vv_dir *dir, const struct vv_module_source *modules)
{
    *shelf = (struct vv_shelf){ .dir = dir, .modules = *modules };
    VV_ASSERT(pthread_mutex_init(&shelf->mutex, NULL) == 0);
    vv_table_init(&shelf->roots, sizeof(varve_root));
    vv_table_init(&shelf->numbers, sizeof(uint32_t));
    vv_table_init(&shelf->versions, KEY_SIZE);
    vv_table_init(&shelf->by_number, sizeof(uint32_t));
}

static void unload(struct vv_shelf *shelf, struct vv_folder *folder)
{
    if (folder->has_state)
        vv_state_release(&folder->state);
    folder->has_state = false;
    if (!folder->has_index)
        return;
    vv_listing_release(&folder->index);
    folder->has_index = false;
    shelf->loaded_count--;
}

void vv_shelf_drop(struct vv_shelf *shelf, struct vv_folder *folder)
{
    VV_ASSERT(folder->pins == 0);
    unload(shelf, folder);
    while (folder->versions != NULL)
        drop_version(shelf, folder->versions);
    (void)vv_table_remove(&shelf->roots, &folder->root, NULL);
    (void)vv_table_remove(&shelf->numbers, &folder->number, NULL);
    vv_free(folder);
}

void vv_shelf_release(struct vv_shelf *shelf)
{
    size_t cursor = 0;
    const void *key = NULL;
    union vv_value *value = NULL;

    if (shelf->dir == NULL)
        return;
    while (vv_table_next(&shelf->numbers, &cursor, &key, &value)) {
        struct vv_folder *folder = value->pointer;
        unload(shelf, folder);
        vv_free(folder);
    }
    cursor = 0;
    while (vv_table_next(&shelf->by_number, &cursor, &key, &value))
        vv_tree_version_free(value->pointer);
    vv_table_release(&shelf->roots);
    vv_table_release(&shelf->numbers);
    vv_table_release(&shelf->versions);
    vv_table_release(&shelf->by_number);
    (void)pthread_mutex_destroy(&shelf->mutex);
    shelf->dir = NULL;
}

struct vv_folder *vv_shelf_folder(const struct vv_shelf *shelf, const varve_root *root)
{
    const union vv_value *value = vv_table_get(&shelf->roots, root);

    return value == NULL ? NULL : value->pointer;
}

struct vv_folder *vv_shelf_numbered(const struct vv_shelf *shelf, uint32_t number)
{
    const union vv_value *value = vv_table_get(&shelf->numbers, &number);

    return value == NULL ? NULL : value->pointer;
}

varve_status vv_shelf_add(struct vv_shelf *shelf, const varve_root *root, struct vv_folder **out)
{
    struct vv_folder *folder = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_alloc(&folder, 1, sizeof *folder));
    folder->root = *root;
    TRY(vv_table_reserve(&shelf->roots, 1));
    TRY(vv_table_reserve(&shelf->numbers, 1));
    TRY(take_number(shelf, &folder->number));
    const union vv_value value = { .pointer = folder };
    const varve_status first = vv_table_put(&shelf->roots, root, value);
    const varve_status second = vv_table_put(&shelf->numbers, &folder->number, value);
    VV_ASSERT(first == VARVE_OK && second == VARVE_OK); /* there is room */
    *out = folder;
    folder = NULL;
out:
    vv_free(folder);
    return rc;
}

static void unload_idle(struct vv_shelf *shelf)
{
    size_t cursor = 0;
    const void *key = NULL;
    union vv_value *value = NULL;
    struct vv_folder *oldest = NULL;

    while (vv_table_next(&shelf->numbers, &cursor, &key, &value)) {
        struct vv_folder *folder = value->pointer;
        if (folder->has_index && folder->pins == 0 && (oldest == NULL || folder->used < oldest->used))
            oldest = folder;
    }
    if (oldest != NULL)
        unload(shelf, oldest);
}

static varve_status read_index(const struct vv_shelf *shelf, struct vv_folder *folder)
{
    struct vv_dir dir = VV_DIR_NONE;
    uint8_t *bytes = NULL;
    size_t size = 0;
    char hex[65];
    varve_status rc = VARVE_OK;

    vv_hex_format(folder->root.bytes, hex);
    TRY(vv_root_open(shelf->dir, &folder->root, &dir));
    rc = vv_dir_read(&dir, "index", LISTING_MAX, &bytes, &size);
    if (rc == VARVE_NOT_FOUND)
        rc = vv_fail(VARVE_CORRUPT, "%s/index: the file is missing", hex);
    TRY(rc);
    rc = vv_listing_decode(bytes, size, &folder->index);
    if (rc == VARVE_OK && memcmp(&folder->index.root, &folder->root, sizeof folder->root) != 0) {
        vv_listing_release(&folder->index);
        rc = vv_fail(VARVE_CORRUPT, "it is of another root than its directory");
    }
    if (rc == VARVE_CORRUPT)
        rc = vv_fail_within(rc, "%s/index", hex);
out:
    vv_dir_close(&dir);
    return rc;
}

varve_status vv_shelf_pin(struct vv_shelf *shelf, struct vv_folder *folder)
{
    varve_status rc = VARVE_OK;

    if (!folder->has_index) {
        if (shelf->loaded_count >= LOADED)
            unload_idle(shelf);
        TRY(read_index(shelf, folder));
        folder->has_index = true;
        shelf->loaded_count++;
    }
    folder->pins++;
    folder->used = ++shelf->clock;
out:
    return rc;
}

void vv_shelf_unpin(struct vv_shelf *shelf, struct vv_folder *folder)
{
    VV_ASSERT(folder->pins > 0);
    if (--folder->pins == 0 && shelf->loaded_count > LOADED)
        unload(shelf, folder);
}

/* How long a directory stays: those that are there longest; of the doomed, the one that was doomed last. */
static uint64_t staying(const struct vv_folder *folder)
{
    return folder == NULL ? 0 : folder->doomed_in == 0 ? UINT64_MAX : folder->doomed_in;
}

/* The base, or the diff, of an entry; it is at home here now, or where it stays as long (D1). */
static varve_status settle(struct vv_shelf *shelf, struct vv_folder *folder,
                           const struct vv_listing_entry *entry, bool is_diff, struct vv_tree_version **out)
{
    struct vv_tree_version *version = find_version(shelf, entry, is_diff);
    varve_status rc = VARVE_OK;

    if (version == NULL) {
        TRY(vv_tree_version_new(shelf, entry, is_diff, &version));
        rc = vv_shelf_reserve(shelf, 1);
        if (rc != VARVE_OK) {
            vv_tree_version_free(version);
            goto out;
        }
        (void)vv_shelf_put(shelf, version, folder);
    }
    if (staying(folder) > staying(version->home))
        move_home(version, folder);
    *out = version;
out:
    return rc;
}

varve_status vv_shelf_look(struct vv_shelf *shelf, struct vv_folder *folder, uint64_t generation)
{
    varve_status rc = VARVE_OK;

    VV_ASSERT(folder->pins > 0);
    if (folder->viewed == generation + 1)
        return VARVE_OK;
    if (folder->has_state) /* its trees may be of versions that went */
        vv_state_release(&folder->state);
    folder->has_state = false;
    for (size_t i = 0; i < folder->index.count; i++) {
        const struct vv_listing_entry *entry = &folder->index.entries[i];
        struct vv_tree_version *base = NULL, *diff = NULL;
        TRY(settle(shelf, folder, entry, false, &base));
        if (entry->diff_size == 0)
            continue;
        TRY(settle(shelf, folder, entry, true, &diff));
        diff->below = base;
    }
    folder->viewed = generation + 1;
out:
    return rc;
}

varve_status vv_shelf_state(struct vv_shelf *shelf, struct vv_folder *folder, struct vv_state *state)
{
    varve_status rc = VARVE_OK;
    char hex[65];

    VV_ASSERT(folder->pins > 0);
    if (!folder->has_state) {
        rc =
            vv_listing_state(&folder->index, &shelf->modules, (uint64_t)folder->number << 32, &folder->state);
        if (rc == VARVE_CORRUPT) {
            vv_hex_format(folder->root.bytes, hex);
            rc = vv_fail_within(rc, "%s/index", hex);
        }
        TRY(rc);
        folder->has_state = true;
    }
    TRY(vv_state_copy(state, &folder->state));
out:
    return rc;
}
