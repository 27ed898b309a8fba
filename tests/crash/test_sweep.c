/* The sweep itself: a sound store passes with the counts that it must have, and each planted bug is found.
 *
 * The store is a notebook: one file, a byte for each step that was noted, then a byte that is their sum. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "scratch.h"
#include "sweep.h"

enum {
    PREPARED = 2,
    STEPS = 4,
    AFTERWARDS = 9
}; /* steps 1, 2 are prepared; 3, 4 swept; 9 is the check's own */

enum vice {
    SOUND,
    IN_PLACE,       /* rewrites the book where it lies */
    PROMISES_EARLY, /* acknowledges before it writes */
    DEAF_TO_WRITE,  /* does not look whether the write succeeded */
    DEAF_TO_SYNC,   /* nor the sync */
    DEAF_TO_NAMES,  /* nor the sync of the directory */
    RETRIES_SYNC,   /* asks a second time, and believes that answer */
    DENIES,         /* tells a plain failure when the book was renamed already */
    ABORTS,         /* takes a failed write for its own bug */
    MISNAMES,       /* every failure is NOT_FOUND */
    OVERCAUTIOUS,   /* every failure is UNCERTAIN */
    TRIPS,          /* cannot go on when a temporary lies about */
    FORGETS_MEMORY, /* takes no memory for nothing to do */
    FRAIL_RECOVERY, /* rewrites the book in place whenever it opens */
    FAILS_FOR_GOOD, /* after one failure, all later steps fail */
    GOES_ON         /* after a failed sync, as if nothing were */
};

static enum vice vice_of(const void *context)
{
    return *(const enum vice *)context;
}

static varve_status rewrite(const struct vv_dir *dir, const uint8_t *data, size_t size)
{
    varve_status rc = VARVE_OK;
    struct vv_file file = VV_FILE_NONE;

    TRY(vv_file_open(dir, "book", VV_OPEN_WRITE, &file));
    TRY(vv_file_truncate(&file, 0));
    TRY(vv_file_write(&file, data, size, 0));
    TRY(vv_file_sync(&file));
out:
    vv_file_close(&file);
    return rc;
}

static varve_status sync_until_it_is_well(struct vv_file *file)
{
    const varve_status rc = vv_file_sync_new(file);

    file->poisoned = false;
    return rc == VARVE_OK ? rc : vv_file_sync_new(file);
}

/* vv_dir_publish as somebody would write it who has the vice. */
static varve_status publish_badly(const struct vv_dir *dir, const uint8_t *data, size_t size, enum vice vice)
{
    varve_status rc = VARVE_OK;
    struct vv_file file = VV_FILE_NONE;
    const unsigned flags = VV_OPEN_WRITE | VV_OPEN_CREATE | VV_OPEN_EXCLUSIVE;

    if (vice != TRIPS)
        TRY(vv_dir_unlink(dir, "book.tmp"));
    TRY(vv_file_open(dir, "book.tmp", flags, &file));
    rc = vv_file_write(&file, data, size, 0);
    if (rc != VARVE_OK && vice == ABORTS)
        abort();
    if (vice != DEAF_TO_WRITE)
        TRY(rc);
    rc = vice == RETRIES_SYNC ? sync_until_it_is_well(&file) : vv_file_sync_new(&file);
    if (vice != DEAF_TO_SYNC)
        TRY(rc);
    const int number = dir->vfs->rename(dir->vfs, dir->fd, "book.tmp", "book", true);
    if (number == EIO || number == EINTR)
        TRY(vv_fail_uncertain(number, "rename"));
    if (number != 0)
        TRY(vv_fail_errno(number, "rename"));
    rc = vv_dir_sync(dir);
    if (rc != VARVE_OK && vice == DENIES)
        rc = vv_fail_errno(vv_words_errno(), "sync");
    if (vice == DEAF_TO_NAMES)
        rc = VARVE_OK;
out:
    vv_file_close(&file);
    return rc;
}

static varve_status read_book(const struct vv_dir *dir, uint8_t **data, size_t *size)
{
    varve_status rc = VARVE_OK;
    uint8_t sum = 0;

    TRY(vv_dir_read(dir, "book", 64, data, size));
    for (size_t i = 0; i + 1 < *size; i++)
        sum = (uint8_t)(sum + (*data)[i]);
    if (*size == 0 || (*data)[*size - 1] != sum) {
        vv_free(*data);
        *data = NULL;
        TRY(vv_fail(VARVE_CORRUPT, "the book's sum is wrong"));
    }
out:
    return rc;
}

/* Note `step` in the book: the one operation there is. */
static varve_status note(const struct vv_dir *dir, unsigned step, enum vice vice)
{
    varve_status rc = VARVE_OK;
    struct vv_bytes bytes = VV_BYTES_NONE;
    uint8_t *old = NULL;
    size_t size = 0;

    rc = read_book(dir, &old, &size);
    if (rc == VARVE_MEMORY && vice == FORGETS_MEMORY)
        rc = VARVE_OK;
    else if (rc != VARVE_OK)
        goto out;
    if (old == NULL)
        goto out;
    vv_bytes_put(&bytes, old, size - 1);
    vv_bytes_u8(&bytes, (uint8_t)step);
    vv_bytes_u8(&bytes, (uint8_t)(old[size - 1] + step));
    TRY(vv_bytes_done(&bytes));
    if (vice == IN_PLACE)
        TRY(rewrite(dir, bytes.data, bytes.size));
    else if (vice >= DEAF_TO_WRITE && vice <= ABORTS)
        TRY(publish_badly(dir, bytes.data, bytes.size, vice));
    else if (vice == TRIPS)
        TRY(publish_badly(dir, bytes.data, bytes.size, vice));
    else
        TRY(vv_dir_publish(dir, "book", bytes.data, bytes.size));
out:
    vv_free(old);
    vv_bytes_release(&bytes);
    if (rc != VARVE_OK && vice == MISNAMES)
        rc = vv_fail(VARVE_NOT_FOUND, "something is not there");
    if (rc != VARVE_OK && vice == OVERCAUTIOUS)
        rc = vv_fail(VARVE_UNCERTAIN, "who knows");
    return rc;
}

static varve_status note_and_tell(const struct vv_dir *dir, struct sweep_ledger *ledger, unsigned step,
                                  enum vice vice)
{
    sweep_begin(ledger, step);
    if (vice == PROMISES_EARLY)
        (void)sweep_end(ledger, step, VARVE_OK, NULL, 0);
    const varve_status rc = note(dir, step, vice);
    return vice == PROMISES_EARLY ? rc : sweep_end(ledger, step, rc, NULL, 0);
}

static varve_status prepare_book(const char *path, struct sweep_ledger *ledger, void *context)
{
    varve_status rc = VARVE_OK;
    struct vv_dir dir = VV_DIR_NONE;

    (void)context;
    TRY(vv_dir_create(&vv_vfs_system, path, NULL));
    TRY(vv_dir_open(&vv_vfs_system, path, &dir));
    TRY(vv_dir_publish(&dir, "book", "", 1));
    for (unsigned step = 1; step <= PREPARED; step++)
        TRY(note_and_tell(&dir, ledger, step, SOUND));
out:
    vv_dir_close(&dir);
    return rc;
}

static varve_status run_book(const struct vv_vfs *vfs, const char *path, struct sweep_ledger *ledger,
                             void *context)
{
    varve_status rc = VARVE_OK;
    struct vv_dir dir = VV_DIR_NONE;

    rc = vv_dir_open(vfs, path, &dir);
    for (unsigned step = PREPARED + 1; dir.fd != -1 && step <= STEPS; step++) {
        const varve_status status = note_and_tell(&dir, ledger, step, vice_of(context));
        rc = rc == VARVE_OK ? status : rc;
        if (rc != VARVE_OK && vice_of(context) == FAILS_FOR_GOOD)
            TRY(vv_fail(VARVE_CONFLICT, "not today"));
        if (status == VARVE_UNCERTAIN && vice_of(context) != GOES_ON)
            break;
    }
out:
    vv_dir_close(&dir);
    return rc;
}

static bool book_has(const uint8_t *book, size_t size, unsigned step)
{
    return size > 0 && memchr(book, (int)step, size - 1) != NULL;
}

static bool check_book(const char *path, struct sweep_ledger *ledger, void *context)
{
    struct vv_dir dir = VV_DIR_NONE;
    uint8_t *book = NULL;
    size_t size = 0;
    bool well = true;

    if (vv_dir_open(&vv_vfs_system, path, &dir) != VARVE_OK || read_book(&dir, &book, &size) != VARVE_OK)
        return sweep_deny(ledger, "does not open: %s", vv_words());
    for (unsigned step = 1; well && step <= STEPS; step++) {
        const enum sweep_expectation expected = sweep_expect(ledger, step);
        const bool there = book_has(book, size, step);
        if (expected == SWEEP_PRESENT && !there)
            well = sweep_deny(ledger, "step %u was acknowledged and is gone", step);
        if (expected == SWEEP_ABSENT && there)
            well = sweep_deny(ledger, "step %u is there, though it never was done or failed", step);
    }
    if (well && note(&dir, AFTERWARDS, vice_of(context)) != VARVE_OK)
        well = sweep_deny(ledger, "nothing can be noted any more: %s", vv_words());
    vv_free(book);
    vv_dir_close(&dir);
    return well;
}

/* This store needs no recovery; what it does all the same is to write the book anew. */
static varve_status reopen_book(const struct vv_vfs *vfs, const char *path, void *context)
{
    varve_status rc = VARVE_OK;
    struct vv_dir dir = VV_DIR_NONE;
    uint8_t *book = NULL;
    size_t size = 0;

    TRY(vv_dir_open(vfs, path, &dir));
    TRY(read_book(&dir, &book, &size));
    if (vice_of(context) == FRAIL_RECOVERY)
        TRY(rewrite(&dir, book, size));
    else
        TRY(vv_dir_publish(&dir, "book", book, size));
out:
    vv_free(book);
    vv_dir_close(&dir);
    return rc;
}

static struct sweep_report sweep_with(enum vice vice, bool quiet)
{
    const struct sweep_op op = { .name = "note",
                                 .prepare = prepare_book,
                                 .run = run_book,
                                 .check = check_book,
                                 .reopen = vice == SOUND || vice == FRAIL_RECOVERY ? reopen_book : NULL,
                                 .context = &vice };
    struct sweep_report report;

    sweep_run(&op, quiet, &report);
    return report;
}

/* The counts are those that the store's calls demand: a sweep that leaves points out shows here. */
static void a_sound_store_passes_at_every_point(void **state)
{
    const struct sweep_report report = sweep_with(SOUND, false);

    (void)state;
    assert_int_equal(sweep_violations(&report), 0);
    assert_int_equal(report.unfired, 0);
    assert_int_equal(report.absorbed, 2 + 2); /* creates and writes that are interrupted are made again */
    assert_int_equal(report.calls, 2 * 5);
    assert_int_equal(report.points[SWEEP_KILL], 10);
    assert_int_equal(report.points[SWEEP_TORN], 2);
    assert_int_equal(report.points[SWEEP_FAULT], 10 * 9);
    assert_int_equal(report.points[SWEEP_STICKY], 10 * 8);
    assert_int_equal(report.points[SWEEP_HALF], 2 * 2);
    assert_int_equal(report.points[SWEEP_SHORT], 2);
    assert_int_equal(report.points[SWEEP_MEMORY], 2 * 2 + 1); /* and one that finds no allocation left */
    assert_in_range(report.points[SWEEP_RECOVERY], 12 * 4 * 6, 12 * 4 * 8);
}

static void each_planted_bug_is_found(void **state)
{
    static const struct {
        enum vice vice;
        enum sweep_kind found_by;
    } bugs[] = {
        { IN_PLACE, SWEEP_KILL },         { IN_PLACE, SWEEP_TORN },
        { PROMISES_EARLY, SWEEP_KILL },   { DEAF_TO_WRITE, SWEEP_FAULT },
        { DEAF_TO_WRITE, SWEEP_HALF },    { DEAF_TO_SYNC, SWEEP_FAULT },
        { DEAF_TO_NAMES, SWEEP_FAULT },   { RETRIES_SYNC, SWEEP_FAULT },
        { DENIES, SWEEP_FAULT },          { ABORTS, SWEEP_FAULT },
        { ABORTS, SWEEP_STICKY },         { MISNAMES, SWEEP_FAULT },
        { OVERCAUTIOUS, SWEEP_FAULT },    { TRIPS, SWEEP_KILL },
        { FORGETS_MEMORY, SWEEP_MEMORY }, { FRAIL_RECOVERY, SWEEP_RECOVERY },
        { FAILS_FOR_GOOD, SWEEP_FAULT },  { GOES_ON, SWEEP_FAULT },
    };

    (void)state;
    for (size_t i = 0; i < sizeof bugs / sizeof bugs[0]; i++) {
        static struct sweep_report report;
        if (i == 0 || bugs[i].vice != bugs[i - 1].vice)
            report = sweep_with(bugs[i].vice, true);
        assert_int_equal(report.violations[SWEEP_PLAIN], 0);
        if (report.violations[bugs[i].found_by] == 0)
            fail_msg("bug %d is not found by sweep %d", (int)bugs[i].vice, (int)bugs[i].found_by);
        print_message("bug %2d: sweep %d finds it at %u points\n", (int)bugs[i].vice, (int)bugs[i].found_by,
                      report.violations[bugs[i].found_by]);
    }
}

/* What a program made of rows says: 0 all well, 1 something was found, 2 nothing was swept. */
static void a_program_ends_with_what_it_found(void **state)
{
    static enum vice sound = SOUND;
    static enum vice bad = TRIPS;
    const struct sweep_op ops[] = {
        { .name = "sound", .prepare = prepare_book, .run = run_book, .check = check_book, .context = &sound },
        { .name = "bad", .prepare = prepare_book, .run = run_book, .check = check_book, .context = &bad },
    };
    char program[] = "sweep";
    char first[] = "sound";
    char second[] = "bad";
    char other[] = "other";

    (void)state;
    assert_int_equal(sweep_main(2, (char *[]){ program, first }, ops, 2), 0);
    assert_int_equal(sweep_main(2, (char *[]){ program, second }, ops, 2), 1);
    assert_int_equal(sweep_main(2, (char *[]){ program, other }, ops, 2), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sound_store_passes_at_every_point),
        cmocka_unit_test(each_planted_bug_is_found),
        cmocka_unit_test(a_program_ends_with_what_it_found),
    };
    scratch_in_memory();
    sweep_repeats(NULL, 0); /* so that what is passed over is tested with the rest */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
