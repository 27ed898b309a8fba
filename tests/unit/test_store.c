/* Opening a directory as a store: who may, what it must be, and what a half-made one is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "scratch.h"
#include "store/session.h"

struct fixture {
    char path[SCRATCH_PATH];
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    scratch_new(f->path);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    scratch_remove(f->path);
    free(f);
    return 0;
}

static varve_status open_with(const char *path, uint32_t flags, uint32_t wait_ms, varve_store **store)
{
    const varve_store_options options = { .size = sizeof options, .flags = flags, .wait_ms = wait_ms };

    *store = NULL;
    return vv_store_open(&vv_vfs_system, path, &options, store);
}

static void make_store(const char *path)
{
    varve_store *store = NULL;

    assert_int_equal(open_with(path, VARVE_STORE_CREATE, 0, &store), VARVE_OK);
    vv_store_close(store);
}

static void expect(const char *path, uint32_t flags, varve_status want, const char *words)
{
    varve_store *store = NULL;

    assert_int_equal(open_with(path, flags, 0, &store), want);
    assert_null(store);
    if (strstr(vv_words(), words) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", words, vv_words());
    assert_non_null(strstr(vv_words(), path));
}

static void put_file(const char *path, const char *name, const char *text)
{
    char full[SCRATCH_PATH + 64];

    (void)snprintf(full, sizeof full, "%s/%s", path, name);
    FILE *file = fopen(full, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static bool has_file(const char *path, const char *name)
{
    char full[SCRATCH_PATH + 64];

    (void)snprintf(full, sizeof full, "%s/%s", path, name);
    return access(full, F_OK) == 0;
}

/* Run in a process of its own; what it writes to `out` is read here. It lives until the pipe is closed. */
struct holder {
    pid_t pid;
    int hold;
};

static struct holder hold_store(const char *path, uint32_t flags)
{
    int hold[2], ready[2];
    char byte = 0;
    struct holder holder;

    assert_int_equal(pipe(hold), 0);
    assert_int_equal(pipe(ready), 0);
    holder.pid = fork();
    assert_true(holder.pid >= 0);
    if (holder.pid == 0) {
        varve_store *store = NULL;
        (void)close(hold[1]);
        byte = open_with(path, flags, 0, &store) == VARVE_OK ? 'y' : 'n';
        if (write(ready[1], &byte, 1) == 1)
            (void)read(hold[0], &byte, 1);
        vv_store_close(store);
        _exit(0);
    }
    (void)close(hold[0]);
    (void)close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    (void)close(ready[0]);
    assert_int_equal(byte, 'y');
    holder.hold = hold[1];
    return holder;
}

static void let_go(struct holder holder)
{
    int status = 0;

    (void)close(holder.hold);
    assert_int_equal(waitpid(holder.pid, &status, 0), holder.pid);
}

/* ---- What a store is ---------------------------------------------------------------------------- */

static void what_is_not_there_is_no_store(void **state)
{
    struct fixture *f = *state;
    char path[SCRATCH_PATH + 16];

    expect(f->path, 0, VARVE_NOT_FOUND, "varve init");
    (void)snprintf(path, sizeof path, "%s/none", f->path);
    expect(path, 0, VARVE_NOT_FOUND, "varve init");
    expect(path, VARVE_STORE_READ_ONLY, VARVE_NOT_FOUND, "varve init");
    make_store(path); /* the last part of the path is made */
    make_store(path); /* what is there is opened */
    assert_true(has_file(path, ".varve/format"));
    assert_false(has_file(path, ".varve/making"));
}

static void a_store_is_never_made_among_the_files_of_others(void **state)
{
    struct fixture *f = *state;

    put_file(f->path, "letter.txt", "dear");
    expect(f->path, VARVE_STORE_CREATE, VARVE_EXISTS, "letter.txt");
    assert_false(has_file(f->path, ".varve"));
    assert_true(has_file(f->path, "letter.txt"));
}

static void the_format_is_judged_before_all_else(void **state)
{
    static const struct {
        const char *text;
        varve_status status;
        const char *words;
    } rows[] = {
        { "varve 2 journal\n", VARVE_NEWER, "format 2" },
        { "varve 17 something else, entirely\n", VARVE_NEWER, "use a newer varve" },
        { "varve 999999999 x", VARVE_NEWER, "999999999" },
        { "varve 1 sediment\n", VARVE_CORRUPT, ".varve/format" },
        { "varve 1 journal", VARVE_CORRUPT, ".varve/format" },
        { "varve 1 journal\nx", VARVE_CORRUPT, ".varve/format" },
        { "varve 0 journal\n", VARVE_CORRUPT, ".varve/format" },
        { "varve 1\n", VARVE_CORRUPT, ".varve/format" },
        { "varve x journal\n", VARVE_CORRUPT, ".varve/format" },
        { "Varve 1 journal\n", VARVE_CORRUPT, ".varve/format" },
        { "", VARVE_CORRUPT, ".varve/format" },
    };
    struct fixture *f = *state;

    make_store(f->path);
    const struct holder holder = hold_store(f->path, 0); /* a lock changes nothing of it */
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        put_file(f->path, ".varve/format", rows[i].text);
        expect(f->path, 0, rows[i].status, rows[i].words);
        expect(f->path, VARVE_STORE_CREATE, rows[i].status, rows[i].words);
        expect(f->path, VARVE_STORE_READ_ONLY, rows[i].status, rows[i].words);
    }
    let_go(holder);
    char long_text[300];
    memset(long_text, 'v', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    put_file(f->path, ".varve/format", long_text);
    varve_store *store = NULL;
    assert_int_equal(open_with(f->path, 0, 0, &store), VARVE_CORRUPT);
}

static void a_store_that_lost_its_format_is_not_taken_for_an_empty_one(void **state)
{
    struct fixture *f = *state;
    char path[SCRATCH_PATH + 16];

    make_store(f->path);
    (void)snprintf(path, sizeof path, "%s/.varve/format", f->path);
    assert_int_equal(unlink(path), 0);
    expect(f->path, 0, VARVE_NOT_FOUND, "no store");
    expect(f->path, VARVE_STORE_CREATE, VARVE_EXISTS, "not empty");
}

/* ---- Who may ------------------------------------------------------------------------------------ */

static void the_second_writer_is_told_who_the_first_is(void **state)
{
    struct fixture *f = *state;
    char words[64];

    make_store(f->path);
    const struct holder holder = hold_store(f->path, 0);
    (void)snprintf(words, sizeof words, "process %ld is", (long)holder.pid);
    expect(f->path, 0, VARVE_BUSY, words);
    expect(f->path, VARVE_STORE_CREATE, VARVE_BUSY, words);
    const varve_check_options options = { .size = sizeof options };
    uint64_t damage = 0;
    assert_int_equal(vv_store_check(&vv_vfs_system, f->path, &options, &damage), VARVE_BUSY);
    let_go(holder);
    make_store(f->path);
}

static void one_process_cannot_open_a_store_twice(void **state)
{
    struct fixture *f = *state;
    varve_store *store = NULL;
    char words[64];

    make_store(f->path);
    assert_int_equal(open_with(f->path, 0, 0, &store), VARVE_OK);
    (void)snprintf(words, sizeof words, "process %ld is", (long)getpid());
    expect(f->path, 0, VARVE_BUSY, words);
    vv_store_close(store);
    make_store(f->path);
}

/* A writer does not keep readers out, nor they it; and they can tell who it is. */
static void any_number_may_read_beside_a_writer(void **state)
{
    struct fixture *f = *state;
    varve_store *first = NULL, *second = NULL, *writer = NULL;
    varve_store_info info = { .size = sizeof info };

    make_store(f->path);
    const struct holder holder = hold_store(f->path, 0);
    assert_int_equal(open_with(f->path, VARVE_STORE_READ_ONLY, 0, &first), VARVE_OK);
    assert_int_equal(open_with(f->path, VARVE_STORE_READ_ONLY, 0, &second), VARVE_OK);
    vv_store_stat(first, &info);
    assert_int_equal(info.writer_pid, holder.pid);
    vv_store_close(first);
    let_go(holder);
    vv_store_stat(second, &info);
    assert_int_equal(info.writer_pid, 0);
    assert_int_equal(open_with(f->path, 0, 0, &writer), VARVE_OK);
    vv_store_stat(second, &info);
    assert_int_equal(info.writer_pid, getpid());
    vv_store_close(second);
    vv_store_close(writer);
}

/* To check a store is to read what no writer may change meanwhile. */
static void who_checks_a_store_keeps_writers_out(void **state)
{
    struct fixture *f = *state;
    varve_store *reader = NULL;
    struct vv_file lock = VV_FILE_NONE;
    struct vv_dir dir = VV_DIR_NONE, own = VV_DIR_NONE;

    make_store(f->path);
    assert_int_equal(vv_dir_open(&vv_vfs_system, f->path, &dir), VARVE_OK);
    assert_int_equal(vv_dir_open_at(&dir, ".varve", &own), VARVE_OK);
    assert_int_equal(vv_file_open(&own, "lock", VV_OPEN_READ, &lock), VARVE_OK);
    assert_int_equal(vv_file_lock(&lock, VV_LOCK_SHARED, 0, 1, 0), VARVE_OK); /* as a check has it */
    expect(f->path, 0, VARVE_BUSY, "reads all of the store");
    assert_int_equal(open_with(f->path, VARVE_STORE_READ_ONLY, 0, &reader), VARVE_OK);
    vv_store_close(reader);
    vv_file_close(&lock);
    vv_dir_close(&own);
    vv_dir_close(&dir);
    make_store(f->path);
}

static void a_killed_holder_leaves_no_lock(void **state)
{
    struct fixture *f = *state;
    const struct holder holder = (make_store(f->path), hold_store(f->path, 0));

    assert_int_equal(kill(holder.pid, SIGKILL), 0);
    let_go(holder);
    make_store(f->path);
}

static void who_waits_gets_the_store_when_it_is_free(void **state)
{
    struct fixture *f = *state;
    varve_store *store = NULL;
    int status = 0;

    make_store(f->path);
    const struct holder holder = hold_store(f->path, 0);
    assert_int_equal(open_with(f->path, 0, 20, &store), VARVE_BUSY);
    const pid_t ender = fork();
    if (ender == 0) {
        (void)usleep(50000);
        (void)kill(holder.pid, SIGKILL);
        _exit(0);
    }
    assert_int_equal(open_with(f->path, 0, 10000, &store), VARVE_OK);
    vv_store_close(store);
    let_go(holder);
    assert_int_equal(waitpid(ender, &status, 0), ender);
}

/* A child made by fork shares the open file, whose lock stays with the parent. */
static void a_forked_child_never_unlocks(void **state)
{
    struct fixture *f = *state;
    varve_store *store = NULL;
    int status = 0;

    make_store(f->path);
    assert_int_equal(open_with(f->path, 0, 0, &store), VARVE_OK);
    const pid_t child = fork();
    if (child == 0)
        _exit(0);
    assert_int_equal(waitpid(child, &status, 0), child);
    expect(f->path, 0, VARVE_BUSY, "is the store's writer");
    vv_store_close(store);
}

/* Root may write anywhere: as somebody else, in a child. */
static void a_directory_that_cannot_be_written_can_be_read(void **state)
{
    struct fixture *f = *state;
    char path[SCRATCH_PATH + 32];
    int status = 0;

    make_store(f->path);
    (void)snprintf(path, sizeof path, "chmod -R a+rX,a-w %s", f->path);
    assert_int_equal(system(path), 0);
    const pid_t child = fork();
    if (child == 0) {
        varve_store *store = NULL;
        if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
            _exit(9);
        if (open_with(f->path, 0, 0, &store) != VARVE_IO || vv_words_errno() != EACCES ||
            strstr(vv_words(), "only be read") == NULL)
            _exit(1);
        if (open_with(f->path, VARVE_STORE_READ_ONLY, 0, &store) != VARVE_OK)
            _exit(2);
        if (vv_store_writable(store) != VARVE_MISUSE)
            _exit(3);
        vv_store_close(store);
        (void)snprintf(path, sizeof path, "%s/inner", f->path);
        if (open_with(path, VARVE_STORE_CREATE, 0, &store) != VARVE_IO)
            _exit(4);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    (void)snprintf(path, sizeof path, "chmod -R u+w %s", f->path);
    assert_int_equal(system(path), 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- How long ----------------------------------------------------------------------------------- */

static void a_store_stays_open_until_its_last_handle_is_gone(void **state)
{
    struct fixture *f = *state;
    const varve_session_options options = { .size = sizeof options };
    varve_session *session = NULL;
    varve_store *store = NULL;

    make_store(f->path);
    assert_int_equal(open_with(f->path, 0, 0, &store), VARVE_OK);
    assert_int_equal(vv_session_begin(store, &options, &session), VARVE_OK);
    vv_store_close(store);
    expect(f->path, 0, VARVE_BUSY, "is the store's writer");
    vv_session_abort(session);
    make_store(f->path);
}

static void opening_survives_every_failing_allocation(void **state)
{
    struct fixture *f = *state;

    for (unsigned nth = 1;; nth++) {
        varve_store *store = NULL;
        vv_alloc_fail_at(nth);
        const varve_status rc = open_with(f->path, VARVE_STORE_CREATE, 0, &store);
        const bool failed = vv_alloc_disarm();
        vv_store_close(store);
        if (!failed) {
            assert_int_equal(rc, VARVE_OK);
            break;
        }
        assert_true(rc == VARVE_MEMORY || rc == VARVE_OK);
    }
    make_store(f->path);
}

static void count_finding(void *context, const varve_finding *finding)
{
    *(unsigned *)context += finding->severity == VARVE_DAMAGE;
}

static void a_check_reports_and_changes_nothing(void **state)
{
    struct fixture *f = *state;
    unsigned findings = 0;
    const varve_check_options options = { .size = sizeof options,
                                          .finding = count_finding,
                                          .context = &findings };
    uint64_t damage = 9;

    assert_int_equal(vv_store_check(&vv_vfs_system, f->path, &options, &damage), VARVE_NOT_FOUND);
    make_store(f->path);
    assert_int_equal(vv_store_check(&vv_vfs_system, f->path, &options, &damage), VARVE_OK);
    assert_int_equal(damage, 0);
    assert_int_equal(findings, 0);
    put_file(f->path, ".varve/format", "garbage");
    assert_int_equal(vv_store_check(&vv_vfs_system, f->path, &options, &damage), VARVE_OK);
    assert_int_equal(damage, 1);
    assert_int_equal(findings, 1);
    put_file(f->path, ".varve/format", "varve 2 journal\n");
    assert_int_equal(vv_store_check(&vv_vfs_system, f->path, &options, &damage), VARVE_NEWER);
}

#define IN_SCRATCH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(what_is_not_there_is_no_store),
        IN_SCRATCH(a_store_is_never_made_among_the_files_of_others),
        IN_SCRATCH(the_format_is_judged_before_all_else),
        IN_SCRATCH(a_store_that_lost_its_format_is_not_taken_for_an_empty_one),
        IN_SCRATCH(the_second_writer_is_told_who_the_first_is),
        IN_SCRATCH(one_process_cannot_open_a_store_twice),
        IN_SCRATCH(any_number_may_read_beside_a_writer),
        IN_SCRATCH(who_checks_a_store_keeps_writers_out),
        IN_SCRATCH(a_killed_holder_leaves_no_lock),
        IN_SCRATCH(who_waits_gets_the_store_when_it_is_free),
        IN_SCRATCH(a_forked_child_never_unlocks),
        IN_SCRATCH(a_directory_that_cannot_be_written_can_be_read),
        IN_SCRATCH(a_store_stays_open_until_its_last_handle_is_gone),
        IN_SCRATCH(opening_survives_every_failing_allocation),
        IN_SCRATCH(a_check_reports_and_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
