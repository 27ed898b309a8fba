/* delta.c - see delta.h.
 *
 * Runs   0x00 alone (equal pages), or runs to the end: varint length >= 1, varint bytes skipped before, bytes.
 * Frame  header 32: "VFRM", u8 version 1, u8 coding (0 raw, 1 zstd), u16 count, u32 size of the table, u32 size
 *        of the payload as stored, 16 bytes of checksum: H(RECORD, the first 16 bytes | table | payload);
 *        table: per slot u8 form; WHOLE: nothing (its size is 4096); RUNS: varint size, varint zigzag of base
 *        locator minus the one before (0 at first); then the payload: the slots' bytes in order.
 * The size of the unpacked payload is the sum of the slots' sizes, so nothing that zstd says is trusted. */
#include "page/delta.h"

#include <zstd.h>

#include "base/alloc.h"
#include "page/hash.h"

/* Equal bytes shorter than this between two runs are carried along: a run's head costs two or three. */
enum { RUN_GAP = 4 };
/* Pages are compared in blocks, so that one bit for each fits in a word; and all runs of a page, were it the worst, in
 * this: a head of 2 for each byte of 5, or of 3 or 4 for each run of more. */
enum { BLOCK = 64, RUNS_MOST = 2 * VV_PAGE_SIZE };

enum { CODING_RAW = 0, CODING_ZSTD = 1, FRAME_VERSION = 1, CHECKSUM_SIZE = 16 };
enum { SLOT_BOUND = 1 + 2 + 10 }; /* form, size of runs, base locator */
/* A smaller payload is stored as it is: what zstd would save is less than the padding of the log to the sector,
 * and decoding a frame of one or two pages must cost no more than writing the pages. */
enum { COMPRESS_FROM = 1024, COMPRESS_LEVEL = 1 };
/* Saving less than this part is poor; after so many poor frames in a row (POOR_MOST) one of 2^(POOR_MOST - 1) is tried. */
enum { POOR_SAVING = 16, POOR_MOST = 4 };

static const uint8_t frame_magic[4] = { 'V', 'F', 'R', 'M' };

/* ---- Runs ------------------------------------------------------------------------------------- */

static uint64_t load_word(const uint8_t *bytes)
{
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

/* Which blocks differ, a bit each: without a branch, for pages come from memory, and while it is waited for the next
 * lines can be asked for. */
static uint64_t blocks_that_differ(const uint8_t *base, const uint8_t *page)
{
    uint64_t blocks = 0;

    for (size_t block = 0; block < VV_PAGE_SIZE / BLOCK; block++) {
        const uint8_t *a = base + block * BLOCK, *b = page + block * BLOCK;
        uint64_t mix = 0;
        for (size_t at = 0; at < BLOCK; at += sizeof mix)
            mix |= load_word(a + at) ^ load_word(b + at);
        blocks |= (uint64_t)(mix != 0) << block;
    }
    return blocks;
}

/* Which bytes of a block differ, a bit each. */
static uint64_t bytes_that_differ(const uint8_t *base, const uint8_t *page)
{
    const uint64_t low = UINT64_C(0x7f7f7f7f7f7f7f7f);
    uint64_t bytes = 0;

    for (size_t at = 0; at < BLOCK; at += 8) {
        const uint64_t mix = vv_get_u64(base + at) ^ vv_get_u64(page + at);
        const uint64_t high =
            (((mix & low) + low) | mix) & ~low; /* the highest bit of each byte that is not 0 */
        bytes |= ((high >> 7) * UINT64_C(0x0102040810204080) >> 56) << at;
    }
    return bytes;
}

static uint8_t *put_varint(uint8_t *at, size_t value)
{
    for (; value > 0x7f; value >>= 7)
        *at++ = (uint8_t)(value | 0x80);
    *at++ = (uint8_t)value;
    return at;
}

/* Runs in the making: those that are ended are in the room. */
struct runs {
    const uint8_t *page;
    uint8_t *room;
    size_t size, limit;
    size_t from, end; /* the last run, which may grow; none yet: both 0 */
    size_t before;    /* where the run before it ends */
};

/* The last run, if there is one, grows no more. False: it is more than may be. */
static bool end_run(struct runs *runs)
{
    const size_t length = runs->end - runs->from, skip = runs->from - runs->before;
    const size_t most = runs->size + (length > 0x7f) + (skip > 0x7f) + 2 + length; /* both are below 2^14 */

    if (length == 0)
        return true;
    if (most > runs->limit)
        return false;
    uint8_t *at = put_varint(put_varint(runs->room + runs->size, length), skip);
    memcpy(at, runs->page + runs->from, length);
    runs->size = most;
    runs->before = runs->end;
    return true;
}

/* The bytes of one block that differ, given as bits, belong to the last run or to new ones. */
static bool add_block(struct runs *runs, size_t at, uint64_t bytes)
{
    while (bytes != 0) {
        const unsigned first = (unsigned)__builtin_ctzll(bytes);
        const uint64_t equal = ~(bytes >> first);
        const unsigned length = equal == 0 ? BLOCK : (unsigned)__builtin_ctzll(equal);
        if (runs->end == 0 || at + first - runs->end >= RUN_GAP) {
            if (!end_run(runs))
                return false;
            runs->from = at + first;
        }
        runs->end = at + first + length;
        bytes = first + length >= BLOCK ? 0 : bytes >> (first + length) << (first + length);
    }
    return runs->end - runs->from <= runs->limit;
}

/* Room for runs behind what `out` holds; false: there is none. */
static bool begin_runs(struct runs *runs, const uint8_t *page, size_t limit, struct vv_bytes *out)
{
    const size_t most = limit < RUNS_MOST ? limit : RUNS_MOST;

    *runs = (struct runs){ .page = page, .limit = most };
    if (most > 0)
        runs->room = vv_bytes_extend(out, most);
    return runs->room != NULL;
}

/* All are ended; `out` holds them, or what it held before when they do not fit. */
static size_t finish_runs(struct runs *runs, bool fit, struct vv_bytes *out)
{
    out->size -= runs->limit;
    if (!fit)
        return 0;
    if (runs->size == 0) /* equal pages */
        runs->room[runs->size++] = 0;
    out->size += runs->size;
    return runs->size;
}

size_t vv_runs_encode(const uint8_t *base, const uint8_t *page, size_t limit, struct vv_bytes *out)
{
    struct runs runs;
    bool fit = true;

    if (!begin_runs(&runs, page, limit, out))
        return 0;
    for (uint64_t left = blocks_that_differ(base, page); left != 0 && fit; left &= left - 1) {
        const size_t at = (size_t)__builtin_ctzll(left) * BLOCK;
        fit = add_block(&runs, at, bytes_that_differ(base + at, page + at));
    }
    return finish_runs(&runs, fit && end_run(&runs), out);
}

varve_status vv_runs_apply(const uint8_t *runs, size_t size, uint8_t page[VV_PAGE_SIZE])
{
    struct vv_reader reader = vv_reader_of(runs, size);
    size_t at = 0;

    if (size == 1 && runs[0] == 0)
        return VARVE_OK;
    if (size == 0)
        return vv_fail(VARVE_CORRUPT, "runs of a page: there are none, not even the mark of equal pages");
    while (vv_reader_left(&reader) > 0 && !reader.bad) {
        const uint64_t length = vv_reader_varint(&reader);
        const uint64_t skip = vv_reader_varint(&reader);
        if (length == 0 || skip > VV_PAGE_SIZE - at || length > VV_PAGE_SIZE - at - skip)
            return vv_fail(VARVE_CORRUPT, "runs of a page: a run leaves the page (at byte %zu of %zu)",
                           reader.offset, size);
        at += (size_t)skip;
        vv_reader_copy(&reader, page + at, (size_t)length);
        at += (size_t)length;
    }
    return vv_reader_done(&reader, "runs of a page");
}

void vv_words_add(struct vv_words *words, const uint8_t *runs, size_t size)
{
    struct vv_reader reader = vv_reader_of(runs, size);
    size_t at = 0;

    if (size == 1)
        return;
    while (vv_reader_left(&reader) > 0) {
        const size_t length = (size_t)vv_reader_varint(&reader);
        at += (size_t)vv_reader_varint(&reader);
        (void)vv_reader_take(&reader, length);
        VV_ASSERT(!reader.bad && length > 0 && at + length <= VV_PAGE_SIZE);
        for (size_t word = at / 8; word <= (at + length - 1) / 8; word++)
            words->bits[word / 64] |= UINT64_C(1) << word % 64;
        at += length;
    }
}

/* The first word from `word` on that is in the set, or is not. */
static size_t next_word(const struct vv_words *words, size_t word, bool in)
{
    for (; word < VV_PAGE_SIZE / 8; word = (word / 64 + 1) * 64) {
        const uint64_t bits = (in ? words->bits[word / 64] : ~words->bits[word / 64]) & UINT64_MAX
                                                                                            << word % 64;
        if (bits != 0)
            return word / 64 * 64 + (size_t)__builtin_ctzll(bits);
    }
    return VV_PAGE_SIZE / 8;
}

/* All lines of the page that have such words, at once: nobody has looked at it for a while. */
static void ask_for_words(const struct vv_words *words, const uint8_t *page)
{
    for (size_t i = 0; i < sizeof words->bits / sizeof words->bits[0]; i++)
        for (size_t line = 0; line < 8; line++)
            if ((words->bits[i] >> 8 * line & 0xff) != 0)
                __builtin_prefetch(page + (i * 8 + line) * 64);
}

size_t vv_words_encode(const struct vv_words *words, const uint8_t *page, size_t limit, struct vv_bytes *out)
{
    struct runs runs;
    bool fit = true;

    if (!begin_runs(&runs, page, limit, out))
        return 0;
    ask_for_words(words, page);
    for (size_t from = next_word(words, 0, true); from < VV_PAGE_SIZE / 8 && fit;) {
        const size_t end = next_word(words, from, false);
        runs.from = from * 8;
        runs.end = end * 8;
        fit = end_run(&runs);
        from = next_word(words, end, true);
    }
    return finish_runs(&runs, fit, out);
}

size_t vv_page_distance(const uint8_t *base, const uint8_t *page)
{
    size_t distance = 0;

    for (size_t at = 0; at < VV_PAGE_SIZE; at += 8) {
        uint64_t mix = load_word(base + at) ^ load_word(page + at);
        if (mix == 0)
            continue;
        mix |= mix >> 4; /* gather each byte's bits in its lowest */
        mix |= mix >> 2;
        mix |= mix >> 1;
        distance += (size_t)__builtin_popcountll(mix & UINT64_C(0x0101010101010101));
    }
    return distance;
}

/* ---- Encoding a frame ------------------------------------------------------------------------- */

size_t vv_frame_bound(size_t count)
{
    VV_ASSERT(count <= VV_FRAME_PAGES);
    return VV_FRAME_HEADER + count * (SLOT_BOUND + VV_PAGE_SIZE);
}

/* Append one page's slot to the table and its bytes to the payload. */
static void put_slot(const struct vv_frame_page *page, uint64_t *last_base, struct vv_bytes *table,
                     struct vv_bytes *payload)
{
    size_t size = 0;

    if (page->runs == NULL && vv_page_is_zero(page->bytes)) { /* who has runs has looked at it already */
        vv_bytes_u8(table, VV_FORM_ZERO);
        return;
    }
    if (page->base != NULL) {
        VV_ASSERT(page->base_locator != 0);
        size = page->runs != NULL ? page->runs_size
                                  : vv_runs_encode(page->base, page->bytes, VV_DELTA_WHOLE_ABOVE, payload);
        VV_ASSERT(size <= VV_DELTA_WHOLE_ABOVE);
        if (page->runs != NULL)
            vv_bytes_put(payload, page->runs, size);
    }
    if (size == 0) {
        vv_bytes_u8(table, VV_FORM_WHOLE);
        vv_bytes_put(payload, page->bytes, VV_PAGE_SIZE);
        return;
    }
    vv_bytes_u8(table, VV_FORM_RUNS);
    vv_bytes_varint(table, size);
    vv_bytes_varint(table, vv_zigzag(page->base_locator - *last_base));
    *last_base = page->base_locator;
}

void vv_codec_release(struct vv_codec *codec)
{
    (void)ZSTD_freeCCtx(codec->packer);
    (void)ZSTD_freeDCtx(codec->unpacker);
    *codec = VV_CODEC_NONE;
}

/* Is this payload to be compressed? Many frames of noise in a row say that the next ones are noise too: then most are
 * not tried, for trying takes longer than all else that a frame wants. */
static bool tries(struct vv_codec *codec, size_t size)
{
    if (size < COMPRESS_FROM)
        return false;
    if (codec->pass > 0) {
        codec->pass--;
        return false;
    }
    if (codec->packer == NULL)
        codec->packer = ZSTD_createCCtx();
    return codec->packer != NULL;
}

static void note_saving(struct vv_codec *codec, size_t size, size_t saved)
{
    if (saved > size / POOR_SAVING)
        codec->poor = 0;
    else if (codec->poor < POOR_MOST)
        codec->poor++;
    codec->pass = codec->poor == 0 ? 0 : (1u << (codec->poor - 1)) - 1;
}

/* Append the payload, compressed where that makes it smaller (and memory suffices for it); `coding` says which. */
static void put_payload(struct vv_codec *codec, const struct vv_bytes *payload, struct vv_bytes *out,
                        uint8_t *coding)
{
    const size_t start = out->size;

    *coding = CODING_RAW;
    if (tries(codec, payload->size)) {
        uint8_t *room = vv_bytes_extend(out, payload->size - 1); /* so that larger is an error of zstd's */
        if (room == NULL)
            return;
        const size_t size = ZSTD_compressCCtx(codec->packer, room, payload->size - 1, payload->data,
                                              payload->size, COMPRESS_LEVEL);
        const bool smaller = !ZSTD_isError(size);
        note_saving(codec, payload->size, smaller ? payload->size - size : 0);
        out->size = start + (smaller ? size : 0);
        if (smaller) {
            *coding = CODING_ZSTD;
            return;
        }
    }
    vv_bytes_put(out, payload->data, payload->size);
}

static void frame_checksum(const uint8_t *frame, size_t size, uint8_t sum[CHECKSUM_SIZE])
{
    struct vv_hasher hasher;
    uint8_t hash[VV_HASH_SIZE];

    vv_hasher_init(&hasher, VV_HASH_RECORD);
    vv_hasher_put(&hasher, frame, VV_FRAME_HEADER - CHECKSUM_SIZE);
    vv_hasher_put(&hasher, frame + VV_FRAME_HEADER, size - VV_FRAME_HEADER);
    vv_hasher_end(&hasher, hash);
    memcpy(sum, hash, CHECKSUM_SIZE);
}

varve_status vv_frame_encode_with(struct vv_codec *codec, const struct vv_frame_page *pages, size_t count,
                                  struct vv_bytes *out)
{
    varve_status rc = VARVE_OK;
    struct vv_bytes payload = VV_BYTES_NONE;
    const size_t start = out->size;
    uint64_t last_base = 0;
    uint8_t coding = CODING_RAW;

    VV_ASSERT(count >= 1 && count <= VV_FRAME_PAGES);
    vv_bytes_zero(out, VV_FRAME_HEADER);
    for (size_t i = 0; i < count; i++)
        put_slot(&pages[i], &last_base, out, &payload);
    TRY(vv_bytes_done(&payload));
    const size_t table_end = out->size;
    put_payload(codec, &payload, out, &coding);
    TRY(vv_bytes_done(out));

    uint8_t *header = out->data + start;
    memcpy(header, frame_magic, sizeof frame_magic);
    header[4] = FRAME_VERSION;
    header[5] = coding;
    vv_put_u16(header + 6, (uint16_t)count);
    vv_put_u32(header + 8, (uint32_t)(table_end - start - VV_FRAME_HEADER));
    vv_put_u32(header + 12, (uint32_t)(out->size - table_end));
    frame_checksum(header, out->size - start, header + 16);
    VV_ASSERT(out->size - start <= vv_frame_bound(count));
out:
    if (rc != VARVE_OK)
        out->size = start;
    vv_bytes_release(&payload);
    return rc;
}

varve_status vv_frame_encode(const struct vv_frame_page *pages, size_t count, struct vv_bytes *out)
{
    struct vv_codec codec = VV_CODEC_NONE;
    const varve_status rc = vv_frame_encode_with(&codec, pages, count, out);

    vv_codec_release(&codec);
    return rc;
}

/* ---- Decoding a frame ------------------------------------------------------------------------- */

/* What a header says, checked for sense. */
struct frame_shape {
    uint8_t version, coding;
    size_t count, table_size, stored_size;
};

static varve_status read_header(const uint8_t *header, size_t size, struct frame_shape *shape)
{
    if (size < VV_FRAME_HEADER || memcmp(header, frame_magic, sizeof frame_magic) != 0)
        return vv_fail(VARVE_CORRUPT, "frame: no frame begins here");
    shape->version = header[4];
    shape->coding = header[5];
    shape->count = vv_get_u16(header + 6);
    shape->table_size = vv_get_u32(header + 8);
    shape->stored_size = vv_get_u32(header + 12);
    if (shape->coding > CODING_ZSTD || shape->count < 1 || shape->count > VV_FRAME_PAGES ||
        shape->table_size < shape->count || shape->table_size > shape->count * SLOT_BOUND ||
        shape->stored_size > shape->count * VV_PAGE_SIZE)
        return vv_fail(VARVE_CORRUPT, "frame: its header holds a number that cannot be");
    return VARVE_OK;
}

varve_status vv_frame_size(const uint8_t *header, size_t size, size_t *frame_size)
{
    struct frame_shape shape = { 0 };
    const varve_status rc = read_header(header, size, &shape);

    *frame_size = rc == VARVE_OK ? VV_FRAME_HEADER + shape.table_size + shape.stored_size : 0;
    return rc;
}

static varve_status read_table(const uint8_t *table, const struct frame_shape *shape, struct vv_frame *frame)
{
    struct vv_reader reader = vv_reader_of(table, shape->table_size);
    uint64_t base = 0;

    for (size_t i = 0; i < shape->count; i++) {
        struct vv_frame_slot *slot = &frame->slots[i];
        const uint8_t form = vv_reader_u8(&reader);
        uint64_t size = form == VV_FORM_WHOLE ? VV_PAGE_SIZE : 0;

        if (form > VV_FORM_RUNS)
            return vv_fail(VARVE_CORRUPT, "frame: slot %zu has the unknown form %u", i, form);
        slot->form = (enum vv_page_form)form;
        if (form == VV_FORM_RUNS) {
            size = vv_reader_varint(&reader);
            base += vv_unzigzag(vv_reader_varint(&reader));
            slot->base_locator = base;
            if (size == 0 || size > VV_DELTA_WHOLE_ABOVE || base == 0)
                return vv_fail(VARVE_CORRUPT, "frame: slot %zu holds a number that cannot be", i);
        }
        frame->offsets[i] = (uint32_t)frame->payload_size;
        frame->sizes[i] = (uint32_t)size;
        frame->payload_size += (size_t)size;
    }
    return vv_reader_done(&reader, "frame: slot table");
}

static varve_status unpack(struct vv_codec *codec, const uint8_t *stored, const struct frame_shape *shape,
                           struct vv_frame *frame)
{
    const size_t size = frame->payload_size;
    const varve_status rc =
        vv_resize(&frame->payload, size, 1); /* from none: what follows writes all of it */

    if (rc != VARVE_OK)
        return rc;
    if (shape->coding == CODING_RAW) {
        if (shape->stored_size != size)
            return vv_fail(VARVE_CORRUPT, "frame: its slots want %zu bytes and it has %zu", size,
                           shape->stored_size);
        if (size > 0)
            memcpy(frame->payload, stored, size);
        return VARVE_OK;
    }
    if (codec->unpacker == NULL)
        codec->unpacker = ZSTD_createDCtx();
    if (codec->unpacker == NULL)
        return vv_fail(VARVE_MEMORY, "out of memory: to unpack a frame");
    const size_t got = ZSTD_decompressDCtx(codec->unpacker, frame->payload, size, stored, shape->stored_size);
    if (ZSTD_isError(got))
        return vv_fail(VARVE_CORRUPT, "frame: does not unpack: %s", ZSTD_getErrorName(got));
    if (got != size)
        return vv_fail(VARVE_CORRUPT, "frame: its slots want %zu bytes and it unpacks to %zu", size, got);
    return VARVE_OK;
}

/* `codec` NULL: the payload is not wanted. */
static varve_status open_frame(struct vv_codec *codec, const uint8_t *bytes, size_t size,
                               struct vv_frame *frame)
{
    varve_status rc = VARVE_OK;
    struct frame_shape shape = { 0 };
    uint8_t sum[CHECKSUM_SIZE];

    *frame = VV_FRAME_NONE;
    TRY(read_header(bytes, size, &shape));
    if (size != VV_FRAME_HEADER + shape.table_size + shape.stored_size)
        TRY(vv_fail(VARVE_CORRUPT, "frame: %zu bytes are not its size", size));
    frame_checksum(bytes, size, sum);
    if (memcmp(sum, bytes + 16, sizeof sum) != 0)
        TRY(vv_fail(VARVE_CORRUPT, "frame: its checksum does not fit its bytes"));
    if (shape.version != FRAME_VERSION) /* a flipped bit is damage, not the future */
        TRY(vv_fail(VARVE_NEWER, "frame: version %u; this program reads version %d", shape.version,
                    FRAME_VERSION));
    TRY(read_table(bytes + VV_FRAME_HEADER, &shape, frame));
    frame->count = shape.count;
    if (codec != NULL)
        TRY(unpack(codec, bytes + VV_FRAME_HEADER + shape.table_size, &shape, frame));
out:
    if (rc != VARVE_OK)
        vv_frame_release(frame);
    return rc;
}

varve_status vv_frame_open_with(struct vv_codec *codec, const void *bytes, size_t size,
                                struct vv_frame *frame)
{
    return open_frame(codec, bytes, size, frame);
}

varve_status vv_frame_open(const void *bytes, size_t size, struct vv_frame *frame)
{
    struct vv_codec codec = VV_CODEC_NONE;
    const varve_status rc = open_frame(&codec, bytes, size, frame);

    vv_codec_release(&codec);
    return rc;
}

varve_status vv_frame_slots(const void *bytes, size_t size, struct vv_frame *frame)
{
    return open_frame(NULL, bytes, size, frame);
}

bool vv_frame_peek(const void *bytes, size_t size, struct vv_frame *frame, size_t *payload_at)
{
    struct frame_shape shape = { 0 };

    *frame = VV_FRAME_NONE;
    if (read_header(bytes, size, &shape) != VARVE_OK || shape.version != FRAME_VERSION ||
        shape.coding != CODING_RAW || VV_FRAME_HEADER + shape.table_size > size ||
        read_table((const uint8_t *)bytes + VV_FRAME_HEADER, &shape, frame) != VARVE_OK ||
        frame->payload_size != shape.stored_size)
        return false;
    frame->count = shape.count;
    *payload_at = VV_FRAME_HEADER + shape.table_size;
    return true;
}

void vv_frame_release(struct vv_frame *frame)
{
    vv_free(frame->payload);
    *frame = VV_FRAME_NONE;
}

varve_status vv_frame_page(const struct vv_frame *frame, size_t slot, uint8_t page[VV_PAGE_SIZE])
{
    if (slot >= frame->count)
        return vv_fail(VARVE_CORRUPT, "frame: slot %zu of %zu is asked for", slot, frame->count);
    VV_ASSERT(frame->payload != NULL);
    switch (frame->slots[slot].form) {
    case VV_FORM_ZERO:
        memset(page, 0, VV_PAGE_SIZE);
        return VARVE_OK;
    case VV_FORM_WHOLE:
        memcpy(page, frame->payload + frame->offsets[slot], VV_PAGE_SIZE);
        return VARVE_OK;
    case VV_FORM_RUNS:
        return vv_runs_apply(frame->payload + frame->offsets[slot], frame->sizes[slot], page);
    }
    return vv_fail(VARVE_CORRUPT, "frame: slot %zu has an unknown form", slot);
}
