/* Bytes: what was written is read again, and a reader never leaves its bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "base/bytes.h"

static void what_was_put_is_read_again(void **state)
{
    struct vv_bytes bytes = VV_BYTES_NONE;
    size_t size = 0;

    (void)state;
    vv_bytes_u8(&bytes, 0x12);
    vv_bytes_u16(&bytes, 0x3456);
    vv_bytes_u32(&bytes, 0x789abcde);
    vv_bytes_u64(&bytes, UINT64_C(0x123456789abcdef0));
    vv_bytes_varint(&bytes, UINT64_MAX);
    vv_bytes_varint(&bytes, 127);
    vv_bytes_blob(&bytes, "varve", 5);
    assert_int_equal(vv_bytes_done(&bytes), VARVE_OK);

    struct vv_reader reader = vv_reader_of(bytes.data, bytes.size);
    assert_int_equal(vv_reader_u8(&reader), 0x12);
    assert_int_equal(vv_reader_u16(&reader), 0x3456);
    assert_int_equal(vv_reader_u32(&reader), 0x789abcde);
    assert_true(vv_reader_u64(&reader) == UINT64_C(0x123456789abcdef0));
    assert_true(vv_reader_varint(&reader) == UINT64_MAX);
    assert_int_equal(vv_reader_varint(&reader), 127);
    assert_memory_equal(vv_reader_blob(&reader, 5, &size), "varve", 5);
    assert_int_equal(vv_reader_done(&reader, "test"), VARVE_OK);
    vv_bytes_release(&bytes);
}

/* Cut the same bytes at every length: the reader must say CORRUPT, never answer what is not there. */
static void a_reader_never_leaves_its_bytes(void **state)
{
    static const uint8_t bytes[] = { 5, 'v', 'a', 'r', 'v', 'e', 0x80, 0x01 };
    size_t size = 0;

    (void)state;
    for (size_t cut = 0; cut < sizeof bytes; cut++) {
        struct vv_reader reader = vv_reader_of(bytes, cut);
        (void)vv_reader_blob(&reader, 5, &size);
        (void)vv_reader_varint(&reader);
        assert_int_equal(vv_reader_done(&reader, "test"), VARVE_CORRUPT);
    }
}

/* One value has one encoding: longer forms of it are refused. */
static void a_varint_has_one_form(void **state)
{
    static const uint8_t zero_in_two[] = { 0x80, 0x00 };
    static const uint8_t over_64_bits[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02 };
    struct vv_reader reader = vv_reader_of(zero_in_two, sizeof zero_in_two);

    (void)state;
    (void)vv_reader_varint(&reader);
    assert_true(reader.bad);
    reader = vv_reader_of(over_64_bits, sizeof over_64_bits);
    (void)vv_reader_varint(&reader);
    assert_true(reader.bad);
}

static void running_out_of_memory_is_remembered(void **state)
{
    struct vv_bytes bytes = VV_BYTES_NONE;

    (void)state;
    vv_alloc_fail_at(1);
    vv_bytes_u64(&bytes, 1);
    assert_true(vv_alloc_disarm());
    vv_bytes_u64(&bytes, 2);
    assert_int_equal(vv_bytes_done(&bytes), VARVE_MEMORY);
    vv_bytes_release(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_put_is_read_again),
        cmocka_unit_test(a_reader_never_leaves_its_bytes),
        cmocka_unit_test(a_varint_has_one_form),
        cmocka_unit_test(running_out_of_memory_is_remembered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
