/* process.c - see process.h. Success is told by a byte in a pipe, not by the exit code: a program that ignores SIGCHLD,
 * or waits for any child of its own, takes exit codes away. */
#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int by_number(const void *a, const void *b)
{
    const int x = *(const int *)a;
    const int y = *(const int *)b;

    return (x > y) - (x < y);
}

static void close_between(int first, int last)
{
    if (first > last)
        return;
#ifdef SYS_close_range
    if (syscall(SYS_close_range, (unsigned)first, (unsigned)last, 0u) == 0)
        return;
#endif
    /* Before Linux 5.9. More than so many are not open at once where it matters. */
    for (int fd = first; fd <= last && fd < 65536; fd++)
        (void)close(fd);
}

/* All but those in `keep` (ascending) and standard input, output and error. */
static void close_others(const int *keep, size_t count)
{
    int next = STDERR_FILENO + 1;

    for (size_t i = 0; i < count; i++) {
        close_between(next, keep[i] - 1);
        next = keep[i] + 1;
    }
    close_between(next, INT_MAX);
}

varve_status vv_child_start(struct vv_child *child, bool (*run)(void *context), void *context,
                            const int *keep, size_t keep_count)
{
    int kept[VV_CHILD_KEEP + 1];
    int ends[2];

    VV_ASSERT(keep_count <= VV_CHILD_KEEP);
    *child = VV_CHILD_NONE;
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return vv_fail_errno(errno, "make a pipe");
    for (size_t i = 0; i < keep_count; i++)
        kept[i] = keep[i];
    kept[keep_count] = ends[1];
    qsort(kept, keep_count + 1, sizeof *kept, by_number);
    const pid_t pid = fork();
    if (pid == 0) {
        const char done = 1;
        close_others(kept, keep_count + 1);
        const bool fine = run(context) && write(ends[1], &done, 1) == 1;
        _exit(fine ? 0 : 1);
    }
    const int number = errno;
    (void)close(ends[1]);
    if (pid < 0) {
        (void)close(ends[0]);
        return vv_fail_errno(number, "fork");
    }
    *child = (struct vv_child){ .pid = pid, .done = ends[0] };
    return VARVE_OK;
}

bool vv_child_ended(struct vv_child *child, bool wait, bool *succeeded)
{
    char done = 0;
    pid_t got = 0;

    do
        got = waitpid(child->pid, NULL, wait ? 0 : WNOHANG);
    while (got < 0 && errno == EINTR);
    if (got == 0)
        return false;
    ssize_t size = 0;
    do
        size = read(child->done, &done, 1);
    while (size < 0 && errno == EINTR);
    if (size < 0 && errno == EAGAIN)
        return false; /* somebody else waits for our children: it has not ended */
    *succeeded = size == 1;
    (void)close(child->done);
    *child = VV_CHILD_NONE;
    return true;
}

void vv_child_kill(struct vv_child *child)
{
    bool succeeded = false;

    if (child->pid == 0)
        return;
    (void)kill(child->pid, SIGKILL);
    if (!vv_child_ended(child, true, &succeeded)) {
        (void)close(child->done);
        *child = VV_CHILD_NONE;
    }
}
