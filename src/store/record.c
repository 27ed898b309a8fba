/* record.c - see record.h. Every offset below is in docs/format.md, "Records". */
#include "store/record.h"

#include <string.h>

#include "base/alloc.h"
#include "base/plant.h"

/* Header: where each field lies. */
enum {
    AT_MAGIC = 0,
    AT_VERSION = 4,
    AT_KIND = 6,
    AT_REPAIRS = 7,
    AT_SIZE = 8,
    AT_ADDRESS = 16,
    AT_SEQUENCE = 24,
    AT_NUMBER = 32,
    AT_SYNCED = 40,
    AT_PARENT = 48,
    AT_CHECKPOINT = 56,
    AT_LINE_RECORDS = 64,
    AT_FACTS_SIZE = 68,
    AT_LINE_BYTES = 72,
    AT_DIRECTORY_SIZE = 80,
    AT_PAGES_SIZE = 88,
    AT_TIME = 96,
    AT_EPOCH = 104,
    AT_PREVIOUS = 120,
    AT_ID = 136,
    AT_ROOT = 168,
    AT_FACTS_SUM = 200,
    AT_DIRECTORY_SUM = 216,
    AT_PAGES_SUM = 232,
    AT_SUM = 248
};
_Static_assert(AT_SUM + VV_SUM == VV_RECORD_HEADER, "the header ends with its sum");

static const uint8_t magic[4] = { 'v', 'R', 'e', 'c' };
enum { RECORD_VERSION = 1 };

struct vv_piece vv_piece_of(const struct vv_bytes *bytes)
{
    return (struct vv_piece){ .data = bytes->size == 0 ? (const uint8_t *)"" : bytes->data,
                              .size = bytes->size };
}

struct vv_piece vv_piece_of_text(const char *text)
{
    const char *shown = text == NULL ? "" : text;

    return (struct vv_piece){ .data = (const uint8_t *)shown, .size = strlen(shown) };
}

void vv_record_sum(const void *bytes, size_t size, uint8_t sum[VV_SUM])
{
    uint8_t hash[VV_HASH_SIZE];

    vv_hash(VV_HASH_RECORD, bytes, size, hash);
    memcpy(sum, hash, VV_SUM);
}

uint64_t vv_record_used(const struct vv_record *record)
{
    return VV_RECORD_HEADER + record->facts_size + record->directory_size + record->pages_size;
}

uint64_t vv_record_padded(const struct vv_record *record)
{
    return (vv_record_used(record) + VV_RECORD_ALIGN - 1) / VV_RECORD_ALIGN * VV_RECORD_ALIGN;
}

void vv_record_encode(struct vv_record *record, uint8_t out[VV_RECORD_HEADER])
{
    VV_ASSERT(record->size == vv_record_padded(record));
    VV_ASSERT(record->facts_size <= UINT32_MAX);
    memcpy(out + AT_MAGIC, magic, sizeof magic);
    vv_put_u16(out + AT_VERSION, RECORD_VERSION);
    out[AT_KIND] = (uint8_t)record->kind;
    out[AT_REPAIRS] = record->repairs;
    vv_put_u64(out + AT_SIZE, record->size);
    vv_put_u64(out + AT_ADDRESS, record->address);
    vv_put_u64(out + AT_SEQUENCE, record->sequence);
    vv_put_u64(out + AT_NUMBER, record->number);
    vv_put_u64(out + AT_SYNCED, record->synced);
    vv_put_u64(out + AT_PARENT, record->parent);
    vv_put_u64(out + AT_CHECKPOINT, record->checkpoint);
    vv_put_u32(out + AT_LINE_RECORDS, record->line_records);
    vv_put_u32(out + AT_FACTS_SIZE, (uint32_t)record->facts_size);
    vv_put_u64(out + AT_LINE_BYTES, record->line_bytes);
    vv_put_u64(out + AT_DIRECTORY_SIZE, record->directory_size);
    vv_put_u64(out + AT_PAGES_SIZE, record->pages_size);
    vv_put_u64(out + AT_TIME, (uint64_t)record->time_ns);
    memcpy(out + AT_EPOCH, record->epoch, sizeof record->epoch);
    memcpy(out + AT_PREVIOUS, record->previous, VV_SUM);
    memcpy(out + AT_ID, record->id, 32);
    memcpy(out + AT_ROOT, record->root, 32);
    memcpy(out + AT_FACTS_SUM, record->facts_sum, VV_SUM);
    memcpy(out + AT_DIRECTORY_SUM, record->directory_sum, VV_SUM);
    memcpy(out + AT_PAGES_SUM, record->pages_sum, VV_SUM);
    vv_record_sum(out, AT_SUM, record->sum);
    memcpy(out + AT_SUM, record->sum, VV_SUM);
}

uint64_t vv_record_size(const uint8_t *header)
{
    return vv_get_u64(header + AT_SIZE);
}

bool vv_record_magic(const uint8_t *bytes)
{
    return memcmp(bytes, magic, sizeof magic) == 0;
}

static void take_fields(const uint8_t *bytes, struct vv_record *record)
{
    record->kind = (enum vv_record_kind)bytes[AT_KIND];
    record->repairs = bytes[AT_REPAIRS] != 0;
    record->size = vv_get_u64(bytes + AT_SIZE);
    record->address = vv_get_u64(bytes + AT_ADDRESS);
    record->sequence = vv_get_u64(bytes + AT_SEQUENCE);
    record->number = vv_get_u64(bytes + AT_NUMBER);
    record->synced = vv_get_u64(bytes + AT_SYNCED);
    record->parent = vv_get_u64(bytes + AT_PARENT);
    record->checkpoint = vv_get_u64(bytes + AT_CHECKPOINT);
    record->line_records = vv_get_u32(bytes + AT_LINE_RECORDS);
    record->line_bytes = vv_get_u64(bytes + AT_LINE_BYTES);
    record->facts_size = vv_get_u32(bytes + AT_FACTS_SIZE);
    record->directory_size = vv_get_u64(bytes + AT_DIRECTORY_SIZE);
    record->pages_size = vv_get_u64(bytes + AT_PAGES_SIZE);
    record->time_ns = (int64_t)vv_get_u64(bytes + AT_TIME);
    memcpy(record->epoch, bytes + AT_EPOCH, sizeof record->epoch);
    memcpy(record->previous, bytes + AT_PREVIOUS, VV_SUM);
    memcpy(record->id, bytes + AT_ID, 32);
    memcpy(record->root, bytes + AT_ROOT, 32);
    memcpy(record->facts_sum, bytes + AT_FACTS_SUM, VV_SUM);
    memcpy(record->directory_sum, bytes + AT_DIRECTORY_SUM, VV_SUM);
    memcpy(record->pages_sum, bytes + AT_PAGES_SUM, VV_SUM);
    memcpy(record->sum, bytes + AT_SUM, VV_SUM);
}

/* A sum is no proof of good will: sizes and addresses of a store from elsewhere are looked at all the same. */
static bool makes_sense(const struct vv_record *record, uint64_t address)
{
    return record->kind >= VV_RECORD_OPEN && record->kind <= VV_RECORD_KEPT &&
           (!record->repairs || record->kind == VV_RECORD_CHECKPOINT) && record->address == address &&
           address < VV_ADDRESS_MAX && record->directory_size < VV_ADDRESS_MAX &&
           record->pages_size < VV_ADDRESS_MAX && record->size == vv_record_padded(record) &&
           record->size < VV_ADDRESS_MAX && record->parent < address && record->checkpoint < address &&
           record->synced <= address;
}

varve_status vv_record_decode(const uint8_t bytes[VV_RECORD_HEADER], uint64_t address,
                              struct vv_record *record)
{
    uint8_t sum[VV_SUM];

    if (!vv_record_magic(bytes))
        return vv_fail(VARVE_CORRUPT, "no record begins at address %llu", (unsigned long long)address);
    const unsigned version = vv_get_u16(bytes + AT_VERSION);
    vv_record_sum(bytes, AT_SUM, sum);
    if (memcmp(sum, bytes + AT_SUM, VV_SUM) != 0 && !VV_PLANT("sum-without-header"))
        return vv_fail(VARVE_CORRUPT, "the header of the record at address %llu fails its checksum",
                       (unsigned long long)address);
    if (version != RECORD_VERSION)
        return vv_fail(VARVE_NEWER, "the record at address %llu has version %u, this library reads %u",
                       (unsigned long long)address, version, (unsigned)RECORD_VERSION);
    take_fields(bytes, record);
    if (bytes[AT_REPAIRS] > 1 || !makes_sense(record, address))
        return vv_fail(VARVE_CORRUPT, "the header of the record at address %llu contradicts itself",
                       (unsigned long long)address);
    return VARVE_OK;
}

static const uint8_t closing_magic[4] = { 'v', 'E', 'n', 'd' };
enum { CLOSING_VERSION = 1, CLOSING_SUM_AT = VV_CLOSING - VV_SUM };

void vv_closing_encode(const struct vv_closing *closing, uint8_t out[VV_CLOSING])
{
    memset(out, 0, VV_CLOSING);
    memcpy(out, closing_magic, sizeof closing_magic);
    vv_put_u16(out + 4, CLOSING_VERSION);
    vv_put_u64(out + 8, closing->address);
    vv_put_u64(out + 16, closing->sequence);
    memcpy(out + 24, closing->previous, VV_SUM);
    vv_record_sum(out, CLOSING_SUM_AT, out + CLOSING_SUM_AT);
}

bool vv_closing_decode(const uint8_t bytes[VV_CLOSING], struct vv_closing *closing)
{
    uint8_t whole[VV_CLOSING];

    if (memcmp(bytes, closing_magic, sizeof closing_magic) != 0)
        return false;
    closing->address = vv_get_u64(bytes + 8);
    closing->sequence = vv_get_u64(bytes + 16);
    memcpy(closing->previous, bytes + 24, VV_SUM);
    vv_closing_encode(closing, whole);
    return memcmp(bytes, whole, VV_CLOSING) == 0;
}

/* ---- Facts of a commit, and moves of refs ----------------------------------------------------- */

/* What a move need not spell. */
enum {
    MOVE_FROM_NONE = 1 << 0,
    MOVE_FROM_PARENT = 1 << 1,
    MOVE_TO_NONE = 1 << 2,
    MOVE_TO_THIS = 1 << 3,
    MOVE_FLAGS = 15
};
enum { WHAT_MAX = 15 };

static void encode_move(enum vv_record_kind kind, const struct vv_record_facts *facts, const uint8_t id[32],
                        const struct vv_record_move *move, struct vv_bytes *out)
{
    unsigned flags = 0;

    if (vv_hash_is_zero(move->from))
        flags |= MOVE_FROM_NONE;
    else if (kind == VV_RECORD_COMMIT && vv_hash_equal(move->from, facts->parent))
        flags |= MOVE_FROM_PARENT;
    if (vv_hash_is_zero(move->to))
        flags |= MOVE_TO_NONE;
    else if (kind == VV_RECORD_COMMIT && vv_hash_equal(move->to, id))
        flags |= MOVE_TO_THIS;
    vv_bytes_blob(out, move->name.data, move->name.size);
    vv_bytes_u8(out, (uint8_t)flags);
    if (!(flags & (MOVE_FROM_NONE | MOVE_FROM_PARENT)))
        vv_bytes_put(out, move->from, 32);
    if (!(flags & (MOVE_TO_NONE | MOVE_TO_THIS)))
        vv_bytes_put(out, move->to, 32);
    vv_bytes_blob(out, move->what.data, move->what.size);
    vv_bytes_varint(out, move->previous);
    vv_bytes_varint(out, move->moves);
}

static void encode_removals(const struct vv_record_removal *removals, size_t count, struct vv_bytes *out)
{
    vv_bytes_varint(out, count);
    for (size_t i = 0; i < count; i++) {
        vv_bytes_put(out, removals[i].id, 32);
        vv_bytes_put(out, removals[i].ancestor, 32);
        vv_bytes_varint(out, removals[i].number);
    }
}

varve_status vv_record_facts_encode(enum vv_record_kind kind, const struct vv_record_facts *facts,
                                    const uint8_t id[32], struct vv_bytes *out)
{
    if (kind == VV_RECORD_COMMIT || kind == VV_RECORD_KEPT) {
        vv_bytes_put(out, facts->parent, 32);
        vv_bytes_put(out, facts->seed, 32);
        vv_bytes_varint(out, facts->modules);
        vv_bytes_varint(out, facts->modules_changed);
        vv_bytes_varint(out, facts->pages_changed);
        vv_bytes_blob(out, facts->branch.data, facts->branch.size);
        vv_bytes_blob(out, facts->engine.data, facts->engine.size);
        vv_bytes_blob(out, facts->message.data, facts->message.size);
    }
    if (kind == VV_RECORD_KEPT) {
        vv_bytes_varint(out, facts->written);
        vv_bytes_u64(out, facts->top.address);
        vv_bytes_put(out, facts->top.hash, VV_HASH_SIZE);
        return vv_bytes_done(out);
    }
    vv_bytes_varint(out, facts->move_count);
    for (size_t i = 0; i < facts->move_count; i++)
        encode_move(kind, facts, id, &facts->moves[i], out);
    if (kind == VV_RECORD_REFS)
        encode_removals(facts->removals, facts->removal_count, out);
    return vv_bytes_done(out);
}

static struct vv_piece take_piece(struct vv_reader *reader, size_t limit)
{
    struct vv_piece piece = { .data = NULL };

    piece.data = vv_reader_blob(reader, limit, &piece.size);
    if (piece.data == NULL)
        piece.size = 0;
    return piece;
}

static bool has_nul(struct vv_piece piece)
{
    return piece.size > 0 && memchr(piece.data, 0, piece.size) != NULL;
}

static void decode_move(struct vv_reader *reader, const struct vv_record *record,
                        const struct vv_record_facts *facts, struct vv_record_move *move)
{
    move->name = take_piece(reader, VV_REF_NAME_MAX);
    const unsigned flags = vv_reader_u8(reader);
    if (flags & MOVE_FROM_PARENT)
        memcpy(move->from, facts->parent, 32);
    else if (!(flags & MOVE_FROM_NONE))
        vv_reader_copy(reader, move->from, 32);
    if (flags & MOVE_TO_THIS)
        memcpy(move->to, record->id, 32);
    else if (!(flags & MOVE_TO_NONE))
        vv_reader_copy(reader, move->to, 32);
    move->what = take_piece(reader, WHAT_MAX);
    move->previous = vv_reader_varint(reader);
    move->moves = vv_reader_varint(reader);
    if ((flags & ~(unsigned)MOVE_FLAGS) != 0 || move->name.size == 0 || has_nul(move->name) ||
        has_nul(move->what) || move->previous >= record->address)
        reader->bad = true;
}

static void take_top(struct vv_reader *reader, struct vv_saved_top *top)
{
    top->address = vv_reader_u64(reader);
    vv_reader_copy(reader, top->hash, VV_HASH_SIZE);
}

/* A count, not more than the bytes that are left could hold. */
static varve_status take_count(struct vv_reader *reader, const struct vv_record *record, size_t least,
                               size_t *count)
{
    const uint64_t taken = vv_reader_varint(reader);

    if (reader->bad || taken > vv_reader_left(reader) / least)
        return vv_fail(VARVE_CORRUPT, "the facts of the record at address %llu do not decode",
                       (unsigned long long)record->address);
    *count = (size_t)taken;
    return VARVE_OK;
}

static varve_status decode_moves(struct vv_reader *reader, const struct vv_record *record,
                                 const struct vv_record_facts *facts, struct vv_record_move **moves,
                                 size_t *move_count)
{
    varve_status rc = VARVE_OK;
    size_t count = 0;

    TRY(take_count(reader, record, 2, &count)); /* a move has more than one byte */
    TRY(vv_alloc(moves, count, sizeof **moves));
    *move_count = count;
    for (size_t i = 0; i < count && !reader->bad; i++)
        decode_move(reader, record, facts, &(*moves)[i]);
out:
    return rc;
}

static varve_status decode_removals(struct vv_reader *reader, const struct vv_record *record,
                                    struct vv_record_removal **removals, size_t *removal_count)
{
    varve_status rc = VARVE_OK;
    size_t count = 0;

    TRY(take_count(reader, record, 2 * 32 + 1, &count));
    TRY(vv_alloc(removals, count, sizeof **removals));
    *removal_count = count;
    for (size_t i = 0; i < count; i++) {
        struct vv_record_removal *removal = &(*removals)[i];
        vv_reader_copy(reader, removal->id, 32);
        vv_reader_copy(reader, removal->ancestor, 32);
        removal->number = vv_reader_varint(reader);
        if (vv_hash_is_zero(removal->id) || removal->number > VV_PAGETREE_PAGES_MAX - 1)
            reader->bad = true;
    }
out:
    return rc;
}

varve_status vv_record_facts_decode(const struct vv_record *record, const void *bytes,
                                    struct vv_record_facts *facts)
{
    varve_status rc = VARVE_OK;
    struct vv_reader reader = vv_reader_of(bytes, record->facts_size);

    *facts = (struct vv_record_facts){ .moves = NULL };
    if (record->kind == VV_RECORD_COMMIT || record->kind == VV_RECORD_KEPT) {
        vv_reader_copy(&reader, facts->parent, 32);
        vv_reader_copy(&reader, facts->seed, 32);
        facts->modules = vv_reader_varint(&reader);
        facts->modules_changed = vv_reader_varint(&reader);
        facts->pages_changed = vv_reader_varint(&reader);
        facts->branch = take_piece(&reader, VV_REF_NAME_MAX);
        facts->engine = take_piece(&reader, vv_reader_left(&reader));
        facts->message = take_piece(&reader, vv_reader_left(&reader));
        if (has_nul(facts->branch) || has_nul(facts->engine) || has_nul(facts->message))
            reader.bad = true;
    }
    if (record->kind == VV_RECORD_KEPT) {
        facts->written = vv_reader_varint(&reader);
        take_top(&reader, &facts->top);
        return vv_reader_done(&reader, "the facts of a record");
    }
    TRY(decode_moves(&reader, record, facts, &facts->moves, &facts->move_count));
    if (record->kind == VV_RECORD_REFS)
        TRY(decode_removals(&reader, record, &facts->removals, &facts->removal_count));
    TRY(vv_reader_done(&reader, "the facts of a record"));
out:
    if (rc != VARVE_OK)
        vv_record_facts_release(facts);
    return rc;
}

void vv_record_facts_release(struct vv_record_facts *facts)
{
    vv_free(facts->moves);
    vv_free(facts->removals);
    *facts = (struct vv_record_facts){ .moves = NULL };
}

/* ---- Facts of a checkpoint -------------------------------------------------------------------- */

static uint8_t *put_top(uint8_t *out, const struct vv_saved_top *top)
{
    vv_put_u64(out, top->address);
    memcpy(out + 8, top->hash, VV_HASH_SIZE);
    return out + 8 + VV_HASH_SIZE;
}

void vv_checkpoint_encode(const struct vv_checkpoint *checkpoint, uint8_t out[VV_CHECKPOINT_FACTS])
{
    out = put_top(out, &checkpoint->state);
    out = put_top(out, &checkpoint->ids);
    out = put_top(out, &checkpoint->roots);
    out = put_top(out, &checkpoint->numbers);
    vv_put_u64(out, checkpoint->number_pages);
    vv_put_u64(out + 8, checkpoint->commits);
    vv_put_u64(out + 16, checkpoint->stored);
    vv_put_u64(out + 24, checkpoint->generation);
    vv_put_u64(out + 32, checkpoint->start);
}

varve_status vv_checkpoint_decode(const struct vv_record *record, const void *bytes,
                                  struct vv_checkpoint *checkpoint)
{
    struct vv_reader reader = vv_reader_of(bytes, record->facts_size);

    take_top(&reader, &checkpoint->state);
    take_top(&reader, &checkpoint->ids);
    take_top(&reader, &checkpoint->roots);
    take_top(&reader, &checkpoint->numbers);
    checkpoint->number_pages = vv_reader_u64(&reader);
    checkpoint->commits = vv_reader_u64(&reader);
    checkpoint->stored = vv_reader_u64(&reader);
    checkpoint->generation = vv_reader_u64(&reader);
    checkpoint->start = vv_reader_u64(&reader);
    if (checkpoint->generation > VV_GENERATION_MAX)
        reader.bad = true;
    if (record->repairs && !reader.bad)
        return VARVE_OK; /* the rest: vv_repair_decode */
    return vv_reader_done(&reader, "the facts of a checkpoint");
}

/* ---- What a repair declares ------------------------------------------------------------------- */

varve_status vv_repair_encode(const struct vv_repair *repair, struct vv_bytes *out)
{
    static const struct vv_record_facts none = { .moves = NULL };
    uint64_t last = 0;

    vv_bytes_varint(out, repair->move_count);
    for (size_t i = 0; i < repair->move_count; i++)
        encode_move(VV_RECORD_CHECKPOINT, &none, vv_hash_zero, &repair->moves[i], out);
    vv_bytes_varint(out, repair->dead_count);
    for (size_t i = 0; i < repair->dead_count; i++) {
        vv_bytes_varint(out, repair->dead[i].address - last);
        vv_bytes_varint(out, repair->dead[i].size);
        last = repair->dead[i].address;
    }
    encode_removals(repair->removals, repair->removal_count, out);
    return vv_bytes_done(out);
}

varve_status vv_repair_decode(const struct vv_record *record, const void *bytes, struct vv_repair *repair)
{
    static const struct vv_record_facts none = { .moves = NULL };
    varve_status rc = VARVE_OK;
    struct vv_reader reader = vv_reader_of(bytes, record->facts_size);
    uint64_t last = 0;

    *repair = (struct vv_repair){ .moves = NULL };
    (void)vv_reader_take(&reader, VV_CHECKPOINT_FACTS);
    TRY(decode_moves(&reader, record, &none, &repair->moves, &repair->move_count));
    TRY(take_count(&reader, record, 2, &repair->dead_count));
    TRY(vv_alloc(&repair->dead, repair->dead_count, sizeof *repair->dead));
    for (size_t i = 0; i < repair->dead_count; i++) {
        struct vv_dead *dead = &repair->dead[i];
        last += vv_reader_varint(&reader);
        *dead = (struct vv_dead){ .address = last, .size = vv_reader_varint(&reader) };
        if (dead->address >= record->address || dead->size > record->address - dead->address)
            reader.bad = true;
    }
    TRY(decode_removals(&reader, record, &repair->removals, &repair->removal_count));
    TRY(vv_reader_done(&reader, "the facts of a repair"));
out:
    if (rc != VARVE_OK)
        vv_repair_release(repair);
    return rc;
}

bool vv_is_dead(const struct vv_dead *dead, size_t count, uint64_t address)
{
    for (size_t i = 0; i < count; i++)
        if (address >= dead[i].address && address - dead[i].address < dead[i].size)
            return true;
    return false;
}

void vv_repair_release(struct vv_repair *repair)
{
    vv_free(repair->moves);
    vv_free(repair->dead);
    vv_free(repair->removals);
    *repair = (struct vv_repair){ .moves = NULL };
}

/* ---- The directory of a commit ---------------------------------------------------------------- */

enum { PAGE_ZERO = 0, PAGE_WHOLE = 1, PAGE_OLD = 2, PAGE_RUNS = 3 };

void vv_directory_meta(struct vv_bytes *out, const void *key, size_t key_size, const void *value,
                       size_t value_size)
{
    vv_bytes_blob(out, key, key_size);
    vv_bytes_blob(out, value, value_size);
}

void vv_directory_page_zero(struct vv_bytes *out, uint64_t step)
{
    vv_bytes_varint(out, step << 2 | PAGE_ZERO);
}

void vv_directory_page_new(struct vv_bytes *out, uint64_t step, const uint8_t hash[VV_HASH_SIZE],
                           unsigned depth)
{
    VV_ASSERT(depth <= VV_LOCATOR_DEPTH_MAX);
    vv_bytes_varint(out, step << 2 | (depth == 0 ? PAGE_WHOLE : PAGE_RUNS));
    vv_bytes_put(out, hash, VV_HASH_SIZE);
    if (depth != 0)
        vv_bytes_u8(out, (uint8_t)depth);
}

void vv_directory_page_old(struct vv_bytes *out, uint64_t step, const struct vv_leaf *leaf)
{
    vv_bytes_varint(out, step << 2 | PAGE_OLD);
    vv_bytes_put(out, leaf->hash, VV_HASH_SIZE);
    vv_bytes_varint(out, leaf->locator);
}

/* What the walk remembers. */
struct walk {
    const struct vv_record *record;
    const struct vv_directory_visitor *visitor;
    struct vv_reader reader;
    struct vv_reader frames; /* sizes, one per frame */
    uint64_t frame_count;
    uint64_t page;          /* how many new pages were named */
    uint64_t frame_address; /* of the frame that holds page `page` - 1 */
    uint64_t frame_end;
};

static varve_status walk_meta(struct walk *walk)
{
    varve_status rc = VARVE_OK;
    char key[VV_REF_NAME_MAX + 1];
    const uint64_t count = vv_reader_varint(&walk->reader);

    for (uint64_t i = 0; i < count && !walk->reader.bad; i++) {
        const struct vv_piece name = take_piece(&walk->reader, VV_REF_NAME_MAX);
        const struct vv_piece value = take_piece(&walk->reader, VV_PAGE_SIZE);
        if (walk->reader.bad || name.size == 0 || has_nul(name)) {
            walk->reader.bad = true;
            break;
        }
        memcpy(key, name.data, name.size);
        key[name.size] = '\0';
        if (walk->visitor->meta != NULL)
            TRY(walk->visitor->meta(walk->visitor->context, key, value.data, value.size));
    }
out:
    return rc;
}

static varve_status walk_removed(struct walk *walk)
{
    varve_status rc = VARVE_OK;
    const uint64_t count = vv_reader_varint(&walk->reader);

    for (uint64_t i = 0; i < count && !walk->reader.bad; i++) {
        const uint8_t *id = vv_reader_take(&walk->reader, 32);
        if (id != NULL && walk->visitor->removed != NULL)
            TRY(walk->visitor->removed(walk->visitor->context, id));
    }
out:
    return rc;
}

/* The sizes of the frames are read again as their pages are named; together they are the pages section. */
static void walk_frames(struct walk *walk)
{
    uint64_t left = walk->record->pages_size;

    walk->frame_count = vv_reader_varint(&walk->reader);
    walk->frames = walk->reader;
    for (uint64_t i = 0; i < walk->frame_count && !walk->reader.bad; i++) {
        const uint64_t size = vv_reader_varint(&walk->reader);
        if (size == 0 || size > left)
            walk->reader.bad = true;
        else
            left -= size;
    }
    if (left != 0)
        walk->reader.bad = true;
    walk->frame_end = vv_record_pages_at(walk->record);
}

/* Where the next new page lies. */
static uint64_t next_new(struct walk *walk, unsigned depth)
{
    const unsigned slot = (unsigned)(walk->page % VV_FRAME_PAGES);

    if (slot == 0) {
        if (walk->page / VV_FRAME_PAGES >= walk->frame_count) {
            walk->reader.bad = true;
            return 0;
        }
        walk->frame_address = walk->frame_end;
        walk->frame_end += vv_reader_varint(&walk->frames);
    }
    walk->page++;
    return vv_locator_make(walk->frame_address, depth, slot);
}

static varve_status walk_page(struct walk *walk, uint64_t *index)
{
    struct vv_leaf leaf = { .locator = 0 };
    const uint64_t word = vv_reader_varint(&walk->reader);
    const unsigned form = (unsigned)word & 3;

    if (word >> 2 > VV_PAGETREE_PAGES_MAX || *index + (word >> 2) > VV_PAGETREE_PAGES_MAX)
        walk->reader.bad = true;
    *index += word >> 2;
    if (form != PAGE_ZERO) {
        vv_reader_copy(&walk->reader, leaf.hash, VV_HASH_SIZE);
        if (vv_hash_is_zero(leaf.hash))
            walk->reader.bad = true;
    }
    if (form == PAGE_WHOLE) {
        leaf.locator = next_new(walk, 0);
    } else if (form == PAGE_RUNS) {
        const unsigned depth = vv_reader_u8(&walk->reader);
        if (depth == 0 || depth > VV_LOCATOR_DEPTH_MAX)
            walk->reader.bad = true;
        leaf.locator = next_new(walk, depth & 7);
    } else if (form == PAGE_OLD) {
        leaf.locator = vv_reader_varint(&walk->reader);
        if (leaf.locator == 0 || vv_locator_frame(leaf.locator) >= walk->record->address)
            walk->reader.bad = true;
    }
    if (walk->reader.bad || walk->visitor->page == NULL)
        return VARVE_OK;
    return walk->visitor->page(walk->visitor->context, *index, form == PAGE_ZERO ? NULL : &leaf);
}

static varve_status walk_module(struct walk *walk)
{
    varve_status rc = VARVE_OK;
    uint64_t index = 0;
    const struct vv_piece entry = take_piece(&walk->reader, vv_reader_left(&walk->reader));
    const unsigned fresh = vv_reader_u8(&walk->reader);
    const uint64_t bytes = vv_reader_varint(&walk->reader);
    const uint64_t pages = vv_reader_varint(&walk->reader);

    if (fresh > 1 || pages > vv_reader_left(&walk->reader))
        walk->reader.bad = true;
    if (walk->reader.bad)
        return VARVE_OK;
    if (walk->visitor->module != NULL)
        TRY(walk->visitor->module(walk->visitor->context, entry, fresh == 1, pages, bytes));
    for (uint64_t i = 0; i < pages && !walk->reader.bad; i++)
        TRY(walk_page(walk, &index));
out:
    return rc;
}

varve_status vv_directory_walk(const struct vv_record *record, const void *bytes,
                               const struct vv_directory_visitor *visitor)
{
    varve_status rc = VARVE_OK;
    struct walk walk = { .record = record, .visitor = visitor };

    walk.reader = vv_reader_of(bytes, record->directory_size);
    TRY(walk_meta(&walk));
    TRY(walk_removed(&walk));
    walk_frames(&walk);
    const uint64_t modules = vv_reader_varint(&walk.reader);
    for (uint64_t i = 0; i < modules && !walk.reader.bad; i++)
        TRY(walk_module(&walk));
    if (walk.frame_count != (walk.page + VV_FRAME_PAGES - 1) / VV_FRAME_PAGES)
        walk.reader.bad = true;
    rc = vv_reader_done(&walk.reader, "the directory of a record");
    if (rc != VARVE_OK)
        rc = vv_fail_within(rc, "record at address %llu", (unsigned long long)record->address);
out:
    return rc;
}
