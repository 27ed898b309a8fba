/* test_pagetree.c - page/node and page/pagetree against a flat array of leaves. */
#include "page/pagetree.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "page/node.h"
#include "shelf.h"

static uint64_t seed = 1;
static uint64_t chance(uint64_t below)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (seed >> 20) % below;
}

/* ---- The model -------------------------------------------------------------------------------- */

enum { MODEL_PAGES = 5000 };

struct model {
    uint64_t page_count;
    struct vv_leaf leaves[MODEL_PAGES]; /* hash all zero: a zero page */
};

static bool is_present(const struct model *model, uint64_t index)
{
    return index < model->page_count && !vv_hash_is_zero(model->leaves[index].hash);
}

static struct vv_leaf random_leaf(void)
{
    struct vv_leaf leaf;
    const uint64_t some = chance(UINT64_C(1) << 40);

    vv_hash(VV_HASH_PAGE, &some, sizeof some, leaf.hash);
    leaf.locator = 1 + chance(UINT64_C(1) << (1 + chance(40)));
    return leaf;
}

/* The root by the definition alone: a full binary tree over 16^h leaves. */
static void naive_root(const struct model *model, uint8_t root[VV_HASH_SIZE])
{
    uint64_t width = 16;
    uint8_t(*level)[VV_HASH_SIZE] = NULL;

    while (width < model->page_count)
        width *= 16;
    assert_int_equal(vv_alloc(&level, width, VV_HASH_SIZE), VARVE_OK);
    for (uint64_t i = 0; i < model->page_count; i++)
        memcpy(level[i], model->leaves[i].hash, VV_HASH_SIZE);
    for (; width > 1; width /= 2)
        for (uint64_t i = 0; i < width / 2; i++) {
            uint8_t pair[2 * VV_HASH_SIZE];
            memcpy(pair, level[2 * i], sizeof pair);
            if (vv_hash_is_zero(pair) && vv_hash_is_zero(pair + VV_HASH_SIZE))
                memset(level[i], 0, VV_HASH_SIZE);
            else
                vv_hash(VV_HASH_NODE, pair, sizeof pair, level[i]);
        }
    vv_memory_root(model->page_count, level[0], root);
    vv_free(level);
}

/* ---- Comparing -------------------------------------------------------------------------------- */

static varve_status each_matches(void *context, uint64_t index, const struct vv_leaf *leaf)
{
    struct {
        const struct model *model;
        uint64_t next;
    } *c = context;

    for (; c->next < index; c->next++)
        assert_false(is_present(c->model, c->next));
    assert_true(is_present(c->model, index));
    assert_memory_equal(leaf->hash, c->model->leaves[index].hash, VV_HASH_SIZE);
    assert_true(leaf->locator == c->model->leaves[index].locator);
    c->next = index + 1;
    return VARVE_OK;
}

static void assert_same(struct vv_pagetree *tree, const struct model *model)
{
    struct {
        const struct model *model;
        uint64_t next;
    } c = { model, 0 };
    uint8_t root[VV_HASH_SIZE], want[VV_HASH_SIZE];
    uint64_t count = 0, present = 0;

    assert_true(tree->page_count == model->page_count);
    assert_int_equal(vv_pagetree_each(tree, 0, each_matches, &c), VARVE_OK);
    for (uint64_t i = 0; i < model->page_count; i++)
        present += is_present(model, i);
    assert_int_equal(vv_pagetree_count(tree, &count), VARVE_OK);
    assert_true(count == present);
    c.next = model->page_count == 0 ? 0 : chance(model->page_count);
    assert_int_equal(vv_pagetree_each(tree, c.next, each_matches, &c), VARVE_OK);
    naive_root(model, want);
    assert_int_equal(vv_pagetree_root(tree, root), VARVE_OK);
    assert_memory_equal(root, want, VV_HASH_SIZE);
}

/* Some steps along one way, most of them forward: each says what was there. A step that fails for want of memory changes
 * nothing, and the way goes on. */
static void walk_on_a_way(struct vv_pagetree *tree, struct model *model, bool failing)
{
    struct vv_pagetree_way way = vv_pagetree_way(tree);
    uint64_t index = chance(model->page_count);

    for (uint64_t steps = chance(80); steps > 0; steps--) {
        const struct vv_leaf fresh = random_leaf(), was = model->leaves[index];
        const uint64_t what = chance(4);
        struct vv_leaf old = { .locator = 7 };
        varve_status rc = VARVE_OK;
        if (failing)
            vv_alloc_fail_at(1 + (unsigned)chance(3));
        if (what == 0 && is_present(model, index))
            rc = vv_pagetree_relocate(&way, index, fresh.locator);
        else
            rc = vv_pagetree_replace(&way, index, what == 1 ? NULL : &fresh, &old);
        assert_true(rc == VARVE_OK || (rc == VARVE_MEMORY && failing));
        if (failing)
            assert_true(vv_alloc_disarm() || rc == VARVE_OK);
        if (rc == VARVE_OK && what == 0 && is_present(model, index)) {
            model->leaves[index].locator = fresh.locator;
        } else if (rc == VARVE_OK) {
            assert_memory_equal(old.hash, was.hash, VV_HASH_SIZE);
            assert_true(old.locator == was.locator);
            memset(&model->leaves[index], 0, sizeof model->leaves[index]);
            if (what != 1)
                model->leaves[index] = fresh;
        }
        index = (index + (chance(8) == 0 ? chance(model->page_count) : 1 + chance(3))) % model->page_count;
    }
}

/* One random step on both. */
static void step(struct vv_pagetree *tree, struct model *model)
{
    const uint64_t what = chance(100);

    if (what < 3 || model->page_count == 0) {
        const uint64_t count = chance(UINT64_C(1) << (1 + chance(12))) + chance(800);
        for (uint64_t i = count; i < model->page_count; i++)
            memset(&model->leaves[i], 0, sizeof model->leaves[i]);
        model->page_count = count;
        assert_int_equal(vv_pagetree_resize(tree, count), VARVE_OK);
        return;
    }
    if (what < 8) {
        walk_on_a_way(tree, model, false);
        return;
    }
    const uint64_t index = chance(model->page_count);
    if (what < 25) {
        memset(&model->leaves[index], 0, sizeof model->leaves[index]);
        assert_int_equal(vv_pagetree_set(tree, index, NULL), VARVE_OK);
    } else if (what < 35 && is_present(model, index)) {
        model->leaves[index].locator = 1 + chance(1000000);
        assert_int_equal(vv_pagetree_locate(tree, index, model->leaves[index].locator), VARVE_OK);
    } else {
        model->leaves[index] = random_leaf();
        assert_int_equal(vv_pagetree_set(tree, index, &model->leaves[index]), VARVE_OK);
    }
}

/* ---- Tests ------------------------------------------------------------------------------------ */

static void levels_follow_from_the_page_count(void **state)
{
    (void)state;
    assert_int_equal(vv_pagetree_levels(0), 1);
    assert_int_equal(vv_pagetree_levels(16), 1);
    assert_int_equal(vv_pagetree_levels(17), 2);
    assert_int_equal(vv_pagetree_levels(256), 2);
    assert_int_equal(vv_pagetree_levels(UINT64_C(1) << 48), 12);
    assert_int_equal(vv_pagetree_levels((UINT64_C(1) << 48) + 1), 13);
    assert_int_equal(vv_pagetree_levels(VV_PAGETREE_PAGES_MAX), 13);
}

static void a_tree_is_the_flat_array_after_every_step(void **state)
{
    static struct model model;
    struct vv_pagetree tree;

    (void)state;
    memset(&model, 0, sizeof model);
    vv_pagetree_init(&tree, 0, NULL);
    for (int round = 0; round < 150; round++) {
        for (uint64_t steps = 1 + chance(60); steps > 0; steps--)
            step(&tree, &model);
        assert_same(&tree, &model);
    }
    vv_pagetree_release(&tree);
}

/* Many versions that share nodes, each with its model; changing one changes no other. */
static void versions_do_not_disturb_each_other(void **state)
{
    enum { VERSIONS = 6 };
    static struct model models[VERSIONS];
    struct vv_pagetree trees[VERSIONS];

    (void)state;
    memset(models, 0, sizeof models);
    for (int i = 0; i < VERSIONS; i++)
        vv_pagetree_init(&trees[i], 0, NULL);
    for (int round = 0; round < 300; round++) {
        const uint64_t from = chance(VERSIONS), to = chance(VERSIONS);
        for (uint64_t steps = chance(30); steps > 0; steps--)
            step(&trees[from], &models[from]);
        if (from != to && round % 3 == 0) {
            vv_pagetree_release(&trees[to]);
            vv_pagetree_copy(&trees[to], &trees[from]);
            models[to] = models[from];
        }
        if (round % 10 == 0)
            for (int i = 0; i < VERSIONS; i++)
                assert_same(&trees[i], &models[i]);
    }
    for (int i = 0; i < VERSIONS; i++)
        vv_pagetree_release(&trees[i]);
}

/* On a tree whose nodes another one shares, so that each must be copied: any of these copies fails. */
static void a_way_goes_on_after_failed_allocations(void **state)
{
    static struct model model, kept;
    struct vv_pagetree tree, other;

    (void)state;
    memset(&model, 0, sizeof model);
    vv_pagetree_init(&tree, 3000, NULL);
    model.page_count = 3000;
    for (int round = 0; round < 200; round++) {
        vv_pagetree_copy(&other, &tree);
        kept = model;
        walk_on_a_way(&tree, &model, true);
        if (round % 10 == 0) {
            assert_same(&tree, &model);
            assert_same(&other, &kept);
        }
        vv_pagetree_release(&other);
    }
    vv_pagetree_release(&tree);
}

static void the_root_does_not_depend_on_the_order(void **state)
{
    struct vv_pagetree a, b;
    uint8_t root_a[VV_HASH_SIZE], root_b[VV_HASH_SIZE];
    struct vv_leaf leaves[300];

    (void)state;
    vv_pagetree_init(&a, 300, NULL);
    vv_pagetree_init(&b, 9, NULL);
    for (uint64_t i = 0; i < 300; i++)
        leaves[i] = random_leaf();
    for (uint64_t i = 0; i < 300; i += 3)
        assert_int_equal(vv_pagetree_set(&a, i, &leaves[i]), VARVE_OK);
    assert_int_equal(vv_pagetree_resize(&b, 4000), VARVE_OK);
    for (uint64_t i = 300; i-- > 0;)
        assert_int_equal(vv_pagetree_set(&b, i, &leaves[i]), VARVE_OK);
    for (uint64_t i = 0; i < 300; i++)
        if (i % 3 != 0)
            assert_int_equal(vv_pagetree_set(&b, i, NULL), VARVE_OK);
    assert_int_equal(vv_pagetree_resize(&b, 300), VARVE_OK);
    assert_int_equal(vv_pagetree_root(&a, root_a), VARVE_OK);
    assert_int_equal(vv_pagetree_root(&b, root_b), VARVE_OK);
    assert_memory_equal(root_a, root_b, VV_HASH_SIZE);
    vv_pagetree_release(&a);
    vv_pagetree_release(&b);
}

static void the_length_is_part_of_the_root(void **state)
{
    struct vv_pagetree tree;
    uint8_t root[2][VV_HASH_SIZE];

    (void)state;
    vv_pagetree_init(&tree, 3, NULL);
    assert_int_equal(vv_pagetree_root(&tree, root[0]), VARVE_OK);
    assert_int_equal(vv_pagetree_resize(&tree, 4), VARVE_OK);
    assert_int_equal(vv_pagetree_root(&tree, root[1]), VARVE_OK);
    assert_memory_not_equal(root[0], root[1], VV_HASH_SIZE);
    vv_pagetree_release(&tree);
}

static void a_page_beyond_the_end_is_misuse(void **state)
{
    struct vv_pagetree tree;
    struct vv_leaf leaf = random_leaf();
    bool present = true;

    (void)state;
    vv_pagetree_init(&tree, 3, NULL);
    assert_int_equal(vv_pagetree_get(&tree, 3, &leaf, &present), VARVE_MISUSE);
    assert_int_equal(vv_pagetree_set(&tree, 3, &leaf), VARVE_MISUSE);
    assert_int_equal(vv_pagetree_resize(&tree, VV_PAGETREE_PAGES_MAX + 1), VARVE_MISUSE);
    vv_pagetree_release(&tree);
}

/* The largest tree there is: 13 levels. */
static void the_last_page_of_the_longest_memory_is_kept(void **state)
{
    struct vv_pagetree tree;
    struct vv_leaf leaf = random_leaf(), got;
    uint64_t count = 0;
    bool present = false;

    (void)state;
    vv_pagetree_init(&tree, VV_PAGETREE_PAGES_MAX, NULL);
    assert_int_equal(vv_pagetree_set(&tree, VV_PAGETREE_PAGES_MAX - 1, &leaf), VARVE_OK);
    assert_int_equal(vv_pagetree_set(&tree, 0, &leaf), VARVE_OK);
    assert_int_equal(vv_pagetree_get(&tree, VV_PAGETREE_PAGES_MAX - 1, &got, &present), VARVE_OK);
    assert_true(present);
    assert_int_equal(vv_pagetree_count(&tree, &count), VARVE_OK);
    assert_true(count == 2);
    assert_int_equal(vv_pagetree_resize(&tree, 1), VARVE_OK);
    assert_int_equal(vv_pagetree_count(&tree, &count), VARVE_OK);
    assert_true(count == 1);
    vv_pagetree_release(&tree);
}

struct diff_context {
    const struct model *from, *to;
    uint64_t next;
};

static bool differs(const struct diff_context *c, uint64_t index)
{
    const bool a = is_present(c->from, index), b = is_present(c->to, index);
    return a != b || (a && !vv_hash_equal(c->from->leaves[index].hash, c->to->leaves[index].hash));
}

static varve_status diff_matches(void *context, uint64_t index, const struct vv_leaf *from,
                                 const struct vv_leaf *to)
{
    struct diff_context *c = context;

    for (; c->next < index; c->next++)
        assert_false(differs(c, c->next));
    assert_true(differs(c, index));
    assert_int_equal(from != NULL, is_present(c->from, index));
    assert_int_equal(to != NULL, is_present(c->to, index));
    if (from != NULL)
        assert_memory_equal(from->hash, c->from->leaves[index].hash, VV_HASH_SIZE);
    if (to != NULL)
        assert_memory_equal(to->hash, c->to->leaves[index].hash, VV_HASH_SIZE);
    c->next = index + 1;
    return VARVE_OK;
}

static void assert_diff_matches(const struct vv_pagetree *a, const struct model *from,
                                const struct vv_pagetree *b, const struct model *to)
{
    struct diff_context c = { from, to, 0 };

    assert_int_equal(vv_pagetree_diff(a, b, diff_matches, &c), VARVE_OK);
    for (; c.next < MODEL_PAGES; c.next++)
        assert_false(differs(&c, c.next));
}

static void a_difference_is_what_comparing_page_by_page_finds(void **state)
{
    static struct model from, to, none;
    struct vv_pagetree a, b;

    (void)state;
    memset(&from, 0, sizeof from);
    vv_pagetree_init(&a, 0, NULL);
    for (int round = 0; round < 200; round++) {
        for (uint64_t steps = chance(40); steps > 0; steps--)
            step(&a, &from);
        vv_pagetree_copy(&b, &a);
        to = from;
        for (uint64_t steps = chance(40); steps > 0; steps--)
            step(&b, &to);
        assert_diff_matches(&a, &from, &b, &to);
        assert_diff_matches(&b, &to, &a, &from);
        assert_diff_matches(NULL, &none, &a, &from);
        vv_pagetree_release(&b);
    }
    vv_pagetree_release(&a);
}

/* Save, open, change the opened one, save again: always the model, and a second save of the same writes nothing. */
static void a_saved_tree_opens_to_the_same(void **state)
{
    static struct model model;
    struct shelf shelf = { .bytes = VV_BYTES_NONE };
    const struct vv_node_source source = shelf_source(&shelf);
    struct vv_pagetree tree;

    (void)state;
    memset(&model, 0, sizeof model);
    vv_pagetree_init(&tree, 0, &source);
    for (int round = 0; round < 120; round++) {
        uint8_t top[VV_HASH_SIZE];
        uint64_t address = 0, again = 1;
        for (uint64_t steps = chance(50); steps > 0; steps--)
            step(&tree, &model);
        assert_int_equal(vv_pagetree_save(&tree, shelf_write, &shelf, &address), VARVE_OK);
        const size_t writes = shelf.writes;
        assert_int_equal(vv_pagetree_save(&tree, shelf_write, &shelf, &again), VARVE_OK);
        assert_true(again == address && again == vv_pagetree_address(&tree) && writes == shelf.writes);
        assert_int_equal(vv_pagetree_top(&tree, top), VARVE_OK);
        vv_pagetree_release(&tree);
        const unsigned reads = shelf.reads;
        assert_int_equal(vv_pagetree_open(&tree, model.page_count, address, top, &source), VARVE_OK);
        assert_int_equal(shelf.reads, reads);
        if (round % 4 == 0)
            assert_same(&tree, &model);
    }
    assert_same(&tree, &model);
    vv_pagetree_release(&tree);
    vv_bytes_release(&shelf.bytes);
}

/* Two saved versions that differ in one page: finding it reads one path of each, not the tree. */
static void a_difference_of_saved_trees_reads_only_what_differs(void **state)
{
    struct shelf shelf = { .bytes = VV_BYTES_NONE };
    const struct vv_node_source source = shelf_source(&shelf);
    static struct model from, to;
    struct vv_pagetree a, b;
    uint8_t top[2][VV_HASH_SIZE];
    uint64_t address[2];

    (void)state;
    vv_pagetree_init(&a, 4096, &source);
    from.page_count = 4096;
    for (uint64_t i = 0; i < 4096; i++) {
        from.leaves[i] = random_leaf();
        assert_int_equal(vv_pagetree_set(&a, i, &from.leaves[i]), VARVE_OK);
    }
    vv_pagetree_copy(&b, &a);
    to = from;
    to.leaves[1234] = random_leaf();
    assert_int_equal(vv_pagetree_set(&b, 1234, &to.leaves[1234]), VARVE_OK);
    assert_int_equal(vv_pagetree_save(&a, shelf_write, &shelf, &address[0]), VARVE_OK);
    assert_int_equal(shelf.writes, 256 + 16 + 1);
    assert_int_equal(vv_pagetree_save(&b, shelf_write, &shelf, &address[1]), VARVE_OK);
    assert_int_equal(shelf.writes, 256 + 16 + 1 + 3);
    assert_int_equal(vv_pagetree_top(&a, top[0]), VARVE_OK);
    assert_int_equal(vv_pagetree_top(&b, top[1]), VARVE_OK);
    vv_pagetree_release(&a);
    vv_pagetree_release(&b);
    assert_int_equal(vv_pagetree_open(&a, 4096, address[0], top[0], &source), VARVE_OK);
    assert_int_equal(vv_pagetree_open(&b, 4096, address[1], top[1], &source), VARVE_OK);
    assert_diff_matches(&a, &from, &b, &to);
    assert_int_equal(shelf.reads, 6);
    vv_pagetree_release(&a);
    vv_pagetree_release(&b);
    vv_bytes_release(&shelf.bytes);
}

/* Any write fails: after unsave the next save writes all that is missing, and what it wrote is the tree. */
static void a_save_that_failed_is_forgotten(void **state)
{
    static struct model model;
    bool failed = true;

    (void)state;
    memset(&model, 0, sizeof model);
    model.page_count = 600;
    for (size_t nth = 1; failed; nth++) {
        struct shelf shelf = { .bytes = VV_BYTES_NONE, .fail_at_write = nth };
        const struct vv_node_source source = shelf_source(&shelf);
        struct vv_pagetree tree;
        uint8_t top[VV_HASH_SIZE];
        uint64_t address = 0;

        vv_pagetree_init(&tree, 600, &source);
        for (uint64_t i = 0; i < 600; i += 7) {
            model.leaves[i] = random_leaf();
            assert_int_equal(vv_pagetree_set(&tree, i, &model.leaves[i]), VARVE_OK);
        }
        const varve_status rc = vv_pagetree_save(&tree, shelf_write, &shelf, &address);
        failed = rc != VARVE_OK;
        if (failed) {
            vv_pagetree_unsave(&tree, 1);
            vv_bytes_clear(&shelf.bytes);
            shelf.fail_at_write = 0;
            assert_int_equal(vv_pagetree_save(&tree, shelf_write, &shelf, &address), VARVE_OK);
        }
        assert_int_equal(vv_pagetree_top(&tree, top), VARVE_OK);
        vv_pagetree_release(&tree);
        assert_int_equal(vv_pagetree_open(&tree, 600, address, top, &source), VARVE_OK);
        assert_same(&tree, &model);
        vv_pagetree_release(&tree);
        vv_bytes_release(&shelf.bytes);
        assert_true(failed || nth > 40);
    }
}

static varve_status keep_nothing(void *context, uint64_t index, const struct vv_leaf *leaf)
{
    (void)context;
    (void)index;
    (void)leaf;
    return VARVE_OK;
}

/* Flip every bit of the top node in turn: a hash, a mask, or an address where another node lies or none. */
static void a_damaged_node_is_found(void **state)
{
    struct shelf shelf = { .bytes = VV_BYTES_NONE };
    const struct vv_node_source source = shelf_source(&shelf);
    struct vv_pagetree tree;
    uint8_t top[VV_HASH_SIZE];
    uint64_t address = 0;

    (void)state;
    vv_pagetree_init(&tree, 20, &source);
    for (uint64_t i = 0; i < 20; i += 3) {
        struct vv_leaf leaf = random_leaf();
        leaf.locator = 1 + i;
        assert_int_equal(vv_pagetree_set(&tree, i, &leaf), VARVE_OK);
    }
    assert_int_equal(vv_pagetree_save(&tree, shelf_write, &shelf, &address), VARVE_OK);
    assert_int_equal(vv_pagetree_top(&tree, top), VARVE_OK);
    vv_pagetree_release(&tree);
    const size_t first = (size_t)address + 7, size = (size_t)vv_get_u64(shelf.bytes.data + address - 1);
    for (size_t bit = 8 * first; bit < 8 * (first + size); bit++) {
        uint64_t count = 0;
        shelf.bytes.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(vv_pagetree_open(&tree, 20, address, top, &source), VARVE_OK);
        assert_int_equal(vv_pagetree_count(&tree, &count), VARVE_CORRUPT);
        vv_pagetree_release(&tree);
        shelf.bytes.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_int_equal(vv_pagetree_open(&tree, 20, address, top, &source), VARVE_OK);
    assert_int_equal(vv_pagetree_each(&tree, 0, keep_nothing, NULL), VARVE_OK);
    vv_pagetree_release(&tree);
    /* the right node in a memory that is too short for it, or of other levels */
    assert_int_equal(vv_pagetree_open(&tree, 17, address, top, &source), VARVE_OK);
    assert_int_equal(vv_pagetree_each(&tree, 0, keep_nothing, NULL), VARVE_CORRUPT);
    vv_pagetree_release(&tree);
    assert_int_equal(vv_pagetree_open(&tree, 16, address, top, &source), VARVE_OK);
    assert_int_equal(vv_pagetree_each(&tree, 0, keep_nothing, NULL), VARVE_CORRUPT);
    vv_pagetree_release(&tree);
    assert_int_equal(vv_pagetree_open(&tree, 20, 0, top, &source), VARVE_CORRUPT);
    assert_int_equal(vv_pagetree_open(&tree, 20, address, vv_hash_zero, &source), VARVE_CORRUPT);
    vv_bytes_release(&shelf.bytes);
}

/* Fail the nth allocation of every kind of change on a tree that is saved and shared: it stays what it was. */
static void a_failed_allocation_leaves_the_tree_as_it_was(void **state)
{
    static struct model model, after;
    struct shelf shelf = { .bytes = VV_BYTES_NONE };
    const struct vv_node_source source = shelf_source(&shelf);
    struct vv_pagetree first;
    uint8_t top[VV_HASH_SIZE];
    uint64_t address = 0;

    (void)state;
    memset(&model, 0, sizeof model);
    model.page_count = 4000;
    vv_pagetree_init(&first, 4000, &source);
    for (uint64_t i = 0; i < 4000; i += 1 + chance(20)) {
        if (i / 256 == 5)
            continue; /* a hole, so that a path must be made */
        model.leaves[i] = random_leaf();
        assert_int_equal(vv_pagetree_set(&first, i, &model.leaves[i]), VARVE_OK);
    }
    model.leaves[700] = random_leaf();
    assert_int_equal(vv_pagetree_set(&first, 700, &model.leaves[700]), VARVE_OK);
    assert_int_equal(vv_pagetree_save(&first, shelf_write, &shelf, &address), VARVE_OK);
    assert_int_equal(vv_pagetree_top(&first, top), VARVE_OK);
    vv_pagetree_release(&first);
    for (int kind = 0; kind < 5; kind++) {
        bool failed = true;
        for (unsigned nth = 1; failed; nth++) {
            struct vv_pagetree tree;
            const struct vv_leaf leaf = random_leaf();
            assert_int_equal(vv_pagetree_open(&first, 4000, address, top, &source), VARVE_OK);
            vv_pagetree_copy(&tree, &first);
            after = model;
            varve_status rc = VARVE_OK;
            vv_alloc_fail_at(nth);
            switch (kind) {
            case 0:
                rc = vv_pagetree_set(&tree, 5 * 256 + 7, &leaf);
                after.leaves[5 * 256 + 7] = leaf;
                break;
            case 1:
                rc = vv_pagetree_set(&tree, 700, NULL);
                memset(&after.leaves[700], 0, sizeof after.leaves[700]);
                break;
            case 2:
                rc = vv_pagetree_locate(&tree, 700, 42);
                after.leaves[700].locator = 42;
                break;
            case 3:
                rc = vv_pagetree_resize(&tree, 5000);
                after.page_count = 5000;
                break;
            default:
                rc = vv_pagetree_resize(&tree, 250);
                after.page_count = 250;
                memset(&after.leaves[250], 0, (MODEL_PAGES - 250) * sizeof after.leaves[0]);
            }
            failed = vv_alloc_disarm();
            assert_int_equal(rc, failed ? VARVE_MEMORY : VARVE_OK);
            assert_same(&tree, failed ? &model : &after);
            assert_same(&first, &model);
            vv_pagetree_release(&tree);
            vv_pagetree_release(&first);
            assert_true(failed || nth > (kind == 3 ? 1 : 4));
        }
    }
    vv_bytes_release(&shelf.bytes);
}

/* ---- Threads ---------------------------------------------------------------------------------- */

enum { THREADS = 4 };

struct race {
    const struct vv_pagetree *shared; /* read by all at once */
    struct vv_pagetree own;           /* shares its nodes; changed by this thread */
    const struct model *model;
    pthread_barrier_t *start;
    uint64_t seed;
    bool right;
};

static void *race(void *context)
{
    struct race *r = context;

    r->right = true;
    (void)pthread_barrier_wait(r->start);
    for (unsigned i = 0; i < 20000; i++) {
        struct vv_leaf leaf;
        bool present = false;
        r->seed = r->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        const uint64_t index = (r->seed >> 33) % r->model->page_count;
        if (vv_pagetree_get(r->shared, index, &leaf, &present) != VARVE_OK ||
            present != is_present(r->model, index) ||
            (present && !vv_hash_equal(leaf.hash, r->model->leaves[index].hash)))
            r->right = false;
        if (!present)
            leaf = (struct vv_leaf){ .hash = { 1 }, .locator = r->seed };
        if (i % 16 == 0 && vv_pagetree_set(&r->own, index, i % 32 == 0 ? &leaf : NULL) != VARVE_OK)
            r->right = false;
    }
    return NULL;
}

/* One tree just opened, read by four threads at once, each of which also changes a tree that shares its nodes. */
static void threads_load_the_same_nodes_at_once(void **state)
{
    static struct model model;
    struct shelf shelf = { .bytes = VV_BYTES_NONE };
    const struct vv_node_source source = shelf_source(&shelf);
    struct vv_pagetree tree;
    uint8_t top[VV_HASH_SIZE];
    uint64_t address = 0;

    (void)state;
    memset(&model, 0, sizeof model);
    model.page_count = MODEL_PAGES;
    vv_pagetree_init(&tree, MODEL_PAGES, &source);
    for (uint64_t i = 0; i < MODEL_PAGES; i += 1 + chance(4)) {
        model.leaves[i] = random_leaf();
        assert_int_equal(vv_pagetree_set(&tree, i, &model.leaves[i]), VARVE_OK);
    }
    assert_int_equal(vv_pagetree_save(&tree, shelf_write, &shelf, &address), VARVE_OK);
    assert_int_equal(vv_pagetree_top(&tree, top), VARVE_OK);
    vv_pagetree_release(&tree);
    for (int round = 0; round < 5; round++) {
        struct race races[THREADS];
        pthread_t threads[THREADS];
        pthread_barrier_t start;
        assert_int_equal(pthread_barrier_init(&start, NULL, THREADS), 0);
        assert_int_equal(vv_pagetree_open(&tree, MODEL_PAGES, address, top, &source), VARVE_OK);
        for (unsigned i = 0; i < THREADS; i++) {
            struct vv_leaf leaf;
            bool present = false;
            races[i] = (struct race){ .shared = &tree, .model = &model, .start = &start, .seed = i + 1 };
            assert_int_equal(vv_pagetree_get(&tree, 0, &leaf, &present), VARVE_OK); /* so that copies share */
            vv_pagetree_copy(&races[i].own, &tree);
        }
        for (unsigned i = 0; i < THREADS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, race, &races[i]), 0);
        for (unsigned i = 0; i < THREADS; i++) {
            assert_int_equal(pthread_join(threads[i], NULL), 0);
            assert_true(races[i].right);
            vv_pagetree_release(&races[i].own);
        }
        assert_same(&tree, &model);
        vv_pagetree_release(&tree);
        (void)pthread_barrier_destroy(&start);
    }
    vv_bytes_release(&shelf.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_follow_from_the_page_count),
        cmocka_unit_test(a_tree_is_the_flat_array_after_every_step),
        cmocka_unit_test(versions_do_not_disturb_each_other),
        cmocka_unit_test(a_way_goes_on_after_failed_allocations),
        cmocka_unit_test(the_root_does_not_depend_on_the_order),
        cmocka_unit_test(the_length_is_part_of_the_root),
        cmocka_unit_test(a_page_beyond_the_end_is_misuse),
        cmocka_unit_test(the_last_page_of_the_longest_memory_is_kept),
        cmocka_unit_test(a_difference_is_what_comparing_page_by_page_finds),
        cmocka_unit_test(a_saved_tree_opens_to_the_same),
        cmocka_unit_test(a_difference_of_saved_trees_reads_only_what_differs),
        cmocka_unit_test(a_save_that_failed_is_forgotten),
        cmocka_unit_test(a_damaged_node_is_found),
        cmocka_unit_test(a_failed_allocation_leaves_the_tree_as_it_was),
        cmocka_unit_test(threads_load_the_same_nodes_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
