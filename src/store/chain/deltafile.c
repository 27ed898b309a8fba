/* deltafile.c - see deltafile.h. */
#include "store/chain/deltafile.h"

#include <string.h>

#include "base/alloc.h"

enum {
    MAGIC = 16,
    AT_MODULE = 16,
    AT_LEAF = 48,
    AT_BEFORE = 80,
    AT_COMMIT = 112,
    AT_SERIAL = 144,
    AT_SERIAL_BEFORE = 152,
    AT_PAGES = 160,
    AT_ENTRIES = 168,
    AT_FRAMES = 176,
    AT_DIRECTORY = 184,
    AT_SIZE = 192,
    AT_SUM = 200,
    SUM = VV_DELTAFILE_HEADER - AT_SUM
};
static const uint8_t magic[MAGIC + 1] = "varve delta 1\n\0\0";

/* ---- Writing ------------------------------------------------------------------------------------ */

static void put_entry(const struct vv_deltafile_page *page, uint64_t *next, struct vv_bytes *directory)
{
    vv_bytes_varint(directory, page->index - *next);
    *next = (uint64_t)page->index + 1;
    if (page->bytes == NULL) {
        vv_bytes_u8(directory, VV_FORM_ZERO);
    } else if (page->base == NULL) {
        vv_bytes_u8(directory, VV_FORM_WHOLE);
    } else {
        vv_bytes_u8(directory, VV_FORM_RUNS);
        vv_bytes_varint(directory, page->base_locator);
    }
}

/* What becomes of a page: runs when they are small, and not too many lie on top of each other. */
static void choose_form(struct vv_deltafile_page *page, struct vv_bytes *runs)
{
    page->depth = 0;
    if (page->bytes == NULL || page->base == NULL)
        return;
    const unsigned depth = vv_chain_depth(page->base_locator) + 1;
    if (depth >= VV_CHAIN_DEPTH ||
        (page->runs == NULL && vv_runs_encode(page->base, page->bytes, VV_DELTA_WHOLE_ABOVE, runs) == 0) ||
        (page->runs != NULL && (page->runs_size == 0 || page->runs_size > VV_DELTA_WHOLE_ABOVE)))
        page->base = NULL;
    else
        page->depth = depth;
}

/* Up to 64 pages that are not zero. */
static varve_status put_frame(struct vv_codec *codec, struct vv_deltafile_page *const *pages, size_t count,
                              struct vv_bytes *sizes, struct vv_bytes *frames)
{
    struct vv_frame_page slots[VV_FRAME_PAGES];
    struct vv_bytes runs = VV_BYTES_NONE;
    size_t begins[VV_FRAME_PAGES], before = frames->size;
    varve_status rc = VARVE_OK;

    for (size_t i = 0; i < count; i++) {
        begins[i] = runs.size;
        choose_form(pages[i], &runs);
        slots[i] = (struct vv_frame_page){ .bytes = pages[i]->bytes,
                                           .base = pages[i]->base,
                                           .base_locator = pages[i]->base_locator,
                                           .runs = pages[i]->runs,
                                           .runs_size = pages[i]->runs_size };
    }
    TRY(vv_bytes_done(&runs));
    for (size_t i = 0; i < count; i++) {
        const size_t end = i + 1 < count ? begins[i + 1] : runs.size;
        if (slots[i].base != NULL && slots[i].runs == NULL) {
            slots[i].runs = runs.data + begins[i];
            slots[i].runs_size = end - begins[i];
        } else if (slots[i].base == NULL) {
            slots[i].runs = NULL;
        }
    }
    TRY(vv_frame_encode_with(codec, slots, count, frames));
    vv_bytes_varint(sizes, frames->size - before);
out:
    vv_bytes_release(&runs);
    return rc;
}

varve_status vv_deltafile_encode(struct vv_codec *codec, struct vv_deltafile_page *pages, size_t count,
                                 struct vv_bytes *out)
{
    struct vv_deltafile_page *waiting[VV_FRAME_PAGES];
    struct vv_bytes directory = VV_BYTES_NONE, frames = VV_BYTES_NONE;
    uint64_t next = 0, frame_count = 0;
    size_t waits = 0;
    varve_status rc = VARVE_OK;

    for (size_t i = 0; i < count; i++) {
        if (pages[i].bytes != NULL)
            waiting[waits++] = &pages[i];
        if (waits == VV_FRAME_PAGES || (i + 1 == count && waits > 0)) {
            TRY(put_frame(codec, waiting, waits, &directory, &frames));
            waits = 0;
            frame_count++;
        }
    }
    for (size_t i = 0; i < count; i++)
        put_entry(&pages[i], &next, &directory);
    vv_bytes_zero(out, VV_DELTAFILE_HEADER);
    vv_bytes_put(out, directory.data, directory.size);
    vv_bytes_put(out, frames.data, frames.size);
    TRY(vv_bytes_done(&directory));
    TRY(vv_bytes_done(out));
    uint8_t *header = out->data;
    vv_put_u64(header + AT_ENTRIES, count);
    vv_put_u64(header + AT_FRAMES, frame_count);
    vv_put_u64(header + AT_DIRECTORY, directory.size);
    vv_put_u64(header + AT_SIZE, out->size);
out:
    vv_bytes_release(&directory);
    vv_bytes_release(&frames);
    return rc;
}

static void sum_of(const uint8_t *header, const uint8_t *directory, size_t size, uint8_t sum[SUM])
{
    struct vv_hasher hasher;
    uint8_t hash[VV_HASH_SIZE];

    vv_hasher_init(&hasher, VV_HASH_RECORD);
    vv_hasher_put(&hasher, header, AT_SUM);
    vv_hasher_put(&hasher, directory, size);
    vv_hasher_end(&hasher, hash);
    memcpy(sum, hash, SUM);
}

void vv_deltafile_seal(struct vv_bytes *file, const struct vv_deltafile_facts *facts)
{
    uint8_t *header = file->data;

    VV_ASSERT(file->size >= VV_DELTAFILE_HEADER);
    memcpy(header, magic, MAGIC);
    memcpy(header + AT_MODULE, facts->module, 32);
    memcpy(header + AT_LEAF, facts->leaf, VV_HASH_SIZE);
    memcpy(header + AT_BEFORE, facts->before, VV_HASH_SIZE);
    memcpy(header + AT_COMMIT, facts->commit, 32);
    vv_put_u64(header + AT_SERIAL, facts->serial);
    vv_put_u64(header + AT_SERIAL_BEFORE, facts->serial_before);
    vv_put_u64(header + AT_PAGES, facts->page_count);
    sum_of(header, header + VV_DELTAFILE_HEADER, (size_t)vv_get_u64(header + AT_DIRECTORY), header + AT_SUM);
}

/* ---- Reading ------------------------------------------------------------------------------------ */

void vv_deltafile_release(struct vv_deltafile *delta)
{
    vv_free(delta->entries);
    vv_free(delta->frames);
    *delta = VV_DELTAFILE_NONE;
}

static varve_status damaged(const char *what)
{
    return vv_fail(VARVE_CORRUPT, "the delta is damaged: %s", what);
}

static varve_status take_frames(struct vv_reader *reader, uint64_t begin, uint64_t size,
                                struct vv_deltafile *delta)
{
    uint64_t at = begin;

    for (size_t i = 0; i < delta->frame_count; i++) {
        const uint64_t frame = vv_reader_varint(reader);
        delta->frames[i] = at;
        if (frame < VV_FRAME_HEADER || frame > vv_frame_bound(VV_FRAME_PAGES) || frame > size - at)
            return damaged("a frame does not fit");
        at += frame;
    }
    delta->frames[delta->frame_count] = at;
    return at == size ? VARVE_OK : damaged("its frames are not as long as the file");
}

static varve_status take_entries(struct vv_reader *reader, struct vv_deltafile *delta)
{
    uint64_t next = 0, place = 0;

    for (size_t i = 0; i < delta->count; i++) {
        struct vv_deltafile_entry *entry = &delta->entries[i];
        const uint64_t gap = vv_reader_varint(reader);
        const uint8_t form = vv_reader_u8(reader);
        if (reader->bad || gap >= VV_CHAIN_PAGES_MAX || next + gap >= delta->facts.page_count ||
            form > VV_FORM_RUNS)
            return damaged("its directory is not in order");
        *entry = (struct vv_deltafile_entry){ .index = (uint32_t)(next + gap), .place = UINT32_MAX };
        next += gap + 1;
        if (form != VV_FORM_ZERO)
            entry->place = (uint32_t)place++;
        if (form == VV_FORM_RUNS) {
            entry->base = vv_reader_varint(reader);
            if (vv_chain_serial(entry->base) == 0 || vv_chain_serial(entry->base) >= delta->facts.serial ||
                vv_chain_page(entry->base) != entry->index)
                return damaged("a page builds on what cannot be its base");
        }
    }
    if (delta->frame_count != (place + VV_FRAME_PAGES - 1) / VV_FRAME_PAGES)
        return damaged("it has not as many frames as pages need");
    return vv_reader_done(reader, "the directory of a delta");
}

static void take_facts(const uint8_t *header, struct vv_deltafile_facts *facts)
{
    memcpy(facts->module, header + AT_MODULE, 32);
    memcpy(facts->leaf, header + AT_LEAF, VV_HASH_SIZE);
    memcpy(facts->before, header + AT_BEFORE, VV_HASH_SIZE);
    memcpy(facts->commit, header + AT_COMMIT, 32);
    facts->serial = vv_get_u64(header + AT_SERIAL);
    facts->serial_before = vv_get_u64(header + AT_SERIAL_BEFORE);
    facts->page_count = vv_get_u64(header + AT_PAGES);
}

/* The directory's length, when a header can be that of a file of this size. */
static varve_status check_header(const uint8_t *header, uint64_t size, size_t *directory)
{
    const uint64_t entries = vv_get_u64(header + AT_ENTRIES), frames = vv_get_u64(header + AT_FRAMES);
    const uint64_t length = vv_get_u64(header + AT_DIRECTORY);

    if (memcmp(header, magic, MAGIC) != 0)
        return damaged("it has no header of a delta");
    if (vv_get_u64(header + AT_SIZE) != size)
        return damaged("it is not as long as it says");
    /* An entry takes two bytes or more, a frame's size one: so no count is believed that the file does not bear out. */
    if (length > size - VV_DELTAFILE_HEADER || entries > length / 2 || frames > length ||
        vv_get_u64(header + AT_PAGES) > VV_CHAIN_PAGES_MAX ||
        vv_get_u64(header + AT_SERIAL) > VV_CHAIN_SERIAL_MAX ||
        vv_get_u64(header + AT_SERIAL_BEFORE) >= vv_get_u64(header + AT_SERIAL))
        return damaged("its header says what cannot be");
    *directory = (size_t)length;
    return VARVE_OK;
}

varve_status vv_deltafile_decode(const uint8_t *bytes, size_t have, uint64_t size, struct vv_deltafile *delta)
{
    size_t directory = 0;
    uint8_t sum[SUM];
    varve_status rc = VARVE_OK;

    *delta = VV_DELTAFILE_NONE;
    if (size < VV_DELTAFILE_HEADER || have < VV_DELTAFILE_HEADER)
        return damaged("it is too short");
    TRY(check_header(bytes, size, &directory));
    if (directory > have - VV_DELTAFILE_HEADER)
        return damaged("its directory is cut short");
    sum_of(bytes, bytes + VV_DELTAFILE_HEADER, directory, sum);
    if (memcmp(sum, bytes + AT_SUM, SUM) != 0)
        return damaged("its sum is another");
    take_facts(bytes, &delta->facts);
    delta->count = (size_t)vv_get_u64(bytes + AT_ENTRIES);
    delta->frame_count = (size_t)vv_get_u64(bytes + AT_FRAMES);
    TRY(vv_alloc(&delta->entries, delta->count, sizeof *delta->entries));
    TRY(vv_alloc(&delta->frames, delta->frame_count + 1, sizeof *delta->frames));
    struct vv_reader reader = vv_reader_of(bytes + VV_DELTAFILE_HEADER, directory);
    TRY(take_frames(&reader, VV_DELTAFILE_HEADER + directory, size, delta));
    TRY(take_entries(&reader, delta));
out:
    if (rc != VARVE_OK)
        vv_deltafile_release(delta);
    return rc;
}

varve_status vv_deltafile_read(const struct vv_file *file, struct vv_deltafile *delta)
{
    enum { FIRST = 4096 }; /* most directories end before that: one read */
    struct vv_bytes bytes = VV_BYTES_NONE;
    uint64_t size = 0;
    size_t got = 0, directory = 0;
    varve_status rc = VARVE_OK;

    *delta = VV_DELTAFILE_NONE;
    TRY(vv_file_size(file, &size));
    uint8_t *place = vv_bytes_extend(&bytes, FIRST);
    TRY(vv_bytes_done(&bytes));
    TRY(vv_file_read_some(file, place, FIRST, 0, &got));
    rc = got < VV_DELTAFILE_HEADER ? damaged("it is too short") : check_header(bytes.data, size, &directory);
    if (rc == VARVE_OK && VV_DELTAFILE_HEADER + directory > got) {
        place = vv_bytes_extend(&bytes, VV_DELTAFILE_HEADER + directory - bytes.size);
        TRY(vv_bytes_done(&bytes));
        got = VV_DELTAFILE_HEADER + directory;
        TRY(vv_file_read(file, bytes.data, got, 0));
    }
    if (rc == VARVE_OK)
        rc = vv_deltafile_decode(bytes.data, got, size, delta);
    if (rc == VARVE_CORRUPT)
        rc = vv_fail_within(rc, "%s", file->name);
out:
    vv_bytes_release(&bytes);
    return rc;
}

const struct vv_deltafile_entry *vv_deltafile_find(const struct vv_deltafile *delta, uint32_t index)
{
    size_t low = 0, high = delta->count;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (delta->entries[middle].index < index)
            low = middle + 1;
        else
            high = middle;
    }
    return low < delta->count && delta->entries[low].index == index ? &delta->entries[low] : NULL;
}

varve_status vv_deltafile_frame(const struct vv_file *file, const struct vv_bytes *whole,
                                const struct vv_deltafile *delta, size_t number, struct vv_codec *codec,
                                struct vv_bytes *scratch, struct vv_frame *frame)
{
    const uint8_t *bytes = NULL;
    varve_status rc = VARVE_OK;

    *frame = VV_FRAME_NONE;
    VV_ASSERT(number < delta->frame_count);
    const size_t size = (size_t)(delta->frames[number + 1] - delta->frames[number]);
    if (whole != NULL) {
        VV_ASSERT(delta->frames[number + 1] <= whole->size);
        bytes = whole->data + delta->frames[number];
    } else {
        vv_bytes_clear(scratch);
        uint8_t *place = vv_bytes_extend(scratch, size);
        TRY(vv_bytes_done(scratch));
        TRY(vv_file_read(file, place, size, delta->frames[number]));
        bytes = place;
    }
    rc = vv_frame_open_with(codec, bytes, size, frame);
    if (rc == VARVE_CORRUPT)
        rc = vv_fail_within(rc, "frame %zu", number);
out:
    return rc;
}
