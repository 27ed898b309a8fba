/* The history in memory that flat, chain and tree share (store/plain): look-ups, refs, holds, retention, and as bytes;
 * saved nodes and sparse memories. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "scratch.h"
#include "store/plain/memfile.h"
#include "store/plain/nodefile.h"
#include "store/plain/plain.h"

struct fixture {
    struct vv_plain plain; /* a place of its own */
    char root[SCRATCH_PATH];
    struct vv_dir dir;
};

static struct vv_place *place_of(struct fixture *f)
{
    return (struct vv_place *)(void *)&f->plain;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    vv_plain_init(&f->plain);
    scratch_new(f->root);
    assert_int_equal(vv_dir_open(&vv_vfs_system, f->root, &f->dir), VARVE_OK);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    vv_dir_close(&f->dir);
    vv_plain_release(&f->plain);
    scratch_remove(f->root);
    free(f);
    return 0;
}

static varve_commit_id id_of(unsigned n)
{
    varve_commit_id id = { { 0 } };

    id.bytes[0] = (uint8_t)n;
    id.bytes[1] = (uint8_t)(n >> 8);
    id.bytes[31] = 1;
    return id;
}

/* Commit n on commit `parent` (0: none); states repeat every tenth commit. */
static void add(struct vv_plain *plain, unsigned n, unsigned parent)
{
    struct vv_module_change module = { .id = { { (uint8_t)n } }, .page_count = n };
    struct vv_change change = {
        .facts = { .id = id_of(n),
                   .time_ns = -(int64_t)n,
                   .message = (char *)"m",
                   .branch = (char *)"main",
                   .engine = (char *)"",
                   .modules = n,
                   .modules_changed = 1,
                   .pages_changed = n },
        .modules = &module,
        .module_count = 1,
    };
    struct vv_plain_commit *commit = NULL;

    change.facts.root.bytes[0] = (uint8_t)(n % 10 + 1);
    if (parent != 0)
        change.facts.parent = id_of(parent);
    assert_int_equal(vv_plain_commit_new(&change, &commit), VARVE_OK);
    vv_bytes_u8(&commit->own, (uint8_t)n);
    assert_int_equal(vv_plain_room(plain, 1, 0), VARVE_OK);
    vv_plain_add(plain, commit);
}

static void move(struct vv_plain *plain, const char *name, unsigned to)
{
    const varve_commit_id id = id_of(to);
    struct vv_ref_move move = { .to = to == 0 ? NULL : &id, .what = "commit", .force = true };

    (void)snprintf(move.name, sizeof move.name, "%s", name);
    assert_int_equal(vv_plain_check_move(plain, &move, NULL), VARVE_OK);
    assert_int_equal(vv_plain_room(plain, 0, 1), VARVE_OK);
    vv_plain_put_move(plain, &move, to);
}

/* A line of `count`, main at its end. */
static void make_line(struct vv_plain *plain, unsigned count)
{
    for (unsigned n = 1; n <= count; n++) {
        add(plain, n, n - 1);
        move(plain, "main", n);
    }
}

static void commits_are_found(void **state)
{
    struct fixture *f = *state;
    struct vv_commit_facts facts;
    varve_commit_id found[2], id = id_of(7);
    size_t count = 0;

    make_line(&f->plain, 300);
    assert_int_equal(vv_plain_find_id(place_of(f), id.bytes, 64, found, &count), VARVE_OK);
    assert_int_equal(count, 1);
    assert_int_equal(vv_plain_find_id(place_of(f), id.bytes, 4, found, &count), VARVE_OK);
    assert_int_equal(count, 1); /* 0700 */
    assert_int_equal(vv_plain_find_id(place_of(f), id.bytes, 2, found, &count), VARVE_OK);
    assert_int_equal(count, 2); /* 0701 too */
    assert_int_equal(vv_plain_find_id(place_of(f), id.bytes, 1, found, &count), VARVE_OK);
    assert_int_equal(count, 2);
    assert_int_equal(vv_plain_facts(place_of(f), &id, &facts), VARVE_OK);
    assert_int_equal(facts.number, 7);
    assert_int_equal(facts.locator, 7);
    assert_int_equal(vv_plain_find_root(place_of(f), facts.root.bytes, 64, found, &count), VARVE_OK);
    assert_int_equal(count, 1);
    id = id_of(297); /* the newest with that root */
    assert_memory_equal(&found[0], &id, sizeof id);
    vv_commit_facts_release(&facts);
    assert_int_equal(vv_plain_find_number(place_of(f), 300, found), VARVE_OK);
    assert_int_equal(vv_plain_find_number(place_of(f), 301, found), VARVE_NOT_FOUND);
    assert_int_equal(vv_plain_find_number(place_of(f), 0, found), VARVE_NOT_FOUND);
    assert_int_equal(vv_plain_last_number(place_of(f)), 300);
}

static void removed_commits_are_stepped_over(void **state)
{
    struct fixture *f = *state;
    const varve_commit_id ids[] = { id_of(3), id_of(4) };
    const varve_commit_id head = id_of(9), never = id_of(77);
    varve_commit_id found;

    make_line(&f->plain, 9);
    assert_int_equal(vv_plain_check_removal(&f->plain, &head, 1), VARVE_MISUSE);
    assert_int_equal(vv_plain_check_removal(&f->plain, &never, 1), VARVE_NOT_FOUND);
    assert_int_equal(vv_plain_check_removal(&f->plain, ids, 2), VARVE_OK);
    vv_plain_remove(&f->plain, ids, 2);
    assert_int_equal(vv_plain_check_removal(&f->plain, ids, 1), VARVE_NOT_FOUND);
    assert_int_equal(vv_plain_ancestor(place_of(f), &ids[1], &found), VARVE_OK);
    const varve_commit_id second = id_of(2);
    assert_memory_equal(&found, &second, sizeof found);
    assert_int_equal(vv_plain_ancestor(place_of(f), &never, &found), VARVE_OK);
    assert_memory_equal(&found, &never, sizeof found); /* its own answer */
    assert_int_equal(f->plain.live_count, 7);
    add(&f->plain, 3, 2); /* made again: another number */
    struct vv_commit_facts facts;
    assert_int_equal(vv_plain_facts(place_of(f), &ids[0], &facts), VARVE_OK);
    assert_int_equal(facts.number, 10);
    vv_commit_facts_release(&facts);
    vv_plain_commit_free(
        vv_plain_take_back(&f->plain)); /* it never came to be: the tombstone is what there is */
    assert_int_equal(vv_plain_facts(place_of(f), &ids[0], &facts), VARVE_NOT_FOUND);
    assert_true(vv_plain_commit_of(&f->plain, &ids[0])->removed);
    assert_int_equal(vv_plain_last_number(place_of(f)), 9);
}

static void refs_have_logs(void **state)
{
    struct fixture *f = *state;
    struct vv_ref_facts ref;
    struct vv_move_facts told;

    make_line(&f->plain, 3);
    move(&f->plain, "tags/a", 2);
    move(&f->plain, "main", 1);
    move(&f->plain, "tags/a", 0);
    assert_int_equal(vv_plain_ref_get(place_of(f), "tags/a", &ref), VARVE_NOT_FOUND);
    assert_int_equal(vv_plain_ref_move(place_of(f), "tags/a", 0, &told), VARVE_OK); /* its log stays */
    assert_true(vv_id_is_zero(&told.to));
    assert_int_equal(vv_plain_ref_move(place_of(f), "tags/a", told.previous, &told), VARVE_OK);
    assert_int_equal(told.previous, 0);
    assert_int_equal(vv_plain_ref_next(place_of(f), NULL, &ref), VARVE_OK);
    assert_string_equal(ref.name, "main");
    assert_int_equal(ref.moves, 4);
    assert_int_equal(vv_plain_ref_next(place_of(f), "main", &ref), VARVE_END);
    assert_int_equal(vv_plain_ref_move(place_of(f), "nobody", 0, &told), VARVE_END);

    const varve_commit_id one = id_of(1), two = id_of(2), never = id_of(50);
    struct vv_ref_move wrong = { .name = "main", .expected = &two, .to = &one, .what = "commit" };
    assert_int_equal(vv_plain_check_move(&f->plain, &wrong, NULL), VARVE_CONFLICT);
    wrong.expected = NULL; /* it must not be there */
    assert_int_equal(vv_plain_check_move(&f->plain, &wrong, NULL), VARVE_CONFLICT);
    wrong.expected = &one;
    assert_int_equal(vv_plain_check_move(&f->plain, &wrong, NULL), VARVE_OK);
    wrong.to = &never;
    assert_int_equal(vv_plain_check_move(&f->plain, &wrong, NULL), VARVE_NOT_FOUND);
    assert_int_equal(vv_plain_check_move(&f->plain, &wrong, &never), VARVE_OK); /* that which is being made */
    assert_int_equal(vv_plain_check_line("main", "chain"), VARVE_OK);
    assert_int_equal(vv_plain_check_line("tags/x", "chain"), VARVE_OK);
    assert_int_equal(vv_plain_check_line("side", "chain"), VARVE_UNSUPPORTED);
    assert_non_null(strstr(vv_words(), "tree and journal"));

    move(&f->plain, "tags/b", 2);
    vv_plain_take_back_move(&f->plain);
    assert_int_equal(vv_plain_ref_get(place_of(f), "tags/b", &ref), VARVE_NOT_FOUND);
    assert_int_equal(vv_plain_ref_move(place_of(f), "tags/b", 0, &told), VARVE_END);
}

static void the_oldest_hold_counts(void **state)
{
    struct fixture *f = *state;
    const varve_commit_id one = id_of(1), two = id_of(2);

    make_line(&f->plain, 4);
    assert_int_equal(vv_plain_oldest_hold(&f->plain), UINT64_MAX);
    const uint64_t first = vv_plain_hold(place_of(f));
    vv_plain_remove(&f->plain, &one, 1);
    const uint64_t second = vv_plain_hold(place_of(f));
    vv_plain_remove(&f->plain, &two, 1);
    assert_true(first < second);
    assert_int_equal(vv_plain_oldest_hold(&f->plain), first);
    assert_true(first < vv_plain_commit_of(&f->plain, &one)->removed_in);
    assert_false(second < vv_plain_commit_of(&f->plain, &one)->removed_in); /* it began after that */
    vv_alloc_fail_at(1); /* for want of memory a hold keeps everything */
    vv_plain_drop(place_of(f), first);
    const uint64_t third = vv_plain_hold(place_of(f));
    (void)vv_alloc_disarm();
    vv_plain_drop(place_of(f), second);
    vv_plain_drop(place_of(f), third);
    assert_int_equal(vv_plain_oldest_hold(&f->plain), UINT64_MAX);
}

static void retention_keeps_the_newest_of_each_ref(void **state)
{
    struct fixture *f = *state;
    varve_commit_id *ids = NULL;
    size_t count = 0;

    make_line(&f->plain, 10);
    move(&f->plain, "tags/old", 2);
    add(&f->plain, 11, 5);
    move(&f->plain, "side", 11);
    const varve_commit_id gone = id_of(9);
    vv_plain_remove(&f->plain, &gone, 1); /* it does not count as one of those that stay */
    assert_int_equal(vv_plain_victims(&f->plain, 0, &ids, &count), VARVE_OK);
    assert_int_equal(count, 0);
    assert_int_equal(vv_plain_victims(&f->plain, 2, &ids, &count), VARVE_OK);
    /* 10 and 8 of main, 11 and 5 of side, 2 by its tag: the rest goes. */
    const unsigned wanted[] = { 1, 3, 4, 6, 7 };
    assert_int_equal(count, sizeof wanted / sizeof *wanted);
    for (size_t i = 0; i < count; i++) {
        const varve_commit_id id = id_of(wanted[i]);
        assert_memory_equal(&ids[i], &id, sizeof id);
    }
    vv_free(ids);
}

/* All of it as bytes, read back into another. */
static void a_history_survives_as_bytes(void **state)
{
    struct fixture *f = *state;
    struct fixture other = { .plain = { .commit_count = 0 } };
    struct vv_bytes bytes = VV_BYTES_NONE, again = VV_BYTES_NONE;
    struct vv_reader payload;
    uint64_t sequence = 5, at = 5, last = 5;
    uint32_t kind = 0;

    make_line(&f->plain, 20);
    move(&f->plain, "tags/a", 7);
    move(&f->plain, "tags/a", 0);
    const varve_commit_id gone = id_of(9);
    vv_plain_remove(&f->plain, &gone, 1);
    vv_plain_encode_all(&f->plain, &sequence, &bytes);
    assert_int_equal(vv_bytes_done(&bytes), VARVE_OK);
    vv_plain_init(&other.plain);
    struct vv_reader reader = vv_reader_of(bytes.data, bytes.size);
    while (vv_plain_unframe(&reader, at, &kind, &payload)) {
        assert_int_equal(vv_plain_apply(&other.plain, kind, payload, NULL), VARVE_OK);
        at++;
    }
    assert_int_equal(at, sequence);
    assert_int_equal(vv_reader_left(&reader), 0);
    vv_plain_encode_all(&other.plain, &last, &again);
    assert_int_equal(again.size, bytes.size);
    assert_memory_equal(again.data, bytes.data, bytes.size);
    assert_int_equal(other.plain.live_count, 19);
    vv_plain_release(&other.plain);
    vv_bytes_release(&bytes);
    vv_bytes_release(&again);
}

/* Every byte matters, and its place in the sequence too. */
static void no_damaged_record_is_taken(void **state)
{
    struct fixture *f = *state;
    struct vv_bytes bytes = VV_BYTES_NONE;
    struct vv_reader payload;
    uint64_t sequence = 0;
    uint32_t kind = 0;

    add(&f->plain, 1, 0);
    vv_plain_encode_all(&f->plain, &sequence, &bytes);
    for (size_t i = 0; i < bytes.size; i++)
        for (unsigned bit = 0; bit < 8; bit++) {
            bytes.data[i] ^= (uint8_t)(1u << bit);
            struct vv_reader reader = vv_reader_of(bytes.data, bytes.size);
            assert_false(vv_plain_unframe(&reader, 0, &kind, &payload));
            assert_int_equal(reader.offset, 0);
            bytes.data[i] ^= (uint8_t)(1u << bit);
        }
    for (size_t size = 0; size < bytes.size; size++) {
        struct vv_reader reader = vv_reader_of(bytes.data, size);
        assert_false(vv_plain_unframe(&reader, 0, &kind, &payload));
    }
    struct vv_reader reader = vv_reader_of(bytes.data, bytes.size);
    assert_false(vv_plain_unframe(&reader, 1, &kind, &payload));
    assert_true(vv_plain_unframe(&reader, 0, &kind, &payload));
    /* The same commit once more, and what is no record, are refused. */
    assert_int_equal(vv_plain_apply(&f->plain, kind, payload, NULL), VARVE_CORRUPT);
    assert_int_equal(vv_plain_apply(&f->plain, 9, payload, NULL), VARVE_CORRUPT);
    for (size_t size = 0; size < payload.size; size++) {
        struct vv_plain empty;
        vv_plain_init(&empty);
        assert_int_equal(vv_plain_apply(&empty, VV_PLAIN_COMMIT, vv_reader_of(payload.data, size), NULL),
                         VARVE_CORRUPT);
        vv_plain_release(&empty);
    }
    vv_bytes_release(&bytes);
}

static void named_values_survive_as_bytes(void **state)
{
    struct vv_state from, to;
    struct vv_bytes bytes = VV_BYTES_NONE;

    (void)state;
    assert_int_equal(vv_state_init(&from, NULL, NULL), VARVE_OK);
    for (unsigned filled = 0; filled < 2; filled++) {
        vv_bytes_clear(&bytes);
        vv_plain_encode_meta(&from, &bytes);
        assert_int_equal(vv_state_init(&to, NULL, NULL), VARVE_OK);
        struct vv_reader reader = vv_reader_of(bytes.data, bytes.size);
        assert_int_equal(vv_plain_decode_meta(&reader, &to), VARVE_OK);
        assert_int_equal(vv_reader_left(&reader), 0);
        assert_int_equal(to.meta_count, from.meta_count);
        vv_state_release(&to);
        for (size_t size = 0; size < bytes.size; size++) {
            struct vv_reader cut = vv_reader_of(bytes.data, size);
            assert_int_equal(vv_state_init(&to, NULL, NULL), VARVE_OK);
            assert_int_equal(vv_plain_decode_meta(&cut, &to), VARVE_CORRUPT);
            vv_state_release(&to);
        }
        assert_int_equal(vv_state_set_meta(&from, "b", "two", 3), VARVE_OK);
        assert_int_equal(vv_state_set_meta(&from, "a", "1", 1), VARVE_OK);
    }
    vv_state_release(&from);
    vv_bytes_release(&bytes);
}

static void nodes_are_read_while_they_wait_and_after(void **state)
{
    struct fixture *f = *state;
    struct vv_nodefile nodes;
    struct vv_bytes bytes = VV_BYTES_NONE;
    uint64_t addresses[3];

    assert_int_equal(vv_nodefile_create(&f->dir, "nodes", 0, UINT64_C(7) << 40, &nodes), VARVE_OK);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(vv_nodefile_put(&nodes, "node zero" + i, 9 - i, &addresses[i]), VARVE_OK);
        assert_true(addresses[i] > UINT64_C(7) << 40);
        if (i == 1)
            assert_int_equal(vv_nodefile_flush(&nodes), VARVE_OK);
    }
    for (unsigned i = 0; i < 3; i++) {
        vv_bytes_clear(&bytes);
        assert_int_equal(nodes.source.read(nodes.source.context, addresses[i], &bytes), VARVE_OK);
        assert_int_equal(bytes.size, 9 - i);
        assert_memory_equal(bytes.data, "node zero" + i, 9 - i);
        assert_int_equal(nodes.source.read(nodes.source.context, addresses[i] + 1, &bytes), VARVE_CORRUPT);
    }
    assert_int_equal(nodes.source.read(nodes.source.context, 16, &bytes),
                     VARVE_CORRUPT); /* of another file */
    const uint64_t end = nodes.end;
    uint64_t late = 0;
    assert_int_equal(vv_nodefile_put(&nodes, "debris", 6, &late), VARVE_OK);
    vv_nodefile_cut(&nodes, end);
    assert_int_equal(nodes.source.read(nodes.source.context, late, &bytes), VARVE_CORRUPT);
    assert_int_equal(vv_nodefile_put(&nodes, "another", 7, &late), VARVE_OK);
    assert_int_equal(vv_nodefile_flush(&nodes), VARVE_OK);
    assert_int_equal(vv_nodefile_sync(&nodes), VARVE_OK);
    vv_nodefile_close(&nodes);

    assert_int_equal(vv_nodefile_open(&f->dir, "nodes", false, end, 0, &nodes), VARVE_OK);
    assert_int_equal(vv_nodefile_check(&nodes), VARVE_OK);
    vv_nodefile_close(&nodes);
    assert_int_equal(vv_nodefile_open(&f->dir, "nodes", false, end + 1000, 0, &nodes), VARVE_CORRUPT);
    assert_int_equal(vv_nodefile_open(&f->dir, "nodes", false, 3, 0, &nodes), VARVE_CORRUPT);
    struct vv_file file;
    assert_int_equal(vv_file_open(&f->dir, "nodes", VV_OPEN_WRITE, &file), VARVE_OK);
    assert_int_equal(vv_file_write(&file, "x", 1, end - 2), VARVE_OK);
    assert_int_equal(vv_nodefile_open(&f->dir, "nodes", false, 0, 0, &nodes), VARVE_OK);
    assert_int_equal(vv_nodefile_check(&nodes), VARVE_CORRUPT);
    vv_nodefile_close(&nodes);
    assert_int_equal(vv_file_write(&file, "x", 1, 0), VARVE_OK);
    vv_file_close(&file);
    assert_int_equal(vv_nodefile_open(&f->dir, "nodes", false, 0, 0, &nodes), VARVE_CORRUPT);
    vv_bytes_release(&bytes);
}

static void note_bad(void *context, uint64_t index)
{
    uint64_t *bad = context;

    *bad = *bad * 100 + index + 1;
}

static void a_memory_is_a_sparse_file(void **state)
{
    enum { PAGES = 200 };
    struct fixture *f = *state;
    struct vv_pagetree tree;
    struct vv_file file;
    struct vv_memfile_writer writer;
    uint8_t page[VV_PAGE_SIZE], back[VV_PAGE_SIZE];
    const uint8_t *pages[1] = { page };
    uint64_t bad = 0, size = 0, allocated = 0;

    vv_pagetree_init(&tree, PAGES, NULL);
    assert_int_equal(vv_file_open(&f->dir, "memory", VV_OPEN_WRITE | VV_OPEN_CREATE, &file), VARVE_OK);
    assert_int_equal(vv_memfile_begin(&writer, &file), VARVE_OK);
    for (uint64_t i = 0; i < PAGES; i++) {
        struct vv_leaf leaf = { .locator = i + 1 };
        const bool zero = i % 100 >= 90 || i == 3;
        memset(page, (int)i + 1, sizeof page);
        vv_hash_pages(pages, 1, &leaf.hash);
        assert_int_equal(vv_memfile_put(&writer, i, zero ? NULL : page), VARVE_OK);
        if (!zero)
            assert_int_equal(vv_pagetree_set(&tree, i, &leaf), VARVE_OK);
    }
    assert_int_equal(vv_memfile_end(&writer, PAGES), VARVE_OK);
    assert_int_equal(vv_file_size(&file, &size), VARVE_OK);
    assert_int_equal(size, PAGES * VV_PAGE_SIZE);
    assert_int_equal(vv_file_allocated(&file, &allocated), VARVE_OK);
    assert_true(allocated <= (PAGES - 20) * VV_PAGE_SIZE);
    assert_int_equal(vv_memfile_check(&file, &tree, note_bad, &bad), VARVE_OK);
    assert_int_equal(bad, 0);

    struct vv_leaf leaf;
    bool present = false;
    assert_int_equal(vv_pagetree_get(&tree, 7, &leaf, &present), VARVE_OK);
    assert_int_equal(vv_memfile_read(&file, 7, leaf.hash, back), VARVE_OK);
    assert_int_equal(back[0], 8);
    assert_int_equal(vv_memfile_read(&file, 8, leaf.hash, back), VARVE_CORRUPT);
    assert_non_null(strstr(vv_words(), "memory: page 8"));
    assert_int_equal(vv_memfile_read(&file, 3, vv_hash_zero, back), VARVE_OK);
    assert_int_equal(vv_memfile_read(&file, PAGES + 5, vv_hash_zero, back),
                     VARVE_OK); /* beyond the end: zeros */
    assert_int_equal(vv_file_write(&file, "x", 1, 7 * VV_PAGE_SIZE + 9), VARVE_OK);
    assert_int_equal(vv_file_write(&file, "x", 1, 95 * VV_PAGE_SIZE), VARVE_OK); /* in a hole */
    assert_int_equal(vv_memfile_check(&file, &tree, note_bad, &bad), VARVE_OK);
    assert_int_equal(bad, 896);
    vv_file_close(&file);
    vv_pagetree_release(&tree);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(commits_are_found),
        TEST(removed_commits_are_stepped_over),
        TEST(refs_have_logs),
        TEST(the_oldest_hold_counts),
        TEST(retention_keeps_the_newest_of_each_ref),
        TEST(a_history_survives_as_bytes),
        TEST(no_damaged_record_is_taken),
        TEST(named_values_survive_as_bytes),
        TEST(nodes_are_read_while_they_wait_and_after),
        TEST(a_memory_is_a_sparse_file),
    };

    scratch_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
