/* The log's files: however many segments there are, few are open, and none is closed while somebody needs it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/double.h"
#include "scratch.h"
#include "store/journal/log.h"

enum { SIZE = 8192, FILES = 3, SEGMENTS = 60, DROPPED = 20, READERS = 4, READS = 4000 };
static const struct vv_log_limits limits = { .segment = SIZE, .ahead = SIZE, .files = FILES };

struct fixture {
    char path[SCRATCH_PATH];
    struct vv_double d;
    unsigned _Atomic syncs;
    struct vv_dir dir;
    struct vv_log log;
    uint64_t at[SEGMENTS]; /* one piece per segment */
    size_t count;
    uint64_t end;
};

static void count_sync(void *context, const struct vv_double_event *event)
{
    struct fixture *f = context;

    f->syncs += event->call == VV_CALL_SYNC;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    scratch_new(f->path);
    vv_double_init(&f->d, &vv_vfs_system);
    f->d.record = count_sync;
    f->d.context = f;
    assert_int_equal(vv_dir_open(&f->d.table, f->path, &f->dir), VARVE_OK);
    assert_int_equal(vv_log_open(&f->log, &f->dir, false, &limits), VARVE_OK);
    f->end = VV_LOG_START;
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    vv_log_close(&f->log);
    vv_dir_close(&f->dir);
    scratch_remove(f->path);
    free(f);
    return 0;
}

static unsigned open_files(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned count = 0;

    assert_non_null(dir);
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

static void append(struct fixture *f)
{
    uint8_t bytes[SIZE];
    uint64_t address = 0;

    memset(bytes, (int)f->count + 1, sizeof bytes);
    assert_int_equal(vv_log_place(&f->log, f->end, sizeof bytes, 0, &address), VARVE_OK);
    assert_int_equal(vv_log_write(&f->log, address, bytes, sizeof bytes), VARVE_OK);
    f->at[f->count++] = address;
    f->end = address + sizeof bytes;
}

static void append_durably(struct fixture *f)
{
    append(f);
    assert_int_equal(vv_log_sync(&f->log, f->at[f->count - 1], f->end), VARVE_OK);
}

static bool reads_well(struct fixture *f, size_t i)
{
    uint8_t bytes[64];
    bool well = vv_log_read(&f->log, f->at[i] + 100, bytes, sizeof bytes) == VARVE_OK;

    for (size_t k = 0; k < sizeof bytes; k++)
        well = well && bytes[k] == i + 1;
    return well;
}

static void few_are_open(void **state)
{
    struct fixture *f = *state;
    const unsigned before = open_files();
    uint64_t stored = 0;

    while (f->count < SEGMENTS) {
        append_durably(f);
        assert_true(open_files() <= before + FILES);
    }
    for (size_t i = 0; i < SEGMENTS; i++) {
        assert_true(reads_well(f, i * 7 % SEGMENTS));
        assert_true(open_files() <= before + FILES);
    }
    assert_int_equal(vv_log_stored(&f->log, &stored), VARVE_OK);
    assert_true(stored >= (uint64_t)SEGMENTS * SIZE);
    assert_true(open_files() <= before + FILES);
    vv_log_close(&f->log);
    assert_true(open_files() <= before);
    assert_int_equal(vv_log_open(&f->log, &f->dir, false, &limits), VARVE_OK);
    for (size_t i = 0; i < SEGMENTS; i++)
        assert_true(reads_well(f, i));
    assert_true(open_files() <= before + FILES);
}

struct reader {
    struct fixture *f;
    uint64_t chance;
    unsigned wrong;
};

static void *read_at_random(void *context)
{
    struct reader *reader = context;

    for (unsigned i = 0; i < READS; i++) {
        reader->chance = reader->chance * UINT64_C(6364136223846793005) + 1442695040888963407;
        const size_t at = DROPPED + (reader->chance >> 33) % (SEGMENTS / 2 - DROPPED);
        reader->wrong += !reads_well(reader->f, at);
    }
    return NULL;
}

/* While threads read, others' files are closed, segments are appended, and dropped in front of what they read. */
static void no_file_is_closed_under_a_reader(void **state)
{
    struct fixture *f = *state;
    const unsigned before = open_files();
    struct reader readers[READERS];
    pthread_t threads[READERS];
    uint64_t bytes = 0;

    while (f->count < SEGMENTS / 2)
        append_durably(f);
    for (unsigned i = 0; i < READERS; i++) {
        readers[i] = (struct reader){ .f = f, .chance = i + 1 };
        assert_int_equal(pthread_create(&threads[i], NULL, read_at_random, &readers[i]), 0);
    }
    for (size_t i = 0; f->count < SEGMENTS; i++) {
        append_durably(f);
        if (i < DROPPED)
            assert_int_equal(vv_log_drop(&f->log, f->at[i], &bytes), VARVE_OK);
        assert_int_equal(vv_log_stored(&f->log, &bytes), VARVE_OK);
        assert_true(open_files() <= before + FILES + READERS);
    }
    for (unsigned i = 0; i < READERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(readers[i].wrong, 0);
    }
    assert_true(open_files() <= before + FILES);
}

/* A file that was written to and not synced is not closed, for the system may tell of a failed write only those who
 * had it open. Where nobody syncs, the log does. */
static void what_was_written_is_synced_before_it_is_closed(void **state)
{
    struct fixture *f = *state;
    const unsigned before = open_files();

    while (f->count < SEGMENTS) {
        append(f);
        assert_true(open_files() <= before + FILES + 1);
        assert_true(f->syncs + FILES + 1 >= f->count);
    }
    f->syncs = 0;
    assert_int_equal(vv_log_sync(&f->log, VV_LOG_START, f->end), VARVE_OK);
    assert_int_equal(f->syncs, SEGMENTS);
    for (size_t i = 0; i < SEGMENTS; i++)
        assert_true(reads_well(f, i));
    assert_true(open_files() <= before + FILES);
}

/* (P4) Whatever is opened and closed since. */
static void a_failed_sync_is_not_forgotten(void **state)
{
    struct fixture *f = *state;
    const uint8_t bytes[SIZE] = { 0 };

    while (f->count < SEGMENTS / 2)
        append_durably(f);
    append(f);
    const size_t last = f->count - 1;
    vv_double_arm(&f->d, VV_DOUBLE_FAIL, 1, EIO);
    assert_int_equal(vv_log_sync(&f->log, f->at[last], f->end), VARVE_UNCERTAIN);
    assert_true(vv_double_fired(&f->d));
    vv_double_arm(&f->d, VV_DOUBLE_PASS, 0, 0);
    for (size_t i = 0; i < last; i++)
        assert_true(reads_well(f, i));
    assert_int_equal(vv_log_write(&f->log, f->at[last], bytes, sizeof bytes), VARVE_UNCERTAIN);
    assert_int_equal(vv_log_sync(&f->log, f->at[last], f->end), VARVE_UNCERTAIN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(few_are_open, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_file_is_closed_under_a_reader, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_written_is_synced_before_it_is_closed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_failed_sync_is_not_forgotten, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
