/* Records: what was put is read again, and no changed byte is taken for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <string.h>

#include "base/alloc.h"
#include "store/record.h"

static struct vv_record some_record(void)
{
    struct vv_record record = { .kind = VV_RECORD_COMMIT,
                                .address = 3 * 4096,
                                .sequence = 7,
                                .number = 3,
                                .synced = 2 * 4096,
                                .parent = 4096,
                                .checkpoint = 8192,
                                .line_records = 9,
                                .line_bytes = 12345,
                                .facts_size = 100,
                                .directory_size = 4000,
                                .pages_size = 5,
                                .time_ns = -6 };

    record.size = vv_record_padded(&record);
    memset(record.epoch, 1, sizeof record.epoch);
    memset(record.previous, 2, sizeof record.previous);
    memset(record.id, 3, sizeof record.id);
    memset(record.root, 4, sizeof record.root);
    memset(record.facts_sum, 5, VV_SUM);
    memset(record.directory_sum, 6, VV_SUM);
    memset(record.pages_sum, 7, VV_SUM);
    return record;
}

static void a_header_is_read_as_it_was_put(void **state)
{
    struct vv_record record = some_record();
    struct vv_record again;
    uint8_t bytes[VV_RECORD_HEADER];

    (void)state;
    memset(&again, 0, sizeof again);
    assert_int_equal(record.size, 8192); /* 264 + 4105 bytes */
    vv_record_encode(&record, bytes);
    assert_int_equal(vv_record_decode(bytes, record.address, &again), VARVE_OK);
    assert_int_equal(again.kind, record.kind);
    assert_true(again.size == record.size && again.address == record.address);
    assert_true(again.sequence == 7 && again.number == 3 && again.synced == 8192 && again.parent == 4096);
    assert_true(again.checkpoint == 8192 && again.line_records == 9 && again.line_bytes == 12345);
    assert_true(again.facts_size == 100 && again.directory_size == 4000 && again.pages_size == 5);
    assert_true(again.time_ns == -6);
    assert_memory_equal(again.epoch, record.epoch, 16);
    assert_memory_equal(again.previous, record.previous, VV_SUM);
    assert_memory_equal(again.id, record.id, 32);
    assert_memory_equal(again.root, record.root, 32);
    assert_memory_equal(again.pages_sum, record.pages_sum, VV_SUM);
    assert_memory_equal(again.sum, record.sum, VV_SUM);
}

static void every_changed_bit_of_a_header_is_seen(void **state)
{
    struct vv_record record = some_record();
    struct vv_record again;
    uint8_t bytes[VV_RECORD_HEADER];

    (void)state;
    vv_record_encode(&record, bytes);
    for (size_t bit = 0; bit < 8 * sizeof bytes; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(vv_record_decode(bytes, record.address, &again), VARVE_CORRUPT);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_int_equal(vv_record_decode(bytes, record.address + 4096, &again),
                     VARVE_CORRUPT); /* it was moved */
}

/* A sum is easily made: what does not make sense is refused all the same, and what is newer is named. */
static void a_header_that_contradicts_itself_is_refused(void **state)
{
    struct vv_record again;
    uint8_t bytes[VV_RECORD_HEADER];

    (void)state;
    for (unsigned lie = 0; lie < 8; lie++) {
        struct vv_record record = some_record();
        vv_record_encode(&record, bytes);
        varve_status expected = VARVE_CORRUPT;
        switch (lie) {
        case 0:
            vv_put_u64(bytes + 8, record.size + 4096);
            break;
        case 1:
            vv_put_u64(bytes + 88, UINT64_MAX - 4000);
            break; /* sizes that overflow */
        case 2:
            vv_put_u64(bytes + 80, UINT64_C(1) << 60);
            break;
        case 3:
            vv_put_u64(bytes + 48, record.address);
            break; /* its own parent */
        case 4:
            vv_put_u64(bytes + 56, record.address + 4096);
            break;
        case 5:
            vv_put_u64(bytes + 40, record.address + 1);
            break;
        case 6:
            bytes[6] = 9;
            break;
        case 7:
            vv_put_u16(bytes + 4, 2);
            expected = VARVE_NEWER;
            break;
        }
        vv_record_sum(bytes, 248, bytes + 248);
        assert_int_equal(vv_record_decode(bytes, record.address, &again), expected);
    }
}

static struct vv_piece piece(const char *text)
{
    return (struct vv_piece){ .data = (const uint8_t *)text, .size = strlen(text) };
}

static bool is(struct vv_piece found, const char *text)
{
    return found.size == strlen(text) && (found.size == 0 || memcmp(found.data, text, found.size) == 0);
}

static void encode_facts(struct vv_record *record, struct vv_bytes *bytes)
{
    struct vv_record_move moves[3] = {
        { .name = piece("main"), .what = piece("commit"), .previous = 4096, .moves = 300 },
        { .name = piece("tags/x"), .what = piece(""), .moves = 1 },
        { .name = piece("gone"), .what = piece("delete"), .previous = 8192, .moves = 2 },
    };
    struct vv_record_facts facts = { .modules = 5,
                                     .modules_changed = 2,
                                     .pages_changed = 1000,
                                     .message = piece("hello"),
                                     .branch = piece("main"),
                                     .engine = piece("engine 1"),
                                     .moves = moves,
                                     .move_count = 3 };

    memset(facts.parent, 0x11, 32);
    memset(facts.seed, 0x22, 32);
    memcpy(moves[0].from, facts.parent, 32);
    memcpy(moves[0].to, record->id, 32);
    memset(moves[1].to, 0x33, 32);
    memset(moves[2].from, 0x44, 32);
    assert_int_equal(vv_record_facts_encode(VV_RECORD_COMMIT, &facts, record->id, bytes), VARVE_OK);
    record->facts_size = bytes->size;
}

static void facts_are_read_as_they_were_put(void **state)
{
    struct vv_record record = some_record();
    struct vv_bytes bytes = VV_BYTES_NONE;
    struct vv_record_facts facts;
    uint8_t wanted[32];

    (void)state;
    encode_facts(&record, &bytes);
    assert_true(bytes.size < 3 * 32 + 32 + 120); /* parent and id are not spelled twice */
    assert_int_equal(vv_record_facts_decode(&record, bytes.data, &facts), VARVE_OK);
    assert_true(facts.modules == 5 && facts.modules_changed == 2 && facts.pages_changed == 1000);
    assert_true(is(facts.message, "hello") && is(facts.branch, "main") && is(facts.engine, "engine 1"));
    assert_int_equal(facts.move_count, 3);
    assert_true(is(facts.moves[0].name, "main") && is(facts.moves[0].what, "commit"));
    assert_memory_equal(facts.moves[0].from, facts.parent, 32);
    assert_memory_equal(facts.moves[0].to, record.id, 32);
    assert_true(facts.moves[0].previous == 4096 && facts.moves[0].moves == 300);
    assert_true(vv_hash_is_zero(facts.moves[1].from) && vv_hash_is_zero(facts.moves[2].to));
    memset(wanted, 0x33, sizeof wanted);
    assert_memory_equal(facts.moves[1].to, wanted, 32);
    vv_record_facts_release(&facts);
    vv_bytes_release(&bytes);
}

/* Cut anywhere, facts do not decode; nothing is read beyond them (the sanitized build would say so). */
static void facts_that_were_cut_do_not_decode(void **state)
{
    struct vv_record record = some_record();
    struct vv_bytes bytes = VV_BYTES_NONE;
    struct vv_record_facts facts;

    (void)state;
    encode_facts(&record, &bytes);
    for (size_t size = 0; size < bytes.size; size++) {
        uint8_t *copy = NULL;
        assert_int_equal(vv_memdup(&copy, bytes.data, size), VARVE_OK);
        record.facts_size = size;
        assert_int_equal(vv_record_facts_decode(&record, copy, &facts), VARVE_CORRUPT);
        vv_free(copy);
    }
    vv_bytes_release(&bytes);
}

/* ---- Directories ------------------------------------------------------------------------------ */

struct told {
    unsigned meta, removed, modules, zero, pages;
    uint64_t index[80], locator[80];
};

static varve_status tell_meta(void *context, const char *key, const void *value, size_t size)
{
    struct told *told = context;

    assert_true(strcmp(key, "a") == 0 ? size == 1 && *(const char *)value == '1' : size == 0);
    told->meta++;
    return VARVE_OK;
}

static varve_status tell_removed(void *context, const uint8_t id[32])
{
    struct told *told = context;

    assert_int_equal(id[0], 9);
    told->removed++;
    return VARVE_OK;
}

static varve_status tell_module(void *context, struct vv_piece entry, bool fresh, uint64_t pages,
                                uint64_t bytes)
{
    struct told *told = context;

    assert_true(is(entry, "entry") && fresh && pages == 70 && bytes == 4242);
    told->modules++;
    return VARVE_OK;
}

static varve_status tell_page(void *context, uint64_t index, const struct vv_leaf *leaf)
{
    struct told *told = context;

    if (leaf == NULL) {
        told->zero++;
        return VARVE_OK;
    }
    told->index[told->pages] = index;
    told->locator[told->pages++] = leaf->locator;
    return VARVE_OK;
}

static struct vv_directory_visitor visitor_of(struct told *told)
{
    return (struct vv_directory_visitor){
        .meta = tell_meta, .removed = tell_removed, .module = tell_module, .page = tell_page, .context = told
    };
}

/* One module: 68 new pages, so two frames of 100 and 50 bytes; one old, one zero. */
static void encode_directory(struct vv_record *record, struct vv_bytes *bytes)
{
    struct vv_leaf leaf = { .locator = vv_locator_make(5000, 1, 2) };

    memset(leaf.hash, 0x55, VV_HASH_SIZE);
    vv_bytes_varint(bytes, 2);
    vv_directory_meta(bytes, "a", 1, "1", 1);
    vv_directory_meta(bytes, "b", 1, NULL, 0);
    vv_bytes_varint(bytes, 1);
    vv_bytes_put(bytes, (const uint8_t[32]){ 9 }, 32);
    vv_bytes_varint(bytes, 2);
    vv_bytes_varint(bytes, 100);
    vv_bytes_varint(bytes, 50);
    vv_bytes_varint(bytes, 1);
    vv_bytes_blob(bytes, "entry", 5);
    vv_bytes_u8(bytes, 1);
    vv_bytes_varint(bytes, 4242);
    vv_bytes_varint(bytes, 70);
    for (unsigned i = 0; i < 68; i++)
        vv_directory_page_new(bytes, i == 0 ? 3 : 2, leaf.hash, i % 8);
    vv_directory_page_old(bytes, 1, &leaf);
    vv_directory_page_zero(bytes, 1);
    assert_int_equal(vv_bytes_done(bytes), VARVE_OK);
    record->directory_size = bytes->size;
    record->pages_size = 150;
}

static void a_directory_says_where_each_page_lies(void **state)
{
    struct vv_record record = some_record();
    struct vv_bytes bytes = VV_BYTES_NONE;
    struct told told = { .meta = 0 };
    const struct vv_directory_visitor visitor = visitor_of(&told);

    (void)state;
    encode_directory(&record, &bytes);
    assert_int_equal(vv_directory_walk(&record, bytes.data, &visitor), VARVE_OK);
    assert_true(told.meta == 2 && told.removed == 1 && told.modules == 1 && told.zero == 1 &&
                told.pages == 69);
    const uint64_t pages = vv_record_pages_at(&record);
    for (unsigned i = 0; i < 68; i++) {
        assert_true(told.index[i] == 3 + 2 * i);
        assert_true(told.locator[i] == vv_locator_make(i < 64 ? pages : pages + 100, i % 8, i % 64));
    }
    assert_true(told.locator[68] == vv_locator_make(5000, 1, 2));
    vv_bytes_release(&bytes);
}

static void a_directory_that_lies_does_not_decode(void **state)
{
    struct vv_record record = some_record();
    struct vv_bytes bytes = VV_BYTES_NONE;
    const struct vv_directory_visitor nobody = { .context = NULL };

    (void)state;
    encode_directory(&record, &bytes);
    record.pages_size = 151; /* frames and pages section disagree */
    assert_int_equal(vv_directory_walk(&record, bytes.data, &nobody), VARVE_CORRUPT);
    record.pages_size = 150;
    record.address = 4096; /* the old page would lie in the future */
    assert_int_equal(vv_directory_walk(&record, bytes.data, &nobody), VARVE_CORRUPT);
    record = some_record();
    record.pages_size = 150;
    for (size_t size = 0; size < bytes.size; size++) {
        uint8_t *copy = NULL;
        assert_int_equal(vv_memdup(&copy, bytes.data, size), VARVE_OK);
        record.directory_size = size;
        assert_int_equal(vv_directory_walk(&record, copy, &nobody), VARVE_CORRUPT);
        vv_free(copy);
    }
    vv_bytes_release(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_header_is_read_as_it_was_put),
        cmocka_unit_test(every_changed_bit_of_a_header_is_seen),
        cmocka_unit_test(a_header_that_contradicts_itself_is_refused),
        cmocka_unit_test(facts_are_read_as_they_were_put),
        cmocka_unit_test(facts_that_were_cut_do_not_decode),
        cmocka_unit_test(a_directory_says_where_each_page_lies),
        cmocka_unit_test(a_directory_that_lies_does_not_decode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
