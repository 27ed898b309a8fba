/* test_hash.c - hash.c and root.c: the batches are the hash, and what each id is the hash of. */
#include "page/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "page/root.h"

enum { PAGES = 67 };

static uint8_t pages[PAGES][VV_PAGE_SIZE];
static const uint8_t *page_pointers[PAGES];

/* Bytes that look random and are the same in every run. */
static void scramble(void *data, size_t size, uint64_t seed)
{
    uint8_t *bytes = data;

    for (size_t i = 0; i < size; i++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        bytes[i] = (uint8_t)(seed >> 56);
    }
}

/* BLAKE3's own hasher, by its public functions alone. */
static void reference(enum vv_hash_kind kind, const void *data, size_t size, uint8_t out[VV_HASH_SIZE])
{
    blake3_hasher hasher;

    blake3_hasher_init_derive_key(&hasher, vv_hash_context(kind));
    blake3_hasher_update(&hasher, data, size);
    blake3_hasher_finalize(&hasher, out, VV_HASH_SIZE);
}

static void every_kind_has_a_context_of_its_own(void **state)
{
    (void)state;
    for (int a = 0; a < VV_HASH_KINDS; a++) {
        assert_int_equal(strncmp(vv_hash_context((enum vv_hash_kind)a), "varve 2026 ", 11), 0);
        for (int b = 0; b < a; b++)
            assert_string_not_equal(vv_hash_context((enum vv_hash_kind)a),
                                    vv_hash_context((enum vv_hash_kind)b));
    }
}

static void one_hash_and_pieces_of_any_size_are_blake3(void **state)
{
    uint8_t want[VV_HASH_SIZE], got[VV_HASH_SIZE];

    (void)state;
    scramble(pages, sizeof pages, 1);
    for (size_t size = 0; size < 9000; size += 1 + size / 3) {
        struct vv_hasher hasher;
        reference(VV_HASH_RECORD, pages, size, want);
        vv_hash(VV_HASH_RECORD, pages, size, got);
        assert_memory_equal(got, want, VV_HASH_SIZE);
        vv_hasher_init(&hasher, VV_HASH_RECORD);
        for (size_t at = 0, piece = 1; at < size; at += piece, piece = piece * 2 + 1) {
            piece = piece < size - at ? piece : size - at;
            vv_hasher_put(&hasher, (const uint8_t *)pages + at, piece);
        }
        vv_hasher_end(&hasher, got);
        assert_memory_equal(got, want, VV_HASH_SIZE);
    }
}

/* Every count up to more than four full batches, zero pages at changing places between. */
static void a_batch_of_pages_equals_the_hash_of_each(void **state)
{
    uint8_t got[PAGES][VV_HASH_SIZE], want[VV_HASH_SIZE];

    (void)state;
    scramble(pages, sizeof pages, 2);
    for (size_t count = 0; count <= PAGES; count++) {
        for (size_t i = 0; i < count; i++) {
            page_pointers[i] = pages[i];
            if (i % 7 == count % 7 && count % 3 == 0)
                memset(pages[i], 0, VV_PAGE_SIZE);
        }
        memset(got, 0xee, sizeof got);
        vv_hash_pages(page_pointers, count, got);
        for (size_t i = 0; i < count; i++) {
            if (vv_page_is_zero(pages[i]))
                memset(want, 0, sizeof want);
            else
                reference(VV_HASH_PAGE, pages[i], VV_PAGE_SIZE, want);
            assert_memory_equal(got[i], want, VV_HASH_SIZE);
        }
        for (size_t i = count; i < PAGES; i++)
            assert_int_equal(got[i][0], 0xee);
    }
}

static void a_page_is_zero_only_when_every_byte_is(void **state)
{
    (void)state;
    memset(pages[0], 0, VV_PAGE_SIZE);
    assert_true(vv_page_is_zero(pages[0]));
    for (size_t i = 0; i < VV_PAGE_SIZE; i++) {
        pages[0][i] = (uint8_t)(1u << i % 8);
        assert_false(vv_page_is_zero(pages[0]));
        pages[0][i] = 0;
    }
}

static void a_batch_of_nodes_equals_the_hash_of_each(void **state)
{
    static uint8_t pairs[PAGES][2 * VV_HASH_SIZE], got[PAGES][VV_HASH_SIZE];
    uint8_t want[VV_HASH_SIZE];

    (void)state;
    scramble(pairs, sizeof pairs, 3);
    memset(pairs[5], 0, sizeof pairs[5]);
    memset(pairs[40], 0, VV_HASH_SIZE); /* half a pair of zeros is hashed */
    for (size_t count = 0; count <= PAGES; count++) {
        vv_hash_nodes((const uint8_t(*)[2 * VV_HASH_SIZE]) pairs, count, got);
        for (size_t i = 0; i < count; i++) {
            if (i == 5)
                memset(want, 0, sizeof want);
            else
                reference(VV_HASH_NODE, pairs[i], sizeof pairs[i], want);
            assert_memory_equal(got[i], want, VV_HASH_SIZE);
        }
    }
}

static void a_leaf_binds_each_of_its_facts(void **state)
{
    struct vv_module_facts facts;
    uint8_t before[VV_HASH_SIZE], after[VV_HASH_SIZE], want[VV_HASH_SIZE];

    (void)state;
    scramble(&facts, sizeof facts, 4);
    assert_int_equal(sizeof facts, 192); /* so the struct is its own preimage, which a test may use */
    vv_module_leaf_hash(&facts, before);
    reference(VV_HASH_MODULE, &facts, sizeof facts, want);
    assert_memory_equal(before, want, VV_HASH_SIZE);
    for (size_t i = 0; i < sizeof facts; i += 32) {
        ((uint8_t *)&facts)[i] ^= 1;
        vv_module_leaf_hash(&facts, after);
        assert_memory_not_equal(before, after, VV_HASH_SIZE);
        ((uint8_t *)&facts)[i] ^= 1;
    }
}

/* No pairs: zero. Otherwise where a key ends and its value begins is bound too. */
static void meta_binds_keys_values_and_their_border(void **state)
{
    struct vv_meta_hasher meta;
    uint8_t none[VV_HASH_SIZE], a[VV_HASH_SIZE], b[VV_HASH_SIZE];

    (void)state;
    vv_meta_hash_begin(&meta);
    vv_meta_hash_end(&meta, none);
    assert_true(vv_hash_is_zero(none));
    vv_meta_hash_put(&meta, "ab", 2, "c", 1);
    vv_meta_hash_end(&meta, a);
    vv_meta_hash_begin(&meta);
    vv_meta_hash_put(&meta, "a", 1, "bc", 2);
    vv_meta_hash_end(&meta, b);
    assert_memory_not_equal(a, b, VV_HASH_SIZE);
}

static void a_commit_id_binds_parent_root_time_and_message(void **state)
{
    uint8_t root[VV_HASH_SIZE] = { 7 }, parent[VV_HASH_SIZE] = { 9 }, ids[5][VV_HASH_SIZE];

    (void)state;
    vv_commit_id_hash(NULL, root, 5, "m", 1, ids[0]);
    vv_commit_id_hash(parent, root, 5, "m", 1, ids[1]);
    vv_commit_id_hash(NULL, parent, 5, "m", 1, ids[2]);
    vv_commit_id_hash(NULL, root, -5, "m", 1, ids[3]);
    vv_commit_id_hash(NULL, root, 5, "n", 1, ids[4]);
    for (size_t a = 0; a < 5; a++)
        for (size_t b = 0; b < a; b++)
            assert_memory_not_equal(ids[a], ids[b], VV_HASH_SIZE);
    vv_commit_id_hash(vv_hash_zero, root, 5, "m", 1, ids[1]);
    assert_memory_equal(ids[0], ids[1], VV_HASH_SIZE); /* no parent is a parent of zeros */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_has_a_context_of_its_own),
        cmocka_unit_test(one_hash_and_pieces_of_any_size_are_blake3),
        cmocka_unit_test(a_batch_of_pages_equals_the_hash_of_each),
        cmocka_unit_test(a_page_is_zero_only_when_every_byte_is),
        cmocka_unit_test(a_batch_of_nodes_equals_the_hash_of_each),
        cmocka_unit_test(a_leaf_binds_each_of_its_facts),
        cmocka_unit_test(meta_binds_keys_values_and_their_border),
        cmocka_unit_test(a_commit_id_binds_parent_root_time_and_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
