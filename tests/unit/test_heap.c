/* Memory for C programs, on the public header alone: structures with pointers inside, at addresses that they keep. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "scratch.h"
#include "varve.h"

enum { MIB = 1 << 20, PAGE = 4096 };
#define HERE ((uint8_t *)UINT64_C(0x210000000000))
#define THERE ((uint8_t *)UINT64_C(0x220000000000))

struct fixture {
    char path[SCRATCH_PATH];
    varve_store *store;
    varve_session *session;
    varve_error error;
};
struct node { /* a list whose links are addresses */
    struct node *next;
    uint64_t value;
};
struct heap {
    struct node *first;
    uint64_t used;
    struct heap *other;
};

static void open_store(struct fixture *f)
{
    const varve_store_options options = { .size = sizeof options, .flags = VARVE_STORE_CREATE };

    assert_int_equal(varve_store_open(f->path, &options, &f->store, &f->error), VARVE_OK);
}

static void begin(struct fixture *f)
{
    assert_int_equal(varve_session_begin(f->store, NULL, &f->session, &f->error), VARVE_OK);
}

static void abort_session(struct fixture *f)
{
    varve_session_abort(f->session);
    f->session = NULL;
}

static void reopen(struct fixture *f)
{
    abort_session(f);
    varve_store_close(f->store);
    open_store(f);
    begin(f);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    scratch_new(f->path);
    open_store(f);
    begin(f);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    varve_session_abort(f->session);
    varve_store_close(f->store);
    scratch_remove(f->path);
    free(f);
    return 0;
}

static varve_status try_image(struct fixture *f, varve_session *session, const char *name, void *address,
                              uint64_t create, uint64_t reserve, varve_image **image)
{
    const varve_image_options options = {
        .size = sizeof options, .name = name, .create_size = create, .reserve = reserve, .address = address
    };
    varve_module_id id;

    assert_int_equal(varve_module_id_of(name, &id), VARVE_OK);
    return varve_image_open(session, &id, &options, image, &f->error);
}

static varve_image *image_at(struct fixture *f, const char *name, void *address)
{
    varve_image *image = NULL;
    const varve_status rc = try_image(f, f->session, name, address, MIB, 16 * MIB, &image);

    if (rc != VARVE_OK)
        fail_msg("%s: %s", name, f->error.message);
    if (address != NULL)
        assert_ptr_equal(varve_image_bytes(image), address);
    return image;
}

static void commit(struct fixture *f, uint32_t flags, varve_durability durability)
{
    const varve_commit_options options = { .size = sizeof options, .flags = flags, .durability = durability };

    if (varve_session_commit(f->session, &options, NULL, &f->error) != VARVE_OK)
        fail_msg("commit: %s", f->error.message);
    if ((flags & VARVE_COMMIT_CHAIN) == 0)
        begin(f);
}

static void push(struct heap *heap, uint64_t value)
{
    if (heap->used == 0)
        heap->used = sizeof *heap;
    struct node *node = (struct node *)((uint8_t *)heap + heap->used);
    heap->used += sizeof *node;
    *node = (struct node){ .next = heap->first, .value = value };
    heap->first = node;
}

static uint64_t sum(const struct heap *heap)
{
    uint64_t total = 0;

    for (const struct node *node = heap->first; node != NULL; node = node->next)
        total += node->value;
    return total;
}

static void pointers_stay_good_across_sessions_and_openings(void **state)
{
    struct fixture *f = *state;
    struct heap *heap = NULL;
    uint64_t expected = 0;

    for (uint64_t round = 1; round <= 12; round++) {
        heap = varve_image_bytes(image_at(f, "heap", HERE));
        assert_int_equal(sum(heap), expected);
        for (uint64_t i = 0; i < 1000; i++)
            push(heap, round * i);
        expected += round * 499500;
        commit(f, round % 3 == 0 ? VARVE_COMMIT_CHAIN : 0, VARVE_DURABLE);
        if (round % 4 == 0)
            reopen(f);
    }
    heap = varve_image_bytes(image_at(f, "heap", HERE));
    assert_int_equal(sum(heap), expected);
}

static void images_point_at_each_other_and_change_in_one_commit(void **state)
{
    struct fixture *f = *state;
    struct heap *a = varve_image_bytes(image_at(f, "a", HERE));
    struct heap *b = varve_image_bytes(image_at(f, "b", THERE));

    a->other = b;
    b->other = a;
    push(a, 1);
    push(b, 2);
    b->first->next = a->first; /* from one image into the other */
    commit(f, 0, VARVE_DURABLE);
    reopen(f);
    a = varve_image_bytes(image_at(f, "a", HERE));
    assert_ptr_equal(a->other, THERE);
    b = varve_image_bytes(image_at(f, "b", THERE));
    assert_ptr_equal(b->other, a);
    assert_int_equal(sum(b), 3);
    /* What is not committed goes from both. */
    push(a, 100);
    push(b, 100);
    abort_session(f);
    begin(f);
    a = varve_image_bytes(image_at(f, "a", HERE));
    b = varve_image_bytes(image_at(f, "b", THERE));
    assert_int_equal(sum(a), 1);
    assert_int_equal(sum(b), 3);
}

static void a_heap_grows_where_it_is(void **state)
{
    struct fixture *f = *state;
    varve_image *image = image_at(f, "heap", HERE);
    uint32_t savepoint = 0;

    for (uint64_t size = 2 * MIB; size <= 16 * MIB; size += 2 * MIB) {
        assert_int_equal(varve_image_grow(image, size, &f->error), VARVE_OK);
        HERE[size - 1] = (uint8_t)(size / MIB);
        commit(f, VARVE_COMMIT_CHAIN, VARVE_BUFFERED);
    }
    assert_int_equal(varve_image_grow(image, 16 * MIB + PAGE, &f->error), VARVE_LIMIT);
    assert_int_equal(varve_image_size(image), 16 * MIB);
    reopen(f);
    /* Growth goes back with a savepoint, and what comes anew is zero. */
    varve_image *other = image_at(f, "other", THERE);
    assert_int_equal(varve_session_savepoint(f->session, &savepoint, &f->error), VARVE_OK);
    assert_int_equal(varve_image_grow(other, 2 * MIB, &f->error), VARVE_OK);
    THERE[2 * MIB - 1] = 9;
    assert_int_equal(varve_session_rollback(f->session, savepoint, &f->error), VARVE_OK);
    assert_int_equal(varve_image_size(other), MIB);
    assert_int_equal(varve_image_grow(other, 2 * MIB, &f->error), VARVE_OK);
    assert_int_equal(THERE[2 * MIB - 1], 0);
    assert_ptr_equal(varve_image_bytes(image_at(f, "heap", HERE)), HERE);
    for (uint64_t size = 2 * MIB; size <= 16 * MIB; size += 2 * MIB)
        assert_int_equal(HERE[size - 1], size / MIB);
    /* One that is larger than what may be reserved for it is refused, not cut. */
    reopen(f);
    varve_image *none = NULL;
    assert_int_equal(try_image(f, f->session, "heap", HERE, 0, 4 * MIB, &none), VARVE_LIMIT);
    assert_ptr_equal(varve_image_bytes(image_at(f, "heap", HERE)), HERE);
}

static void an_address_is_one_images_at_a_time(void **state)
{
    struct fixture *f = *state;
    varve_session *second = NULL;
    varve_image *image = NULL;

    push(varve_image_bytes(image_at(f, "heap", HERE)), 7);
    commit(f, 0, VARVE_DURABLE);
    (void)image_at(f, "heap", HERE);
    assert_int_equal(varve_session_begin(f->store, NULL, &second, &f->error), VARVE_OK);
    assert_int_equal(try_image(f, second, "heap", HERE, 0, 16 * MIB, &image), VARVE_HOST_LIMIT);
    assert_non_null(strstr(f->error.message, "something else is there"));
    assert_int_equal(try_image(f, second, "heap", NULL, 0, 16 * MIB, &image), VARVE_OK); /* to look at it */
    assert_int_equal(try_image(f, second, "heap", THERE, 0, 16 * MIB, &image), VARVE_HOST_LIMIT);
    assert_non_null(strstr(f->error.message, "another address"));
    varve_session_abort(second);
    /* A warm one is not in the way: neither of the same image, nor of another, nor where they overlap. */
    abort_session(f);
    begin(f);
    assert_int_equal(sum(varve_image_bytes(image_at(f, "heap", HERE))), 7);
    abort_session(f);
    begin(f);
    (void)image_at(f, "wanderer", HERE);
    abort_session(f);
    begin(f);
    assert_int_equal(try_image(f, f->session, "heap", HERE - 4 * MIB, 0, 16 * MIB, &image), VARVE_OK);
    abort_session(f);
    begin(f);
    assert_int_equal(sum(varve_image_bytes(image_at(f, "heap", HERE))), 7);
}

static void what_was_removed_for_good_gives_its_place_up(void **state)
{
    struct fixture *f = *state;
    varve_module_id id;
    uint32_t savepoint = 0;
    uint64_t word = 0;

    /* Made after a savepoint, taken back, made again. */
    assert_int_equal(varve_session_savepoint(f->session, &savepoint, &f->error), VARVE_OK);
    varve_image *first = image_at(f, "heap", HERE);
    push((struct heap *)HERE, 1);
    assert_int_equal(varve_session_rollback(f->session, savepoint, &f->error), VARVE_OK);
    assert_int_equal(varve_image_read(first, 0, &word, sizeof word, &f->error), VARVE_MISUSE);
    varve_image *again = image_at(f, "heap", HERE);
    assert_int_equal(sum((struct heap *)HERE), 0);
    assert_null(varve_image_bytes(first));
    assert_int_equal(varve_image_size(first), 0);
    assert_int_equal(varve_image_read(first, 0, &word, sizeof word, &f->error), VARVE_MISUSE);
    assert_int_equal(varve_image_read(again, 0, &word, sizeof word, &f->error), VARVE_OK);
    assert_int_equal(varve_session_release(f->session, savepoint, &f->error), VARVE_OK);
    push((struct heap *)HERE, 2);
    commit(f, VARVE_COMMIT_CHAIN, VARVE_DURABLE);
    /* Removed under a savepoint it may come back, so its place is taken; without one it is free. */
    assert_int_equal(varve_module_id_of("heap", &id), VARVE_OK);
    assert_int_equal(varve_session_savepoint(f->session, &savepoint, &f->error), VARVE_OK);
    assert_int_equal(varve_session_remove(f->session, &id, &f->error), VARVE_OK);
    assert_int_equal(try_image(f, f->session, "new", HERE, MIB, 16 * MIB, &first), VARVE_HOST_LIMIT);
    assert_int_equal(varve_session_rollback(f->session, savepoint, &f->error), VARVE_OK);
    assert_int_equal(sum((struct heap *)HERE), 2);
    assert_int_equal(varve_session_release(f->session, savepoint, &f->error), VARVE_OK);
    assert_int_equal(varve_session_remove(f->session, &id, &f->error), VARVE_OK);
    (void)image_at(f, "new", HERE);
    push((struct heap *)HERE, 3);
    commit(f, 0, VARVE_DURABLE);
    assert_int_equal(sum(varve_image_bytes(image_at(f, "new", HERE))), 3);
}

/* Plain stores through old pointers, no word to the session: each commit has what was there, each rollback undoes. */
static void chained_sessions_see_every_store(void **state)
{
    struct fixture *f = *state;
    struct heap *heap = varve_image_bytes(image_at(f, "heap", HERE));
    uint64_t expected = 0;

    for (uint64_t i = 1; i <= 60; i++) {
        uint32_t savepoint = 0;
        push(heap, i);
        expected += i;
        if (i % 5 == 0) {
            assert_int_equal(varve_session_savepoint(f->session, &savepoint, &f->error), VARVE_OK);
            for (int k = 0; k < 300; k++)
                push(heap, 1000);
            assert_int_equal(varve_session_rollback(f->session, savepoint, &f->error), VARVE_OK);
        }
        assert_int_equal(sum(heap), expected);
        commit(f, VARVE_COMMIT_CHAIN, i % 7 == 0 ? VARVE_DURABLE : VARVE_BUFFERED);
        if (i % 20 == 0) { /* every commit since holds its own sum */
            varve_session *old = NULL;
            varve_commit *at = NULL;
            varve_session_options options = VARVE_INIT(varve_session_options);
            varve_image *image = NULL;
            assert_int_equal(varve_commit_open(f->store, "main~9", &at, &f->error), VARVE_OK);
            options.base = at;
            options.flags = VARVE_SESSION_READ_ONLY;
            assert_int_equal(varve_session_begin(f->store, &options, &old, &f->error), VARVE_OK);
            assert_int_equal(try_image(f, old, "heap", NULL, 0, 16 * MIB, &image), VARVE_OK);
            const struct heap *then = varve_image_bytes(image);
            assert_int_equal(then->used, sizeof *heap + (i - 9) * sizeof(struct node));
            varve_session_abort(old);
            varve_commit_close(at);
        }
    }
    assert_int_equal(varve_store_persist(f->store, &f->error), VARVE_OK);
    reopen(f);
    assert_int_equal(sum(varve_image_bytes(image_at(f, "heap", HERE))), expected);
}

#define ON_STORE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_STORE(pointers_stay_good_across_sessions_and_openings),
        ON_STORE(images_point_at_each_other_and_change_in_one_commit),
        ON_STORE(a_heap_grows_where_it_is),
        ON_STORE(an_address_is_one_images_at_a_time),
        ON_STORE(what_was_removed_for_good_gives_its_place_up),
        ON_STORE(chained_sessions_see_every_store),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
