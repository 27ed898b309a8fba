/* fault.c - see fault.h. State of the process: there is one handler of a signal, and one that was there before. */
#include "vm/fault.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int install_errno;
static struct sigaction before;
static size_t host_page;

/* Initial-exec: the handler must not allocate what this lies in. */
static _Thread_local struct vv_fault *innermost __attribute__((tls_model("initial-exec")));

static void pass_on(int signal, siginfo_t *info, void *context)
{
    if ((before.sa_flags & SA_SIGINFO) != 0) {
        before.sa_sigaction(signal, info, context);
    } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
        before.sa_handler(signal);
    } else { /* back to the instruction, which raises it again and ends the process with the right signal */
        struct sigaction end = { .sa_handler = SIG_DFL };
        (void)sigaction(signal, &end, NULL);
    }
}

/* Only what may be called in a handler: mmap is one system call. */
static void on_bus_error(int signal, siginfo_t *info, void *context)
{
    const int number = errno;
    uint8_t *const at = info->si_addr;

    for (struct vv_fault *fault = innermost; fault != NULL; fault = fault->outer) {
        if (at < fault->bytes || (size_t)(at - fault->bytes) >= fault->size)
            continue;
        uint8_t *const page = at - (uintptr_t)at % host_page;
        if (mmap(page, host_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
            MAP_FAILED)
            break;
        if (fault->hit == 0)
            fault->offset = (size_t)(at - fault->bytes);
        fault->hit = 1;
        fault->stop(fault->context);
        errno = number;
        return;
    }
    errno = number;
    pass_on(signal, info, context);
}

static void install(void)
{
    struct sigaction action = { .sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_ONSTACK };

    host_page = (size_t)sysconf(_SC_PAGESIZE);
    (void)sigemptyset(&action.sa_mask);
    if (sigaction(SIGBUS, &action, &before) != 0)
        install_errno = errno;
}

varve_status vv_fault_install(void)
{
    (void)pthread_once(&once, install);
    return install_errno == 0 ? VARVE_OK : vv_fail_errno(install_errno, "handle SIGBUS");
}

void vv_fault_enter(struct vv_fault *fault)
{
    fault->hit = 0;
    fault->outer = innermost;
    innermost = fault;
}

void vv_fault_leave(struct vv_fault *fault)
{
    innermost = fault->outer;
}
