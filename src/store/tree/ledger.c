/* ledger.c - see ledger.h. */
#include "store/tree/ledger.h"

#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/plant.h"

enum {
    MAGIC = 24,
    SUM = 16,
    HEADER = MAGIC + VV_LEDGER_LIFE + 8 + SUM,
    END_MAGIC = 8,
    END_SIZE = END_MAGIC + VV_LEDGER_LIFE + 8 + SUM,
    LOST = 4096 /* so many records in a row may be bad, and the next one is still found */
};
#define LIMIT (UINT64_C(1) << 36)
static const uint8_t magic[MAGIC + 1] = "varve history 1 tree\n\0\0\0";
static const uint8_t end_magic[END_MAGIC + 1] = "vEnd\1\0\0\0";

static uint64_t align(uint64_t offset)
{
    return (offset + VV_LEDGER_ALIGN - 1) / VV_LEDGER_ALIGN * VV_LEDGER_ALIGN;
}

static void sum_of(const void *bytes, size_t size, uint8_t sum[SUM])
{
    uint8_t hash[VV_HASH_SIZE];

    vv_hash(VV_HASH_RECORD, bytes, size, hash);
    memcpy(sum, hash, SUM);
}

/* ---- Header and end ----------------------------------------------------------------------------- */

static void encode_header(const uint8_t life[VV_LEDGER_LIFE], uint64_t packed, uint8_t header[HEADER])
{
    memcpy(header, magic, MAGIC);
    memcpy(header + MAGIC, life, VV_LEDGER_LIFE);
    vv_put_u64(header + MAGIC + VV_LEDGER_LIFE, packed);
    sum_of(header, HEADER - SUM, header + HEADER - SUM);
}

static bool decode_header(const uint8_t *bytes, size_t size, uint8_t life[VV_LEDGER_LIFE], uint64_t *packed)
{
    uint8_t sum[SUM];

    if (size < HEADER || memcmp(bytes, magic, MAGIC) != 0)
        return false;
    sum_of(bytes, HEADER - SUM, sum);
    if (memcmp(sum, bytes + HEADER - SUM, SUM) != 0)
        return false;
    memcpy(life, bytes + MAGIC, VV_LEDGER_LIFE);
    *packed = vv_get_u64(bytes + MAGIC + VV_LEDGER_LIFE);
    return *packed >= HEADER && *packed <= LIMIT;
}

/* A hint: one that cannot be read, or is of another life, says nothing. */
static varve_status read_end(const struct vv_dir *own, const uint8_t life[VV_LEDGER_LIFE], uint64_t *end)
{
    uint8_t *bytes = NULL;
    uint8_t sum[SUM];
    size_t size = 0;
    const varve_status rc = vv_dir_read(own, "history.end", END_SIZE, &bytes, &size);

    *end = 0;
    if (rc == VARVE_OK && size == END_SIZE && memcmp(bytes, end_magic, END_MAGIC) == 0) {
        sum_of(bytes, END_SIZE - SUM, sum);
        if (memcmp(sum, bytes + END_SIZE - SUM, SUM) == 0 &&
            memcmp(bytes + END_MAGIC, life, VV_LEDGER_LIFE) == 0)
            *end = vv_get_u64(bytes + END_MAGIC + VV_LEDGER_LIFE);
    }
    vv_free(bytes);
    return rc == VARVE_MEMORY ? rc : VARVE_OK;
}

varve_status vv_ledger_acknowledge(const struct vv_dir *own, struct vv_ledger *ledger)
{
    uint8_t bytes[END_SIZE];
    varve_status rc = VARVE_OK;

    if (ledger->acknowledged == ledger->end)
        return VARVE_OK;
    memcpy(bytes, end_magic, END_MAGIC);
    memcpy(bytes + END_MAGIC, ledger->life, VV_LEDGER_LIFE);
    vv_put_u64(bytes + END_MAGIC + VV_LEDGER_LIFE, ledger->end);
    sum_of(bytes, END_SIZE - SUM, bytes + END_SIZE - SUM);
    TRY(vv_dir_publish(own, "history.end", bytes, sizeof bytes));
    ledger->acknowledged = ledger->end;
out:
    return rc;
}

/* ---- Reading ------------------------------------------------------------------------------------ */

static bool may_begin_a_record(const uint8_t *bytes, size_t left)
{
    const uint32_t size = vv_get_u32(bytes);
    const uint32_t kind = vv_get_u32(bytes + 4);

    return (kind == VV_LEDGER_GROUP || (kind >= VV_PLAIN_COMMIT && kind <= VV_PLAIN_REMOVAL)) && size > 0 &&
           size <= left - VV_PLAIN_FRAME;
}

/* Where a record may begin behind this place: anywhere in what was published, else at the next multiple. */
static uint64_t next_place(uint64_t at, uint64_t packed)
{
    return at + 1 < packed ? at + 1 : align(at + 1);
}

/* The next sound record behind a bad one, which may have had any length; false: there is none. */
static bool find_next(const struct vv_reader *from, uint64_t packed, uint64_t sequence, size_t *offset,
                      uint64_t *found)
{
    for (uint64_t at = next_place(from->offset, packed); at + VV_PLAIN_FRAME <= from->size;
         at = next_place(at, packed)) {
        if (!may_begin_a_record(from->data + at, from->size - (size_t)at))
            continue;
        for (uint64_t lost = 1; lost <= LOST && lost <= (at - from->offset) / VV_PLAIN_FRAME + 1; lost++) {
            struct vv_reader reader = vv_reader_of(from->data, from->size), payload;
            uint32_t kind = 0;
            reader.offset = (size_t)at;
            if (vv_plain_unframe(&reader, sequence + lost, &kind, &payload)) {
                *offset = (size_t)at;
                *found = sequence + lost;
                return true;
            }
        }
    }
    return false;
}

static varve_status take_group(const struct vv_ledger_reading *reading, struct vv_reader group)
{
    varve_status rc = VARVE_OK;

    while (rc == VARVE_OK && vv_reader_left(&group) > 0) {
        const uint32_t kind = vv_reader_u32(&group);
        const uint32_t size = vv_reader_u32(&group);
        const uint8_t *payload = vv_reader_take(&group, size);
        rc = payload == NULL ? vv_fail(VARVE_CORRUPT, "a group of records is cut off")
                             : reading->record(reading->context, kind, vv_reader_of(payload, size));
    }
    return rc;
}

static void tell_damage(const struct vv_ledger_reading *reading, struct vv_ledger *ledger, uint64_t at,
                        const char *words)
{
    ledger->damaged = true;
    reading->damage(reading->context, at, words);
}

/* One record; what it says and cannot be is damage. */
static varve_status take_record(const struct vv_ledger_reading *reading, struct vv_ledger *ledger,
                                uint32_t kind, struct vv_reader payload, uint64_t at)
{
    const varve_status rc = kind == VV_LEDGER_GROUP ? take_group(reading, payload)
                                                    : reading->record(reading->context, kind, payload);

    if (rc != VARVE_CORRUPT)
        return rc;
    tell_damage(reading, ledger, at, vv_words());
    return VARVE_OK;
}

varve_status vv_ledger_read(const uint8_t *bytes, size_t size, uint64_t acknowledged,
                            const struct vv_ledger_reading *reading, struct vv_ledger *ledger)
{
    struct vv_reader reader = vv_reader_of(bytes, size), payload;
    uint64_t sound = HEADER, found = 0; /* sound: where the last record ends */
    size_t next = 0;
    uint32_t kind = 0;
    varve_status rc = VARVE_OK;

    reader.offset = size < HEADER ? size : HEADER;
    ledger->sequence = 0;
    ledger->damaged = false;
    for (;;) {
        const uint64_t at = reader.offset < ledger->packed ? reader.offset : align(reader.offset);
        if (at >= size)
            break;
        reader.offset = (size_t)at;
        if (vv_plain_unframe(&reader, ledger->sequence, &kind, &payload)) {
            TRY(take_record(reading, ledger, kind, payload, at));
            ledger->sequence++;
            sound = reader.offset;
            continue;
        }
        if (!find_next(&reader, ledger->packed, ledger->sequence, &next, &found))
            break;
        tell_damage(reading, ledger, at, "a record is damaged: what it made, moved or removed is lost");
        reader.offset = next;
        ledger->sequence = found;
    }
    ledger->end = align(sound);
    if (sound < ledger->packed || ledger->end < acknowledged)
        tell_damage(reading, ledger, sound,
                    "the file ends, or cannot be read on, before the last record that was acknowledged");
    else if (ledger->end < size && !ledger->damaged)
        reading->debris(reading->context, ledger->end);
out:
    return rc;
}

/* What is there may be of one who was killed before its sync, or whose sync failed; then the system may show what is
 * not on the disk, and nothing may be built on it. */
static varve_status settle(struct vv_ledger *ledger)
{
    varve_status rc = VARVE_OK;

    if (VV_PLANT("tree-settle-skipped"))
        return VARVE_OK;
    rc = vv_file_sync_new(&ledger->file);
    if (rc == VARVE_OK)
        vv_file_forget(&ledger->file);
    return rc;
}

static varve_status read_file(const struct vv_file *file, uint8_t **bytes, size_t *size)
{
    uint64_t length = 0;
    varve_status rc = VARVE_OK;

    TRY(vv_file_size(file, &length));
    if (length > LIMIT)
        TRY(vv_fail(VARVE_CORRUPT, "%s: %llu bytes: no history is as long", file->name,
                    (unsigned long long)length));
    TRY(vv_alloc(bytes, (size_t)length, 1));
    TRY(vv_file_read(file, *bytes, (size_t)length, 0));
    *size = (size_t)length;
out:
    return rc;
}

/* Whatever else has the file's name, or nothing has, is damage. */
static varve_status open_file(const struct vv_dir *own, bool write, const struct vv_ledger_reading *reading,
                              struct vv_ledger *ledger)
{
    varve_status rc = vv_file_open(own, "history", write ? VV_OPEN_WRITE : VV_OPEN_READ, &ledger->file);

    if (rc != VARVE_NOT_FOUND && rc != VARVE_CORRUPT)
        return rc;
    reading->damage(reading->context, 0, "the history is missing: nobody knows which commits there are");
    return VARVE_OK;
}

varve_status vv_ledger_open(const struct vv_dir *own, bool write, const struct vv_ledger_reading *reading,
                            struct vv_ledger *ledger)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    varve_status rc = VARVE_OK;

    *ledger = (struct vv_ledger){ .file = VV_FILE_NONE };
    TRY(open_file(own, write, reading, ledger));
    if (ledger->file.fd == -1)
        goto out;
    TRY(read_file(&ledger->file, &bytes, &size));
    if (!decode_header(bytes, size, ledger->life, &ledger->packed)) {
        reading->damage(reading->context, 0, "the header is damaged: it is no history of this layout");
        vv_file_close(&ledger->file);
        goto out;
    }
    TRY(read_end(own, ledger->life, &ledger->acknowledged));
    if (write && size != ledger->acknowledged) {
        TRY(settle(ledger));
        vv_free(bytes);
        bytes = NULL;
        TRY(read_file(&ledger->file, &bytes, &size));
    }
    TRY(vv_ledger_read(bytes, size, ledger->acknowledged, reading, ledger));
    if (write && ledger->end < size && !ledger->damaged) {
        TRY(vv_file_truncate(&ledger->file, ledger->end));
        TRY(vv_file_sync_new(&ledger->file));
    }
out:
    vv_free(bytes);
    if (rc != VARVE_OK)
        vv_file_close(&ledger->file);
    return rc;
}

void vv_ledger_close(struct vv_ledger *ledger)
{
    vv_file_close(&ledger->file);
}

/* ---- Writing ------------------------------------------------------------------------------------ */

void vv_ledger_put(struct vv_bytes *group, uint32_t kind, const struct vv_bytes *payload)
{
    vv_bytes_u32(group, kind);
    vv_bytes_u32(group, (uint32_t)payload->size);
    vv_bytes_put(group, payload->data, payload->size);
    group->failed = group->failed || payload->failed || payload->size > VV_PLAIN_RECORD_MAX;
}

/* A write that failed may have put all of the record down, and nobody was told of it. */
static varve_status unwrite(struct vv_ledger *ledger)
{
    varve_status rc = VARVE_OK;

    if (VV_PLANT("tree-failure-kept"))
        return VARVE_OK;
    TRY(vv_file_truncate(&ledger->file, ledger->end));
    TRY(vv_file_sync_new(&ledger->file));
out:
    if (rc != VARVE_OK) {
        ledger->file.poisoned = true;
        return vv_fail_within(VARVE_UNCERTAIN, "a write failed, and cannot be taken back");
    }
    return VARVE_OK;
}

varve_status vv_ledger_append(struct vv_ledger *ledger, const struct vv_bytes *group)
{
    struct vv_bytes frame = VV_BYTES_NONE;
    struct vv_last_words words;
    varve_status rc = VARVE_OK;

    TRY(vv_bytes_done(group));
    if (group->size > VV_PLAIN_RECORD_MAX)
        TRY(vv_fail(VARVE_LIMIT, "a record of %zu bytes: there are too many commits or changes at once",
                    group->size));
    vv_plain_frame(&frame, ledger->sequence, VV_LEDGER_GROUP, group->data, group->size);
    vv_bytes_zero(&frame, (size_t)align(frame.size) - frame.size);
    TRY(vv_bytes_done(&frame));
    rc = vv_file_write(&ledger->file, frame.data, frame.size, ledger->end);
    if (rc != VARVE_OK) {
        const varve_status status = rc;
        vv_words_keep(&words);
        TRY(unwrite(ledger));
        vv_words_bring_back(&words);
        rc = status;
        goto out;
    }
    if (!VV_PLANT("tree-ack-before-sync"))
        TRY(vv_file_sync(&ledger->file));
    ledger->end += frame.size;
    ledger->sequence++;
out:
    vv_bytes_release(&frame);
    return rc;
}

/* ---- A new file --------------------------------------------------------------------------------- */

static varve_status publish(const struct vv_dir *own, const struct vv_plain *plain,
                            uint8_t life[VV_LEDGER_LIFE], uint64_t *packed, uint64_t *sequence)
{
    struct vv_bytes bytes = VV_BYTES_NONE;
    varve_status rc = VARVE_OK;

    TRY(vv_clock_random(life, VV_LEDGER_LIFE));
    *sequence = 0;
    if (vv_bytes_extend(&bytes, HEADER) != NULL && plain != NULL)
        vv_plain_encode_all(plain, sequence, &bytes);
    TRY(vv_bytes_done(&bytes));
    *packed = bytes.size;
    encode_header(life, *packed, bytes.data);
    vv_bytes_zero(&bytes, (size_t)align(*packed) - bytes.size);
    TRY(vv_bytes_done(&bytes));
    TRY(vv_dir_publish(own, "history", bytes.data, bytes.size));
out:
    vv_bytes_release(&bytes);
    return rc;
}

varve_status vv_ledger_create(const struct vv_dir *own)
{
    uint8_t life[VV_LEDGER_LIFE];
    uint64_t packed = 0, sequence = 0;

    return publish(own, NULL, life, &packed, &sequence);
}

varve_status vv_ledger_rewrite(const struct vv_dir *own, const struct vv_plain *plain,
                               struct vv_ledger *ledger)
{
    struct vv_ledger next = { .file = VV_FILE_NONE };
    varve_status rc = VARVE_OK;

    rc = publish(own, plain, next.life, &next.packed, &next.sequence);
    if (rc != VARVE_OK) {
        ledger->file.poisoned = ledger->file.poisoned || rc == VARVE_UNCERTAIN;
        return rc;
    }
    next.end = align(next.packed);
    rc = vv_file_open(own, "history", VV_OPEN_WRITE, &next.file);
    if (rc != VARVE_OK) { /* the old file has no name any more: what is appended to it would be lost */
        ledger->file.poisoned = true;
        return vv_fail_within(VARVE_UNCERTAIN, "the history was written anew and cannot be opened");
    }
    vv_ledger_close(ledger);
    *ledger = next;
    return rc;
}
