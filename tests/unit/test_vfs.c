/* Files: what a crash or a failing system leaves is the old or the new, nothing leads out of a directory, and
 * no sync is tried twice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/double.h"
#include "base/vfs.h"
#include "scratch.h"

struct fixture {
    char path[SCRATCH_PATH];
    struct vv_double d;
    struct vv_dir dir; /* through the double */
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    scratch_new(f->path);
    vv_double_init(&f->d, &vv_vfs_system);
    assert_int_equal(vv_dir_open(&f->d.table, f->path, &f->dir), VARVE_OK);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    vv_dir_close(&f->dir);
    scratch_remove(f->path);
    free(f);
    return 0;
}

static const char *path_of(const struct fixture *f, const char *name)
{
    static char path[SCRATCH_PATH + 64];

    (void)snprintf(path, sizeof path, "%s/%s", f->path, name);
    return path;
}

static bool exists(const struct fixture *f, const char *name)
{
    struct stat status;

    return lstat(path_of(f, name), &status) == 0;
}

static bool head_is(const struct fixture *f, const char *text)
{
    uint8_t *data = NULL;
    size_t size = 0;

    assert_int_equal(vv_dir_read(&f->dir, "head", 64, &data, &size), VARVE_OK);
    const bool same = size == strlen(text) && memcmp(data, text, size) == 0;
    vv_free(data);
    return same;
}

static void disarm(struct fixture *f)
{
    vv_double_arm(&f->d, VV_DOUBLE_PASS, 0, 0);
}

/* ---- publish ------------------------------------------------------------------------------------ */

/* Fail the 1st, 2nd, 3rd... call with each errno until none is left to fail. After each failure the file must
 * hold the old bytes or the new ones, with nothing beside it; a plain status promises the old ones. */
static void publish_is_atomic_under_every_fault(void **state)
{
    static const struct {
        int number;
        varve_status status;
    } cases[] = { { EIO, VARVE_IO },        { ENOSPC, VARVE_FULL },
                  { EDQUOT, VARVE_FULL },   { EMFILE, VARVE_HOST_LIMIT },
                  { ENOMEM, VARVE_MEMORY }, { EROFS, VARVE_IO },
                  { EACCES, VARVE_IO },     { EFBIG, VARVE_FULL } };
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (unsigned nth = 1;; nth++) {
            disarm(f);
            assert_int_equal(vv_dir_publish(&f->dir, "head", "old", 3), VARVE_OK);
            vv_double_arm(&f->d, VV_DOUBLE_FAIL, nth, cases[i].number);
            const varve_status rc = vv_dir_publish(&f->dir, "head", "new", 3);
            if (!vv_double_fired(&f->d)) {
                assert_int_equal(rc, VARVE_OK);
                assert_int_equal(nth, 6); /* five steps: a forgotten sync shows here */
                assert_true(head_is(f, "new"));
                break;
            }
            const enum vv_double_call call = f->d.fired_call;
            const bool unknown = call == VV_CALL_SYNC || call == VV_CALL_SYNC_DIR ||
                                 (call == VV_CALL_RENAME && cases[i].number == EIO);
            assert_int_equal(rc, unknown ? VARVE_UNCERTAIN : cases[i].status);
            assert_int_equal(vv_words_errno(), cases[i].number);
            assert_true(head_is(f, "old") || (unknown && head_is(f, "new")));
            assert_false(exists(f, "head.tmp"));
        }
    }
}

/* The system refuses everything from the nth call on, so the temporary may stay; the next attempt works. */
static void publish_works_again_after_the_system_refused_everything(void **state)
{
    struct fixture *f = *state;

    for (unsigned nth = 1; nth <= 5; nth++) {
        disarm(f);
        assert_int_equal(vv_dir_publish(&f->dir, "head", "old", 3), VARVE_OK);
        vv_double_arm(&f->d, VV_DOUBLE_STICK, nth, EROFS);
        const varve_status rc = vv_dir_publish(&f->dir, "head", "new", 3);
        assert_true(rc == VARVE_IO || rc == VARVE_UNCERTAIN);
        assert_true(head_is(f, "old") || (nth == 5 && head_is(f, "new")));
        disarm(f);
        assert_int_equal(vv_dir_publish(&f->dir, "head", "newer", 5), VARVE_OK);
        assert_true(head_is(f, "newer"));
        assert_false(exists(f, "head.tmp"));
    }
}

/* In a child, die before the nth call, or in the middle of it. The head must be whole, and whatever lies
 * beside it must not hinder the next attempt. */
static void publish_survives_a_kill_at_every_call(void **state)
{
    static const enum vv_double_mode modes[] = { VV_DOUBLE_KILL, VV_DOUBLE_TORN };
    struct fixture *f = *state;

    for (size_t i = 0; i < 2; i++) {
        for (unsigned nth = 1; nth <= 6; nth++) {
            int status = 0;
            disarm(f);
            assert_int_equal(vv_dir_publish(&f->dir, "head", "old", 3), VARVE_OK);
            const pid_t child = fork();
            if (child == 0) {
                vv_double_arm(&f->d, modes[i], nth, 0);
                _exit(vv_dir_publish(&f->dir, "head", "new", 3) == VARVE_OK ? 0 : 1);
            }
            assert_int_equal(waitpid(child, &status, 0), child);
            if (nth == 6)
                assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
            else
                assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
            assert_true(head_is(f, nth <= 4 ? "old" : "new"));
            assert_int_equal(vv_dir_publish(&f->dir, "head", "newer", 5), VARVE_OK);
            assert_true(head_is(f, "newer"));
            assert_false(exists(f, "head.tmp"));
        }
    }
}

static void a_short_write_is_continued_and_a_half_one_is_a_failure(void **state)
{
    struct fixture *f = *state;

    vv_double_arm(&f->d, VV_DOUBLE_SHORT, 2, 0);
    assert_int_equal(vv_dir_publish(&f->dir, "head", "0123456789", 10), VARVE_OK);
    assert_true(vv_double_fired(&f->d));
    assert_int_equal(f->d.count, 6); /* one write more than without */
    assert_true(head_is(f, "0123456789"));
    vv_double_arm(&f->d, VV_DOUBLE_HALF, 2, ENOSPC);
    assert_int_equal(vv_dir_publish(&f->dir, "head", "9876543210", 10), VARVE_FULL);
    assert_true(vv_double_fired(&f->d));
    assert_true(head_is(f, "0123456789"));
    assert_false(exists(f, "head.tmp"));
}

static void words_say_what_where_and_what_to_do(void **state)
{
    struct fixture *f = *state;

    vv_double_arm(&f->d, VV_DOUBLE_FAIL, 2, ENOSPC);
    assert_int_equal(vv_dir_publish(&f->dir, "head", "new", 3), VARVE_FULL);
    assert_string_equal(vv_words(),
                        "write head.tmp at 0: No space left on device; free some space and try again");
}

/* ---- the law of the failed sync ------------------------------------------------------------------ */

static void assert_all_writing_is_refused(struct fixture *f, struct vv_file *file)
{
    disarm(f);
    assert_int_equal(vv_file_write(file, "x", 1, 0), VARVE_UNCERTAIN);
    assert_int_equal(vv_file_sync(file), VARVE_UNCERTAIN);
    assert_int_equal(vv_file_sync_new(file), VARVE_UNCERTAIN);
    assert_int_equal(vv_file_truncate(file, 0), VARVE_UNCERTAIN);
    assert_int_equal(vv_file_allocate(file, 0, 4096), VARVE_UNCERTAIN);
    assert_int_equal(f->d.count, 0); /* and the system was not even asked */
}

/* For each kind of sync and each errno, EINTR among them: UNCERTAIN, and never asked a second time. */
static void a_failed_sync_is_never_tried_again(void **state)
{
    static const int numbers[] = { EIO, ENOSPC, EDQUOT, EINTR };
    struct fixture *f = *state;

    for (int kind = 0; kind < 2; kind++) {
        for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
            struct vv_file file = VV_FILE_NONE;
            uint8_t byte = 0;
            disarm(f);
            assert_int_equal(vv_file_open(&f->dir, "log", VV_OPEN_WRITE | VV_OPEN_CREATE, &file), VARVE_OK);
            assert_int_equal(vv_file_write(&file, "v", 1, 0), VARVE_OK);
            vv_double_arm(&f->d, VV_DOUBLE_FAIL, 1, numbers[i]);
            assert_int_equal(kind == 0 ? vv_file_sync(&file) : vv_file_sync_new(&file), VARVE_UNCERTAIN);
            assert_int_equal(f->d.count, 1);
            assert_int_equal(vv_words_errno(), numbers[i]);
            assert_true(file.poisoned);
            assert_all_writing_is_refused(f, &file);
            assert_int_equal(vv_file_read(&file, &byte, 1, 0), VARVE_OK); /* reading is no promise */
            vv_file_close(&file);
        }
    }
}

static void a_failed_write_does_not_poison(void **state)
{
    struct fixture *f = *state;
    struct vv_file file = VV_FILE_NONE;

    assert_int_equal(vv_file_open(&f->dir, "log", VV_OPEN_WRITE | VV_OPEN_CREATE, &file), VARVE_OK);
    vv_double_arm(&f->d, VV_DOUBLE_FAIL, 1, ENOSPC);
    assert_int_equal(vv_file_write(&file, "v", 1, 0), VARVE_FULL);
    assert_int_equal(vv_file_write(&file, "v", 1, 0), VARVE_OK);
    assert_int_equal(vv_file_sync(&file), VARVE_OK);
    vv_file_close(&file);
}

/* ---- names ----------------------------------------------------------------------------------------- */

/* Put one of everything that is no regular file into the directory; each must be refused, however it is opened,
 * and whatever it points to must stay as it is. */
static void make_strangers(const struct fixture *f)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    assert_int_equal(vv_dir_publish(&f->dir, "real", "real", 4), VARVE_OK);
    assert_int_equal(symlink("real", path_of(f, "link")), 0);
    assert_int_equal(symlink("nothing", path_of(f, "dangling")), 0);
    assert_int_equal(symlink("/", path_of(f, "linkdir")), 0);
    assert_int_equal(symlink(".", path_of(f, "linkdot")), 0);
    assert_int_equal(mkdir(path_of(f, "dir"), 0700), 0);
    assert_int_equal(mkfifo(path_of(f, "fifo"), 0600), 0);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const char *path = path_of(f, "socket");
    if (strlen(path) < sizeof address.sun_path) {
        memcpy(address.sun_path, path, strlen(path) + 1);
        assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    }
    (void)close(fd);
}

/* The first stranger that can be opened all the same, or NULL. */
static const char *first_stranger_that_opens(const struct fixture *f)
{
    static const char *const strangers[] = {
        "link", "dangling", "linkdir", "linkdot", "dir", "fifo", "socket"
    };
    static const unsigned ways[] = { VV_OPEN_READ, VV_OPEN_WRITE, VV_OPEN_WRITE | VV_OPEN_CREATE };
    struct vv_file file = VV_FILE_NONE;
    struct vv_dir dir = VV_DIR_NONE;

    for (size_t i = 0; i < sizeof strangers / sizeof strangers[0]; i++) {
        for (size_t way = 0; way < 3 && exists(f, strangers[i]); way++)
            if (vv_file_open(&f->dir, strangers[i], ways[way], &file) != VARVE_CORRUPT || file.fd != -1)
                return strangers[i];
        if (strcmp(strangers[i], "dir") != 0 && exists(f, strangers[i]) &&
            (vv_dir_open_at(&f->dir, strangers[i], &dir) != VARVE_CORRUPT || dir.fd != -1))
            return strangers[i];
    }
    return exists(f, "nothing") ? "nothing" : NULL;
}

static void only_regular_files_and_directories_open(void **state)
{
    const struct fixture *f = *state;
    struct vv_dir dir = VV_DIR_NONE;

    make_strangers(f);
    assert_null(first_stranger_that_opens(f));
    assert_int_equal(vv_dir_open_at(&f->dir, "dir", &dir), VARVE_OK);
    vv_dir_close(&dir);
}

/* Forbid openat2 in a child, as old kernels (ENOSYS) and old sandboxes (EPERM) do: nothing may change. */
static void nothing_changes_on_a_kernel_without_openat2(void **state)
{
    static const int answers[] = { ENOSYS, EPERM };
    struct fixture *f = *state;
    bool able = true;

    make_strangers(f);
    for (size_t i = 0; i < 2; i++) {
        int status = 0;
        assert_int_equal(vv_dir_publish(&f->dir, "head", "old", 3), VARVE_OK);
        const pid_t child = fork();
        if (child == 0) {
            struct sock_filter filter[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)answers[i]),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
            };
            struct sock_fprog program = { .len = 4, .filter = filter };
            struct vv_dir dir = VV_DIR_NONE;
            if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
                prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
                _exit(77);
            if (syscall(SYS_openat2, -1, "", NULL, (size_t)0) != -1 || errno != answers[i])
                _exit(77);
            if (first_stranger_that_opens(f) != NULL || !head_is(f, "old") ||
                vv_dir_open_at(&f->dir, "dir", &dir) != VARVE_OK)
                _exit(1);
            _exit(vv_dir_publish(&f->dir, "head", "new", 3) == VARVE_OK ? 0 : 1);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        able = able && WEXITSTATUS(status) != 77;
        assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 77);
    }
    if (!able)
        skip();
}

static void a_name_is_one_component(void **state)
{
    static const char *const names[] = { "", ".", "..", "/", "a/b", "../x", "/etc/hostname", "real/" };
    const struct fixture *f = *state;
    const struct vv_vfs *vfs = &vv_vfs_system;

    assert_int_equal(vv_dir_publish(&f->dir, "real", "real", 4), VARVE_OK);
    assert_int_equal(mkdir(path_of(f, "a"), 0700), 0);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        int fd = -1;
        assert_int_equal(vfs->open(vfs, f->dir.fd, names[i], VV_OPEN_READ, &fd), EINVAL);
        assert_int_equal(vfs->open(vfs, f->dir.fd, names[i], VV_OPEN_DIRECTORY, &fd), EINVAL);
        assert_int_equal(vfs->open(vfs, f->dir.fd, names[i], VV_OPEN_WRITE | VV_OPEN_CREATE, &fd), EINVAL);
        assert_int_equal(fd, -1);
        assert_int_equal(vfs->mkdir(vfs, f->dir.fd, names[i]), EINVAL);
        assert_int_equal(vfs->unlink(vfs, f->dir.fd, names[i], false), EINVAL);
        assert_int_equal(vfs->rename(vfs, f->dir.fd, names[i], "to", true), EINVAL);
        assert_int_equal(vfs->rename(vfs, f->dir.fd, "real", names[i], true), EINVAL);
    }
    assert_true(exists(f, "real"));
}

static void opening_says_whether_it_is_absent_or_taken(void **state)
{
    const struct fixture *f = *state;
    struct vv_file file = VV_FILE_NONE;
    struct vv_dir dir = VV_DIR_NONE;
    const unsigned make = VV_OPEN_WRITE | VV_OPEN_CREATE | VV_OPEN_EXCLUSIVE;
    struct stat status;

    assert_int_equal(vv_file_open(&f->dir, "x", VV_OPEN_WRITE, &file), VARVE_NOT_FOUND);
    assert_int_equal(vv_file_open(&f->dir, "x", make, &file), VARVE_OK);
    assert_int_equal(fcntl(file.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(fstat(file.fd, &status), 0);
    assert_int_equal(status.st_mode & 0077, 0); /* nobody else's business */
    vv_file_close(&file);
    vv_file_close(&file); /* closing twice is fine */
    assert_int_equal(vv_file_open(&f->dir, "x", make, &file), VARVE_EXISTS);
    assert_int_equal(vv_dir_open_at(&f->dir, "y", &dir), VARVE_NOT_FOUND);
    assert_int_equal(vv_dir_open(&vv_vfs_system, path_of(f, "y"), &dir), VARVE_NOT_FOUND);
    assert_int_equal(vv_dir_open(&vv_vfs_system, path_of(f, "x"), &dir), VARVE_NOT_FOUND);
}

static void renaming_does_not_replace_unless_asked(void **state)
{
    const struct fixture *f = *state;
    const struct vv_vfs *vfs = &vv_vfs_system;

    assert_int_equal(vv_dir_publish(&f->dir, "head", "old", 3), VARVE_OK);
    assert_int_equal(vv_dir_publish(&f->dir, "other", "new", 3), VARVE_OK);
    assert_int_equal(vfs->rename(vfs, f->dir.fd, "other", "head", false), EEXIST);
    assert_true(head_is(f, "old"));
    assert_int_equal(vfs->rename(vfs, f->dir.fd, "other", "head", true), 0);
    assert_true(head_is(f, "new"));
}

/* ---- directories ------------------------------------------------------------------------------------ */

static void a_directory_is_made_durably_or_found(void **state)
{
    struct fixture *f = *state;
    bool existed = true;

    disarm(f);
    assert_int_equal(vv_dir_create(&f->d.table, path_of(f, "new//"), &existed), VARVE_OK);
    assert_false(existed);
    assert_int_equal(f->d.count, 2); /* made, and its name synced */
    assert_int_equal(vv_dir_create(&f->d.table, path_of(f, "new"), &existed), VARVE_OK);
    assert_true(existed);
    assert_int_equal(vv_dir_create(&f->d.table, path_of(f, "absent/new"), NULL), VARVE_NOT_FOUND);
    assert_int_equal(vv_dir_publish(&f->dir, "file", "x", 1), VARVE_OK);
    assert_int_equal(vv_dir_create(&f->d.table, path_of(f, "file"), NULL), VARVE_EXISTS);
    assert_int_equal(vv_dir_create_at(&f->dir, "new"), VARVE_OK);
    vv_double_arm(&f->d, VV_DOUBLE_FAIL, 2, EIO);
    assert_int_equal(vv_dir_create(&f->d.table, path_of(f, "newer"), NULL), VARVE_UNCERTAIN);
    vv_double_arm(&f->d, VV_DOUBLE_FAIL, 1, EROFS);
    assert_int_equal(vv_dir_create(&f->d.table, path_of(f, "newest"), NULL), VARVE_IO);
}

/* A relative path with no slash lies in the current directory: tried in a child, which may go there. */
static void a_relative_path_will_do(void **state)
{
    const struct fixture *f = *state;
    int status = 0;

    const pid_t child = fork();
    if (child == 0)
        _exit(chdir(f->path) == 0 && vv_dir_create(&vv_vfs_system, "here", NULL) == VARVE_OK ? 0 : 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_true(exists(f, "here"));
    assert_int_equal(vv_dir_create(&vv_vfs_system, "/", NULL), VARVE_OK);
}

struct names {
    unsigned seen, stop_after;
    bool a, b, other;
};

static int note_name(void *context, const char *name)
{
    struct names *names = context;

    names->a = names->a || strcmp(name, "a") == 0;
    names->b = names->b || strcmp(name, "b") == 0;
    names->other = names->other || (strcmp(name, "a") != 0 && strcmp(name, "b") != 0);
    return ++names->seen == names->stop_after;
}

static void a_file_has_further_names_and_links_are_only_read(void **state)
{
    const struct fixture *f = *state;
    struct vv_dir sub = VV_DIR_NONE;
    struct vv_file file = VV_FILE_NONE;
    char text[8];

    assert_int_equal(vv_dir_create_at(&f->dir, "sub"), VARVE_OK);
    assert_int_equal(vv_dir_open_at(&f->dir, "sub", &sub), VARVE_OK);
    assert_int_equal(vv_file_open(&f->dir, "frozen", VV_OPEN_WRITE | VV_OPEN_CREATE | VV_OPEN_FROZEN, &file), VARVE_OK);
    assert_int_equal(vv_file_write(&file, "one", 3, 0), VARVE_OK);
    vv_file_close(&file);
    assert_int_equal(vv_dir_link(&f->dir, "frozen", &sub, "second"), VARVE_OK);
    assert_int_equal(vv_dir_link(&f->dir, "frozen", &sub, "second"), VARVE_EXISTS);
    assert_int_equal(vv_dir_link(&f->dir, "nothing", &sub, "third"), VARVE_NOT_FOUND);
    assert_int_equal(vv_dir_unlink(&f->dir, "frozen"), VARVE_OK);
    struct fixture through = { .dir = sub };
    assert_int_equal(vv_dir_rename(&sub, "second", "head"), VARVE_OK);
    assert_true(head_is(&through, "one"));

    assert_int_equal(vv_dir_symlink(&f->dir, "last", "target"), VARVE_OK);
    assert_int_equal(vv_dir_symlink(&f->dir, "last", "other"), VARVE_EXISTS);
    assert_int_equal(vv_dir_readlink(&f->dir, "last", text, sizeof text), VARVE_OK);
    assert_string_equal(text, "target");
    assert_int_equal(vv_dir_readlink(&f->dir, "last", text, 6), VARVE_CORRUPT); /* longer than any of ours */
    assert_int_equal(vv_dir_readlink(&sub, "head", text, sizeof text), VARVE_CORRUPT);
    assert_int_equal(vv_dir_readlink(&sub, "nothing", text, sizeof text), VARVE_NOT_FOUND);
    assert_int_equal(vv_file_open(&f->dir, "last", VV_OPEN_READ, &file), VARVE_CORRUPT);
    assert_int_equal(vv_dir_remove(&f->dir, "sub"), VARVE_IO); /* not empty */
    assert_int_equal(vv_dir_unlink(&sub, "head"), VARVE_OK);
    assert_int_equal(vv_dir_remove(&f->dir, "sub"), VARVE_OK);
    assert_int_equal(vv_dir_remove(&f->dir, "sub"), VARVE_OK); /* absent is fine */
    vv_dir_close(&sub);
}

static void every_name_is_listed_once(void **state)
{
    const struct fixture *f = *state;

    assert_int_equal(vv_dir_publish(&f->dir, "a", "x", 1), VARVE_OK);
    assert_int_equal(vv_dir_create_at(&f->dir, "b"), VARVE_OK);
    for (int again = 0; again < 2; again++) {
        struct names names = { .seen = 0 };
        assert_int_equal(vv_dir_each(&f->dir, note_name, &names), VARVE_OK);
        assert_int_equal(names.seen, 2);
        assert_true(names.a && names.b && !names.other);
    }
    struct names first = { .stop_after = 1 };
    assert_int_equal(vv_dir_each(&f->dir, note_name, &first), VARVE_OK);
    assert_int_equal(first.seen, 1);
    assert_int_equal(vv_dir_unlink(&f->dir, "a"), VARVE_OK);
    assert_int_equal(vv_dir_unlink(&f->dir, "a"), VARVE_OK); /* absent is fine */
    assert_int_equal(vv_dir_unlink(&f->dir, "b"), VARVE_IO); /* a directory is not */
}

/* ---- reading and writing ---------------------------------------------------------------------------- */

static void reading_never_answers_what_is_not_there(void **state)
{
    const struct fixture *f = *state;
    struct vv_file file = VV_FILE_NONE;
    uint64_t size = 0;
    char data[8] = "........";
    size_t got = 0;

    assert_int_equal(vv_dir_publish(&f->dir, "head", "varve", 5), VARVE_OK);
    assert_int_equal(vv_file_open(&f->dir, "head", VV_OPEN_READ, &file), VARVE_OK);
    assert_int_equal(vv_file_size(&file, &size), VARVE_OK);
    assert_int_equal(size, 5);
    assert_int_equal(vv_file_read(&file, data, 5, 0), VARVE_OK);
    assert_memory_equal(data, "varve...", 8);
    assert_int_equal(vv_file_read(&file, data, 5, 1), VARVE_CORRUPT);
    assert_int_equal(vv_file_read(&file, data, 1, UINT64_MAX), VARVE_CORRUPT);
    assert_int_equal(vv_file_read(&file, data, 1, INT64_MAX), VARVE_CORRUPT);
    assert_int_equal(vv_file_read(&file, data, 8, INT64_MAX - 4), VARVE_CORRUPT);
    assert_int_equal(vv_file_read_some(&file, data, 8, 3, &got), VARVE_OK);
    assert_int_equal(got, 2);
    assert_int_equal(vv_file_write(&file, "x", 1, 0), VARVE_IO); /* opened for reading */
    vv_file_close(&file);
}

static void an_offset_beyond_all_files_is_no_room(void **state)
{
    const struct fixture *f = *state;
    struct vv_file file = VV_FILE_NONE;

    assert_int_equal(vv_file_open(&f->dir, "log", VV_OPEN_WRITE | VV_OPEN_CREATE, &file), VARVE_OK);
    assert_int_equal(vv_file_write(&file, "x", 1, INT64_MAX), VARVE_FULL);
    assert_int_equal(vv_file_write(&file, "x", 1, UINT64_MAX), VARVE_FULL);
    assert_int_equal(vv_file_truncate(&file, UINT64_MAX), VARVE_FULL);
    assert_int_equal(vv_file_allocate(&file, INT64_MAX, 1), VARVE_FULL);
    vv_file_close(&file);
}

static void room_is_made_and_given_back(void **state)
{
    struct fixture *f = *state;
    struct vv_file file = VV_FILE_NONE;
    uint64_t size = 0;
    uint64_t held = 0;

    assert_int_equal(vv_file_open(&f->dir, "log", VV_OPEN_WRITE | VV_OPEN_CREATE, &file), VARVE_OK);
    assert_int_equal(vv_file_allocate(&file, 0, 65536), VARVE_OK);
    assert_int_equal(vv_file_size(&file, &size), VARVE_OK);
    assert_int_equal(vv_file_allocated(&file, &held), VARVE_OK);
    assert_int_equal(size, 65536);
    assert_in_range(held, 0, 1 << 20);
    assert_int_equal(vv_file_truncate(&file, 1), VARVE_OK);
    assert_int_equal(vv_file_size(&file, &size), VARVE_OK);
    assert_int_equal(size, 1);
    vv_double_arm(&f->d, VV_DOUBLE_FAIL, 1, EOPNOTSUPP); /* as some file systems answer */
    assert_int_equal(vv_file_allocate(&file, 0, 4096), VARVE_OK);
    assert_int_equal(vv_file_size(&file, &size), VARVE_OK);
    assert_int_equal(size, 4096);
    vv_double_arm(&f->d, VV_DOUBLE_FAIL, 1, EOPNOTSUPP);
    assert_int_equal(vv_file_allocate(&file, 0, 100), VARVE_OK); /* and nothing is cut off */
    assert_int_equal(vv_file_size(&file, &size), VARVE_OK);
    assert_int_equal(size, 4096);
    vv_double_arm(&f->d, VV_DOUBLE_FAIL, 1, ENOSPC);
    assert_int_equal(vv_file_allocate(&file, 0, 4096), VARVE_FULL);
    vv_file_close(&file);
}

static void a_whole_file_is_read_within_its_limit(void **state)
{
    const struct fixture *f = *state;
    uint8_t *data = NULL;
    size_t size = 0;

    assert_int_equal(vv_dir_publish(&f->dir, "head", "varve", 5), VARVE_OK);
    assert_int_equal(vv_dir_read(&f->dir, "head", 4, &data, &size), VARVE_CORRUPT);
    assert_null(data);
    vv_alloc_fail_at(1);
    assert_int_equal(vv_dir_read(&f->dir, "head", 5, &data, &size), VARVE_MEMORY);
    assert_true(vv_alloc_disarm());
    assert_null(data);
    assert_int_equal(vv_dir_read(&f->dir, "head", 5, &data, &size), VARVE_OK);
    assert_int_equal(size, 5);
    assert_memory_equal(data, "varve", 5);
    vv_free(data);
    assert_int_equal(vv_dir_publish(&f->dir, "head", "", 0), VARVE_OK);
    assert_int_equal(vv_dir_read(&f->dir, "head", 0, &data, &size), VARVE_OK);
    assert_int_equal(size, 0);
    vv_free(data);
}

/* A system that is interrupted before every call but a sync, and moves one byte at a time. */
struct hiccup {
    struct vv_vfs table; /* first */
    bool again;
};

static bool hiccups(const struct vv_vfs *self)
{
    struct hiccup *hiccup = (struct hiccup *)(uintptr_t)self;

    hiccup->again = !hiccup->again;
    return hiccup->again;
}

static int hiccup_open(const struct vv_vfs *self, int dir, const char *name, unsigned flags, int *fd)
{
    return hiccups(self) ? EINTR : vv_vfs_system.open(&vv_vfs_system, dir, name, flags, fd);
}

static int hiccup_read(const struct vv_vfs *self, int fd, void *data, size_t size, uint64_t offset,
                       size_t *got)
{
    return hiccups(self) ? EINTR : vv_vfs_system.read(&vv_vfs_system, fd, data, size > 0, offset, got);
}

static int hiccup_write(const struct vv_vfs *self, int fd, const void *data, size_t size, uint64_t offset,
                        size_t *put)
{
    return hiccups(self) ? EINTR : vv_vfs_system.write(&vv_vfs_system, fd, data, size > 0, offset, put);
}

static int hiccup_allocate(const struct vv_vfs *self, int fd, uint64_t offset, uint64_t size)
{
    return hiccups(self) ? EINTR : vv_vfs_system.allocate(&vv_vfs_system, fd, offset, size);
}

static int hiccup_truncate(const struct vv_vfs *self, int fd, uint64_t size)
{
    return hiccups(self) ? EINTR : vv_vfs_system.truncate(&vv_vfs_system, fd, size);
}

static int hiccup_mkdir(const struct vv_vfs *self, int dir, const char *name)
{
    return hiccups(self) ? EINTR : vv_vfs_system.mkdir(&vv_vfs_system, dir, name);
}

static int hiccup_unlink(const struct vv_vfs *self, int dir, const char *name, bool directory)
{
    return hiccups(self) ? EINTR : vv_vfs_system.unlink(&vv_vfs_system, dir, name, directory);
}

static int hiccup_lock(const struct vv_vfs *self, int fd, enum vv_lock_kind kind, uint64_t offset,
                       uint64_t size, int *holder)
{
    return hiccups(self) ? EINTR : vv_vfs_system.lock(&vv_vfs_system, fd, kind, offset, size, holder);
}

static void interrupted_and_short_calls_are_continued(void **state)
{
    const struct fixture *f = *state;
    struct hiccup hiccup = { .table = vv_vfs_system };
    struct vv_dir dir = VV_DIR_NONE;
    struct vv_file file = VV_FILE_NONE;

    hiccup.table.open = hiccup_open;
    hiccup.table.read = hiccup_read;
    hiccup.table.write = hiccup_write;
    hiccup.table.allocate = hiccup_allocate;
    hiccup.table.truncate = hiccup_truncate;
    hiccup.table.mkdir = hiccup_mkdir;
    hiccup.table.unlink = hiccup_unlink;
    hiccup.table.lock = hiccup_lock;
    assert_int_equal(vv_dir_open(&hiccup.table, f->path, &dir), VARVE_OK);
    assert_int_equal(vv_dir_create_at(&dir, "sub"), VARVE_OK);
    assert_int_equal(vv_dir_publish(&dir, "head", "0123456789", 10), VARVE_OK);
    assert_true(head_is(f, "0123456789"));
    struct fixture through = { .dir = dir };
    assert_true(head_is(&through, "0123456789"));
    assert_int_equal(vv_file_open(&dir, "head", VV_OPEN_WRITE, &file), VARVE_OK);
    assert_int_equal(vv_file_allocate(&file, 0, 4096), VARVE_OK);
    assert_int_equal(vv_file_truncate(&file, 3), VARVE_OK);
    assert_int_equal(vv_file_lock(&file, VV_LOCK_EXCLUSIVE, 0, 1, 0), VARVE_OK);
    vv_file_close(&file);
    assert_true(head_is(f, "012"));
    assert_int_equal(vv_dir_unlink(&dir, "head"), VARVE_OK);
    assert_false(exists(f, "head"));
    vv_dir_close(&dir);
}

static int write_nothing(const struct vv_vfs *self, int fd, const void *data, size_t size, uint64_t offset,
                         size_t *put)
{
    (void)self, (void)fd, (void)data, (void)size, (void)offset;
    *put = 0;
    return 0;
}

static void a_system_that_takes_no_bytes_is_not_asked_for_ever(void **state)
{
    const struct fixture *f = *state;
    struct vv_vfs table = vv_vfs_system;
    const struct vv_dir dir = { .vfs = &table, .fd = f->dir.fd };

    table.write = write_nothing;
    assert_int_equal(vv_dir_publish(&dir, "head", "new", 3), VARVE_IO);
    assert_false(exists(f, "head"));
}

/* ---- locks ------------------------------------------------------------------------------------------ */

static struct vv_file open_lock(const struct fixture *f)
{
    struct vv_file file = VV_FILE_NONE;

    assert_int_equal(vv_file_open(&f->dir, "lock", VV_OPEN_WRITE | VV_OPEN_CREATE, &file), VARVE_OK);
    return file;
}

static void two_handles_in_one_process_exclude_each_other(void **state)
{
    const struct fixture *f = *state;
    struct vv_file one = open_lock(f);
    struct vv_file two = open_lock(f);
    struct vv_file three = open_lock(f);

    assert_int_equal(vv_file_lock(&one, VV_LOCK_EXCLUSIVE, 0, 1, 0), VARVE_OK);
    assert_int_equal(vv_file_lock(&two, VV_LOCK_EXCLUSIVE, 0, 1, 0), VARVE_BUSY);
    assert_int_equal(vv_file_lock(&two, VV_LOCK_SHARED, 0, 1, 0), VARVE_BUSY);
    assert_int_equal(vv_file_lock(&two, VV_LOCK_SHARED, 1, 1, 0), VARVE_OK);      /* another byte */
    assert_int_equal(vv_file_lock(&three, VV_LOCK_SHARED, 1, 1, 0), VARVE_OK);    /* shared is shared */
    assert_int_equal(vv_file_lock(&one, VV_LOCK_EXCLUSIVE, 1, 0, 0), VARVE_BUSY); /* to the end */
    vv_file_close(&three); /* the lock of one handle does not go with another's closing */
    assert_int_equal(vv_file_lock(&two, VV_LOCK_EXCLUSIVE, 0, 1, 0), VARVE_BUSY);
    assert_int_equal(vv_file_lock(&one, VV_LOCK_RELEASE, 0, 1, 0), VARVE_OK);
    assert_int_equal(vv_file_lock(&two, VV_LOCK_EXCLUSIVE, 0, 1, 0), VARVE_OK);
    vv_file_close(&two);
    assert_int_equal(vv_file_lock(&one, VV_LOCK_EXCLUSIVE, 0, 0, 0), VARVE_OK); /* closing releases */
    vv_file_close(&one);
}

/* A child that takes the lock, says so through a pipe, and holds it for so long. */
static pid_t hold_in_a_child(const struct fixture *f, unsigned hold_ms)
{
    int tube[2];
    char byte = 0;

    assert_int_equal(pipe(tube), 0);
    const pid_t child = fork();
    if (child == 0) {
        struct vv_file file = VV_FILE_NONE;
        if (vv_file_open(&f->dir, "lock", VV_OPEN_WRITE | VV_OPEN_CREATE, &file) != VARVE_OK ||
            vv_file_lock(&file, VV_LOCK_EXCLUSIVE, 0, 1, 0) != VARVE_OK || write(tube[1], "x", 1) != 1)
            _exit(1);
        (void)usleep(hold_ms * 1000);
        _exit(0);
    }
    (void)close(tube[1]);
    assert_int_equal(read(tube[0], &byte, 1), 1);
    (void)close(tube[0]);
    return child;
}

static void another_process_is_waited_for_only_so_long(void **state)
{
    const struct fixture *f = *state;
    struct vv_file file = open_lock(f);
    int status = 0;

    const pid_t child = hold_in_a_child(f, 300);
    assert_int_equal(vv_file_lock(&file, VV_LOCK_EXCLUSIVE, 0, 1, 0), VARVE_BUSY);
    assert_non_null(strstr(vv_words(), "lock"));
    const uint64_t start = vv_clock_monotonic_ns();
    assert_int_equal(vv_file_lock(&file, VV_LOCK_EXCLUSIVE, 0, 1, 20), VARVE_BUSY);
    assert_true(vv_clock_monotonic_ns() - start >= 20 * UINT64_C(1000000));
    assert_int_equal(vv_file_lock(&file, VV_LOCK_EXCLUSIVE, 0, 1, 60000), VARVE_OK);
    assert_int_equal(waitpid(child, &status, 0), child);
    vv_file_close(&file);
}

static void a_killed_holder_leaves_no_lock(void **state)
{
    const struct fixture *f = *state;
    struct vv_file file = open_lock(f);
    int status = 0;

    const pid_t child = hold_in_a_child(f, 60000);
    assert_int_equal(vv_file_lock(&file, VV_LOCK_EXCLUSIVE, 0, 1, 0), VARVE_BUSY);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(vv_file_lock(&file, VV_LOCK_EXCLUSIVE, 0, 1, 0), VARVE_OK);
    vv_file_close(&file);
}

/* The child has the parent's open file: its end must not take the parent's lock with it. */
static void a_forked_child_that_ends_does_not_unlock(void **state)
{
    const struct fixture *f = *state;
    struct vv_file one = open_lock(f);
    struct vv_file two = open_lock(f);
    int status = 0;

    assert_int_equal(vv_file_lock(&one, VV_LOCK_EXCLUSIVE, 0, 1, 0), VARVE_OK);
    const pid_t child = fork();
    if (child == 0) {
        vv_file_close(&one);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(vv_file_lock(&two, VV_LOCK_EXCLUSIVE, 0, 1, 0), VARVE_BUSY);
    vv_file_close(&one);
    vv_file_close(&two);
}

/* ---- the double itself ------------------------------------------------------------------------------ */

struct trace {
    unsigned count;
    enum vv_double_call calls[16];
    int results[16];
    size_t bytes;
};

static void trace_event(void *context, const struct vv_double_event *event)
{
    struct trace *trace = context;

    if (trace->count < 16) {
        trace->calls[trace->count] = event->call;
        trace->results[trace->count] = event->result;
    }
    trace->count++;
    if (event->call == VV_CALL_WRITE)
        trace->bytes += event->size;
}

static void the_double_records_calls_in_their_order(void **state)
{
    static const enum vv_double_call expected[] = { VV_CALL_CREATE, VV_CALL_WRITE, VV_CALL_SYNC_DIR,
                                                    VV_CALL_RENAME, VV_CALL_SYNC_DIR };
    struct fixture *f = *state;
    struct trace trace = { .count = 0 };

    disarm(f);
    f->d.record = trace_event;
    f->d.context = &trace;
    assert_int_equal(vv_dir_publish(&f->dir, "head", "varve", 5), VARVE_OK);
    assert_int_equal(trace.count, 5);
    assert_int_equal(f->d.count, 5);
    assert_memory_equal(trace.calls, expected, sizeof expected);
    assert_int_equal(trace.bytes, 5);
    assert_false(vv_double_fired(&f->d));
    trace = (struct trace){ .count = 0 };
    vv_double_arm(&f->d, VV_DOUBLE_HALF, 2, ENOSPC);
    assert_int_equal(vv_dir_publish(&f->dir, "head", "varve", 5), VARVE_FULL);
    assert_int_equal(trace.results[1], ENOSPC);
    assert_int_equal(trace.bytes, 2); /* what reached the file, not what was told */
    assert_string_equal(vv_double_call_name(f->d.fired_call), "write");
}

enum { THREADS = 4, WRITES = 500 };

static void *write_often(void *context)
{
    const struct fixture *f = context;
    struct vv_file file = VV_FILE_NONE;
    uintptr_t failures = 0;

    if (vv_file_open(&f->dir, "shared", VV_OPEN_WRITE, &file) != VARVE_OK)
        return (void *)(uintptr_t)WRITES;
    for (int i = 0; i < WRITES; i++)
        failures += vv_file_write(&file, "x", 1, 0) != VARVE_OK;
    vv_file_close(&file);
    return (void *)failures;
}

static void the_double_counts_over_all_threads(void **state)
{
    struct fixture *f = *state;
    pthread_t threads[THREADS];
    uintptr_t failures = 0;

    assert_int_equal(vv_dir_publish(&f->dir, "shared", "x", 1), VARVE_OK);
    vv_double_arm(&f->d, VV_DOUBLE_STICK, THREADS * WRITES - 9, EIO);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_often, f), 0);
    for (int i = 0; i < THREADS; i++) {
        void *result = NULL;
        assert_int_equal(pthread_join(threads[i], &result), 0);
        failures += (uintptr_t)result;
    }
    assert_int_equal(f->d.count, THREADS * WRITES);
    assert_int_equal(failures, 10);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(publish_is_atomic_under_every_fault),
        TEST(publish_works_again_after_the_system_refused_everything),
        TEST(publish_survives_a_kill_at_every_call),
        TEST(a_short_write_is_continued_and_a_half_one_is_a_failure),
        TEST(words_say_what_where_and_what_to_do),
        TEST(a_failed_sync_is_never_tried_again),
        TEST(a_failed_write_does_not_poison),
        TEST(only_regular_files_and_directories_open),
        TEST(nothing_changes_on_a_kernel_without_openat2),
        TEST(a_name_is_one_component),
        TEST(opening_says_whether_it_is_absent_or_taken),
        TEST(renaming_does_not_replace_unless_asked),
        TEST(a_directory_is_made_durably_or_found),
        TEST(a_relative_path_will_do),
        TEST(a_file_has_further_names_and_links_are_only_read),
        TEST(every_name_is_listed_once),
        TEST(reading_never_answers_what_is_not_there),
        TEST(an_offset_beyond_all_files_is_no_room),
        TEST(room_is_made_and_given_back),
        TEST(a_whole_file_is_read_within_its_limit),
        TEST(interrupted_and_short_calls_are_continued),
        TEST(a_system_that_takes_no_bytes_is_not_asked_for_ever),
        TEST(two_handles_in_one_process_exclude_each_other),
        TEST(another_process_is_waited_for_only_so_long),
        TEST(a_killed_holder_leaves_no_lock),
        TEST(a_forked_child_that_ends_does_not_unlock),
        TEST(the_double_records_calls_in_their_order),
        TEST(the_double_counts_over_all_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
