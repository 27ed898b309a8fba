/* Who may hold a store, and what becomes of it when the holder is killed, forks or closes; and what becomes of a commit
 * that is held while it is deleted and its space is given back.
 *
 * Another process is a child that does one thing and tells its status; what it inherits it must not use up. */
#include <dirent.h>
#include <stdatomic.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "past.h"
#include "scratch.h"
#include "store/diff.h"
#include "store/journal/place.h"
#include "store/journal/snapshot.h"
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

/* ---- Held while it is deleted ------------------------------------------------------------------- */

enum { OLD = 10, ROUNDS = 8, PATIENCE_MS = 20000 };

/* Two readers, and what the writer tells them. */
static struct board {
    _Atomic uint64_t ready, looks,
        wrong; /* readers that hold; times that one read all of it; what was not right */
    _Atomic bool late, stop;
} * board;

/* The log's files: bytes on the disk, and whether the first that there ever was is there. */
static uint64_t log_bytes(bool *first)
{
    uint64_t bytes = 0;
    DIR *dir = opendir(path);

    *first = false;
    if (dir == NULL)
        return 0;
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        struct stat status;
        if (strncmp(entry->d_name, "log.", 4) != 0 || fstatat(dirfd(dir), entry->d_name, &status, 0) != 0)
            continue;
        bytes += (uint64_t)status.st_blocks * 512;
        *first = *first || strcmp(entry->d_name, "log.0000000000001000") == 0;
    }
    (void)closedir(dir);
    return bytes;
}

static unsigned module_of(const varve_module_id *id)
{
    varve_module_id candidate;

    for (unsigned module = 0; module + 1 < MODEL_MODULES; module++) {
        model_module_id(module, &candidate);
        if (memcmp(&candidate, id, sizeof candidate) == 0)
            return module;
    }
    return MODEL_MODULES - 1;
}

/* One page after the other, from the log: all that tells the commit from the empty state. */
static varve_status read_pages(varve_store *store, varve_commit *held, const struct model_state *state)
{
    varve_status rc = VARVE_OK;
    varve_diff *diff = NULL;
    const varve_change *change = NULL;
    uint8_t wanted[VV_PAGE_SIZE];
    unsigned told = 0;
    unsigned pages = 0;

    TRY(vv_diff_open(store, NULL, held, &diff));
    while ((rc = vv_diff_next(diff, &change)) == VARVE_OK) {
        if (change->kind != VARVE_CHANGE_PAGE)
            continue;
        const unsigned module = module_of(&change->module);
        model_page(state->page[module][change->index], wanted);
        if (change->after == NULL || memcmp(change->after, wanted, sizeof wanted) != 0)
            TRY(vv_fail(VARVE_CONFLICT, "page %u of module %u is another", (unsigned)change->index, module));
        told++;
    }
    TRY(rc == VARVE_END ? VARVE_OK : rc);
    for (unsigned module = 0; module < MODEL_MODULES; module++)
        for (uint32_t i = 0; state->present[module] && i < state->size[module]; i++)
            pages += state->page[module][i] != 0;
    if (told != pages)
        rc = vv_fail(VARVE_CONFLICT, "%u pages are there, not %u", told, pages);
out:
    vv_diff_close(diff);
    return rc;
}

static void look(varve_store *store, varve_commit *held, unsigned commit)
{
    varve_status rc = read_pages(store, held, &past.commits[commit].state);

    if (rc == VARVE_OK)
        rc = past_read_held(&past, store, held, commit);
    if (rc != VARVE_OK && board->wrong++ == 0)
        (void)fprintf(stderr, "what a reader holds: status %d: %s\n", (int)rc, vv_words());
    board->looks++;
}

/* In a process of its own: hold a commit, and read it again and again; `late`: for the first time when told. */
static pid_t start_reader(unsigned commit, bool late)
{
    const pid_t child = fork_or_end();
    varve_store *store = NULL;
    varve_commit *held = NULL;

    if (child != 0)
        return child;
    varve_status rc = open_store(VARVE_STORE_READ_ONLY, &store);
    if (rc == VARVE_OK)
        rc = vv_commit_open_id(store, &past.commits[commit].id, &held);
    if (rc != VARVE_OK)
        _exit(1);
    board->ready++;
    while (!board->stop) {
        if (!late || board->late)
            look(store, held, commit);
        vv_clock_sleep_ms(1);
    }
    vv_commit_close(held);
    vv_store_close(store);
    _exit(0);
}

static bool wait_for(const _Atomic uint64_t *count, uint64_t wanted)
{
    for (unsigned ms = 0; *count < wanted; ms++) {
        if (ms > PATIENCE_MS)
            return false;
        vv_clock_sleep_ms(1);
    }
    return true;
}

static varve_status reclaim_and_snapshot(varve_store *store)
{
    uint64_t freed = 0;
    varve_status rc = store->layout->maintain(store->place, 0, NULL, NULL, &freed);

    return rc == VARVE_OK ? vv_place_snapshot(store->place, false) : rc;
}

/* Whoever holds a commit reads the same bytes, whatever the writer deletes, gives back and snapshots; what it needs
 * goes when it has gone, not before. */
static void what_is_held_stays(void)
{
    varve_store *store = NULL;
    varve_commit *own = NULL;
    bool first = false;

    past = (struct past){ .chance = { .state = 5 } };
    (void)snprintf(path, sizeof path, "%s/held", root);
    expect(open_store(VARVE_STORE_CREATE, &store), VARVE_OK, "create");
    for (unsigned i = 0; i < OLD; i++)
        expect(past_commit(&past, store, "main", PAST_COMMITS, VARVE_DURABLE), VARVE_OK, "a commit");
    vv_store_close(store);
    const pid_t reader = start_reader(0, false);
    const pid_t late = start_reader(1, true);
    expect(open_store(VARVE_STORE_NO_THREADS, &store), VARVE_OK, "a writer");
    expect(vv_commit_open_id(store, &past.commits[2].id, &own), VARVE_OK, "its own hold");
    expect(wait_for(&board->ready, 2), true, "readers that hold");
    for (unsigned round = 0; round < ROUNDS; round++) {
        const uint64_t looks = board->looks;
        expect(past_commit(&past, store, "main", PAST_COMMITS, VARVE_DURABLE), VARVE_OK, "a commit");
        expect(past_remove(&past, store, round), VARVE_OK, "a deletion");
        if (round >= 2)
            expect(past_remove(&past, store, OLD + round - 2), VARVE_OK, "a deletion of what was made since");
        expect(reclaim_and_snapshot(store), VARVE_OK, "gc");
        expect(wait_for(&board->looks, looks + 2), true, "a reader that goes on");
        expect(past_read_only(&past, store), VARVE_OK, "what is retained");
    }
    expect(vv_place_generation(store->place) > 0, true, "something was retired");
    board->late = true;
    expect(wait_for(&board->looks, board->looks + 8), true, "readers that go on");
    expect(read_pages(store, own, &past.commits[2].state), VARVE_OK, "what the writer holds");
    expect(past_read_held(&past, store, own, 2), VARVE_OK, "what the writer holds, mapped");
    vv_commit_close(own);
    expect(reclaim_and_snapshot(store), VARVE_OK, "gc while readers hold");
    const uint64_t before = log_bytes(&first);
    expect(first, true, "what readers hold is on the disk");
    board->stop = true;
    expect(WIFEXITED(ended(reader)) && WIFEXITED(ended(late)), true, "readers end");
    expect(board->wrong == 0, true, "what readers read");
    expect(reclaim_and_snapshot(store), VARVE_OK, "gc when they have gone");
    expect(log_bytes(&first) < before / 2, true, "space is given back");
    expect(first, false, "and the first segment");
    expect(past_read_only(&past, store), VARVE_OK, "what is retained");
    vv_store_close(store);
    (void)printf("held while the writer went on: read %llu times\n", (unsigned long long)board->looks);
}

int main(void)
{
    varve_store *store = NULL;

    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED) {
        perror("mmap");
        return 2;
    }
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
    what_is_held_stays();
    tally("hold", tries, violations);
    (void)printf("%u passed, %u failed\n", violations == 0 ? 5 : 0, violations != 0);
    scratch_remove(root);
    return violations == 0 ? 0 : 1;
}
