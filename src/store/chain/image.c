/* image.c - full images: mapped by sessions, followed by commits, made anew from the truth: see place.h.
 *
 *   first image    written once; the truth of the line's first version
 *   newest image   follows commit by commit: renamed to the new version's name and patched where it lies; or, while
 *                  somebody maps it, copied and the copy patched (C2)
 * Who maps what is a list of held files. One whose name is another file's by now stays open until nobody maps it. */
#include <string.h>

#include "base/alloc.h"
#include "base/plant.h"
#include "store/chain/place.h"
#include "store/plain/memfile.h"

enum {
    NEARER = 8, /* sessions are told of a nearer file when an eighth of a memory changed */
    STAMP_MAGIC = 16,
    STAMP_ENTRY = 32 + VV_HASH_SIZE + 8,
    STAMP_SUM = 16,
    STAMP_LIMIT = 1 << 28
};
static const uint8_t stamp_magic[STAMP_MAGIC + 1] = "varve images 1\n\0";
#define STAMP_NAME "images"

static void lock_held(struct vv_place *place)
{
    VV_ASSERT(pthread_mutex_lock(&place->holding) == 0);
}

static void unlock_held(struct vv_place *place)
{
    VV_ASSERT(pthread_mutex_unlock(&place->holding) == 0);
}

/* ---- For sessions ------------------------------------------------------------------------------- */

struct counting {
    uint64_t count, most;
};

static varve_status count_one(void *context, uint64_t index, const struct vv_leaf *from,
                              const struct vv_leaf *to)
{
    struct counting *counting = context;

    (void)index;
    (void)from;
    (void)to;
    return ++counting->count >= counting->most ? VARVE_END : VARVE_OK;
}

/* Does the image of `version` differ from `wanted` in fewer pages than `most`? Then that many it is. */
static bool is_nearer(const struct vv_version *version, const struct vv_pagetree *wanted, uint64_t *most)
{
    struct counting counting = { .most = *most };

    if (*most == 0 || vv_pagetree_diff(&version->module->memory, wanted, count_one, &counting) != VARVE_OK)
        return false;
    *most = counting.count;
    return true;
}

/* The held file of this image, opened when nobody holds it; NULL: there is none to be had. `holding` is held. */
static struct vv_held *hold_image(struct vv_place *place, struct vv_line *line,
                                  const struct vv_version *version, bool first)
{
    struct vv_held *held = place->held;

    if (first ? line->first_rotten : line->patching || line->image != version->serial)
        return NULL;
    while (held != NULL &&
           (held->line != line || held->serial != version->serial || held->first != first || held->replaced))
        held = held->next;
    if (held != NULL) {
        held->holders++;
        return held;
    }
    if (vv_alloc(&held, 1, sizeof *held) != VARVE_OK)
        return NULL;
    if (vv_chain_open_image(place, line, version, false, &held->file) != VARVE_OK) {
        vv_free(held);
        return NULL;
    }
    held->line = line;
    held->serial = version->serial;
    held->first = first;
    held->holders = 1;
    held->module = version->module;
    vv_module_hold(held->module);
    held->next = place->held;
    place->held = held;
    return held;
}

static void lend(struct vv_held *held, const struct vv_pagetree *wanted, struct vv_source *source)
{
    const struct vv_pagetree *tree = &held->module->memory;
    uint64_t size = 0, pages = tree->page_count < wanted->page_count ? tree->page_count : wanted->page_count;

    /* What is behind the end of a file that was cut short must not be mapped; that it was shows when it is read. */
    if (vv_file_size(&held->file, &size) != VARVE_OK || size / VV_PAGE_SIZE < tree->page_count)
        pages = 0;
    *source = (struct vv_source){ .file = held->file, .pages = pages, .tree = tree, .owner = held };
}

/* Which of the two images is nearer, by what the versions between changed: nothing need be read for it. False: the
 * memory is none of a version that is there. */
static bool judge_by_place(const struct vv_line *line, const struct vv_pagetree *wanted, bool *first)
{
    uint64_t before = 0, after = 0;
    size_t at = 0;

    while (at < line->count && &line->versions[at]->module->memory != wanted)
        at++;
    if (at == line->count)
        return false;
    for (size_t i = 1; i < line->count; i++)
        *(i <= at ? &before : &after) += line->versions[i]->pages;
    *first = before <= after;
    return true;
}

/* The same by the trees. */
static bool judge_by_trees(const struct vv_line *line, const struct vv_pagetree *wanted)
{
    uint64_t most = wanted->page_count + 1;

    (void)is_nearer(vv_chain_newest(line), wanted, &most);
    return is_nearer(line->versions[0], wanted, &most);
}

void vv_chain_source(struct vv_place *place, const varve_module_id *module, const struct vv_pagetree *wanted,
                     struct vv_source *source)
{
    struct vv_held *held = NULL;
    bool first = true;

    *source = (struct vv_source){ .file = VV_FILE_NONE };
    vv_chain_read_lock(place);
    struct vv_line *line = vv_chain_line(place, module);
    if (line != NULL && line->count > 0 && wanted->page_count > 0) {
        const bool own = line->image == vv_chain_newest(line)->serial && !vv_chain_shares_first(line);
        if (own && !judge_by_place(line, wanted, &first))
            first = judge_by_trees(line, wanted);
        lock_held(place);
        if (!first)
            held = hold_image(place, line, vv_chain_newest(line), false);
        if (held == NULL)
            held = hold_image(place, line, line->versions[0], true);
        unlock_held(place);
    }
    if (held != NULL)
        lend(held, wanted, source);
    vv_chain_unlock(place);
    if (held != NULL && source->pages == 0)
        vv_chain_source_end(place, source);
}

void vv_chain_source_end(struct vv_place *place, struct vv_source *source)
{
    struct vv_held *held = source->owner;

    *source = (struct vv_source){ .file = VV_FILE_NONE };
    if (held == NULL)
        return;
    lock_held(place);
    VV_ASSERT(held->holders > 0);
    const bool last = --held->holders == 0;
    struct vv_held **link = &place->held;
    while (*link != held)
        link = &(*link)->next;
    if (last)
        *link = held->next;
    unlock_held(place);
    if (!last)
        return;
    vv_file_close(&held->file);
    vv_module_drop(held->module);
    vv_free(held);
}

void vv_chain_source_rotten(struct vv_place *place, const varve_module_id *module)
{
    vv_chain_read_lock(place);
    struct vv_line *line = vv_chain_line(place, module);
    if (line != NULL && line->count > 0) {
        lock_held(place);
        line->first_rotten = true; /* one of the two is; the newest is made anew */
        line->image = 0;
        unlock_held(place);
        place->source_sound = ++place->source_version;
    }
    vv_chain_unlock(place);
}

/* ---- Stamps ------------------------------------------------------------------------------------- */

/* Has the line a newest image of its own that is whole? */
static bool has_own(const struct vv_line *line)
{
    return line->count > 1 && line->image == vv_chain_newest(line)->serial && !vv_chain_shares_first(line);
}

static void stamp_sum(const void *bytes, size_t size, uint8_t sum[STAMP_SUM])
{
    uint8_t hash[VV_HASH_SIZE];

    vv_hash(VV_HASH_RECORD, bytes, size, hash);
    memcpy(sum, hash, STAMP_SUM);
}

/* The file, from what is stamped. */
static varve_status publish_stamps(struct vv_place *place)
{
    struct vv_bytes bytes = VV_BYTES_NONE;
    uint8_t sum[STAMP_SUM];
    varve_status rc = VARVE_OK;

    vv_bytes_put(&bytes, stamp_magic, STAMP_MAGIC);
    for (size_t i = 0; i < place->line_count; i++) {
        const struct vv_line *line = place->lines[i];
        if (!line->stamped || line->count == 0)
            continue;
        vv_bytes_put(&bytes, line->id.bytes, 32);
        vv_bytes_put(&bytes, vv_chain_newest(line)->leaf, VV_HASH_SIZE);
        vv_bytes_u64(&bytes, vv_chain_newest(line)->serial);
    }
    TRY(vv_bytes_done(&bytes));
    stamp_sum(bytes.data, bytes.size, sum);
    vv_bytes_put(&bytes, sum, sizeof sum);
    TRY(vv_bytes_done(&bytes));
    rc = vv_dir_publish(&place->own, STAMP_NAME, bytes.data, bytes.size);
    if (rc != VARVE_OK)
        rc = vv_fail_within(rc, ".varve");
out:
    vv_bytes_release(&bytes);
    return rc;
}

varve_status vv_chain_unstamp(struct vv_place *place, struct vv_line *const *lines, size_t count)
{
    bool any = false;

    for (size_t i = 0; i < count; i++) {
        any = any || lines[i]->stamped;
        lines[i]->stamped = false; /* when that does not become durable, they are not written into either */
    }
    return any && !VV_PLANT("stamp-kept") ? publish_stamps(place) : VARVE_OK;
}

static void take_stamp(struct vv_place *place, struct vv_reader *reader)
{
    struct vv_file file = VV_FILE_NONE;
    varve_module_id id;
    uint8_t leaf[VV_HASH_SIZE];
    uint64_t size = 0;

    vv_reader_copy(reader, id.bytes, sizeof id.bytes);
    vv_reader_copy(reader, leaf, sizeof leaf);
    const uint64_t serial = vv_reader_u64(reader);
    struct vv_line *line = vv_chain_line(place, &id);
    if (reader->bad || line == NULL || line->count == 0)
        return;
    const struct vv_version *newest = vv_chain_newest(line);
    if (newest->serial != serial || !vv_hash_equal(newest->leaf, leaf) ||
        vv_chain_open_image(place, line, newest, false, &file) != VARVE_OK)
        return;
    line->stamped =
        vv_file_size(&file, &size) == VARVE_OK && size == newest->module->memory.page_count * VV_PAGE_SIZE;
    if (line->stamped)
        line->image = serial;
    vv_file_close(&file);
}

/* A file that is damaged says nothing: then the images are made anew. */
varve_status vv_chain_load_stamps(struct vv_place *place)
{
    uint8_t *data = NULL, sum[STAMP_SUM];
    size_t size = 0;
    varve_status rc = vv_dir_read(&place->own, STAMP_NAME, STAMP_LIMIT, &data, &size);

    for (size_t i = 0; i < place->line_count; i++) {
        struct vv_line *line = place->lines[i];
        if (line->count > 0 && vv_chain_shares_first(line))
            line->image = vv_chain_newest(line)->serial;
    }
    if (rc == VARVE_NOT_FOUND || rc == VARVE_CORRUPT)
        return VARVE_OK;
    if (rc != VARVE_OK)
        return rc;
    if (size >= STAMP_MAGIC + STAMP_SUM && (size - STAMP_MAGIC - STAMP_SUM) % STAMP_ENTRY == 0 &&
        memcmp(data, stamp_magic, STAMP_MAGIC) == 0) {
        stamp_sum(data, size - STAMP_SUM, sum);
        struct vv_reader reader = vv_reader_of(data + STAMP_MAGIC, size - STAMP_MAGIC - STAMP_SUM);
        while (memcmp(sum, data + size - STAMP_SUM, STAMP_SUM) == 0 && vv_reader_left(&reader) > 0)
            take_stamp(place, &reader);
    }
    vv_free(data);
    return rc;
}

void vv_chain_store_stamps(struct vv_place *place)
{
    bool changed = false;

    for (size_t i = 0; i < place->line_count; i++) {
        struct vv_line *line = place->lines[i];
        struct vv_file file = VV_FILE_NONE;
        changed = changed || (line->stamped && !has_own(line)); /* found to be rotten */
        line->stamped = line->stamped && has_own(line);
        if (line->stamped || !has_own(line) || !vv_chain_newest(line)->written)
            continue;
        line->stamped = vv_chain_open_image(place, line, vv_chain_newest(line), true, &file) == VARVE_OK &&
                        vv_file_sync_new(&file) == VARVE_OK;
        changed = changed || line->stamped;
        vv_file_close(&file);
    }
    if (changed && vv_dir_sync(&place->dir) == VARVE_OK) /* their names, before the stamps */
        (void)publish_stamps(place);
}

/* ---- Writing ------------------------------------------------------------------------------------ */

static varve_status write_page(void *context, uint64_t index, const uint8_t *page)
{
    return vv_memfile_put(context, index, page);
}

/* Whoever maps the file of this name keeps it; those who come get the new one. */
static void let_go(struct vv_place *place, const struct vv_line *line, uint64_t serial)
{
    lock_held(place);
    for (struct vv_held *held = place->held; held != NULL; held = held->next)
        if (held->line == line && held->serial == serial && !held->first)
            held->replaced = true;
    unlock_held(place);
}

varve_status vv_chain_write_image(struct vv_place *place, const struct vv_line *line,
                                  const struct vv_version *version, bool durable, uint64_t *bytes)
{
    struct vv_memfile_writer writer = { .pages = NULL };
    struct vv_file file = VV_FILE_NONE;
    char name[VV_CHAIN_NAME], temporary[VV_CHAIN_NAME + 4];
    varve_status rc = VARVE_OK;

    vv_chain_image_name(line, version, name);
    memcpy(temporary, name, strlen(name) + 1);
    memcpy(temporary + strlen(name), ".tmp", 5);
    TRY(vv_dir_unlink(&place->dir, temporary));
    TRY(vv_file_open(&place->dir, temporary, VV_OPEN_WRITE | VV_OPEN_CREATE | VV_OPEN_EXCLUSIVE, &file));
    TRY(vv_memfile_begin(&writer, &file));
    vv_chain_read_lock(place);
    rc = vv_chain_fetch(place, VV_CHAIN_TRUTH, NULL, &version->module->memory, write_page, &writer);
    vv_chain_unlock(place);
    TRY(rc);
    TRY(vv_memfile_end(&writer, version->module->memory.page_count));
    if (durable && !VV_PLANT("first-unsynced"))
        TRY(vv_file_sync_new(&file));
    TRY(vv_dir_rename(&place->dir, temporary, name));
    let_go(place, line, version->serial);
    if (bytes != NULL)
        *bytes = writer.written;
out:
    vv_memfile_abandon(&writer);
    if (rc != VARVE_OK && file.fd != -1)
        (void)vv_dir_unlink(&place->dir, temporary);
    vv_file_close(&file);
    return rc;
}

varve_status vv_chain_rebuild(struct vv_place *place, struct vv_line *line)
{
    const struct vv_version *newest = vv_chain_newest(line);
    varve_status rc = VARVE_OK;

    if (!vv_chain_shares_first(line)) {
        TRY(vv_chain_unstamp(place, &line, 1));
        TRY(vv_chain_write_image(place, line, newest, false, NULL));
    }
    line->image = newest->serial;
    line->patched = 0;
    place->source_version++;
out:
    return rc;
}

void vv_chain_drop_image(struct vv_place *place, struct vv_line *line, const struct vv_version *of)
{
    char name[VV_CHAIN_NAME];

    let_go(place, line, of->serial);
    if (line->count > 0 && (vv_hash_equal(of->leaf, line->versions[0]->leaf) ||
                            vv_hash_equal(of->leaf, vv_chain_newest(line)->leaf)))
        return;
    vv_chain_image_name(line, of, name);
    (void)vv_dir_unlink(&place->dir, name); /* what stays is told of as a leftover */
}

/* ---- Following a commit ------------------------------------------------------------------------- */

/* Neighbours go out together. */
static varve_status patch_file(struct vv_file *file, const struct vv_chain_patch *pages, size_t count,
                               uint64_t page_count)
{
    static const uint8_t zeros[VV_PAGE_SIZE];
    struct vv_memfile_writer writer;
    varve_status rc = VARVE_OK;

    TRY(vv_memfile_begin(&writer, file));
    for (size_t i = 0; i < count && rc == VARVE_OK; i++)
        rc = vv_memfile_put(&writer, pages[i].index, pages[i].bytes == NULL ? zeros : pages[i].bytes);
    if (rc == VARVE_OK)
        rc = vv_memfile_end(&writer, page_count);
    for (size_t i = 0; i < count && rc == VARVE_OK; i++)
        if (pages[i].bytes == NULL)
            rc = vv_file_punch(file, pages[i].index * VV_PAGE_SIZE, VV_PAGE_SIZE);
    vv_memfile_abandon(&writer);
out:
    return rc;
}

static varve_status copy_file(const struct vv_file *from, struct vv_file *to, uint64_t page_count)
{
    struct vv_memfile_writer writer = { .pages = NULL };
    uint8_t *batch = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_alloc(&batch, VV_MEMFILE_BATCH, VV_PAGE_SIZE));
    TRY(vv_memfile_begin(&writer, to));
    for (uint64_t first = 0; first < page_count; first += VV_MEMFILE_BATCH) {
        const uint64_t left = page_count - first;
        const size_t count = left < VV_MEMFILE_BATCH ? (size_t)left : VV_MEMFILE_BATCH;
        TRY(vv_file_read(from, batch, count * VV_PAGE_SIZE, first * VV_PAGE_SIZE));
        for (size_t i = 0; i < count; i++) {
            const uint8_t *page = batch + i * VV_PAGE_SIZE;
            TRY(vv_memfile_put(&writer, first + i, vv_page_is_zero(page) ? NULL : page));
        }
    }
    TRY(vv_memfile_end(&writer, page_count));
out:
    vv_memfile_abandon(&writer);
    vv_free(batch);
    return rc;
}

/* Take the newest image for writing, unless somebody maps it. */
static bool take_image(struct vv_place *place, struct vv_line *line, const struct vv_version *before)
{
    bool taken = line->count > 2 && line->image == before->serial &&
                 !vv_hash_equal(before->leaf, line->versions[0]->leaf);

    lock_held(place);
    for (const struct vv_held *held = place->held; held != NULL && taken; held = held->next)
        taken = held->line != line || held->serial != before->serial || held->replaced ||
                VV_PLANT("newest-in-place");
    if (taken)
        line->patching = true;
    unlock_held(place);
    return taken;
}

static varve_status patch_in_place(struct vv_place *place, const struct vv_line *line,
                                   const struct vv_version *before, const struct vv_chain_patch *pages,
                                   size_t count)
{
    const struct vv_version *newest = vv_chain_newest(line);
    struct vv_file file = VV_FILE_NONE;
    char from[VV_CHAIN_NAME], to[VV_CHAIN_NAME];
    varve_status rc = VARVE_OK;

    vv_chain_image_name(line, before, from);
    vv_chain_image_name(line, newest, to);
    TRY(vv_dir_rename(&place->dir, from, to));
    TRY(vv_chain_open_image(place, line, newest, true, &file));
    TRY(patch_file(&file, pages, count, newest->module->memory.page_count));
out:
    vv_file_close(&file);
    return rc;
}

static varve_status patch_copy(struct vv_place *place, const struct vv_line *line,
                               const struct vv_version *before, const struct vv_chain_patch *pages,
                               size_t count)
{
    const struct vv_version *newest = vv_chain_newest(line);
    struct vv_file from = VV_FILE_NONE, to = VV_FILE_NONE;
    char name[VV_CHAIN_NAME];
    varve_status rc = VARVE_OK;

    vv_chain_image_name(line, newest, name);
    TRY(vv_chain_open_image(place, line, before, false, &from));
    TRY(vv_dir_unlink(&place->dir, name)); /* of a life that was cut short */
    TRY(vv_file_open(&place->dir, name, VV_OPEN_WRITE | VV_OPEN_CREATE | VV_OPEN_EXCLUSIVE, &to));
    TRY(copy_file(&from, &to, before->module->memory.page_count));
    TRY(patch_file(&to, pages, count, newest->module->memory.page_count));
out:
    vv_file_close(&from);
    vv_file_close(&to);
    return rc;
}

void vv_chain_follow(struct vv_place *place, struct vv_line *line, const struct vv_version *before,
                     const struct vv_chain_patch *pages, size_t count)
{
    const struct vv_version *newest = vv_chain_newest(line);
    const bool there = line->image == before->serial;
    const bool in_place = !vv_chain_shares_first(line) && take_image(place, line, before);
    varve_status rc = VARVE_OK;

    line->image = 0;
    if (in_place)
        rc = patch_in_place(place, line, before, pages, count);
    else if (there && !vv_chain_shares_first(line))
        rc = patch_copy(place, line, before, pages, count);
    else if (!vv_chain_shares_first(line))
        rc = VARVE_END; /* there is none to follow from: it is made in the background */
    vv_chain_drop_image(place, line, before);
    if (rc != VARVE_OK) {
        char name[VV_CHAIN_NAME];
        vv_chain_image_name(line, newest, name);
        (void)vv_dir_unlink(&place->dir, name);
    }
    line->patched += count;
    lock_held(place);
    line->patching = false;
    if (rc == VARVE_OK)
        line->image = newest->serial;
    unlock_held(place);
    if (rc == VARVE_OK && line->patched >= newest->module->memory.page_count / NEARER) {
        line->patched = 0;
        place->source_version++;
    }
}
