/* test_trie.c - page/trie against a sorted array of items. */
#include "page/trie.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "shelf.h"

static uint64_t seed = 1;
static uint64_t chance(uint64_t below)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (seed >> 20) % below;
}

/* ---- The model -------------------------------------------------------------------------------- */

enum { MODEL_ITEMS = 600 };

struct model {
    size_t count;
    struct vv_item items[MODEL_ITEMS]; /* by key */
};

/* Keys that share prefixes of any length: a few stems, each cut anywhere, and a tail from a few values. */
static void random_key(uint8_t key[32])
{
    const unsigned cut = (unsigned)chance(33);

    memset(key, (int)(chance(3) * 0x77), 32);
    for (unsigned i = cut; i < 32; i++)
        key[i] = (uint8_t)(chance(4) * 0x51);
    if (chance(2) == 0)
        key[31] = (uint8_t)chance(256);
}

/* As the trie wants it: the hash binds the key. */
static struct vv_item random_item(void)
{
    struct vv_item item;
    struct vv_hasher hasher;

    random_key(item.key);
    vv_hasher_init(&hasher, VV_HASH_MODULE);
    vv_hasher_put(&hasher, item.key, 32);
    vv_hasher_u64(&hasher, chance(5));
    vv_hasher_end(&hasher, item.hash);
    item.locator = chance(3);
    return item;
}

/* Where the key is, or would be. */
static size_t place_of(const struct model *model, const uint8_t key[32])
{
    size_t i = 0;

    while (i < model->count && memcmp(model->items[i].key, key, 32) < 0)
        i++;
    return i;
}

static bool is_at(const struct model *model, size_t i, const uint8_t key[32])
{
    return i < model->count && memcmp(model->items[i].key, key, 32) == 0;
}

static void model_set(struct model *model, const struct vv_item *item)
{
    const size_t i = place_of(model, item->key);

    if (!is_at(model, i, item->key)) {
        assert_true(model->count < MODEL_ITEMS);
        memmove(&model->items[i + 1], &model->items[i], (model->count++ - i) * sizeof *item);
    }
    model->items[i] = *item;
}

static void model_remove(struct model *model, const uint8_t key[32])
{
    const size_t i = place_of(model, key);

    if (is_at(model, i, key))
        memmove(&model->items[i], &model->items[i + 1], (--model->count - i) * sizeof model->items[0]);
}

static unsigned bit_of(const uint8_t key[32], unsigned depth)
{
    return key[depth / 8] >> (7 - depth % 8) & 1;
}

/* The top by the definition alone: nothing is zero, one key is its leaf, more are a node of two halves. */
static void naive_top(const struct vv_item *items, size_t count, unsigned depth, uint8_t top[VV_HASH_SIZE])
{
    uint8_t pair[2 * VV_HASH_SIZE];
    size_t zeros = 0;

    if (count <= 1) {
        memcpy(top, count == 0 ? vv_hash_zero : items[0].hash, VV_HASH_SIZE);
        return;
    }
    while (zeros < count && bit_of(items[zeros].key, depth) == 0)
        zeros++;
    naive_top(items, zeros, depth + 1, pair);
    naive_top(items + zeros, count - zeros, depth + 1, pair + VV_HASH_SIZE);
    vv_hash(VV_HASH_NODE, pair, sizeof pair, top);
}

/* ---- Comparing -------------------------------------------------------------------------------- */

static void assert_item(const struct vv_item *got, const struct vv_item *want)
{
    assert_memory_equal(got->key, want->key, 32);
    assert_memory_equal(got->hash, want->hash, VV_HASH_SIZE);
    assert_true(got->locator == want->locator);
}

/* The proof of a key leads from what stands in its place to the top. */
static void assert_proof(struct vv_trie *trie, const struct model *model, const uint8_t key[32])
{
    struct vv_bytes proof = VV_BYTES_NONE;
    uint8_t siblings[VV_SIBLINGS_MAX][VV_HASH_SIZE], at[VV_HASH_SIZE] = { 0 }, top[VV_HASH_SIZE];
    struct vv_item item;
    bool present = false;

    assert_int_equal(vv_trie_prove(trie, key, &proof, &item, &present), VARVE_OK);
    struct vv_reader reader = vv_reader_of(proof.data, proof.size);
    const unsigned bits = vv_reader_u16(&reader);
    assert_true(bits <= 256);
    vv_siblings_get(&reader, siblings, bits);
    assert_int_equal(vv_reader_done(&reader, "proof"), VARVE_OK);
    if (present) {
        assert_item(&item, &model->items[place_of(model, item.key)]);
        memcpy(at, item.hash, sizeof at);
        for (unsigned i = 0; i < bits; i++)
            assert_int_equal(bit_of(item.key, i), bit_of(key, i));
    }
    assert_int_equal(present && memcmp(item.key, key, 32) == 0, is_at(model, place_of(model, key), key));
    for (unsigned i = 0; i < bits; i++) {
        uint8_t pair[2 * VV_HASH_SIZE];
        const unsigned right = bit_of(key, bits - 1 - i);
        memcpy(pair + right * VV_HASH_SIZE, at, VV_HASH_SIZE);
        memcpy(pair + (1 - right) * VV_HASH_SIZE, siblings[i], VV_HASH_SIZE);
        vv_hash(VV_HASH_NODE, pair, sizeof pair, at);
    }
    assert_int_equal(vv_trie_top(trie, top), VARVE_OK);
    assert_memory_equal(at, top, VV_HASH_SIZE);
    vv_bytes_release(&proof);
}

static void assert_same(struct vv_trie *trie, const struct model *model)
{
    uint8_t top[VV_HASH_SIZE], want[VV_HASH_SIZE], from[32];
    struct vv_item item;
    uint64_t count = 0;
    bool present = false;

    naive_top(model->items, model->count, 0, want);
    assert_int_equal(vv_trie_top(trie, top), VARVE_OK);
    assert_memory_equal(top, want, VV_HASH_SIZE);
    assert_int_equal(vv_trie_count(trie, &count), VARVE_OK);
    assert_int_equal(count, model->count);
    for (size_t i = 0; i < model->count; i++) {
        assert_int_equal(vv_trie_get(trie, model->items[i].key, &item, &present), VARVE_OK);
        assert_true(present);
        assert_item(&item, &model->items[i]);
    }
    for (int i = 0; i < 40; i++) {
        const bool first = i == 0;
        random_key(from);
        const size_t place = first ? 0 : place_of(model, from);
        assert_int_equal(vv_trie_next(trie, first ? NULL : from, &item, &present), VARVE_OK);
        assert_int_equal(present, place < model->count);
        if (present)
            assert_item(&item, &model->items[place]);
        assert_int_equal(vv_trie_get(trie, from, &item, &present), VARVE_OK);
        assert_int_equal(present, is_at(model, place_of(model, from), from));
        assert_proof(trie, model, from);
    }
}

static void step(struct vv_trie *trie, struct model *model)
{
    struct vv_item item = random_item();

    if (chance(3) == 0 || model->count > MODEL_ITEMS - 100) {
        if (model->count > 0 && chance(2) == 0)
            memcpy(item.key, model->items[chance(model->count)].key, 32);
        model_remove(model, item.key);
        assert_int_equal(vv_trie_remove(trie, item.key), VARVE_OK);
        return;
    }
    model_set(model, &item);
    assert_int_equal(vv_trie_set(trie, &item), VARVE_OK);
}

/* ---- Tests ------------------------------------------------------------------------------------ */

static void a_trie_is_the_sorted_array_after_every_step(void **state)
{
    static struct model model;
    struct vv_trie trie;

    (void)state;
    memset(&model, 0, sizeof model);
    vv_trie_init(&trie, NULL);
    for (int round = 0; round < 200; round++) {
        for (uint64_t steps = 1 + chance(12); steps > 0; steps--)
            step(&trie, &model);
        assert_same(&trie, &model);
    }
    while (model.count > 0) { /* and down to nothing */
        uint8_t key[32];
        memcpy(key, model.items[chance(model.count)].key, sizeof key);
        model_remove(&model, key);
        assert_int_equal(vv_trie_remove(&trie, key), VARVE_OK);
        if (model.count % 16 < 2)
            assert_same(&trie, &model);
    }
    assert_true(vv_top_is_empty(&trie.top));
    vv_trie_release(&trie);
}

static bool is_among(const struct vv_item *items, size_t count, const uint8_t key[32])
{
    for (size_t i = 0; i < count; i++)
        if (memcmp(items[i].key, key, 32) == 0)
            return true;
    return false;
}

/* The same set in eight orders, with other items coming and going before and between. */
static void neither_order_nor_history_shows(void **state)
{
    enum { COUNT = 120 };
    static struct vv_item items[COUNT];
    uint8_t want[VV_HASH_SIZE], got[VV_HASH_SIZE];
    struct vv_trie trie;

    (void)state;
    for (size_t i = 0; i < COUNT; i++)
        do
            items[i] = random_item();
        while (is_among(items, i, items[i].key));
    for (int round = 0; round < 8; round++) {
        struct vv_item passing = random_item();
        vv_trie_init(&trie, NULL);
        for (size_t i = 0; i < COUNT; i++) {
            assert_int_equal(vv_trie_set(&trie, &passing), VARVE_OK);
            assert_int_equal(vv_trie_set(&trie, &items[i]), VARVE_OK);
            if (round % 2 == 0 && !is_among(items, COUNT, passing.key)) {
                assert_int_equal(vv_trie_remove(&trie, passing.key), VARVE_OK);
                passing = random_item();
            }
        }
        if (!is_among(items, COUNT, passing.key))
            assert_int_equal(vv_trie_remove(&trie, passing.key), VARVE_OK);
        for (size_t i = 0; i < COUNT; i++)
            assert_int_equal(vv_trie_set(&trie, &items[i]), VARVE_OK);
        assert_int_equal(vv_trie_top(&trie, got), VARVE_OK);
        if (round == 0)
            memcpy(want, got, sizeof want);
        assert_memory_equal(got, want, VV_HASH_SIZE);
        vv_trie_release(&trie);
        for (size_t i = COUNT - 1; i > 0; i--) {
            const size_t other = (size_t)chance(i + 1);
            const struct vv_item swap = items[i];
            items[i] = items[other];
            items[other] = swap;
        }
    }
}

/* Two keys that part in the last bit: 64 nodes deep, and back to one. */
static void keys_that_differ_in_the_last_bit_are_two(void **state)
{
    struct vv_trie trie;
    struct vv_item a = random_item(), b = a, got;
    uint8_t top[VV_HASH_SIZE], want[VV_HASH_SIZE];
    uint64_t count = 0;
    bool present = false;
    struct vv_item both[2];

    (void)state;
    a.key[31] &= 0xfe;
    b.key[31] |= 1;
    b.hash[0] ^= 1;
    vv_trie_init(&trie, NULL);
    assert_int_equal(vv_trie_set(&trie, &b), VARVE_OK);
    assert_int_equal(vv_trie_set(&trie, &a), VARVE_OK);
    both[0] = a;
    both[1] = b;
    naive_top(both, 2, 0, want);
    assert_int_equal(vv_trie_top(&trie, top), VARVE_OK);
    assert_memory_equal(top, want, VV_HASH_SIZE);
    assert_int_equal(vv_trie_count(&trie, &count), VARVE_OK);
    assert_int_equal(count, 2);
    assert_int_equal(vv_trie_next(&trie, b.key, &got, &present), VARVE_OK);
    assert_true(present);
    assert_item(&got, &b);
    assert_int_equal(vv_trie_remove(&trie, b.key), VARVE_OK);
    assert_int_equal(vv_trie_top(&trie, top), VARVE_OK);
    assert_memory_equal(top, a.hash, VV_HASH_SIZE);
    vv_trie_release(&trie);
}

struct diff_context {
    const struct model *from, *to;
    size_t a, b; /* items passed so far */
};

/* Go over both models up to the next item that differs. */
static void next_difference(struct diff_context *c, const struct vv_item **from, const struct vv_item **to)
{
    for (;;) {
        const struct vv_item *a = c->a < c->from->count ? &c->from->items[c->a] : NULL;
        const struct vv_item *b = c->b < c->to->count ? &c->to->items[c->b] : NULL;
        const int order = a == NULL ? 1 : b == NULL ? -1 : memcmp(a->key, b->key, 32);
        *from = order <= 0 ? a : NULL;
        *to = order >= 0 ? b : NULL;
        c->a += *from != NULL;
        c->b += *to != NULL;
        if ((a == NULL && b == NULL) || order != 0 || !vv_hash_equal(a->hash, b->hash))
            return;
    }
}

static varve_status diff_matches(void *context, const struct vv_item *from, const struct vv_item *to)
{
    const struct vv_item *a = NULL, *b = NULL;

    next_difference(context, &a, &b);
    assert_int_equal(from == NULL, a == NULL);
    assert_int_equal(to == NULL, b == NULL);
    if (a != NULL)
        assert_item(from, a);
    if (b != NULL)
        assert_item(to, b);
    return VARVE_OK;
}

static void assert_diff_matches(const struct vv_trie *a, const struct model *from, const struct vv_trie *b,
                                const struct model *to)
{
    struct diff_context c = { from, to, 0, 0 };
    const struct vv_item *left_from = NULL, *left_to = NULL;

    assert_int_equal(vv_trie_diff(a, b, diff_matches, &c), VARVE_OK);
    next_difference(&c, &left_from, &left_to);
    assert_true(left_from == NULL && left_to == NULL);
}

static void a_difference_is_what_merging_the_arrays_finds(void **state)
{
    static struct model from, to, none;
    struct vv_trie a, b;

    (void)state;
    memset(&from, 0, sizeof from);
    vv_trie_init(&a, NULL);
    for (int round = 0; round < 300; round++) {
        for (uint64_t steps = chance(8); steps > 0; steps--)
            step(&a, &from);
        vv_trie_copy(&b, &a);
        to = from;
        for (uint64_t steps = chance(20); steps > 0; steps--)
            step(&b, &to);
        assert_diff_matches(&a, &from, &b, &to);
        assert_diff_matches(&b, &to, &a, &from);
        assert_diff_matches(NULL, &none, &a, &from);
        assert_same(&a, &from); /* b's changes did not reach it */
        vv_trie_release(&b);
    }
    vv_trie_release(&a);
}

static void a_saved_trie_opens_to_the_same(void **state)
{
    static struct model model;
    struct shelf shelf = { .bytes = VV_BYTES_NONE };
    const struct vv_node_source source = shelf_source(&shelf);
    struct vv_trie trie;

    (void)state;
    memset(&model, 0, sizeof model);
    vv_trie_init(&trie, &source);
    for (int round = 0; round < 150; round++) {
        uint8_t top[VV_HASH_SIZE];
        uint64_t address = 0;
        for (uint64_t steps = chance(12); steps > 0; steps--)
            step(&trie, &model);
        assert_int_equal(vv_trie_save(&trie, shelf_write, &shelf, &address), VARVE_OK);
        const size_t writes = shelf.writes;
        assert_int_equal(vv_trie_save(&trie, shelf_write, &shelf, &address), VARVE_OK);
        assert_true(address == vv_trie_address(&trie) && writes == shelf.writes);
        assert_int_equal(vv_trie_top(&trie, top), VARVE_OK);
        vv_trie_release(&trie);
        assert_int_equal(vv_trie_open(&trie, address, top, &source), VARVE_OK);
        if (round % 3 == 0)
            assert_same(&trie, &model);
    }
    assert_same(&trie, &model);
    vv_trie_release(&trie);
    vv_bytes_release(&shelf.bytes);
}

static size_t nodes_of(const struct vv_node *node)
{
    size_t count = node == NULL ? 0 : 1;

    for (unsigned slot = 0; node != NULL && slot < VV_NODE_SLOTS; slot++)
        count += nodes_of(atomic_load(&node->child[slot]));
    return count;
}

static size_t nodes_above(const struct vv_node *node, unsigned depth)
{
    size_t count = node == NULL || depth == 0 ? 0 : 1;

    for (unsigned slot = 0; count > 0 && slot < VV_NODE_SLOTS; slot++)
        count += nodes_above(atomic_load(&node->child[slot]), depth - 1);
    return count;
}

/* Saved or in the middle of changes, shared or not: what was let go of is loaded again and says the same. Of a saved
 * trie that nobody shares nothing stays below the levels that were asked for. */
static void what_is_let_go_of_is_loaded_again(void **state)
{
    static struct model model, before;
    struct shelf shelf = { .bytes = VV_BYTES_NONE };
    const struct vv_node_source source = shelf_source(&shelf);
    struct vv_trie trie, copy;
    uint64_t address = 0;
    size_t gone = 0;

    (void)state;
    memset(&model, 0, sizeof model);
    vv_trie_init(&trie, &source);
    for (int round = 0; round < 300; round++) {
        const unsigned depth = (unsigned)chance(5);
        const bool shared = chance(4) == 0;
        for (uint64_t steps = chance(12); steps > 0; steps--)
            step(&trie, &model);
        const bool saved = chance(3) != 0;
        if (saved)
            assert_int_equal(vv_trie_save(&trie, shelf_write, &shelf, &address), VARVE_OK);
        if (shared) {
            vv_trie_copy(&copy, &trie);
            before = model;
        }
        const size_t all = nodes_of(trie.top.node);
        const size_t above = nodes_above(trie.top.node, depth);
        vv_trie_let_go(&trie, depth);
        assert_true(nodes_of(trie.top.node) >= above);
        if (saved && !shared)
            assert_int_equal(nodes_of(trie.top.node), above);
        gone += all - nodes_of(trie.top.node);
        if (saved)
            assert_true(vv_trie_address(&trie) == address);
        if (round % 3 == 0)
            assert_same(&trie, &model);
        for (uint64_t steps = chance(6); steps > 0; steps--)
            step(&trie, &model);
        if (shared) {
            assert_same(&copy, &before);
            vv_trie_release(&copy);
        }
    }
    assert_same(&trie, &model);
    assert_true(gone > 1000);
    vv_trie_release(&trie);
    vv_bytes_release(&shelf.bytes);
}

static varve_status look(void *context, const struct vv_item *from, const struct vv_item *to)
{
    (void)context;
    (void)from;
    (void)to;
    return VARVE_OK;
}

/* Flip every bit of every saved node in turn. What the hashes cover is CORRUPT; what they do not (a locator, or
 * a key that still leads to its place) is the source's checksum to guard, and must at least do no harm: walking
 * by `next` ends, in ascending order. */
static void a_damaged_node_is_found_or_harmless(void **state)
{
    struct shelf shelf = { .bytes = VV_BYTES_NONE };
    const struct vv_node_source source = shelf_source(&shelf);
    struct vv_trie trie;
    uint8_t top[VV_HASH_SIZE];
    uint64_t address = 0;
    size_t corrupt = 0;

    (void)state;
    vv_trie_init(&trie, &source);
    for (int i = 0; i < 6; i++) {
        const struct vv_item item = random_item();
        assert_int_equal(vv_trie_set(&trie, &item), VARVE_OK);
    }
    assert_int_equal(vv_trie_save(&trie, shelf_write, &shelf, &address), VARVE_OK);
    assert_int_equal(vv_trie_top(&trie, top), VARVE_OK);
    vv_trie_release(&trie);
    for (size_t bit = 0; bit < 8 * shelf.bytes.size; bit++) {
        struct vv_item item = { .locator = 0 }, last = { .locator = 0 };
        bool present = true;
        unsigned seen = 0;
        shelf.bytes.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(vv_trie_open(&trie, address, top, &source), VARVE_OK);
        varve_status rc = vv_trie_diff(NULL, &trie, look, NULL);
        assert_true(rc == VARVE_OK || rc == VARVE_CORRUPT);
        corrupt += rc == VARVE_CORRUPT;
        rc = vv_trie_next(&trie, NULL, &item, &present);
        while (rc == VARVE_OK && present) {
            assert_true(++seen <= 6);
            assert_true(seen == 1 || memcmp(item.key, last.key, 32) > 0);
            last = item;
            unsigned i = 32;
            while (i > 0 && ++item.key[--i] == 0)
                continue;
            rc = vv_trie_next(&trie, item.key, &item, &present);
        }
        vv_trie_release(&trie);
        shelf.bytes.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_true(corrupt > 2 * shelf.bytes.size); /* of 8 bits a byte; keys are the larger part of the rest */
    vv_bytes_release(&shelf.bytes);
}

static void a_failed_allocation_leaves_the_trie_as_it_was(void **state)
{
    static struct model model, after;
    struct shelf shelf = { .bytes = VV_BYTES_NONE };
    const struct vv_node_source source = shelf_source(&shelf);
    struct vv_trie first, trie;
    uint8_t top[VV_HASH_SIZE];
    uint64_t address = 0;
    unsigned failures = 0;

    (void)state;
    memset(&model, 0, sizeof model);
    vv_trie_init(&first, &source);
    for (int i = 0; i < 150; i++)
        step(&first, &model);
    assert_int_equal(vv_trie_save(&first, shelf_write, &shelf, &address), VARVE_OK);
    assert_int_equal(vv_trie_top(&first, top), VARVE_OK);
    vv_trie_release(&first);
    for (int round = 0; round < 60; round++) {
        struct vv_item item = random_item();
        const bool remove = round % 3 == 0;
        if (round % 2 == 0)
            memcpy(item.key, model.items[chance(model.count)].key, 32);
        bool failed = true;
        for (unsigned nth = 1; failed; nth++) {
            assert_int_equal(vv_trie_open(&first, address, top, &source), VARVE_OK);
            vv_trie_copy(&trie, &first);
            after = model;
            vv_alloc_fail_at(nth);
            const varve_status rc = remove ? vv_trie_remove(&trie, item.key) : vv_trie_set(&trie, &item);
            failed = vv_alloc_disarm();
            failures += failed;
            if (remove)
                model_remove(&after, item.key);
            else
                model_set(&after, &item);
            assert_int_equal(rc, failed ? VARVE_MEMORY : VARVE_OK);
            if (nth < 4 || !failed)
                assert_same(&trie, failed ? &model : &after);
            vv_trie_release(&trie);
            vv_trie_release(&first);
        }
    }
    assert_true(failures > 120);
    vv_bytes_release(&shelf.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_trie_is_the_sorted_array_after_every_step),
        cmocka_unit_test(neither_order_nor_history_shows),
        cmocka_unit_test(keys_that_differ_in_the_last_bit_are_two),
        cmocka_unit_test(a_difference_is_what_merging_the_arrays_finds),
        cmocka_unit_test(a_saved_trie_opens_to_the_same),
        cmocka_unit_test(what_is_let_go_of_is_loaded_again),
        cmocka_unit_test(a_damaged_node_is_found_or_harmless),
        cmocka_unit_test(a_failed_allocation_leaves_the_trie_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
