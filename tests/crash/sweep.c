/* sweep.c - see sweep.h.
 *
 *   <scratch>/base/store     what `prepare` made; copied for each point
 *   <scratch>/trial/store    where `run` works, and what is checked
 *   <scratch>/again/store    a copy of it after a kill, for the recovery sweep
 * All that a child tells goes through `shared`: a page that outlives it. In a program that repeats (see sweep_repeats)
 * chance and time are the same in every run, so that most points leave a disk, byte for byte, that another one left. */
#include "sweep.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/double.h"
#include "digest.h"
#include "scratch.h"
#include "tally.h"

enum {
    CALLS = 4096,       /* more than any operation here should make */
    ALLOCATIONS = 2000, /* as many are failed, one after the other; more are told to be left out */
    CHILD_SECONDS = 60,
    FINDINGS_SHOWN = 8,
    ENOUGH = 40 /* findings, in a quick sweep */
};

static const char *const kind_names[] = { "plain", "kill",  "torn",   "fault",   "sticky",
                                          "half",  "short", "memory", "recovery" };

struct call_seen {
    enum vv_double_call call;
    char name[48]; /* relative to the store; "." for itself */
};
struct shared {
    struct sweep_ledger ledger;
    struct vv_double d;
    struct call_seen calls[CALLS]; /* of the plain run */
    struct call_seen fired;        /* the call that was failed */
    unsigned seen;
    varve_status status; /* what `run` returned */
    bool finished;       /* it did */
    unsigned fired_in;   /* the opening in which it was */
    bool fired_closing;  /* it was while that was closed */
    bool synced_again;   /* in which the file whose sync failed was asked for another */
    bool allocation_failed;
    char words[504];
};
/* Digests, by their first bytes; a free place is all zeros. */
struct digests {
    uint8_t (*place)[VV_HASH_SIZE];
    size_t count, room; /* room: a power of two, or 0 */
};
/* What is done to a child. */
struct point {
    enum sweep_kind kind;
    enum vv_double_mode mode;
    unsigned nth;
    int number;
    const struct point *after; /* recovery: the kill that it follows */
};
struct sweep {
    const struct sweep_op *op;
    struct sweep_report *report;
    struct shared *shared;
    struct sweep_ledger prepared;
    bool quiet;
    bool quick;    /* VARVE_TEST_QUICK: fewer errnos, one allocation in eight, an end when enough was found */
    bool tireless; /* what was judged is judged again: rows that do not repeat, or VARVE_TEST_SCALE */
    struct digests sound, recovered; /* folders with what is expected of them: checked, swept */
    unsigned shown;
    char root[SCRATCH_PATH];
    char base[SCRATCH_PATH + 16], work[SCRATCH_PATH + 16], again[SCRATCH_PATH + 16];
};

/* ---- The ledger --------------------------------------------------------------------------------- */

static struct sweep_step *step_of(const struct sweep_ledger *ledger, unsigned step)
{
    VV_ASSERT(step < SWEEP_STEPS);
    return (struct sweep_step *)(uintptr_t)&ledger->steps[step];
}

void sweep_begin(struct sweep_ledger *ledger, unsigned step)
{
    *step_of(ledger, step) = (struct sweep_step){ .begun = true };
}

varve_status sweep_end(struct sweep_ledger *ledger, unsigned step, varve_status status, const void *evidence,
                       size_t evidence_size)
{
    struct sweep_step *at = step_of(ledger, step);

    VV_ASSERT(at->begun && !at->ended);
    VV_ASSERT(evidence_size <= SWEEP_EVIDENCE);
    if (evidence != NULL)
        memcpy(at->evidence, evidence, evidence_size);
    at->status = status;
    __atomic_store_n(&at->ended, true, __ATOMIC_RELEASE); /* last: a kill may come between any two */
    return status;
}

void sweep_reopened(struct sweep_ledger *ledger)
{
    ledger->openings++;
    ledger->closing = false;
}

void sweep_closing(struct sweep_ledger *ledger)
{
    ledger->closing = true;
}

enum sweep_expectation sweep_expect(const struct sweep_ledger *ledger, unsigned step)
{
    const struct sweep_step *at = step_of(ledger, step);

    if (!at->begun)
        return SWEEP_ABSENT;
    if (!at->ended || at->status == VARVE_UNCERTAIN)
        return SWEEP_EITHER;
    return at->status == VARVE_OK ? SWEEP_PRESENT : SWEEP_ABSENT;
}

bool sweep_deny(struct sweep_ledger *ledger, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(ledger->denial, sizeof ledger->denial, format, args);
    va_end(args);
    return false;
}

/* ---- Chance, and what was seen before ------------------------------------------------------------ */

/* What a child does; each has a stream of its own, so that no two openings of one store draw the same (law J2). */
enum phase { PREPARING = 1, RUNNING, RECOVERING, CHECKING, CHECKING_AGAIN };
static enum phase phase = PREPARING;

static struct {
    bool on;
    const void *told;
    size_t told_size;
} repeats;

void sweep_repeats(const void *told, size_t told_size)
{
    repeats.on = true;
    repeats.told = told;
    repeats.told_size = told_size;
}

/* In place of the system's, as the clock below: so a point does the same whenever it is visited. */
ssize_t getrandom(void *bytes, size_t size, unsigned flags)
{
    static uint64_t _Atomic drawn;
    struct vv_hasher hasher;
    uint8_t hash[VV_HASH_SIZE];

    if (!repeats.on)
        return syscall(SYS_getrandom, bytes, size, flags);
    vv_hasher_init(&hasher, VV_HASH_CHANCE);
    vv_hasher_u64(&hasher, phase);
    vv_hasher_u64(&hasher, drawn++);
    vv_hasher_end(&hasher, hash);
    size = size < sizeof hash ? size : sizeof hash;
    memcpy(bytes, hash, size);
    return (ssize_t)size;
}

int clock_gettime(clockid_t id, struct timespec *time)
{
    if (!repeats.on || id != CLOCK_REALTIME)
        return (int)syscall(SYS_clock_gettime, id, time);
    *time = (struct timespec){ .tv_sec = 1700000000 + (time_t)phase };
    return 0;
}

static uint8_t *place_of(const struct digests *digests, const uint8_t digest[VV_HASH_SIZE])
{
    size_t at = vv_get_u64(digest) & (digests->room - 1);

    while (!vv_hash_is_zero(digests->place[at]) && !vv_hash_equal(digests->place[at], digest))
        at = (at + 1) & (digests->room - 1);
    return digests->place[at];
}

static bool is_known(const struct digests *digests, const uint8_t digest[VV_HASH_SIZE])
{
    return digests->room > 0 && !vv_hash_is_zero(place_of(digests, digest));
}

static void remember(struct digests *digests, const uint8_t digest[VV_HASH_SIZE])
{
    if (2 * digests->count >= digests->room) {
        struct digests more = { .room = digests->room == 0 ? 1024 : 2 * digests->room };
        more.place = calloc(more.room, sizeof *more.place);
        if (more.place == NULL) {
            perror("calloc");
            exit(2);
        }
        for (size_t i = 0; i < digests->room; i++)
            if (!vv_hash_is_zero(digests->place[i]))
                remember(&more, digests->place[i]);
        free(digests->place);
        *digests = more;
    }
    memcpy(place_of(digests, digest), digest, VV_HASH_SIZE);
    digests->count++;
}

/* Words for people: who holds the store. */
static bool is_dull(const char *name)
{
    return strcmp(name, "store/.varve/lock") == 0;
}

/* What lies in a folder and what is expected of it: all that a check may ask. */
static void take_digest(const struct sweep *s, const char *at, uint8_t digest[VV_HASH_SIZE])
{
    struct vv_hasher hasher;
    uint8_t lies[VV_HASH_SIZE];

    digest_folder(at, is_dull, lies);
    vv_hasher_init(&hasher, VV_HASH_RECORD);
    vv_hasher_put(&hasher, lies, sizeof lies);
    vv_hasher_put(&hasher, repeats.told, repeats.told_size);
    for (unsigned step = 0; step < SWEEP_STEPS; step++) {
        vv_hasher_u64(&hasher, sweep_expect(&s->shared->ledger, step));
        vv_hasher_put(&hasher, s->shared->ledger.steps[step].evidence, SWEEP_EVIDENCE);
    }
    vv_hasher_end(&hasher, digest);
}

/* ---- Findings ----------------------------------------------------------------------------------- */

static void describe(const struct sweep *s, const struct point *point, char *text, size_t size)
{
    const struct call_seen *seen =
        point->nth > 0 && point->nth <= s->shared->seen ? &s->shared->calls[point->nth - 1] : NULL;
    int used = snprintf(text, size, "%s", kind_names[point->kind]);

    if (point->nth > 0 && point->kind == SWEEP_MEMORY)
        used += snprintf(text + used, size - (size_t)used, " at allocation %u", point->nth);
    else if (point->nth > 0)
        used += snprintf(text + used, size - (size_t)used, " at call %u", point->nth);
    if (seen != NULL && point->kind != SWEEP_MEMORY && point->kind != SWEEP_RECOVERY)
        used += snprintf(text + used, size - (size_t)used, " (%s %s)", vv_double_call_name(seen->call),
                         seen->name);
    if (point->number != 0)
        used += snprintf(text + used, size - (size_t)used, ": %s", strerror(point->number));
    if (point->after != NULL) {
        used += snprintf(text + used, size - (size_t)used, " after ");
        describe(s, point->after, text + used, size - (size_t)used);
    }
}

static void find(struct sweep *s, const struct point *point, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void find(struct sweep *s, const struct point *point, const char *format, ...)
{
    char where[256];
    char what[640];
    va_list args;

    s->report->violations[point->kind]++;
    if (s->quiet || s->shown++ >= FINDINGS_SHOWN)
        return;
    va_start(args, format);
    (void)vsnprintf(what, sizeof what, format, args);
    va_end(args);
    describe(s, point, where, sizeof where);
    (void)fprintf(stderr, "%s: %s: %s\n", s->op->name, where, what);
    if (s->shown == FINDINGS_SHOWN)
        (void)fprintf(stderr, "%s: more findings are counted, not shown\n", s->op->name);
}

/* ---- Children ----------------------------------------------------------------------------------- */

static void store_path(const char *folder, char path[SCRATCH_PATH + 32])
{
    (void)snprintf(path, SCRATCH_PATH + 32, "%s/store", folder);
}

/* The name of an open file relative to the store, as the kernel tells it: a double sees descriptors only. */
static void name_of(const struct vv_double_event *event, const char *store, char name[48])
{
    char link[64];
    char path[512];

    if (event->name != NULL) {
        const char *slash = strrchr(event->name, '/');
        (void)snprintf(name, 48, "%s", slash != NULL ? slash + 1 : event->name);
        return;
    }
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", event->fd);
    const ssize_t size = readlink(link, path, sizeof path - 1);
    path[size < 0 ? 0 : size] = '\0';
    const size_t skip = strlen(store);
    if (strncmp(path, store, skip) != 0)
        (void)snprintf(name, 48, "..");
    else
        (void)snprintf(name, 48, "%.40s", path[skip] == '/' ? path + skip + 1 : ".");
}

struct recorder {
    struct shared *shared;
    const char *store;
    bool plain;
};

static bool is_sync(enum vv_double_call call)
{
    return call == VV_CALL_SYNC || call == VV_CALL_SYNC_DIR;
}

static void record(void *context, const struct vv_double_event *event)
{
    const struct recorder *recorder = context;
    struct shared *shared = recorder->shared;

    if (recorder->plain && shared->seen < CALLS) {
        shared->calls[shared->seen].call = event->call;
        name_of(event, recorder->store, shared->calls[shared->seen].name);
        shared->seen++;
    }
    if (recorder->plain || !vv_double_fired(&shared->d))
        return;
    char name[48];
    name_of(event, recorder->store, name);
    if (shared->fired.name[0] == '\0') {
        shared->fired.call = event->call;
        memcpy(shared->fired.name, name, sizeof name);
        shared->fired_in = shared->ledger.openings;
        shared->fired_closing = shared->ledger.closing;
    } else if (event->call == VV_CALL_CREATE && strcmp(name, shared->fired.name) == 0) {
        shared->fired_in = shared->ledger.openings + 1; /* another file, or another handle */
    } else if (is_sync(event->call) && is_sync(shared->fired.call) &&
               shared->fired_in == shared->ledger.openings && strcmp(name, shared->fired.name) == 0) {
        shared->synced_again = true;
    }
}

static int wait_for(pid_t child)
{
    int status = 0;

    while (waitpid(child, &status, 0) == -1) {
        if (errno != EINTR) {
            perror("waitpid");
            exit(2);
        }
    }
    return status;
}

static pid_t fork_or_end(void)
{
    const pid_t child = fork();

    if (child == -1) {
        perror("fork");
        exit(2);
    }
    if (child == 0)
        (void)alarm(CHILD_SECONDS);
    return child;
}

typedef varve_status (*child_fn)(struct sweep *s, const struct vv_vfs *vfs, const char *path);

static varve_status child_run(struct sweep *s, const struct vv_vfs *vfs, const char *path)
{
    phase = RUNNING;
    return s->op->run(vfs, path, &s->shared->ledger, s->op->context);
}

static varve_status child_reopen(struct sweep *s, const struct vv_vfs *vfs, const char *path)
{
    phase = RECOVERING;
    return s->op->reopen(vfs, path, s->op->context);
}

/* Let a child do `work` in `folder` while `point` is done to it. The answer is as waitpid's. */
static int in_a_child(struct sweep *s, const struct point *point, const char *folder, child_fn work)
{
    struct shared *shared = s->shared;
    char path[SCRATCH_PATH + 32];

    store_path(folder, path);
    shared->finished = false;
    shared->synced_again = false;
    shared->ledger.closing = shared->fired_closing = false;
    shared->allocation_failed = false;
    shared->status = VARVE_OK;
    memset(&shared->fired, 0, sizeof shared->fired);
    vv_double_init(&shared->d, &vv_vfs_system);
    struct recorder recorder = { .shared = shared, .store = path, .plain = point->kind == SWEEP_PLAIN };
    shared->d.record = record;
    shared->d.context = &recorder; /* the child has a copy at the same place */
    vv_double_arm(&shared->d, point->mode, point->kind == SWEEP_MEMORY ? 0 : point->nth, point->number);
    s->report->points[point->kind]++;
    const pid_t child = fork_or_end();
    if (child == 0) {
        if (point->kind == SWEEP_MEMORY)
            vv_alloc_fail_at(point->nth);
        shared->status = work(s, &shared->d.table, path);
        shared->allocation_failed = vv_alloc_disarm();
        (void)snprintf(shared->words, sizeof shared->words, "%s", vv_words());
        shared->finished = true;
        _exit(0);
    }
    return wait_for(child);
}

/* Check what is in `folder`, twice: the second time only where the first one changed it, or it would see the same. */
static void check(struct sweep *s, const struct point *point, const char *folder)
{
    struct sweep_ledger *ledger = &s->shared->ledger;
    char path[SCRATCH_PATH + 32];
    uint8_t before[VV_HASH_SIZE];
    uint8_t after[VV_HASH_SIZE];

    take_digest(s, folder, before);
    if (!s->tireless && is_known(&s->sound, before))
        return;
    s->report->looks++;
    store_path(folder, path);
    for (int time = 1; time <= 2; time++) {
        ledger->denial[0] = '\0';
        const pid_t child = fork_or_end();
        if (child == 0) {
            phase = time == 1 ? CHECKING : CHECKING_AGAIN;
            _exit(s->op->check(path, ledger, s->op->context) ? 0 : 1);
        }
        const int status = wait_for(child);
        if (WIFSIGNALED(status))
            find(s, point, "the check died of signal %d", WTERMSIG(status));
        else if (WEXITSTATUS(status) != 0)
            find(s, point, "%s%s", time == 2 ? "opened a second time: " : "", ledger->denial);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            return;
        take_digest(s, folder, after);
        if (vv_hash_equal(before, after) && getenv("VARVE_TEST_SCALE") == NULL)
            break;
    }
    if (!is_known(&s->sound, before))
        remember(&s->sound, before);
}

static void fresh_copy(const char *from, const char *to)
{
    scratch_remove(to);
    scratch_copy(from, to);
}

/* ---- Judging what a check cannot see -------------------------------------------------------------- */

/* A child must end by itself, unless it was killed as asked. False: there is nothing more to judge. */
static bool ended_well(struct sweep *s, const struct point *point, int status)
{
    const bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    const bool dies = point->mode == VV_DOUBLE_KILL || point->mode == VV_DOUBLE_TORN;

    if (dies && killed)
        return vv_double_fired(&s->shared->d);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) {
        find(s, point, "it hangs: killed after %d seconds", CHILD_SECONDS);
        return false;
    }
    if (WIFSIGNALED(status)) {
        find(s, point, "it died of signal %d", WTERMSIG(status));
        return false;
    }
    if (!s->shared->finished) {
        find(s, point, "it ended the process with code %d", WEXITSTATUS(status));
        return false;
    }
    return true;
}

/* Whether any step, or the run, ended so. */
static bool anything_ended_as(const struct shared *shared, varve_status status)
{
    for (unsigned i = 0; i < SWEEP_STEPS; i++)
        if (shared->ledger.steps[i].ended && shared->ledger.steps[i].status == status)
            return true;
    return shared->finished && shared->status == status;
}

static void judge_statuses(struct sweep *s, const struct point *point, varve_status fitting)
{
    static const varve_status all[] = {
#define STATUS_VALUE(name, value, text) VARVE_##name,
        VARVE_STATUS_MAP(STATUS_VALUE)
#undef STATUS_VALUE
    };

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (all[i] == VARVE_OK || all[i] == VARVE_UNCERTAIN || all[i] == fitting)
            continue;
        if (anything_ended_as(s->shared, all[i]))
            find(s, point, "status %d does not fit: %s", (int)all[i], s->shared->words);
    }
}

static void judge_fault(struct sweep *s, const struct point *point)
{
    const struct shared *shared = s->shared;
    const enum vv_double_call call = shared->fired.call;
    const bool uncertain = anything_ended_as(shared, VARVE_UNCERTAIN);

    judge_statuses(s, point, vv_fail_errno(point->number, "judge"));
    if (is_sync(call) && shared->synced_again)
        find(s, point, "a sync of %s failed and it was asked for another", shared->fired.name);
    if (is_sync(call) && !uncertain && !shared->fired_closing &&
        !(s->op->is_hint != NULL && s->op->is_hint(shared->fired.name)))
        find(s, point, "a sync of %s failed and nothing says UNCERTAIN", shared->fired.name);
    /* Sticky: a later sync may have failed as well. A rename may have happened. */
    if (!is_sync(call) && uncertain && point->kind != SWEEP_STICKY && call != VV_CALL_RENAME)
        find(s, point, "UNCERTAIN, though a failed %s is an ordinary failure", vv_double_call_name(call));
    if (shared->status == VARVE_OK && point->kind != SWEEP_SHORT)
        s->report->absorbed++;
}

static bool is_enough(const struct sweep *s)
{
    return s->quick && sweep_violations(s->report) >= ENOUGH;
}

/* ---- Points --------------------------------------------------------------------------------------- */

/* Do `point` to a fresh copy, judge and check. False: it did not come to it. */
static bool visit(struct sweep *s, const struct point *point)
{
    const bool is_fault = point->kind == SWEEP_FAULT || point->kind == SWEEP_STICKY ||
                          point->kind == SWEEP_HALF || point->kind == SWEEP_SHORT;

    fresh_copy(s->base, s->work);
    s->shared->ledger = s->prepared;
    const int status = in_a_child(s, point, s->work, child_run);
    const bool fired =
        point->kind == SWEEP_MEMORY ? s->shared->allocation_failed : vv_double_fired(&s->shared->d);
    if (ended_well(s, point, status)) {
        if (fired && is_fault)
            judge_fault(s, point);
        if (fired && point->kind == SWEEP_MEMORY)
            judge_statuses(s, point, VARVE_MEMORY);
        if (!fired && s->shared->status != VARVE_OK)
            find(s, point, "failed on its own: %s", s->shared->words);
    }
    return fired;
}

/* After a kill: open the store with a kill, a torn write or a full disk at each call of that, then check. */
static void sweep_recovery(struct sweep *s, const struct point *after)
{
    static const struct {
        enum vv_double_mode mode;
        int number;
    } ways[] = {
        { VV_DOUBLE_KILL, 0 }, { VV_DOUBLE_TORN, 0 }, { VV_DOUBLE_STICK, ENOSPC }, { VV_DOUBLE_FAIL, EIO }
    };
    uint8_t digest[VV_HASH_SIZE];

    take_digest(s, s->work, digest);
    if (is_known(&s->recovered, digest)) {
        if (!s->tireless)
            return;
    } else {
        remember(&s->recovered, digest);
    }
    for (size_t way = 0; way < sizeof ways / sizeof ways[0]; way++) {
        for (unsigned nth = 1; nth <= CALLS && !is_enough(s); nth++) {
            const struct point point = { .kind = SWEEP_RECOVERY,
                                         .mode = ways[way].mode,
                                         .nth = nth,
                                         .number = ways[way].number,
                                         .after = after };
            fresh_copy(s->work, s->again);
            const int status = in_a_child(s, &point, s->again, child_reopen);
            const bool fired = vv_double_fired(&s->shared->d);
            (void)ended_well(s, &point, status);
            if (!fired && s->shared->status != VARVE_OK)
                find(s, &point, "does not open after the kill: %s", s->shared->words);
            check(s, &point, s->again);
            if (!fired)
                break;
        }
    }
}

static void sweep_kills(struct sweep *s)
{
    static const struct {
        enum sweep_kind kind;
        enum vv_double_mode mode;
    } ways[] = { { SWEEP_KILL, VV_DOUBLE_KILL }, { SWEEP_TORN, VV_DOUBLE_TORN } };

    for (unsigned nth = 1; nth <= s->report->calls && !is_enough(s); nth++) {
        for (size_t way = 0; way < 2; way++) {
            const struct point point = { .kind = ways[way].kind, .mode = ways[way].mode, .nth = nth };
            /* Without a write to be torn, the second is the first again. */
            if (point.kind == SWEEP_TORN && s->shared->calls[nth - 1].call != VV_CALL_WRITE)
                continue;
            s->report->unfired += !visit(s, &point);
            if (s->op->reopen != NULL)
                sweep_recovery(s,
                               &point); /* first, on copies: the check opens, and so repairs, the original */
            check(s, &point, s->work);
        }
    }
}

static void sweep_faults(struct sweep *s)
{
    static const int numbers[] = { EIO, ENOSPC, EINTR, EDQUOT, EFBIG, EMFILE, ENOMEM, EROFS, EACCES };
    const size_t count = s->quick ? 3 : sizeof numbers / sizeof numbers[0];

    for (unsigned nth = 1; nth <= s->report->calls && !is_enough(s); nth++) {
        for (size_t i = 0; i < count; i++) {
            const struct point ways[] = {
                { .kind = SWEEP_FAULT, .mode = VV_DOUBLE_FAIL, .nth = nth, .number = numbers[i] },
                { .kind = SWEEP_STICKY, .mode = VV_DOUBLE_STICK, .nth = nth, .number = numbers[i] },
                { .kind = SWEEP_HALF, .mode = VV_DOUBLE_HALF, .nth = nth, .number = numbers[i] },
                { .kind = SWEEP_SHORT, .mode = VV_DOUBLE_SHORT, .nth = nth },
            };
            for (size_t way = 0; way < 4; way++) {
                const bool of_writes = ways[way].kind == SWEEP_HALF || ways[way].kind == SWEEP_SHORT;
                const bool sensible =
                    (!of_writes || s->shared->calls[nth - 1].call == VV_CALL_WRITE) &&
                    (ways[way].kind != SWEEP_SHORT || i == 0) &&
                    (ways[way].kind != SWEEP_HALF || numbers[i] == ENOSPC || numbers[i] == EIO) &&
                    (ways[way].kind != SWEEP_STICKY ||
                     numbers[i] != EINTR); /* nobody is interrupted for ever */
                if (!sensible)
                    continue;
                s->report->unfired += !visit(s, &ways[way]);
                check(s, &ways[way], s->work);
            }
        }
    }
}

static void sweep_memory(struct sweep *s)
{
    for (unsigned nth = 1; nth <= ALLOCATIONS && !is_enough(s); nth += s->quick ? 8 : 1) {
        const struct point point = { .kind = SWEEP_MEMORY, .mode = VV_DOUBLE_PASS, .nth = nth };
        const bool fired = visit(s, &point);
        check(s, &point, s->work);
        if (!fired)
            return;
    }
    if (!is_enough(s))
        (void)fprintf(stderr, "%s: allocations after the first %d were not failed\n", s->op->name, ALLOCATIONS);
}

/* Make the base, and run once with nothing in the way. False: then the rest would tell nothing. */
static bool begin(struct sweep *s)
{
    const struct point plain = { .kind = SWEEP_PLAIN, .mode = VV_DOUBLE_PASS };
    char path[SCRATCH_PATH + 32];

    if (mkdir(s->base, 0700) != 0) {
        perror(s->base);
        exit(2);
    }
    store_path(s->base, path);
    const pid_t child = fork_or_end();
    if (child == 0) {
        const varve_status rc =
            s->op->prepare == NULL ? VARVE_OK : s->op->prepare(path, &s->shared->ledger, s->op->context);
        (void)snprintf(s->shared->words, sizeof s->shared->words, "%s", vv_words());
        _exit(rc == VARVE_OK ? 0 : 1);
    }
    const int status = wait_for(child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        find(s, &plain, "cannot be prepared: %s", s->shared->words);
        return false;
    }
    s->prepared = s->shared->ledger;
    (void)visit(s, &plain);
    check(s, &plain, s->work);
    s->report->calls = s->shared->seen;
    if (s->shared->d.count > CALLS)
        find(s, &plain, "%u calls, where the sweep can count %d", s->shared->d.count, CALLS);
    return s->report->violations[SWEEP_PLAIN] == 0;
}

void sweep_run(const struct sweep_op *op, bool quiet, struct sweep_report *report)
{
    struct sweep s = {
        .op = op,
        .report = report,
        .quiet = quiet,
        .quick = getenv("VARVE_TEST_QUICK") != NULL,
        .tireless = !repeats.on || getenv("VARVE_TEST_SCALE") != NULL,
    };

    *report = (struct sweep_report){ .calls = 0 };
    s.shared = mmap(NULL, sizeof *s.shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (s.shared == MAP_FAILED) {
        perror("mmap");
        exit(2);
    }
    scratch_new(s.root);
    (void)snprintf(s.base, sizeof s.base, "%s/base", s.root);
    (void)snprintf(s.work, sizeof s.work, "%s/trial", s.root);
    (void)snprintf(s.again, sizeof s.again, "%s/again", s.root);
    if (begin(&s)) {
        sweep_kills(&s);
        sweep_faults(&s);
        sweep_memory(&s);
    }
    scratch_remove(s.root);
    free(s.sound.place);
    free(s.recovered.place);
    (void)munmap(s.shared, sizeof *s.shared);
}

unsigned sweep_violations(const struct sweep_report *report)
{
    unsigned sum = 0;

    for (int kind = 0; kind < SWEEP_KINDS; kind++)
        sum += report->violations[kind];
    return sum;
}

/* Those that are named; with none but names after a minus, all others. */
static bool is_asked_for(int argc, char **argv, const char *name)
{
    bool all = true;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], name) == 0)
            return true;
        if (argv[i][0] == '-' && strcmp(argv[i] + 1, name) == 0)
            return false;
        all = all && argv[i][0] == '-';
    }
    return all;
}

int sweep_main(int argc, char **argv, const struct sweep_op *ops, size_t count)
{
    unsigned swept = 0;
    uint64_t killed[2] = { 0, 0 }; /* points, violations */
    uint64_t failed[2] = { 0, 0 };
    unsigned violations = 0;

    scratch_in_memory();

    (void)printf("%-20s %6s", "operation", "calls");
    for (int kind = SWEEP_KILL; kind < SWEEP_KINDS; kind++)
        (void)printf(" %8s", kind_names[kind]);
    (void)printf(" %8s %8s %8s %10s\n", "looks", "absorbed", "unfired", "violations");
    for (size_t i = 0; i < count; i++) {
        struct sweep_report report;
        if (!is_asked_for(argc, argv, ops[i].name) || (getenv("VARVE_TEST_QUICK") != NULL && violations >= ENOUGH))
            continue;
        (void)fflush(stdout);
        sweep_run(&ops[i], false, &report);
        (void)printf("%-20s %6u", ops[i].name, report.calls);
        for (int kind = SWEEP_KILL; kind < SWEEP_KINDS; kind++)
            (void)printf(" %8u", report.points[kind]);
        (void)printf(" %8u %8u %8u %10u\n", report.looks, report.absorbed, report.unfired,
                     sweep_violations(&report));
        for (int kind = SWEEP_KILL; kind < SWEEP_KINDS; kind++) {
            uint64_t *sum =
                kind == SWEEP_KILL || kind == SWEEP_TORN || kind == SWEEP_RECOVERY ? killed : failed;
            sum[0] += report.points[kind];
            sum[1] += report.violations[kind];
        }
        killed[1] += report.violations[SWEEP_PLAIN]; /* with nothing in the way, too */
        violations += sweep_violations(&report);
        swept++;
    }
    tally("kill", killed[0], killed[1]);
    tally("fault", failed[0], failed[1]);
    if (swept == 0) {
        (void)fprintf(stderr, "no operation has that name\n");
        return 2;
    }
    return violations == 0 ? 0 : 1;
}
