/* overlay.c - see overlay.h. */
#include "store/tree/overlay.h"

#include <string.h>

#include "base/alloc.h"

enum {
    MAGIC = 16,
    SUM = 16,
    HEADER = MAGIC + 8 + 8 + SUM + SUM,
    DIRECTORY_LEAST = 32 + 2 * (8 + VV_HASH_SIZE) + 2,
    PAGE_LEAST = 2,
    FLUSH = 1 << 20, /* bytes that wait, at most, before they are written */
    DIRECTORY_MAX = 1 << 30
};
static const uint8_t magic[MAGIC + 1] = "varve diff 1\n\0\0\0";

static void sum_of(const void *bytes, size_t size, uint8_t sum[SUM])
{
    uint8_t hash[VV_HASH_SIZE];

    vv_hash(VV_HASH_RECORD, bytes, size, hash);
    memcpy(sum, hash, SUM);
}

static varve_status bad_diff(const struct vv_file *file, const char *what)
{
    return vv_fail(VARVE_CORRUPT, "%s: %s", file->name, what);
}

/* ---- Reading ------------------------------------------------------------------------------------ */

void vv_overlay_close(struct vv_overlay *diff)
{
    vv_file_close(&diff->file);
    vv_free(diff->pages);
    vv_free(diff->frames);
    *diff = VV_OVERLAY_NONE;
}

static void take_key(struct vv_reader *reader, struct vv_memory_key *key)
{
    key->pages = vv_reader_u64(reader);
    vv_reader_copy(reader, key->top, sizeof key->top);
}

/* Frames lie one behind the other, from the header to the directory. */
static varve_status take_frames(struct vv_reader *reader, uint64_t frames_end, struct vv_overlay *diff)
{
    const uint64_t count = vv_reader_varint(reader);
    uint64_t at = HEADER;
    varve_status rc = VARVE_OK;

    if (count > vv_reader_left(reader)) {
        reader->bad = true;
        return VARVE_OK;
    }
    TRY(vv_alloc(&diff->frames, (size_t)count + 1, sizeof *diff->frames));
    diff->frame_count = (size_t)count;
    for (size_t i = 0; i < diff->frame_count && !reader->bad; i++) {
        const uint64_t size = vv_reader_varint(reader);
        diff->frames[i] = at;
        if (size < VV_FRAME_HEADER || size > vv_frame_bound(VV_FRAME_PAGES) || size > frames_end - at)
            reader->bad = true;
        else
            at += size;
    }
    diff->frames[diff->frame_count] = at;
    reader->bad = reader->bad || at != frames_end;
out:
    return rc;
}

static varve_status take_pages(struct vv_reader *reader, struct vv_overlay *diff)
{
    const uint64_t count = vv_reader_varint(reader);
    uint64_t next = 0;
    varve_status rc = VARVE_OK;

    if (count > vv_reader_left(reader) / PAGE_LEAST) {
        reader->bad = true;
        return VARVE_OK;
    }
    TRY(vv_alloc(&diff->pages, (size_t)count, sizeof *diff->pages));
    diff->page_count = (size_t)count;
    for (size_t i = 0; i < diff->page_count && !reader->bad; i++) {
        struct vv_overlay_page *page = &diff->pages[i];
        const uint64_t step = vv_reader_varint(reader);
        const uint64_t frame = vv_reader_varint(reader);
        page->index = next + step;
        page->frame = frame == 0 ? VV_OVERLAY_ZERO : (uint32_t)(frame - 1);
        if (frame > 0) {
            page->slot = vv_reader_u8(reader);
            vv_reader_copy(reader, page->hash, sizeof page->hash);
        }
        reader->bad = reader->bad || step >= diff->memory.pages || page->index >= diff->memory.pages ||
                      frame > diff->frame_count || page->slot >= VV_FRAME_PAGES ||
                      (frame > 0) == vv_hash_is_zero(page->hash);
        next = page->index + 1;
    }
out:
    return rc;
}

varve_status vv_overlay_decode(const uint8_t *directory, size_t size, uint64_t frames_end,
                               struct vv_overlay *diff)
{
    struct vv_reader reader = vv_reader_of(directory, size);
    varve_status rc = VARVE_OK;

    vv_reader_copy(&reader, diff->module.bytes, sizeof diff->module.bytes);
    take_key(&reader, &diff->base);
    take_key(&reader, &diff->memory);
    TRY(take_frames(&reader, frames_end, diff));
    TRY(take_pages(&reader, diff));
    TRY(vv_reader_done(&reader, "the directory of a diff"));
out:
    return rc;
}

/* Where the directory is. */
static varve_status read_header(const struct vv_file *file, uint64_t *at, uint64_t *size, uint8_t sum[SUM])
{
    uint8_t header[HEADER], found[SUM];
    uint64_t length = 0;
    varve_status rc = VARVE_OK;

    TRY(vv_file_size(file, &length));
    TRY(vv_file_read(file, header, HEADER, 0));
    if (memcmp(header, magic, MAGIC) != 0)
        return bad_diff(file, "it is no diff of a memory");
    sum_of(header, HEADER - SUM, found);
    if (memcmp(found, header + HEADER - SUM, SUM) != 0)
        return bad_diff(file, "the sum of its header is not that of its bytes");
    *at = vv_get_u64(header + MAGIC);
    *size = vv_get_u64(header + MAGIC + 8);
    memcpy(sum, header + MAGIC + 16, SUM);
    if (*at < HEADER || *at > length || *size != length - *at || *size < DIRECTORY_LEAST ||
        *size > DIRECTORY_MAX)
        return bad_diff(file, "it is longer or shorter than it says");
out:
    return rc;
}

varve_status vv_overlay_open(const struct vv_dir *dir, const char *name, struct vv_overlay *diff)
{
    uint8_t expected[SUM], found[SUM];
    uint64_t at = 0, size = 0;
    uint8_t *directory = NULL;
    varve_status rc = VARVE_OK;

    *diff = VV_OVERLAY_NONE;
    TRY(vv_file_open(dir, name, VV_OPEN_READ, &diff->file));
    TRY(read_header(&diff->file, &at, &size, expected));
    TRY(vv_alloc(&directory, (size_t)size, 1));
    TRY(vv_file_read(&diff->file, directory, (size_t)size, at));
    sum_of(directory, (size_t)size, found);
    if (memcmp(found, expected, SUM) != 0)
        TRY(bad_diff(&diff->file, "the sum of its directory is not that of its bytes"));
    rc = vv_overlay_decode(directory, (size_t)size, at, diff);
    if (rc == VARVE_CORRUPT)
        rc = vv_fail_within(rc, "%s", name);
out:
    vv_free(directory);
    if (rc != VARVE_OK)
        vv_overlay_close(diff);
    return rc;
}

const struct vv_overlay_page *vv_overlay_find(const struct vv_overlay *diff, uint64_t index)
{
    size_t low = 0, high = diff->page_count;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (diff->pages[middle].index < index)
            low = middle + 1;
        else
            high = middle;
    }
    return low < diff->page_count && diff->pages[low].index == index ? &diff->pages[low] : NULL;
}

varve_status vv_overlay_frame_bytes(const struct vv_overlay *diff, uint32_t frame, struct vv_bytes *bytes)
{
    VV_ASSERT(frame < diff->frame_count);
    const size_t size = (size_t)(diff->frames[frame + 1] - diff->frames[frame]);
    uint8_t *room = vv_bytes_extend(bytes, size);

    return room == NULL ? vv_bytes_done(bytes) : vv_file_read(&diff->file, room, size, diff->frames[frame]);
}

varve_status vv_overlay_frame(const struct vv_overlay *diff, uint32_t frame, struct vv_codec *codec,
                              struct vv_frame *out)
{
    struct vv_bytes bytes = VV_BYTES_NONE;
    varve_status rc = VARVE_OK;

    *out = VV_FRAME_NONE;
    TRY(vv_overlay_frame_bytes(diff, frame, &bytes));
    rc = vv_frame_open_with(codec, bytes.data, bytes.size, out);
    if (rc == VARVE_CORRUPT)
        rc = vv_fail_within(rc, "%s", diff->file.name);
out:
    vv_bytes_release(&bytes);
    return rc;
}

/* ---- Writing ------------------------------------------------------------------------------------ */

varve_status vv_overlay_begin(struct vv_overlay_writer *writer, struct vv_file *file)
{
    *writer = (struct vv_overlay_writer){ .file = file, .at = HEADER };
    return VARVE_OK;
}

static varve_status flush(struct vv_overlay_writer *writer)
{
    varve_status rc = VARVE_OK;

    TRY(vv_bytes_done(&writer->out));
    TRY(vv_file_write(writer->file, writer->out.data, writer->out.size, writer->at));
    writer->at += writer->out.size;
    vv_bytes_clear(&writer->out);
out:
    return rc;
}

varve_status vv_overlay_put(struct vv_overlay_writer *writer, const void *frame, size_t size)
{
    varve_status rc = VARVE_OK;

    if (writer->frame_count == writer->frame_room) {
        const size_t room = 2 * writer->frame_room + 16;
        TRY(vv_resize(&writer->frames, room, sizeof *writer->frames));
        writer->frame_room = room;
    }
    writer->frames[writer->frame_count++] = size;
    vv_bytes_put(&writer->out, frame, size);
    if (writer->out.size >= FLUSH)
        TRY(flush(writer));
    TRY(vv_bytes_done(&writer->out));
out:
    return rc;
}

static void put_key(struct vv_bytes *out, const struct vv_memory_key *key)
{
    vv_bytes_u64(out, key->pages);
    vv_bytes_put(out, key->top, sizeof key->top);
}

static varve_status encode_directory(const struct vv_overlay_writer *writer, const struct vv_overlay *diff,
                                     struct vv_bytes *out)
{
    uint64_t next = 0;

    vv_bytes_put(out, diff->module.bytes, sizeof diff->module.bytes);
    put_key(out, &diff->base);
    put_key(out, &diff->memory);
    vv_bytes_varint(out, writer->frame_count);
    for (size_t i = 0; i < writer->frame_count; i++)
        vv_bytes_varint(out, writer->frames[i]);
    vv_bytes_varint(out, diff->page_count);
    for (size_t i = 0; i < diff->page_count; i++) {
        const struct vv_overlay_page *page = &diff->pages[i];
        vv_bytes_varint(out, page->index - next);
        vv_bytes_varint(out, page->frame == VV_OVERLAY_ZERO ? 0 : (uint64_t)page->frame + 1);
        if (page->frame != VV_OVERLAY_ZERO) {
            vv_bytes_u8(out, page->slot);
            vv_bytes_put(out, page->hash, sizeof page->hash);
        }
        next = page->index + 1;
    }
    return vv_bytes_done(out);
}

varve_status vv_overlay_end(struct vv_overlay_writer *writer, const struct vv_overlay *diff, uint64_t *size)
{
    struct vv_bytes directory = VV_BYTES_NONE;
    uint8_t header[HEADER];
    varve_status rc = VARVE_OK;

    TRY(encode_directory(writer, diff, &directory));
    if (directory.size > DIRECTORY_MAX)
        TRY(vv_fail(VARVE_LIMIT, "a diff of %zu pages: there are too many", diff->page_count));
    memcpy(header, magic, MAGIC);
    vv_put_u64(header + MAGIC, writer->at + writer->out.size);
    vv_put_u64(header + MAGIC + 8, directory.size);
    sum_of(directory.data, directory.size, header + MAGIC + 16);
    sum_of(header, HEADER - SUM, header + HEADER - SUM);
    vv_bytes_put(&writer->out, directory.data, directory.size);
    TRY(flush(writer));
    TRY(vv_file_write(writer->file, header, HEADER, 0));
    *size = writer->at;
out:
    vv_bytes_release(&directory);
    if (rc == VARVE_OK)
        vv_overlay_abandon(writer);
    return rc;
}

void vv_overlay_abandon(struct vv_overlay_writer *writer)
{
    vv_bytes_release(&writer->out);
    vv_free(writer->frames);
    *writer = (struct vv_overlay_writer){ .file = NULL };
}
