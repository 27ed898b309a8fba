/* Who may hold a store, and what becomes of it when the holder is killed, forks or closes.
 *
 * Another process is a child that does one thing and tells its status; what it inherits it must not use up. */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "past.h"
#include "scratch.h"
#include "tally.h"

static char root[SCRATCH_PATH], path[SCRATCH_PATH + 16];
static struct past past;
static uint64_t tries, violations;

static void expect(varve_status found, varve_status wanted, const char *what)
{
    tries++;
    if (found == wanted)
        return;
    violations++;
    (void)fprintf(stderr, "%s: status %d, not %d: %s\n", what, (int)found, (int)wanted, vv_words());
}

static varve_status open_store(uint32_t flags, varve_store **store)
{
    const varve_store_options options = { .size = sizeof options, .flags = flags };

    *store = NULL;
    return vv_store_open(&vv_vfs_system, path, &options, store);
}

static pid_t fork_or_end(void)
{
    const pid_t child = fork();

    if (child == -1) {
        perror("fork");
        exit(2);
    }
    if (child == 0)
        (void)alarm(60);
    return child;
}

static int ended(pid_t child)
{
    int status = 0;

    if (waitpid(child, &status, 0) != child) {
        perror("waitpid");
        exit(2);
    }
    return status;
}

/* What another process is told that opens the store. */
static varve_status opened_by_another(uint32_t flags)
{
    const pid_t child = fork_or_end();

    if (child == 0) {
        varve_store *store = NULL;
        const varve_status rc = open_store(flags, &store);
        vv_store_close(store);
        _exit((int)rc);
    }
    const int status = ended(child);
    return WIFEXITED(status) ? (varve_status)WEXITSTATUS(status) : VARVE_PANIC;
}

/* There is one writer, in whatever process the second tries. */
static void a_second_writer_is_refused(void)
{
    varve_store *store = NULL;
    varve_store *second = NULL;

    expect(open_store(0, &store), VARVE_OK, "a writer");
    expect(open_store(0, &second), VARVE_BUSY, "a second writer in the process");
    vv_store_close(second);
    expect(opened_by_another(0), VARVE_BUSY, "a second writer in another process");
    expect(past_commit(&past, store, "main", PAST_COMMITS, VARVE_DURABLE), VARVE_OK, "the first goes on");
    vv_store_close(store);
    expect(opened_by_another(0), VARVE_OK, "the first has closed");
}

/* Opening and closing what others hold takes nothing from them. */
static void a_close_unlocks_its_own(void)
{
    varve_store *store = NULL;
    varve_store *second = NULL;

    expect(open_store(0, &store), VARVE_OK, "a writer");
    (void)open_store(VARVE_STORE_READ_ONLY, &second);
    vv_store_close(second);
    (void)open_store(0, &second);
    vv_store_close(second);
    expect(opened_by_another(0), VARVE_BUSY, "after others came and went");
    vv_store_close(store);
}

/* Killed at any moment: the next opens at once, and has what was acknowledged. */
static void a_killed_holder_leaves_no_lock(void)
{
    for (unsigned i = 0; i < 12; i++) {
        int told[2];
        char branch[16];
        unsigned char byte = 0;
        varve_store *store = NULL;
        if (pipe(told) != 0) {
            perror("pipe");
            exit(2);
        }
        (void)snprintf(branch, sizeof branch, "other%u", i);
        const pid_t child = fork_or_end();
        if (child == 0) {
            bool well = open_store(0, &store) == VARVE_OK;
            while (well && past.commit_count < PAST_COMMITS) {
                well = past_commit(&past, store, branch, PAST_COMMITS, VARVE_BUFFERED) == VARVE_OK;
                well = well && write(told[1], "x", 1) == 1;
            }
            if (well)
                (void)pause();
            _exit(1);
        }
        (void)close(told[1]);
        for (unsigned k = 0; k <= i; k++)
            if (read(told[0], &byte, 1) != 1)
                expect(VARVE_END, VARVE_OK, "the child commits");
        expect(opened_by_another(0), VARVE_BUSY, "while it lives");
        (void)kill(child, SIGKILL);
        (void)ended(child);
        (void)close(told[0]);
        expect(open_store(0, &store), VARVE_OK, "after it was killed");
        if (store != NULL)
            expect(past_read_all(&past, store), VARVE_OK, "what was acknowledged");
        vv_store_close(store);
    }
}

/* A child has what its parent had open. Ending, it unlocks nothing; living on, it holds nothing. */
static void a_fork_holds_and_unlocks_nothing(void)
{
    varve_store *store = NULL;
    int status = 0;

    expect(open_store(0, &store), VARVE_OK, "a writer");
    pid_t child = fork_or_end();
    if (child == 0)
        _exit(0);
    (void)ended(child);
    expect(opened_by_another(0), VARVE_BUSY, "a child ended");
    child = fork_or_end();
    if (child == 0) {
        vv_store_close(store);
        _exit(0);
    }
    status = ended(child);
    expect(WIFEXITED(status) ? VARVE_OK : VARVE_PANIC, VARVE_OK, "a child closes what it inherited");
    expect(opened_by_another(0), VARVE_BUSY, "a child closed what it inherited");
    expect(past_commit(&past, store, "main", PAST_COMMITS, VARVE_DURABLE), VARVE_OK, "the parent goes on");
    child = fork_or_end();
    if (child == 0) {
        (void)pause();
        _exit(0);
    }
    vv_store_close(store);
    expect(opened_by_another(0), VARVE_OK, "the parent closed, and its child lives");
    (void)kill(child, SIGKILL);
    (void)ended(child);
    expect(open_store(0, &store), VARVE_OK, "after all");
    if (store != NULL)
        expect(past_read_all(&past, store), VARVE_OK, "all is there");
    vv_store_close(store);
}

int main(void)
{
    varve_store *store = NULL;

    scratch_in_memory();
    scratch_new(root);
    (void)snprintf(path, sizeof path, "%s/store", root);
    past.chance.state = 9;
    expect(open_store(VARVE_STORE_CREATE, &store), VARVE_OK, "create");
    for (unsigned i = 0; i < 3; i++)
        expect(past_commit(&past, store, "main", PAST_COMMITS, VARVE_DURABLE), VARVE_OK, "a commit");
    vv_store_close(store);
    a_second_writer_is_refused();
    a_close_unlocks_its_own();
    a_killed_holder_leaves_no_lock();
    a_fork_holds_and_unlocks_nothing();
    tally("hold", tries, violations);
    (void)printf("%u passed, %u failed\n", violations == 0 ? 4 : 0, violations != 0);
    scratch_remove(root);
    return violations == 0 ? 0 : 1;
}
