/* check.c - read every byte of a tree, believe nothing, report; nothing is opened for writing.
 *
 * Each directory by itself, for it is complete in itself: its index, whose root is computed; for each module its
 * bytecode, the saved nodes, the base image page by page against them, the diff page by page, and the leaf that all of
 * it comes to. A file with many names is read once. What no commit needs is told with less than damage. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "page/root.h"
#include "store/codepool.h"
#include "store/plain/memfile.h"
#include "store/tree/place.h"

struct checker {
    const struct vv_dir *dir;
    const struct vv_layout_options *options;
    uint32_t flags;
    uint64_t damage;
    struct vv_place *place;
    struct vv_table read; /* inodes of files that were read and are sound */
    uint64_t directories;
    /* The directory that is being looked at. */
    const varve_root *root;
    const varve_commit_id *commit; /* the first that has it */
    const struct vv_listing *listing;
    struct vv_dir own, memory, tree, bytecode;
    /* The module. */
    const struct vv_listing_entry *entry;
    bool sound;
};

static void tell_finding(struct checker *checker, const varve_finding *finding)
{
    checker->damage += finding->severity == VARVE_DAMAGE;
    if (checker->options->finding != NULL)
        checker->options->finding(checker->options->context, finding);
}

static void tell_from_open(void *context, const varve_finding *finding)
{
    tell_finding(context, finding);
}

static void tell(struct checker *checker, varve_severity severity, const char *file, const char *text)
{
    tell_finding(checker, &(varve_finding){ .severity = severity,
                                            .file = file,
                                            .commit = checker->commit,
                                            .module = checker->entry == NULL ? NULL : &checker->entry->id,
                                            .text = text });
}

/* A failure that is damage is told and passed over; any other one ends the check. `part`: of the module's files. */
static varve_status pass_damage(struct checker *checker, varve_status rc, const char *path)
{
    if (rc != VARVE_CORRUPT && rc != VARVE_NOT_FOUND)
        return rc;
    checker->sound = false;
    tell(checker, VARVE_DAMAGE, path, vv_words());
    return VARVE_OK;
}

static varve_status pass_part(struct checker *checker, varve_status rc, enum vv_part part)
{
    char path[160];

    vv_part_path(checker->root, &checker->entry->id, part, path);
    return pass_damage(checker, rc, path);
}

/* ---- Files that were read ----------------------------------------------------------------------- */

static varve_status inode_of(const struct vv_file *file, uint64_t *inode)
{
    uint64_t size = 0, allocated = 0;
    const int number = file->vfs->size(file->vfs, file->fd, &size, &allocated, inode);

    return number == 0 ? VARVE_OK : vv_fail_errno(number, "look at %s", file->name);
}

static varve_status was_read(const struct checker *checker, const struct vv_file *file, bool *read)
{
    uint64_t inode = 0;
    const varve_status rc = inode_of(file, &inode);

    *read = rc == VARVE_OK && vv_table_get(&checker->read, &inode) != NULL;
    return rc;
}

static varve_status note_read(struct checker *checker, const struct vv_file *file)
{
    uint64_t inode = 0;
    varve_status rc = VARVE_OK;

    TRY(inode_of(file, &inode));
    TRY(vv_table_put(&checker->read, &inode, (union vv_value){ .number = 1 }));
out:
    return rc;
}

/* ---- A module ----------------------------------------------------------------------------------- */

struct module_files {
    struct vv_nodefile nodes;
    struct vv_file image;
    struct vv_overlay overlay;
    struct vv_pagetree base, tree; /* of the base image; of the memory */
};

static void bad_image_page(void *context, uint64_t index)
{
    struct checker *checker = context;
    char text[100], path[160];

    checker->sound = false;
    (void)snprintf(text, sizeof text, "page %llu is not what was committed", (unsigned long long)index);
    vv_part_path(checker->root, &checker->entry->id, VV_PART_MEMORY, path);
    tell(checker, VARVE_DAMAGE, path, text);
}

static varve_status check_length(const struct vv_file *file, uint64_t wanted)
{
    uint64_t size = 0;
    varve_status rc = VARVE_OK;

    TRY(vv_file_size(file, &size));
    if (size != wanted)
        rc = vv_fail(VARVE_CORRUPT, "%llu bytes long, where %llu should be", (unsigned long long)size,
                     (unsigned long long)wanted);
out:
    return rc;
}

static varve_status check_nodes(struct checker *checker, struct module_files *files)
{
    const struct vv_listing_entry *entry = checker->entry;
    char name[VV_PART_NAME];
    bool read = false;
    varve_status rc = VARVE_OK;

    vv_part_name(&entry->id, VV_PART_NODES, name);
    TRY(vv_nodefile_open(&checker->tree, name, false, entry->nodes_size, 0, &files->nodes));
    TRY(check_length(&files->nodes.file, entry->nodes_size));
    TRY(was_read(checker, &files->nodes.file, &read));
    if (!read)
        TRY(vv_nodefile_check(&files->nodes));
    TRY(vv_pagetree_open(&files->base, entry->base.pages, entry->address, entry->base.top,
                         &files->nodes.source));
    TRY(note_read(checker, &files->nodes.file));
out:
    return rc;
}

static varve_status check_image(struct checker *checker, struct module_files *files)
{
    const struct vv_listing_entry *entry = checker->entry;
    char name[VV_PART_NAME];
    bool read = false;
    varve_status rc = VARVE_OK;

    vv_part_name(&entry->id, VV_PART_MEMORY, name);
    TRY(vv_file_open(&checker->memory, name, VV_OPEN_READ, &files->image));
    TRY(check_length(&files->image, entry->base.pages * VV_PAGE_SIZE));
    TRY(was_read(checker, &files->image, &read));
    if (read || (checker->flags & VARVE_CHECK_QUICK) != 0)
        goto out;
    TRY(vv_memfile_check(&files->image, &files->base, bad_image_page, checker));
    if (checker->sound)
        TRY(note_read(checker, &files->image));
out:
    return rc;
}

static varve_status check_overlay_page(const struct module_files *files, const struct vv_frame *frame,
                                       const struct vv_overlay_page *page)
{
    uint8_t bytes[VV_PAGE_SIZE] = { 0 };
    uint8_t found[1][VV_HASH_SIZE] = { { 0 } };
    const uint8_t *pages[1] = { bytes };
    struct vv_leaf leaf;
    bool present = false;
    varve_status rc = VARVE_OK;

    if (page->index < files->base.page_count)
        TRY(vv_pagetree_get(&files->base, page->index, &leaf, &present));
    if (present)
        TRY(vv_memfile_read(&files->image, page->index, leaf.hash, bytes));
    TRY(vv_frame_page(frame, page->slot, bytes));
    if (!vv_page_is_zero(bytes))
        vv_hash_pages(pages, 1, found);
    if (!vv_hash_equal(found[0], page->hash))
        rc = vv_fail(VARVE_CORRUPT, "page %llu is not what was committed", (unsigned long long)page->index);
out:
    return rc;
}

/* Every frame, and every page that the directory names in it. */
static varve_status check_frames(const struct module_files *files)
{
    const struct vv_overlay *overlay = &files->overlay;
    struct vv_codec codec = VV_CODEC_NONE;
    struct vv_frame frame = VV_FRAME_NONE;
    varve_status rc = VARVE_OK;

    for (uint32_t i = 0; i < overlay->frame_count; i++) {
        TRY(vv_overlay_frame(overlay, i, &codec, &frame));
        for (size_t k = 0; k < overlay->page_count; k++)
            if (overlay->pages[k].frame == i)
                TRY(check_overlay_page(files, &frame, &overlay->pages[k]));
        vv_frame_release(&frame);
    }
out:
    vv_frame_release(&frame);
    vv_codec_release(&codec);
    return rc;
}

static varve_status check_overlay(struct checker *checker, struct module_files *files)
{
    const struct vv_listing_entry *entry = checker->entry;
    char name[VV_PART_NAME];
    bool read = false;
    varve_status rc = VARVE_OK;

    vv_part_name(&entry->id, VV_PART_DIFF, name);
    TRY(vv_overlay_open(&checker->memory, name, &files->overlay));
    TRY(check_length(&files->overlay.file, entry->diff_size));
    if (memcmp(&files->overlay.module, &entry->id, sizeof entry->id) != 0 ||
        !vv_memory_key_equal(&files->overlay.base, &entry->base) ||
        !vv_memory_key_equal(&files->overlay.memory, &entry->memory))
        TRY(vv_fail(VARVE_CORRUPT, "it is the diff of another memory"));
    TRY(was_read(checker, &files->overlay.file, &read));
    if (!read && (checker->flags & VARVE_CHECK_QUICK) == 0)
        TRY(check_frames(files));
    TRY(vv_pagetree_resize(&files->tree, entry->memory.pages));
    for (size_t i = 0; i < files->overlay.page_count; i++) {
        const struct vv_overlay_page *page = &files->overlay.pages[i];
        struct vv_leaf leaf = { .locator = 1 };
        memcpy(leaf.hash, page->hash, VV_HASH_SIZE);
        TRY(vv_pagetree_set(&files->tree, page->index, page->frame == VV_OVERLAY_ZERO ? NULL : &leaf));
    }
    TRY(note_read(checker, &files->overlay.file));
out:
    return rc;
}

/* What all of it comes to must be the leaf in the index, whose root is the directory's name. */
static varve_status check_leaf(struct checker *checker, struct vv_module *module, struct module_files *files)
{
    uint8_t leaf[VV_HASH_SIZE];
    varve_status rc = VARVE_OK;

    vv_pagetree_release(&module->memory);
    vv_pagetree_copy(&module->memory, &files->tree);
    TRY(vv_module_leaf(module, leaf));
    if (!vv_hash_equal(leaf, checker->entry->leaf))
        rc = vv_fail(VARVE_CORRUPT, "what its files hold is not what its leaf says");
out:
    return rc;
}

static varve_status check_code(struct checker *checker, const struct vv_module *module)
{
    char name[65], root[65], path[160];
    struct vv_file file = VV_FILE_NONE;
    uint8_t found[VV_HASH_SIZE];
    uint8_t *code = NULL;
    size_t size = 0;
    bool read = false;
    varve_status rc = VARVE_OK;

    if (checker->entry->has_code == vv_hash_is_zero(module->code))
        return pass_damage(
            checker, vv_fail(VARVE_CORRUPT, "the index is of two minds whether a module has code"), NULL);
    if (!checker->entry->has_code)
        return VARVE_OK;
    vv_hex_format(checker->entry->id.bytes, name);
    vv_hex_format(checker->root->bytes, root);
    (void)snprintf(path, sizeof path, "%s/bytecode/%s", root, name);
    rc = vv_file_open(&checker->bytecode, name, VV_OPEN_READ, &file);
    if (rc != VARVE_OK)
        return pass_damage(checker, rc, path);
    TRY(was_read(checker, &file, &read));
    if (read)
        goto out;
    rc = vv_dir_read(&checker->bytecode, name, VV_CODE_SIZE_MAX, &code, &size);
    if (rc == VARVE_OK) {
        vv_code_hash(code, size, found);
        if (!vv_hash_equal(found, module->code))
            rc = vv_fail(VARVE_CORRUPT, "its bytes have another hash");
    }
    if (rc == VARVE_OK)
        rc = note_read(checker, &file);
    TRY(pass_damage(checker, rc, path));
out:
    vv_free(code);
    vv_file_close(&file);
    return rc;
}

static varve_status check_module(struct checker *checker)
{
    struct module_files files = { .nodes = { .file = VV_FILE_NONE },
                                  .image = VV_FILE_NONE,
                                  .overlay = VV_OVERLAY_NONE };
    struct vv_module *module = NULL;
    varve_status rc = VARVE_OK;

    checker->sound = true;
    rc = vv_listing_module(checker->entry, &module);
    TRY(pass_damage(checker, rc, NULL));
    if (!checker->sound)
        goto out;
    TRY(check_code(checker, module));
    TRY(pass_part(checker, check_nodes(checker, &files), VV_PART_NODES));
    if (checker->sound)
        TRY(pass_part(checker, check_image(checker, &files), VV_PART_MEMORY));
    if (checker->sound)
        vv_pagetree_copy(&files.tree, &files.base);
    if (checker->sound && checker->entry->diff_size > 0)
        TRY(pass_part(checker, check_overlay(checker, &files), VV_PART_DIFF));
    if (checker->sound)
        TRY(pass_part(checker, check_leaf(checker, module, &files), VV_PART_MEMORY));
out:
    vv_module_drop(module);
    vv_pagetree_release(&files.tree);
    vv_pagetree_release(&files.base);
    vv_overlay_close(&files.overlay);
    vv_file_close(&files.image);
    vv_nodefile_close(&files.nodes);
    return rc;
}

/* ---- A directory -------------------------------------------------------------------------------- */

static void odd_name(struct checker *checker, const char *part, const char *name)
{
    char path[400], root[65];

    vv_hex_format(checker->root->bytes, root);
    (void)snprintf(path, sizeof path, "%s/%s%s%.200s", root, part, part[0] == '\0' ? "" : "/", name);
    tell(checker, VARVE_WARNING, path, "no module of this commit has such a file");
}

static int check_name(void *context, const char *name)
{
    static const char *const names[] = { "index", "bytecode", "memory", "tree" };
    bool known = false;

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        known = known || strcmp(name, names[i]) == 0;
    if (!known)
        odd_name(context, "", name);
    return 0;
}

/* The module that a file's name is of; NULL: it is of none. */
static const struct vv_listing_entry *owner_of(const struct checker *checker, const char *name,
                                               const char **rest)
{
    char hex[65], canonical[65];
    varve_module_id id;

    if (strlen(name) < 64)
        return NULL;
    memcpy(hex, name, 64);
    hex[64] = '\0';
    if (vv_hex_parse(hex, id.bytes) != VARVE_OK)
        return NULL;
    vv_hex_format(id.bytes, canonical);
    *rest = name + 64;
    return strcmp(hex, canonical) == 0 ? vv_listing_find(checker->listing, &id) : NULL;
}

static int check_memory_name(void *context, const char *name)
{
    const char *rest = "";
    const struct vv_listing_entry *entry = owner_of(context, name, &rest);

    if (entry == NULL || !(rest[0] == '\0' || (strcmp(rest, ".diff") == 0 && entry->diff_size > 0)))
        odd_name(context, "memory", name);
    return 0;
}

static int check_tree_name(void *context, const char *name)
{
    const char *rest = "";

    if (owner_of(context, name, &rest) == NULL || rest[0] != '\0')
        odd_name(context, "tree", name);
    return 0;
}

static int check_code_name(void *context, const char *name)
{
    const char *rest = "";
    const struct vv_listing_entry *entry = owner_of(context, name, &rest);

    if (entry == NULL || !entry->has_code || rest[0] != '\0')
        odd_name(context, "bytecode", name);
    return 0;
}

static varve_status open_folders(struct checker *checker)
{
    varve_status rc = VARVE_OK;

    TRY(vv_root_open(checker->dir, checker->root, &checker->own));
    TRY(vv_root_open_in(&checker->own, "bytecode", checker->root, &checker->bytecode));
    TRY(vv_root_open_in(&checker->own, "memory", checker->root, &checker->memory));
    TRY(vv_root_open_in(&checker->own, "tree", checker->root, &checker->tree));
out:
    return rc;
}

static void close_folders(struct checker *checker)
{
    vv_dir_close(&checker->own);
    vv_dir_close(&checker->bytecode);
    vv_dir_close(&checker->memory);
    vv_dir_close(&checker->tree);
}

/* The index, whose root is computed from what it says. */
static varve_status check_index(const struct checker *checker, struct vv_folder *folder)
{
    struct vv_state state = { .fresh = NULL };
    varve_status rc = VARVE_OK;

    (void)checker;
    rc = vv_shelf_state(&checker->place->shelf, folder, &state);
    if (rc == VARVE_OK)
        vv_state_release(&state);
    return rc;
}

static varve_status check_modules(struct checker *checker, struct vv_folder *folder)
{
    varve_status rc = VARVE_OK;

    checker->listing = &folder->index;
    TRY(vv_dir_each(&checker->own, check_name, checker));
    TRY(vv_dir_each(&checker->memory, check_memory_name, checker));
    TRY(vv_dir_each(&checker->tree, check_tree_name, checker));
    TRY(vv_dir_each(&checker->bytecode, check_code_name, checker));
    for (size_t i = 0; i < folder->index.count; i++) {
        checker->entry = &folder->index.entries[i];
        TRY(check_module(checker));
    }
out:
    checker->entry = NULL;
    return rc;
}

static varve_status check_directory(struct checker *checker, struct vv_folder *folder)
{
    struct vv_shelf *shelf = &checker->place->shelf;
    varve_progress progress = { .what = "reading commits", .unit = "directories" };
    char hex[65];
    varve_status rc = VARVE_OK;

    vv_hex_format(checker->root->bytes, hex);
    progress.done = ++checker->directories;
    progress.total = shelf->roots.count;
    if (checker->options->progress != NULL &&
        checker->options->progress(checker->options->context, &progress) != 0)
        return vv_fail(VARVE_CANCELLED, "the check was stopped");
    if (folder->missing)
        return VARVE_OK; /* told at open */
    vv_shelf_lock(shelf);
    rc = vv_shelf_pin(shelf, folder);
    if (rc == VARVE_OK) {
        rc = check_index(checker, folder);
        if (rc != VARVE_OK)
            vv_shelf_unpin(shelf, folder);
    }
    vv_shelf_unlock(shelf);
    if (rc != VARVE_OK)
        return pass_damage(checker, rc, hex);
    rc = open_folders(checker);
    if (rc == VARVE_OK)
        rc = check_modules(checker, folder);
    else
        rc = pass_damage(checker, rc, hex);
    close_folders(checker);
    vv_shelf_lock(shelf);
    vv_shelf_unpin(shelf, folder);
    vv_shelf_unlock(shelf);
    return rc;
}

static varve_status check_directories(struct checker *checker)
{
    const struct vv_plain *plain = &checker->place->plain;
    struct vv_table seen;
    varve_status rc = VARVE_OK;

    vv_table_init(&seen, sizeof(varve_root));
    for (size_t i = 0; i < plain->commit_count; i++) {
        const struct vv_plain_commit *commit = plain->commits[i];
        if (commit->removed || vv_table_get(&seen, &commit->facts.root) != NULL)
            continue;
        TRY(vv_table_put(&seen, &commit->facts.root, (union vv_value){ .number = 1 }));
        struct vv_folder *folder = vv_shelf_folder(&checker->place->shelf, &commit->facts.root);
        VV_ASSERT(folder != NULL);
        checker->root = &commit->facts.root;
        checker->commit = &commit->facts.id;
        TRY(check_directory(checker, folder));
    }
out:
    checker->commit = NULL;
    vv_table_release(&seen);
    return rc;
}

/* ---- All of it ---------------------------------------------------------------------------------- */

static void check_pool(void *context, const char *name, varve_status status)
{
    struct checker *checker = context;
    char path[300];

    (void)snprintf(path, sizeof path, ".varve/code/%.200s", name);
    if (status != VARVE_OK)
        tell(checker, status == VARVE_INVALID ? VARVE_WARNING : VARVE_DAMAGE, path, vv_words());
}

static int check_store_name(void *context, const char *name)
{
    char canonical[65];
    uint8_t id[32];
    const bool ours =
        strncmp(name, ".tmp-", 5) == 0 || strncmp(name, ".trash-", 7) == 0 || strcmp(name, ".varve") == 0;

    if (ours)
        return 0;
    if (vv_hex_parse(name, id) == VARVE_OK) {
        vv_hex_format(id, canonical);
        if (strcmp(name, canonical) == 0)
            return 0;
    }
    tell(context, VARVE_WARNING, name, "no file of this store has such a name");
    return 0;
}

varve_status vv_tree_check(const struct vv_dir *dir, const struct vv_layout_options *options, uint32_t flags,
                           uint64_t *damage)
{
    struct checker checker = { .dir = dir,
                               .options = options,
                               .flags = flags,
                               .own = VV_DIR_NONE,
                               .memory = VV_DIR_NONE,
                               .tree = VV_DIR_NONE,
                               .bytecode = VV_DIR_NONE };
    struct vv_layout_options told = *options;
    varve_status rc = VARVE_OK;

    if (flags & VARVE_CHECK_REPAIR)
        return vv_fail(VARVE_UNSUPPORTED,
                       "the layout tree is not repaired in place: delete the commits whose directories "
                       "are damaged, or take what still opens into a new store with `varve clone --salvage`");
    told.read_only = true;
    told.finding = tell_from_open;
    told.context = &checker;
    vv_table_init(&checker.read, sizeof(uint64_t));
    TRY(vv_dir_each(dir, check_store_name, &checker));
    TRY(vv_codepool_check(dir, check_pool, &checker));
    TRY(vv_tree_open(dir, &told, &checker.place));
    TRY(check_directories(&checker));
out:
    vv_tree_close(checker.place);
    vv_table_release(&checker.read);
    *damage = checker.damage;
    return rc;
}
