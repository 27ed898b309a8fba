/* Modules that want to harm their host: each is refused or ended with a status, in bounded time and memory, and the
 * session goes on. */
#include "vm_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "base/bytes.h"

enum { RUN_GAS = 20 * 1000 * 1000, SECONDS_MAX = 60 };

/* ---- Building modules ------------------------------------------------------------------------------- */

static void begin(struct vv_bytes *m)
{
    vv_bytes_clear(m);
    vv_bytes_put(m, "\0asm\1\0\0\0", 8);
}

static void put_section(struct vv_bytes *m, uint8_t id, const struct vv_bytes *body)
{
    vv_bytes_u8(m, id);
    vv_bytes_blob(m, body->data, body->size);
}

static void put_text(struct vv_bytes *m, uint8_t id, const char *bytes, size_t size)
{
    vv_bytes_u8(m, id);
    vv_bytes_blob(m, bytes, size);
}
#define TEXT(m, id, text) put_text(m, id, text, sizeof(text) - 1)

static void repeat(struct vv_bytes *out, const char *bytes, size_t size, uint32_t times)
{
    for (uint32_t i = 0; i < times; i++)
        vv_bytes_put(out, bytes, size);
}
#define REPEAT(out, text, times) repeat(out, text, sizeof(text) - 1, times)

/* One function () -> (), exported as "run", with this body (locals included, without the end). */
static void one_function(struct vv_bytes *m, const struct vv_bytes *body)
{
    struct vv_bytes code = VV_BYTES_NONE;

    TEXT(m, 7, "\1\3run\0\0");
    vv_bytes_varint(&code, 1);
    vv_bytes_varint(&code, body->size + 1);
    vv_bytes_put(&code, body->data, body->size);
    vv_bytes_u8(&code, 0x0b);
    put_section(m, 10, &code);
    vv_bytes_release(&code);
}

enum hostile {
    ENDLESS,
    ENDLESS_START,
    RECURSION,
    RECURSION_WITH_FAT_FRAMES,
    MEMORY_OF_4_GIB,
    GROW_AND_TOUCH,
    FILL_4_GIB,
    TABLE_OF_10_MILLION,
    TABLE_OF_4_BILLION,
    TABLE_THAT_GROWS,
    MILLION_FUNCTIONS,
    LOCALS_OF_4_BILLION,
    MILLION_NESTED_BLOCKS,
    BRANCH_TABLE_OF_A_MILLION,
    HUNDRED_BRANCH_TABLES,
    LONG_STRAIGHT_CODE,
    LONG_EXPRESSION,
    MILLION_GLOBALS,
    MANY_EXPORTS,
    MANY_LARGE_TYPES,
    NAME_THAT_IS_NO_TEXT,
    NUMBER_TOO_LONG,
    SECTION_TOO_LONG,
    COUNT_TOO_LARGE,
    MANY_DATA_SEGMENTS,
    HOSTILE_COUNT
};

static void memory(struct vv_bytes *m, uint32_t min, uint32_t max)
{
    struct vv_bytes body = VV_BYTES_NONE;

    vv_bytes_u8(&body, 1);
    vv_bytes_u8(&body, 1);
    vv_bytes_varint(&body, min);
    vv_bytes_varint(&body, max);
    put_section(m, 5, &body);
    vv_bytes_release(&body);
}

static void table(struct vv_bytes *m, uint32_t min)
{
    struct vv_bytes body = VV_BYTES_NONE;

    vv_bytes_put(&body, "\1\x70\0", 3);
    vv_bytes_varint(&body, min);
    put_section(m, 4, &body);
    vv_bytes_release(&body);
}

static void build_small(enum hostile which, struct vv_bytes *m, struct vv_bytes *body)
{
    switch (which) {
    case ENDLESS:
    case ENDLESS_START:
        if (which == ENDLESS_START)
            TEXT(m, 8, "\0");
        REPEAT(body, "\0\3\x40\x0c\0\x0b", 1);
        break;
    case RECURSION:
        REPEAT(body, "\0\x10\0", 1);
        break;
    case RECURSION_WITH_FAT_FRAMES:
        REPEAT(body, "\1\xd0\x86\3\x7e\x10\0", 1); /* 50 000 i64 */
        break;
    case MEMORY_OF_4_GIB:
        memory(m, 65536, 65536);
        REPEAT(body, "\0", 1);
        break;
    case GROW_AND_TOUCH: /* loop: memory.grow 1, store into the new page */
        memory(m, 1, 65536);
        REPEAT(body, "\0\3\x40\x41\1\x40\0\x41\x10\x74\x41\7\x36\0\0\x0c\0\x0b", 1);
        break;
    case FILL_4_GIB:
        memory(m, 65535, 65536);
        REPEAT(body, "\0\x41\0\x41\1\x41\x80\x80\x7c\xfc\x0b\0", 1);
        break;
    case TABLE_OF_10_MILLION:
        table(m, 10000000);
        REPEAT(body, "\0", 1);
        break;
    case TABLE_OF_4_BILLION:
        table(m, UINT32_MAX);
        REPEAT(body, "\0", 1);
        break;
    case TABLE_THAT_GROWS: /* loop: table.grow 100000 */
        table(m, 0);
        REPEAT(body, "\0\3\x40\xd0\x70\x41\xa0\x8d\6\xfc\x0f\0\x1a\x0c\0\x0b", 1);
        break;
    case LOCALS_OF_4_BILLION:
        REPEAT(body, "\1\xff\xff\xff\xff\x0f\x7e", 1);
        break;
    default:
        fail();
    }
}

static void build_large(enum hostile which, struct vv_bytes *m, struct vv_bytes *body)
{
    switch (which) {
    case MILLION_NESTED_BLOCKS:
        REPEAT(body, "\0", 1);
        REPEAT(body, "\2\x40", 1000000);
        REPEAT(body, "\x0b", 1000000);
        break;
    case BRANCH_TABLE_OF_A_MILLION:
        REPEAT(body, "\0\2\x40\x41\0\x0e\xc0\x84\x3d", 1);
        REPEAT(body, "\0", 1000001);
        REPEAT(body, "\x0b", 1);
        break;
    case HUNDRED_BRANCH_TABLES:
        REPEAT(body, "\0", 1);
        for (int i = 0; i < 100; i++) {
            REPEAT(body, "\2\x40\x41\0\x0e\xe0\xd4\3", 1);
            REPEAT(body, "\0", 60001);
            REPEAT(body, "\x0b", 1);
        }
        break;
    case LONG_STRAIGHT_CODE:
        REPEAT(body, "\0", 1);
        REPEAT(body, "\x41\1\x1a", 500000);
        break;
    case LONG_EXPRESSION:
        REPEAT(body, "\0", 1);
        REPEAT(body, "\x41\1", 200000);
        REPEAT(body, "\x6a", 199999);
        REPEAT(body, "\x1a", 1);
        break;
    default:
        build_small(which, m, body);
    }
}

/* Modules that are more than one function. */
static bool build_odd(enum hostile which, struct vv_bytes *m, struct vv_bytes *part)
{
    char name[16];

    switch (which) {
    case MILLION_FUNCTIONS:
        TEXT(m, 1, "\1\x60\0\0");
        vv_bytes_varint(part, 1000000);
        REPEAT(part, "\0", 1000000);
        put_section(m, 3, part);
        vv_bytes_clear(part);
        vv_bytes_varint(part, 1000000);
        REPEAT(part, "\2\0\x0b", 1000000);
        put_section(m, 10, part);
        return true;
    case MILLION_GLOBALS:
        vv_bytes_varint(part, 1000000);
        REPEAT(part, "\x7e\1\x42\0\x0b", 1000000);
        put_section(m, 6, part);
        return true;
    case MANY_EXPORTS:
        TEXT(m, 1, "\1\x60\0\0");
        TEXT(m, 3, "\1\0");
        vv_bytes_varint(part, 200000);
        for (int i = 0; i < 200000; i++) {
            (void)snprintf(name, sizeof name, "%06d", i);
            vv_bytes_blob(part, name, 6);
            vv_bytes_put(part, "\0\0", 2);
        }
        put_section(m, 7, part);
        TEXT(m, 10, "\1\2\0\x0b");
        return true;
    case MANY_LARGE_TYPES:
        vv_bytes_varint(part, 10000);
        for (int i = 0; i < 10000; i++) {
            REPEAT(part, "\x60\xe8\7", 1);
            REPEAT(part, "\x7e", 1000);
            REPEAT(part, "\0", 1);
        }
        put_section(m, 1, part);
        return true;
    case NAME_THAT_IS_NO_TEXT:
        TEXT(m, 0, "\4\xff\xfe\xfd\xfc");
        TEXT(m, 1, "\1\x60\0\0");
        return true;
    case NUMBER_TOO_LONG:
        REPEAT(m, "\1\x84\x80\x80\x80\x80\x80\x80\0\1\x60\0\0", 1);
        return true;
    case SECTION_TOO_LONG:
        REPEAT(m, "\1\xff\xff\xff\xff\x0f\1\x60\0\0", 1);
        return true;
    case COUNT_TOO_LARGE:
        TEXT(m, 1, "\xff\xff\xff\xff\x0f\x60\0\0");
        return true;
    case MANY_DATA_SEGMENTS:
        memory(m, 1, 1);
        vv_bytes_varint(part, 100000);
        REPEAT(part, "\0\x41\0\x0b\1a", 100000);
        put_section(m, 11, part);
        return true;
    default:
        return false;
    }
}

static void build(enum hostile which, struct vv_bytes *m)
{
    struct vv_bytes part = VV_BYTES_NONE;

    begin(m);
    if (!build_odd(which, m, &part)) {
        TEXT(m, 1, "\1\x60\0\0");
        TEXT(m, 3, "\1\0");
        struct vv_bytes head = VV_BYTES_NONE; /* start comes after the exports: put them around the body */
        vv_bytes_clear(&part);
        build_large(which, &head, &part);
        if (which == ENDLESS_START) {
            TEXT(m, 7, "\1\3run\0\0");
            vv_bytes_put(m, head.data, head.size);
            struct vv_bytes code = VV_BYTES_NONE;
            vv_bytes_varint(&code, 1);
            vv_bytes_varint(&code, part.size + 1);
            vv_bytes_put(&code, part.data, part.size);
            vv_bytes_u8(&code, 0x0b);
            put_section(m, 10, &code);
            vv_bytes_release(&code);
        } else {
            vv_bytes_put(m, head.data, head.size);
            one_function(m, &part);
        }
        vv_bytes_release(&head);
    }
    vv_bytes_release(&part);
    assert_int_equal(vv_bytes_done(m), VARVE_OK);
}

/* ---- The trial --------------------------------------------------------------------------------------- */

static double seconds(void)
{
    struct timespec t;

    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &t), 0);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static long resident_mib(void)
{
    struct rusage usage;

    assert_int_equal(getrusage(RUSAGE_SELF, &usage), 0);
    return usage.ru_maxrss >> 10;
}

static void no_hostile_module_harms_its_host(void **state)
{
    struct world w;
    struct vv_bytes m = VV_BYTES_NONE;
    varve_deploy_options options = VARVE_INIT(varve_deploy_options);
    int refused = 0, ended = 0, ran = 0;

    (void)state;
    world_new(&w);
    world_begin(&w);
    assert_ok(&w, world_deploy(&w, "zoo", "zoo", NULL));
    options.gas = RUN_GAS;
    for (enum hostile which = 0; which < HOSTILE_COUNT; which++) {
        uint32_t savepoint = 0;
        const double begun = seconds();
        build(which, &m);
        w.gas = 0;
        assert_ok(&w, varve_session_savepoint(w.session, &savepoint, &w.error));
        varve_status rc = world_deploy_bytes(&w, "m", m.data, m.size, &options);
        bool deployed = rc == VARVE_OK;
        if (deployed) {
            w.gas = RUN_GAS;
            rc = world_call(&w, "m", "run", NULL, "");
            w.gas = 0;
        }
        print_message("%2d  %8zu bytes  %-11s %.2f s  %ld MiB  %.90s\n", (int)which, m.size,
                      varve_status_name(rc), seconds() - begun, resident_mib(),
                      rc == VARVE_OK ? "" : w.error.message);
        assert_true(rc == VARVE_OK || rc == VARVE_INVALID || rc == VARVE_REFUSED || rc == VARVE_TRAP ||
                    rc == VARVE_OUT_OF_GAS || rc == VARVE_LIMIT || rc == VARVE_NOT_FOUND);
        refused += !deployed;
        ended += deployed && rc != VARVE_OK;
        ran += rc == VARVE_OK;
        assert_true(seconds() - begun < SECONDS_MAX);
        assert_ok(&w, varve_session_rollback(w.session, savepoint, &w.error));
        assert_ok(&w, varve_session_release(w.session, savepoint, &w.error));
        assert_int_equal(world_i32(&w, "zoo", "inc", 1, 1), which + 1); /* the session goes on */
    }
    print_message("%d refused, %d ended, %d harmless\n", refused, ended, ran);
    assert_true(refused >= 10 && ended >= 5);
    vv_bytes_release(&m);
    world_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_hostile_module_harms_its_host),
    };

    return cmocka_run_group_tests_name("vm hostile", tests, NULL, NULL);
}
