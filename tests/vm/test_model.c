/* Random nests of calls, traps, growth, savepoints, rollbacks, commits and reopens of two modules, against a model:
 * 0 differences in bytes, lengths, globals and tables. */
#include "vm_world.h"

#include <stdio.h>
#include <stdlib.h>

enum { MODULES = 2, PAGES_MAX = 6, DEPTH_MAX = 6, STEPS = 12000, WASM_PAGE = 65536 };
static const char *const names[MODULES] = { "a", "b" };

struct model_module {
    uint8_t *bytes; /* PAGES_MAX of them */
    uint32_t pages;
    int32_t n;
    uint64_t big;
    double real;
    float single;
    uint32_t wide[4];
    bool swapped;
};

struct model {
    struct model_module modules[MODULES];
};

static uint64_t chance_state = UINT64_C(0x9E3779B97F4A7C15);

static uint32_t chance(uint32_t below)
{
    chance_state ^= chance_state << 13;
    chance_state ^= chance_state >> 7;
    chance_state ^= chance_state << 17;
    return (uint32_t)(chance_state >> 11) % below;
}

static void model_new(struct model *m)
{
    for (size_t i = 0; i < MODULES; i++) {
        m->modules[i] = (struct model_module){
            .pages = 1, .big = UINT64_MAX, .real = 0.5, .single = 1.5f, .wide = { 1, 2, 3, 4 }
        };
        m->modules[i].bytes = calloc(PAGES_MAX, WASM_PAGE);
    }
}

static void model_copy(struct model *to, const struct model *from)
{
    for (size_t i = 0; i < MODULES; i++) {
        uint8_t *bytes = to->modules[i].bytes != NULL ? to->modules[i].bytes : malloc(PAGES_MAX * WASM_PAGE);
        to->modules[i] = from->modules[i];
        to->modules[i].bytes = bytes;
        memcpy(bytes, from->modules[i].bytes, PAGES_MAX * WASM_PAGE);
    }
}

static void model_free(struct model *m)
{
    for (size_t i = 0; i < MODULES; i++)
        free(m->modules[i].bytes);
}

static uint64_t model_digest(const struct model_module *m)
{
    uint64_t real = 0, lanes[2];
    uint32_t single = 0;

    memcpy(&real, &m->real, 8);
    memcpy(&single, &m->single, 4);
    memcpy(lanes, m->wide, 16);
    return (m->big + real) ^ (lanes[0] ^ (lanes[1] ^ single));
}

static uint64_t model_hash(const struct model_module *m)
{
    uint64_t hash = 1, word = 0;

    for (size_t at = 0; at < (size_t)m->pages * WASM_PAGE; at += 8) {
        memcpy(&word, m->bytes + at, 8);
        hash = (hash ^ word) * UINT64_C(1099511628211);
    }
    return hash;
}

/* The differences between one module and its model. With `buffer` the bytes are read from outside, which says that
 * somebody may write them at any time: savepoints then work in another way. */
static int compare(struct world *w, const char *name, const struct model_module *m, uint8_t *buffer)
{
    uint64_t digest = 0, hash = 0;
    int differences = 0;

    differences += world_i32(w, name, "size", 0) != m->pages;
    differences += (int32_t)world_i32(w, name, "n", 0) != m->n;
    assert_ok(w, world_call(w, name, "digest", &digest, ""));
    differences += digest != model_digest(m);
    differences += world_i32(w, name, "call", 1, 0) != (m->swapped ? 2u : 1u);
    differences += world_i32(w, name, "table_size", 0) != 4;
    assert_ok(w, world_call(w, name, "hash", &hash, ""));
    differences += hash != model_hash(m);
    if (buffer != NULL) {
        differences += world_memory(w, name) != (uint64_t)m->pages * WASM_PAGE;
        world_peek(w, name, 0, buffer, (size_t)m->pages * WASM_PAGE);
        differences += memcmp(buffer, m->bytes, (size_t)m->pages * WASM_PAGE) != 0;
    }
    return differences;
}

static void write_some(struct world *w, const char *name, struct model_module *m)
{
    const uint32_t length = m->pages * WASM_PAGE;
    const uint32_t at = chance(length - 600), value = chance(1u << 30), size = chance(600);

    if (chance(2) == 0) {
        world_i32(w, name, "store", 2, at, value);
        memcpy(m->bytes + at, &value, 4);
    } else {
        world_i32(w, name, "fill", 3, at, value & 0xff, size);
        memset(m->bytes + at, (int)(value & 0xff), size);
    }
}

static void increase(struct world *w, const char *name, struct model_module *m)
{
    const int32_t by = (int32_t)chance(100);

    m->n += by;
    m->big *= 3;
    m->real += 0.25;
    m->single *= 1.125f;
    for (uint32_t i = 0; i < 4; i++)
        m->wide[i] += 5 + i;
    assert_int_equal((int32_t)world_i32(w, name, "inc", 1, by), m->n);
}

static void one_call(struct world *w, const char *name, struct model_module *m, bool can_taint, bool *tainted)
{
    switch (chance(9)) {
    case 0:
    case 1:
    case 2:
        write_some(w, name, m);
        break;
    case 3:
        increase(w, name, m);
        break;
    case 4:
        if (m->pages < PAGES_MAX)
            assert_int_equal(world_i32(w, name, "grow", 1, 1), m->pages++);
        break;
    case 5:
        world_i32(w, name, "swap", 0);
        m->swapped = !m->swapped;
        break;
    case 6: /* changes everything, then traps: undone */
        assert_status(w, world_call(w, name, "mess", NULL, "i32 i32 i32", (int)chance(60000), 9, 1),
                      VARVE_TRAP);
        break;
    case 7: /* a query of the same: undone */
        w->flags = VARVE_CALL_QUERY;
        assert_ok(w, world_call(w, name, "mess", NULL, "i32 i32 i32", (int)chance(60000), 9, 0));
        w->flags = 0;
        break;
    default:
        w->flags = VARVE_CALL_UNGUARDED;
        if (can_taint && chance(3) == 0) {
            assert_status(w, world_call(w, name, "mess", NULL, "i32 i32 i32", (int)chance(60000), 9, 1),
                          VARVE_TRAP);
            *tainted = true;
        } else {
            write_some(w, name, m);
        }
        w->flags = 0;
        break;
    }
}

static void play(bool exposed)
{
    struct world w;
    struct model now = { .modules = { { .pages = 0 } } }, *levels = calloc(DEPTH_MAX + 1, sizeof *levels);
    uint8_t *buffer = malloc(PAGES_MAX * WASM_PAGE);
    uint32_t depth = 0, savepoint = 0;
    int differences = 0, rollbacks = 0, reopens = 0, compared = 0;

    world_new(&w);
    world_begin(&w);
    model_new(&now);
    for (size_t i = 0; i < MODULES; i++)
        assert_ok(&w, world_deploy(&w, names[i], "zoo", NULL));
    for (int step = 0; step < STEPS; step++) {
        const uint32_t what = chance(100), which = chance(MODULES);
        bool tainted = false;
        if (what < 80) {
            one_call(&w, names[which], &now.modules[which], depth > 0, &tainted);
        } else if (what < 88 && depth < DEPTH_MAX) {
            assert_ok(&w, varve_session_savepoint(w.session, &savepoint, &w.error));
            assert_int_equal(savepoint, depth + 1);
            model_copy(&levels[++depth], &now);
        } else if (what < 92 && depth > 0) {
            depth -= chance(depth);
            assert_ok(&w, varve_session_release(w.session, depth, &w.error));
            depth--;
        } else if (what >= 98 && depth == 0) {
            world_reopen(&w);
            reopens++;
        }
        if (tainted || (what >= 92 && what < 98 && depth > 0)) {
            depth -= chance(depth);
            assert_ok(&w, varve_session_rollback(w.session, depth, &w.error));
            model_copy(&now, &levels[depth]); /* the savepoint stays */
            rollbacks++;
        }
        if (step % 16 == 0 || tainted) {
            for (size_t i = 0; i < MODULES; i++)
                differences += compare(&w, names[i], &now.modules[i], exposed ? buffer : NULL);
            compared++;
        }
    }
    print_message("%d steps, %d rollbacks, %d reopens, %d comparisons: %d differences\n", STEPS, rollbacks,
                  reopens, compared, differences);
    assert_int_equal(differences, 0);
    assert_true(rollbacks > 100 && reopens > 3);
    world_free(&w);
    model_free(&now);
    for (size_t i = 0; i <= DEPTH_MAX; i++)
        model_free(&levels[i]);
    free(levels);
    free(buffer);
}

static void sessions_with_guests_are_their_model(void **state)
{
    (void)state;
    play(false);
}

static void sessions_whose_memory_is_exposed_are_too(void **state)
{
    (void)state;
    play(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions_with_guests_are_their_model),
        cmocka_unit_test(sessions_whose_memory_is_exposed_are_too),
    };

    return cmocka_run_group_tests_name("vm model", tests, NULL, NULL);
}
