/* memfile.c - see memfile.h. */
#include "store/plain/memfile.h"

#include <string.h>

#include "base/alloc.h"

/* ---- Writing ------------------------------------------------------------------------------------ */

varve_status vv_memfile_begin(struct vv_memfile_writer *writer, struct vv_file *file)
{
    *writer = (struct vv_memfile_writer){ .file = file };
    return vv_alloc(&writer->pages, VV_MEMFILE_BATCH, VV_PAGE_SIZE);
}

static varve_status flush(struct vv_memfile_writer *writer)
{
    const size_t size = writer->count * VV_PAGE_SIZE;
    varve_status rc = VARVE_OK;

    if (size == 0)
        return VARVE_OK;
    TRY(vv_file_write(writer->file, writer->pages, size, writer->first * VV_PAGE_SIZE));
    writer->written += size;
    writer->count = 0;
out:
    return rc;
}

varve_status vv_memfile_put(struct vv_memfile_writer *writer, uint64_t index, const uint8_t *page)
{
    varve_status rc = VARVE_OK;

    if (page == NULL)
        return VARVE_OK; /* a hole */
    VV_ASSERT(writer->count == 0 || index >= writer->first + writer->count);
    if (writer->count == VV_MEMFILE_BATCH || (writer->count > 0 && index != writer->first + writer->count))
        TRY(flush(writer));
    if (writer->count == 0)
        writer->first = index;
    memcpy(writer->pages + writer->count++ * VV_PAGE_SIZE, page, VV_PAGE_SIZE);
out:
    return rc;
}

varve_status vv_memfile_end(struct vv_memfile_writer *writer, uint64_t page_count)
{
    varve_status rc = VARVE_OK;

    TRY(flush(writer));
    TRY(vv_file_truncate(writer->file, page_count * VV_PAGE_SIZE));
out:
    if (rc == VARVE_OK)
        vv_memfile_abandon(writer);
    return rc;
}

void vv_memfile_abandon(struct vv_memfile_writer *writer)
{
    vv_free(writer->pages);
    writer->pages = NULL;
}

/* ---- Reading ------------------------------------------------------------------------------------ */

varve_status vv_memfile_read(const struct vv_file *file, uint64_t index, const uint8_t hash[VV_HASH_SIZE],
                             uint8_t page[VV_PAGE_SIZE])
{
    const uint8_t *pages[1] = { page };
    uint8_t found[1][VV_HASH_SIZE] = { { 0 } };
    size_t got = 0;
    varve_status rc = VARVE_OK;

    TRY(vv_file_read_some(file, page, VV_PAGE_SIZE, index * VV_PAGE_SIZE, &got));
    memset(page + got, 0, VV_PAGE_SIZE - got);
    if (!vv_page_is_zero(page))
        vv_hash_pages(pages, 1, found);
    if (!vv_hash_equal(found[0], hash))
        rc = vv_fail(VARVE_CORRUPT, "%s: page %llu is not what was committed", file->name,
                     (unsigned long long)index);
out:
    return rc;
}

struct reading {
    const struct vv_file *file;
    const struct vv_pagetree *tree;
    void (*bad)(void *context, uint64_t index);
    void *context;
};

static varve_status check_page(const struct reading *reading, uint64_t index, const uint8_t *bytes)
{
    const uint8_t *pages[1] = { bytes };
    uint8_t found[1][VV_HASH_SIZE] = { { 0 } };
    struct vv_leaf leaf = { .locator = 0 };
    bool present = false;
    varve_status rc = VARVE_OK;

    if (!vv_page_is_zero(bytes))
        vv_hash_pages(pages, 1, found);
    if (index < reading->tree->page_count)
        TRY(vv_pagetree_get(reading->tree, index, &leaf, &present));
    if (!vv_hash_equal(found[0], present ? leaf.hash : vv_hash_zero))
        reading->bad(reading->context, index);
out:
    return rc;
}

varve_status vv_memfile_check(const struct vv_file *file, const struct vv_pagetree *tree,
                              void (*bad)(void *context, uint64_t index), void *context)
{
    const struct reading reading = { .file = file, .tree = tree, .bad = bad, .context = context };
    uint8_t *batch = NULL;
    uint64_t size = 0;
    varve_status rc = VARVE_OK;

    TRY(vv_alloc(&batch, VV_MEMFILE_BATCH, VV_PAGE_SIZE));
    TRY(vv_file_size(file, &size));
    if (size % VV_PAGE_SIZE != 0 || size > tree->page_count * VV_PAGE_SIZE)
        bad(context, size / VV_PAGE_SIZE); /* longer than the memory, or cut within a page */
    for (uint64_t first = 0; rc == VARVE_OK && first < tree->page_count; first += VV_MEMFILE_BATCH) {
        const uint64_t left = tree->page_count - first;
        const size_t count = left < VV_MEMFILE_BATCH ? (size_t)left : VV_MEMFILE_BATCH;
        size_t got = 0;
        TRY(vv_file_read_some(file, batch, count * VV_PAGE_SIZE, first * VV_PAGE_SIZE, &got));
        memset(batch + got, 0, count * VV_PAGE_SIZE - got);
        for (size_t i = 0; rc == VARVE_OK && i < count; i++)
            rc = check_page(&reading, first + i, batch + i * VV_PAGE_SIZE);
    }
out:
    vv_free(batch);
    return rc;
}
