/* test_delta.c - page/delta: what is encoded comes back, what is damaged is refused. */
#include "page/delta.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"

static uint64_t seed = 1;
static uint32_t chance(uint32_t below)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(seed >> 33) % below;
}

static void scramble(uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)chance(256);
}

/* Change some bytes here and there: few or many, near or far. */
static void change(uint8_t *page)
{
    const uint32_t changes = 1u << chance(8);

    for (uint32_t i = 0; i < changes; i++) {
        const uint32_t at = chance(VV_PAGE_SIZE), room = VV_PAGE_SIZE - at, most = 1u << chance(7);
        scramble(page + at, chance(room < most ? room + 1 : most + 1));
    }
}

static void runs_turn_the_base_into_the_page(void **state)
{
    struct vv_bytes runs = VV_BYTES_NONE;
    uint8_t base[VV_PAGE_SIZE], page[VV_PAGE_SIZE], got[VV_PAGE_SIZE];

    (void)state;
    for (int round = 0; round < 3000; round++) {
        if (round % 3 == 0)
            scramble(base, sizeof base);
        memcpy(page, base, sizeof page);
        change(page);
        vv_bytes_clear(&runs);
        const size_t size = vv_runs_encode(base, page, 3 * VV_PAGE_SIZE, &runs);
        assert_int_equal(size, runs.size);
        assert_true(size > 0);
        memcpy(got, base, sizeof got);
        assert_int_equal(vv_runs_apply(runs.data, runs.size, got), VARVE_OK);
        assert_memory_equal(got, page, sizeof got);
        assert_true(size <= 4 * vv_page_distance(base, page) + 4 + 3 * vv_page_distance(base, page));
    }
    vv_bytes_release(&runs);
}

/* The runs as format.md has them, byte by byte: each begins where a byte differs, and ends before four that do not. */
static size_t plain_runs(const uint8_t *base, const uint8_t *page, struct vv_bytes *out)
{
    size_t before = 0;

    vv_bytes_clear(out);
    for (size_t from = 0; from < VV_PAGE_SIZE; from++) {
        if (base[from] == page[from])
            continue;
        size_t end = from + 1;
        for (size_t at = end; at < VV_PAGE_SIZE && at < end + 4; at++)
            if (base[at] != page[at])
                end = at + 1;
        vv_bytes_varint(out, end - from);
        vv_bytes_varint(out, from - before);
        vv_bytes_put(out, page + from, end - from);
        before = end;
        from = end - 1;
    }
    if (out->size == 0)
        vv_bytes_u8(out, 0);
    return out->size;
}

static void runs_are_those_of_a_plain_reading(void **state)
{
    struct vv_bytes runs = VV_BYTES_NONE, plain = VV_BYTES_NONE;
    uint8_t base[VV_PAGE_SIZE], page[VV_PAGE_SIZE];

    (void)state;
    for (int round = 0; round < 3000; round++) {
        scramble(base, sizeof base);
        memcpy(page, base, sizeof page);
        if (round % 2 == 0)
            change(page);
        else /* gaps and runs of every small length, across words and blocks */
            for (size_t at = chance(64); at < VV_PAGE_SIZE; at += 1 + chance(1 + (uint32_t)round % 11))
                page[at] ^= 1;
        vv_bytes_clear(&runs);
        assert_int_equal(vv_runs_encode(base, page, 3 * VV_PAGE_SIZE, &runs), plain_runs(base, page, &plain));
        assert_memory_equal(runs.data, plain.data, plain.size);
    }
    vv_bytes_release(&runs);
    vv_bytes_release(&plain);
}

/* A page that changes again and again: the words of all its runs turn the first version, or any in between, into it. */
static void words_of_many_runs_turn_any_version_into_the_page(void **state)
{
    struct vv_bytes runs = VV_BYTES_NONE;
    uint8_t first[VV_PAGE_SIZE], before[VV_PAGE_SIZE], page[VV_PAGE_SIZE], got[VV_PAGE_SIZE];

    (void)state;
    for (int round = 0; round < 500; round++) {
        struct vv_words words = { .bits = { 0 } };
        scramble(first, sizeof first);
        memcpy(page, first, sizeof page);
        for (uint32_t i = chance(12); i-- > 0;) {
            memcpy(before, page, sizeof before);
            change(page);
            vv_bytes_clear(&runs);
            const size_t changed = vv_runs_encode(before, page, 3 * VV_PAGE_SIZE, &runs);
            vv_words_add(&words, runs.data, changed);
            for (int k = 0; k < 2; k++) {
                vv_bytes_clear(&runs);
                assert_true(vv_words_encode(&words, page, 2 * VV_PAGE_SIZE, &runs) > 0);
                memcpy(got, k == 0 ? first : before, sizeof got);
                assert_int_equal(vv_runs_apply(runs.data, runs.size, got), VARVE_OK);
                assert_memory_equal(got, page, sizeof got);
            }
            const size_t size = runs.size;
            vv_bytes_clear(&runs);
            assert_int_equal(vv_words_encode(&words, page, size, &runs), size);
            assert_int_equal(vv_words_encode(&words, page, size - 1, &runs), 0);
            assert_int_equal(runs.size, size);
        }
    }
    vv_bytes_release(&runs);
}

/* One byte at every place: the edges of words, lines and the page. */
static void a_single_changed_byte_costs_at_most_four(void **state)
{
    struct vv_bytes runs = VV_BYTES_NONE;
    uint8_t base[VV_PAGE_SIZE] = { 0 }, page[VV_PAGE_SIZE] = { 0 }, got[VV_PAGE_SIZE];

    (void)state;
    for (size_t at = 0; at < VV_PAGE_SIZE; at++) {
        page[at] = 1;
        vv_bytes_clear(&runs);
        assert_in_range(vv_runs_encode(base, page, 100, &runs), 3, 4);
        memset(got, 0, sizeof got);
        assert_int_equal(vv_runs_apply(runs.data, runs.size, got), VARVE_OK);
        assert_memory_equal(got, page, sizeof got);
        assert_int_equal(vv_page_distance(base, page), 1);
        page[at] = 0;
    }
    vv_bytes_release(&runs);
}

static void equal_pages_are_one_byte(void **state)
{
    struct vv_bytes runs = VV_BYTES_NONE;
    uint8_t page[VV_PAGE_SIZE], got[VV_PAGE_SIZE];

    (void)state;
    scramble(page, sizeof page);
    assert_int_equal(vv_runs_encode(page, page, 100, &runs), 1);
    memcpy(got, page, sizeof got);
    assert_int_equal(vv_runs_apply(runs.data, runs.size, got), VARVE_OK);
    assert_memory_equal(got, page, sizeof got);
    assert_int_equal(vv_page_distance(page, page), 0);
    vv_bytes_release(&runs);
}

/* Any limit: the runs fit it, or nothing was appended. */
static void runs_keep_their_limit(void **state)
{
    struct vv_bytes runs = VV_BYTES_NONE;
    uint8_t base[VV_PAGE_SIZE], page[VV_PAGE_SIZE];

    (void)state;
    scramble(base, sizeof base);
    memcpy(page, base, sizeof page);
    for (size_t at = 0; at < VV_PAGE_SIZE; at += 37)
        page[at] ^= 0x55;
    vv_bytes_put(&runs, "before", 6);
    const size_t whole = vv_runs_encode(base, page, VV_PAGE_SIZE, &runs);
    assert_true(whole > 300);
    for (size_t limit = 0; limit <= whole + 1; limit++) {
        runs.size = 6;
        const size_t size = vv_runs_encode(base, page, limit, &runs);
        assert_int_equal(size, limit < whole ? 0 : whole);
        assert_int_equal(runs.size, 6 + size);
    }
    vv_bytes_release(&runs);
}

static void distance_counts_bytes(void **state)
{
    uint8_t base[VV_PAGE_SIZE], page[VV_PAGE_SIZE];

    (void)state;
    for (int round = 0; round < 200; round++) {
        size_t want = 0;
        scramble(base, sizeof base);
        memcpy(page, base, sizeof page);
        change(page);
        for (size_t i = 0; i < VV_PAGE_SIZE; i++)
            want += base[i] != page[i];
        assert_int_equal(vv_page_distance(base, page), want);
    }
}

static void runs_that_leave_the_page_are_refused(void **state)
{
    static const struct {
        uint8_t bytes[8];
        size_t size;
    } bad[] = {
        { { 0 }, 0 },                   /* nothing at all */
        { { 0, 0 }, 2 },                /* a run of no bytes */
        { { 1 }, 1 },                   /* no skip */
        { { 1, 0 }, 2 },                /* no bytes */
        { { 2, 0, 9 }, 3 },             /* one byte too few */
        { { 1, 0x80, 0x20, 9 }, 4 },    /* skips the whole page */
        { { 2, 0xff, 0x1f, 9, 9 }, 5 }, /* the second byte is outside */
        { { 1, 0x80, 0x00, 9 }, 4 },    /* a longer form than needed */
        { { 1, 0, 9, 0, 0 }, 5 },       /* a good run, then an empty one */
        { { 0x81, 0x20, 0 }, 3 },       /* longer than a page */
        { { 1, 0xff, 0xff, 0xff, 0xff, 0x7f, 9 }, 7 },
    };
    uint8_t room[VV_PAGE_SIZE + 64], *page = room + 32;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        memset(room, 0xaa, sizeof room);
        assert_int_equal(vv_runs_apply(bad[i].bytes, bad[i].size, page), VARVE_CORRUPT);
        for (size_t k = 0; k < 32; k++) {
            assert_int_equal(room[k], 0xaa);
            assert_int_equal(room[VV_PAGE_SIZE + 32 + k], 0xaa);
        }
    }
}

/* ---- Frames ----------------------------------------------------------------------------------- */

struct frame_fixture {
    uint8_t base[VV_FRAME_PAGES][VV_PAGE_SIZE], page[VV_FRAME_PAGES][VV_PAGE_SIZE];
    struct vv_frame_page pages[VV_FRAME_PAGES];
};
static struct frame_fixture f;

static void fill_fixture(size_t count, bool noise)
{
    for (size_t i = 0; i < count; i++) {
        if (noise)
            scramble(f.base[i], VV_PAGE_SIZE);
        else
            memset(f.base[i], (int)chance(256), VV_PAGE_SIZE);
        memcpy(f.page[i], f.base[i], VV_PAGE_SIZE);
        f.pages[i] = (struct vv_frame_page){ .bytes = f.page[i] };
        switch (chance(4)) {
        case 0:
            memset(f.page[i], 0, VV_PAGE_SIZE);
            break;
        case 1:
            change(f.page[i]);
            break;
        default:
            change(f.page[i]);
            f.pages[i].base = f.base[i];
            f.pages[i].base_locator = 1 + ((uint64_t)chance(1u << 30) << chance(34));
        }
    }
}

static void assert_frame_holds(const struct vv_bytes *bytes, size_t count)
{
    struct vv_frame frame, slots, peeked;
    uint8_t got[VV_PAGE_SIZE];
    size_t payload_at = 0, size = 0;

    assert_int_equal(vv_frame_size(bytes->data, bytes->size, &size), VARVE_OK);
    assert_int_equal(size, bytes->size);
    assert_true(size <= vv_frame_bound(count));
    assert_int_equal(vv_frame_open(bytes->data, bytes->size, &frame), VARVE_OK);
    assert_int_equal(vv_frame_slots(bytes->data, bytes->size, &slots), VARVE_OK);
    assert_int_equal(frame.count, count);
    assert_int_equal(vv_frame_peek(bytes->data, bytes->size, &peeked, &payload_at), bytes->data[5] == 0);
    if (bytes->data[5] == 0) {
        assert_memory_equal(peeked.offsets, frame.offsets, count * sizeof *frame.offsets);
        assert_memory_equal(peeked.sizes, frame.sizes, count * sizeof *frame.sizes);
        assert_int_equal(payload_at + frame.payload_size, bytes->size);
        assert_memory_equal(bytes->data + payload_at, frame.payload, frame.payload_size);
        assert_false(vv_frame_peek(bytes->data, payload_at - 1, &peeked, &payload_at));
    }
    for (size_t i = 0; i < count; i++) {
        scramble(got, sizeof got);
        if (frame.slots[i].form == VV_FORM_RUNS) {
            assert_int_equal(frame.slots[i].base_locator, f.pages[i].base_locator);
            memcpy(got, f.base[i], sizeof got);
        }
        assert_int_equal(slots.slots[i].form, frame.slots[i].form);
        assert_true(slots.slots[i].base_locator == frame.slots[i].base_locator);
        assert_int_equal(vv_frame_page(&frame, i, got), VARVE_OK);
        assert_memory_equal(got, f.page[i], sizeof got);
    }
    assert_int_equal(vv_frame_page(&frame, count, got), VARVE_CORRUPT);
    vv_frame_release(&frame);
    vv_frame_release(&slots);
}

/* The same codec for all, and none for each: the same bytes. */
static void every_page_of_a_frame_comes_back(void **state)
{
    struct vv_bytes out = VV_BYTES_NONE, again = VV_BYTES_NONE;
    struct vv_codec codec = VV_CODEC_NONE;
    struct vv_frame frame;

    (void)state;
    for (size_t count = 1; count <= VV_FRAME_PAGES; count += 1 + count / 5) {
        for (int noise = 0; noise < 2; noise++) {
            fill_fixture(count, noise != 0);
            vv_bytes_clear(&out);
            assert_int_equal(vv_frame_encode(f.pages, count, &out), VARVE_OK);
            assert_frame_holds(&out, count);
            vv_bytes_clear(&again);
            assert_int_equal(vv_frame_encode_with(&codec, f.pages, count, &again), VARVE_OK);
            assert_int_equal(again.size, out.size);
            assert_memory_equal(again.data, out.data, out.size);
            assert_int_equal(vv_frame_open_with(&codec, again.data, again.size, &frame), VARVE_OK);
            assert_int_equal(frame.count, count);
            vv_frame_release(&frame);
        }
    }
    vv_codec_release(&codec);
    vv_bytes_release(&again);
    vv_bytes_release(&out);
}

static void a_frame_of_zero_pages_is_its_header_and_a_byte_each(void **state)
{
    struct vv_bytes out = VV_BYTES_NONE;

    (void)state;
    memset(&f, 0, sizeof f);
    for (size_t i = 0; i < VV_FRAME_PAGES; i++)
        f.pages[i].bytes = f.page[i];
    assert_int_equal(vv_frame_encode(f.pages, VV_FRAME_PAGES, &out), VARVE_OK);
    assert_int_equal(out.size, VV_FRAME_HEADER + VV_FRAME_PAGES);
    assert_frame_holds(&out, VV_FRAME_PAGES);
    vv_bytes_release(&out);
}

/* Noise does not compress: it is stored as it is, and costs no more than the bound says. */
static void noise_is_stored_raw(void **state)
{
    struct vv_bytes out = VV_BYTES_NONE;

    (void)state;
    for (size_t i = 0; i < 16; i++) {
        scramble(f.page[i], VV_PAGE_SIZE);
        f.pages[i] = (struct vv_frame_page){ .bytes = f.page[i] };
    }
    assert_int_equal(vv_frame_encode(f.pages, 16, &out), VARVE_OK);
    assert_int_equal(out.size, VV_FRAME_HEADER + 16 + 16 * VV_PAGE_SIZE);
    assert_frame_holds(&out, 16);
    vv_bytes_release(&out);
}

/* The coding of a frame of one noisy page, or of one that is full of the same byte. */
static uint8_t coding_of_next(struct vv_codec *codec, bool noise)
{
    struct vv_bytes out = VV_BYTES_NONE;

    memset(f.page[0], 7, VV_PAGE_SIZE);
    if (noise)
        scramble(f.page[0], VV_PAGE_SIZE);
    f.pages[0] = (struct vv_frame_page){ .bytes = f.page[0] };
    assert_int_equal(vv_frame_encode_with(codec, f.pages, 1, &out), VARVE_OK);
    assert_frame_holds(&out, 1);
    const uint8_t coding = out.data[5];
    vv_bytes_release(&out);
    return coding;
}

/* A single noisy frame changes nothing; after many, at most seven are not tried; one that compresses ends that. */
static void behind_noise_frames_are_tried_now_and_then(void **state)
{
    struct vv_codec codec = VV_CODEC_NONE;
    unsigned untried = 0;

    (void)state;
    assert_int_equal(coding_of_next(&codec, true), 0);
    assert_int_equal(coding_of_next(&codec, false), 1);
    for (int i = 0; i < 50; i++)
        assert_int_equal(coding_of_next(&codec, true), 0);
    while (coding_of_next(&codec, false) == 0)
        untried++;
    assert_in_range(untried, 1, 7);
    for (int i = 0; i < 20; i++)
        assert_int_equal(coding_of_next(&codec, false), 1);
    vv_codec_release(&codec);
}

static void a_large_difference_is_stored_whole(void **state)
{
    struct vv_bytes out = VV_BYTES_NONE;
    struct vv_frame frame;

    (void)state;
    scramble(f.base[0], VV_PAGE_SIZE);
    scramble(f.page[0], VV_PAGE_SIZE);
    f.pages[0] = (struct vv_frame_page){ .bytes = f.page[0], .base = f.base[0], .base_locator = 5 };
    assert_int_equal(vv_frame_encode(f.pages, 1, &out), VARVE_OK);
    assert_int_equal(vv_frame_open(out.data, out.size, &frame), VARVE_OK);
    assert_int_equal(frame.slots[0].form, VV_FORM_WHOLE);
    vv_frame_release(&frame);
    vv_bytes_release(&out);
}

static void every_flipped_bit_and_every_cut_of_a_frame_is_refused(void **state)
{
    struct vv_bytes out = VV_BYTES_NONE;
    struct vv_frame frame;

    (void)state;
    fill_fixture(5, false);
    assert_int_equal(vv_frame_encode(f.pages, 5, &out), VARVE_OK);
    for (size_t bit = 0; bit < 8 * out.size; bit++) {
        out.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        const varve_status rc = vv_frame_open(out.data, out.size, &frame);
        assert_int_equal(rc, VARVE_CORRUPT);
        assert_null(frame.payload);
        out.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t size = 0; size < out.size; size++)
        assert_int_equal(vv_frame_open(out.data, size, &frame), VARVE_CORRUPT);
    vv_bytes_release(&out);
}

/* Fail the 1st, 2nd, 3rd... allocation until none is left to fail; what was in `out` stays. */
static void a_frame_survives_every_failed_allocation(void **state)
{
    bool failed = true;

    (void)state;
    fill_fixture(VV_FRAME_PAGES, false);
    for (unsigned nth = 1; failed; nth++) {
        struct vv_bytes out = VV_BYTES_NONE;
        struct vv_frame frame;
        vv_bytes_put(&out, "before", 6);
        vv_alloc_fail_at(nth);
        varve_status rc = vv_frame_encode(f.pages, VV_FRAME_PAGES, &out);
        failed = vv_alloc_disarm();
        assert_int_equal(rc, failed ? VARVE_MEMORY : VARVE_OK);
        if (failed) {
            assert_int_equal(out.size, 6);
        } else {
            vv_alloc_fail_at(1);
            assert_int_equal(vv_frame_open(out.data + 6, out.size - 6, &frame), VARVE_MEMORY);
            assert_true(vv_alloc_disarm());
            assert_true(nth > 4);
        }
        vv_bytes_release(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_turn_the_base_into_the_page),
        cmocka_unit_test(runs_are_those_of_a_plain_reading),
        cmocka_unit_test(words_of_many_runs_turn_any_version_into_the_page),
        cmocka_unit_test(a_single_changed_byte_costs_at_most_four),
        cmocka_unit_test(equal_pages_are_one_byte),
        cmocka_unit_test(runs_keep_their_limit),
        cmocka_unit_test(distance_counts_bytes),
        cmocka_unit_test(runs_that_leave_the_page_are_refused),
        cmocka_unit_test(every_page_of_a_frame_comes_back),
        cmocka_unit_test(a_frame_of_zero_pages_is_its_header_and_a_byte_each),
        cmocka_unit_test(noise_is_stored_raw),
        cmocka_unit_test(behind_noise_frames_are_tried_now_and_then),
        cmocka_unit_test(a_large_difference_is_stored_whole),
        cmocka_unit_test(every_flipped_bit_and_every_cut_of_a_frame_is_refused),
        cmocka_unit_test(a_frame_survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
