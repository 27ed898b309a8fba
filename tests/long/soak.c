/* soak.c - a worker that commits, deletes and lets old commits go, killed at random times for as long as is asked; and a
 * driver outside, who knows what was promised and looks whether it is kept.
 *
 *   soak [--seconds N] [--seed N] [--retain N]
 *
 * The worker makes a history of steps (steps.h) on the branch "main": the height of a commit is its step. Before and
 * after each deed it says so in memory that it shares with the driver, which a kill leaves alone. It lives 50 to 500 ms,
 * now and then some seconds. After each life the driver opens the store, as a reader or as a writer: "main" must be at
 * a height that was promised or begun, what is there must hold every byte of its step, what was deleted must be gone
 * and all else of the newest `retain` must be there. While the worker lives its own memory and its descriptors are counted,
 * and the store's blocks: they must not go up and up. */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "scratch.h"
#include "steps.h"

enum {
    RING = 4096,
    KNOWN = 128,
    SAMPLES_MAX = 65536,
    LONG_LIFE_EVERY = 12,
    COMPARED = 3,
    DESCRIPTORS_MAX = 64
};
enum fate { THERE, DELETING, DELETED };
#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)

/* What the worker says and the driver reads. */
struct said {
    _Atomic uint64_t begun, promised;         /* heights of main */
    _Atomic uint64_t tag_begun, tag_promised; /* heights of the tag */
    _Atomic uint64_t commits, deletes, opens, maintained, freed;
    _Atomic uint8_t fate[RING]; /* of a height, mod RING */
};

static uint64_t now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static unsigned roll(uint64_t *chance, unsigned below)
{
    *chance = steps_mix(*chance);
    return (unsigned)((*chance >> 20) % below);
}

static void nap_ms(unsigned ms)
{
    const struct timespec time = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

    (void)nanosleep(&time, NULL);
}

static struct said *map_said(const char *path)
{
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0 || ftruncate(fd, sizeof(struct said)) != 0)
        return NULL;
    void *said = mmap(NULL, sizeof(struct said), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    (void)close(fd);
    return said == MAP_FAILED ? NULL : said;
}

static _Noreturn void give_up(const char *what, const varve_error *error)
{
    printf("soak: %s: %s\n", what, error == NULL ? "" : error->message);
    (void)fflush(stdout);
    _exit(3);
}

/* ---- The worker ------------------------------------------------------------------------------- */

struct worker {
    const char *path;
    struct said *said;
    uint64_t seed, chance, retain;
    varve_store *store;
    varve_session *session;
    struct shadow_state state;
    varve_error error;
};

static void open_worker(struct worker *w)
{
    const varve_store_options options = {
        .size = sizeof options, .flags = VARVE_STORE_CREATE, .retain = w->retain, .snapshot_bytes = 512 * KIB
    };

    if (varve_store_open(w->path, &options, &w->store, &w->error) != VARVE_OK)
        give_up("the worker opens", &w->error);
    w->said->opens++;
}

static void begin_session(struct worker *w)
{
    if (varve_session_begin(w->store, NULL, &w->session, &w->error) != VARVE_OK ||
        steps_load(w->session, &w->state, &w->error) != VARVE_OK)
        give_up("the worker begins", &w->error);
    const uint64_t height = steps_height(w->session);
    if (height < w->said->promised || height > w->said->begun)
        give_up("the worker found another height than was promised", NULL);
    w->said->promised = w->said->begun = height;
}

static void commit_step(struct worker *w, bool more)
{
    const uint64_t height = w->said->promised + 1;
    char message[32];
    const varve_commit_options options = { .size = sizeof options,
                                           .flags = more ? VARVE_COMMIT_CHAIN : 0,
                                           .message = message,
                                           .time_ns = (int64_t)height,
                                           .durability =
                                               roll(&w->chance, 3) == 0 ? VARVE_DURABLE : VARVE_BUFFERED };

    (void)snprintf(message, sizeof message, "%" PRIu64, height);
    if (steps_change(w->session, &w->state, w->seed, height, &w->error) != VARVE_OK)
        give_up("the worker changes", &w->error);
    w->said->fate[height % RING] = THERE;
    w->said->begun = height;
    if (varve_session_commit(w->session, &options, NULL, &w->error) != VARVE_OK)
        give_up("the worker commits", &w->error);
    w->said->promised = height;
    w->said->commits++;
    if (!more)
        w->session = NULL;
}

/* A run of chained commits. */
static void commit_some(struct worker *w)
{
    begin_session(w);
    for (unsigned left = 1 + roll(&w->chance, 12); left > 0; left--) {
        commit_step(w, left > 1);
        nap_ms(roll(&w->chance, 2));
    }
    shadow_release(&w->state);
}

static varve_commit *some_ancestor(struct worker *w, uint64_t *height)
{
    char revision[32];
    varve_commit *commit = NULL;

    (void)snprintf(revision, sizeof revision, "main~%u", 2 + roll(&w->chance, 40));
    const varve_status rc = varve_commit_open(w->store, revision, &commit, &w->error);
    if (rc != VARVE_OK && rc != VARVE_NOT_FOUND)
        give_up(revision, &w->error);
    *height = commit == NULL ? 0 : strtoull(varve_commit_get(commit)->message, NULL, 10);
    return commit;
}

static void delete_some(struct worker *w)
{
    uint64_t height = 0;
    varve_commit *commit = some_ancestor(w, &height);

    if (commit == NULL)
        return;
    w->said->fate[height % RING] = DELETING;
    const varve_status rc = varve_commit_delete(w->store, commit, &w->error);
    if (rc != VARVE_OK && rc != VARVE_MISUSE) /* the tag names it */
        give_up("the worker deletes", &w->error);
    w->said->fate[height % RING] = rc == VARVE_OK ? DELETED : THERE;
    w->said->deletes += rc == VARVE_OK;
    varve_commit_close(commit);
}

static void tag_some(struct worker *w)
{
    uint64_t height = 0;
    varve_commit *commit = some_ancestor(w, &height);

    if (commit == NULL)
        return;
    w->said->tag_begun = height;
    if (varve_ref_set(w->store, "tags/kept", commit, NULL, VARVE_REF_FORCE, &w->error) != VARVE_OK)
        give_up("the worker tags", &w->error);
    w->said->tag_promised = height;
    varve_commit_close(commit);
}

static void maintain(struct worker *w)
{
    uint64_t freed = 0;

    if (varve_store_maintain(w->store, NULL, &freed, &w->error) != VARVE_OK)
        give_up("the worker maintains", &w->error);
    w->said->maintained++;
    w->said->freed += freed;
}

static int work(const char *path, const char *said, uint64_t seed, uint64_t retain)
{
    struct worker w = {
        .path = path, .said = map_said(said), .seed = seed, .chance = now_ns(), .retain = retain
    };

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (w.said == NULL)
        give_up("the worker maps", NULL);
    open_worker(&w);
    for (;;) {
        switch (roll(&w.chance, 16)) {
        case 0:
            varve_store_close(w.store);
            open_worker(&w);
            break;
        case 1:
        case 2:
            delete_some(&w);
            break;
        case 3:
            tag_some(&w);
            break;
        case 4:
            maintain(&w);
            break;
        default:
            commit_some(&w);
        }
    }
}

/* ---- The driver's judgement ------------------------------------------------------------------- */

struct driver {
    const char *program;
    char path[SCRATCH_PATH], said_path[SCRATCH_PATH + 8];
    struct said *said;
    uint64_t seed, chance, retain;
    uint64_t height;                         /* of the model */
    struct shadow_state state, known[KNOWN]; /* the model; and at heights, mod KNOWN */
    uint64_t lives, long_lives, checks, beside, compared, walked;
    unsigned wrong;
};

static bool is(struct driver *d, bool right, const char *format, ...)
{
    va_list list;

    if (right)
        return true;
    if (d->wrong++ >= 10)
        return false; /* the first ones tell */
    printf("soak: life %" PRIu64 ", seed %" PRIu64 ": ", d->lives, d->seed);
    va_start(list, format);
    (void)vprintf(format, list);
    va_end(list);
    printf("\n");
    (void)fflush(stdout);
    return false;
}

static void advance(struct driver *d, uint64_t height)
{
    while (d->height < height) {
        d->height++;
        (void)steps_change(NULL, &d->state, d->seed, d->height, NULL);
        struct shadow_state *known = &d->known[d->height % KNOWN];
        shadow_release(known);
        shadow_copy(known, &d->state);
    }
}

static bool is_known(const struct driver *d, uint64_t height)
{
    return height > 0 && height <= d->height && height + KNOWN > d->height;
}

static void compare(struct driver *d, varve_store *store, const varve_commit *commit, uint64_t height)
{
    varve_error error;

    if (!is_known(d, height))
        return;
    const varve_status rc = steps_compare(store, commit, &d->known[height % KNOWN], &error);
    is(d, rc == VARVE_OK, "the commit of height %" PRIu64 ": %s", height, error.message);
    d->compared++;
}

/* The log of main, as far back as is retained and known: what is not in it was deleted. */
static void walk(struct driver *d, varve_store *store)
{
    varve_log *log = NULL;
    const varve_commit_info *info = NULL;
    varve_error error;
    uint64_t next = d->height;
    const uint64_t most = d->retain < KNOWN ? d->retain : KNOWN;
    const uint64_t last = d->height > most ? d->height - most + 1 : 1;
    varve_status rc = varve_log_open(store, NULL, &log, &error);

    for (; rc == VARVE_OK && next >= last; next--) {
        rc = varve_log_next(log, &info, &error);
        const uint64_t found = rc == VARVE_OK ? strtoull(info->message, NULL, 10) : 0;
        for (; next > found && next >= last; next--)
            is(d, d->said->fate[next % RING] != THERE, "the commit of height %" PRIu64 " is gone", next);
        if (found < last)
            break;
        is(d, d->said->fate[found % RING] != DELETED, "the deleted commit of height %" PRIu64 " is there",
           found);
        d->walked++;
        if (roll(&d->chance, (unsigned)most / COMPARED + 1) == 0) {
            varve_commit *commit = NULL;
            char text[65];
            varve_hex_format(info->id.bytes, text);
            if (is(d, varve_commit_open(store, text, &commit, &error) == VARVE_OK, "%s", error.message))
                compare(d, store, commit, found);
            varve_commit_close(commit);
        }
    }
    is(d, rc == VARVE_OK || rc == VARVE_END, "the log: %s", error.message);
    varve_log_close(log);
}

static void look_at_tag(struct driver *d, varve_store *store)
{
    varve_commit *commit = NULL;
    varve_error error;
    const uint64_t begun = d->said->tag_begun, promised = d->said->tag_promised;
    const varve_status rc = varve_commit_open(store, "kept", &commit, &error);

    if (rc == VARVE_NOT_FOUND && promised == 0)
        return;
    if (!is(d, rc == VARVE_OK, "the tag: %s", error.message))
        return;
    const uint64_t height = strtoull(varve_commit_get(commit)->message, NULL, 10);
    is(d, height == begun || height == promised, "the tag is at height %" PRIu64, height);
    d->said->tag_promised = d->said->tag_begun = height;
    compare(d, store, commit, height);
    varve_commit_close(commit);
}

static void note_damage(void *context, const varve_finding *finding)
{
    if (finding->severity == VARVE_DAMAGE)
        is(context, false, "damage: %s", finding->text);
}

/* While the worker lives, as a reader beside it: what is there was promised or begun by now, and is whole. */
static void look_beside(struct driver *d)
{
    const varve_store_options options = { .size = sizeof options, .flags = VARVE_STORE_READ_ONLY };
    varve_store *store = NULL;
    varve_commit *head = NULL;
    varve_error error;
    const uint64_t promised = d->said->promised;
    varve_status rc = varve_store_open(d->path, &options, &store, &error);

    if (rc == VARVE_NOT_FOUND && promised == 0)
        return;
    if (!is(d, rc == VARVE_OK, "open beside the worker: %s", error.message))
        return;
    rc = varve_commit_open(store, NULL, &head, &error);
    if (is(d, rc == VARVE_OK || (rc == VARVE_NOT_FOUND && promised == 0), "HEAD beside: %s", error.message) &&
        head != NULL) {
        const uint64_t height = strtoull(varve_commit_get(head)->message, NULL, 10);
        is(d, height >= promised && height <= d->said->begun,
           "main is at height %" PRIu64 ", %" PRIu64 " was promised", height, promised);
        for (unsigned reads = 0; reads < 3; reads++) {
            is(d, steps_verify(store, head, &error) == VARVE_OK, "beside: %s", error.message);
            nap_ms(5);
        }
        d->beside++;
    }
    varve_commit_close(head);
    varve_store_close(store);
}

static void look(struct driver *d)
{
    const varve_store_options options = { .size = sizeof options,
                                          .flags = roll(&d->chance, 2) == 0 ? VARVE_STORE_READ_ONLY : 0,
                                          .retain = d->retain,
                                          .finding = note_damage,
                                          .context = d };
    varve_store *store = NULL;
    varve_commit *head = NULL;
    varve_error error;

    if (d->said->opens == 0)
        return; /* killed before there was a store */
    if (roll(&d->chance, 4) == 0) {
        const varve_check_options check = { .size = sizeof check, .finding = note_damage, .context = d };
        uint64_t damage = 0;
        is(d, varve_store_check(d->path, &check, &damage, &error) == VARVE_OK, "the check: %s",
           error.message);
        is(d, damage == 0, "the check finds damage");
        d->checks++;
    }
    if (!is(d, varve_store_open(d->path, &options, &store, &error) == VARVE_OK, "open: %s", error.message))
        return;
    const varve_status rc = varve_commit_open(store, NULL, &head, &error);
    if (is(d, rc == VARVE_OK || (rc == VARVE_NOT_FOUND && d->said->promised == 0), "HEAD: %s",
           error.message) &&
        head != NULL) {
        const uint64_t height = strtoull(varve_commit_get(head)->message, NULL, 10);
        is(d, height >= d->said->promised && height <= d->said->begun,
           "main is at height %" PRIu64 ", promised was %" PRIu64, height, (uint64_t)d->said->promised);
        advance(d, height);
        compare(d, store, head, height);
        walk(d, store);
        look_at_tag(d, store);
    }
    varve_commit_close(head);
    varve_store_close(store);
}

/* ---- What the worker takes -------------------------------------------------------------------- */

struct sample {
    uint64_t memory, descriptors, disk; /* bytes, number, bytes */
};
static struct {
    size_t count;
    struct sample list[SAMPLES_MAX]; /* at the end of a life */
    struct sample most;
    uint64_t grown; /* the most that a long life's memory grew */
} samples;

/* Until it has its own program a worker is a copy of the driver, and what it holds is the driver's. */
static bool has_begun(pid_t pid)
{
    char path[64], line[2 * SCRATCH_PATH] = "";

    (void)snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
    FILE *file = fopen(path, "re");
    const size_t size = file == NULL ? 0 : fread(line, 1, sizeof line - 1, file);
    if (file != NULL)
        (void)fclose(file);
    const size_t name = strnlen(line, size) + 1;
    return name < size && strcmp(line + name, "--work") == 0;
}

/* What the process alone holds: its heap, its stacks, and the pages of images that it wrote to. Files that it has
 * mapped, its program among them, are the page cache's. */
static uint64_t own_memory(pid_t pid)
{
    char path[64], line[256];
    uint64_t kib = 0;

    (void)snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "Anonymous: %" SCNu64 " kB", &kib) == 1)
            break;
    if (file != NULL)
        (void)fclose(file);
    return kib * KIB;
}

/* Segments of the log left out: how many of those are open follows from how many there are. */
static uint64_t descriptors_of(pid_t pid)
{
    char path[64];
    uint64_t count = 0;
    const struct dirent *entry = NULL;

    (void)snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *dir = opendir(path);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        char target[SCRATCH_PATH + 64];
        const ssize_t size = readlinkat(dirfd(dir), entry->d_name, target, sizeof target - 1);
        target[size < 0 ? 0 : size] = '\0';
        count += size > 0 && strstr(target, "/log.") == NULL;
    }
    if (dir != NULL)
        (void)closedir(dir);
    return count;
}

static uint64_t blocks_of(const char *path)
{
    uint64_t bytes = 0;
    DIR *dir = opendir(path);
    const struct dirent *entry = NULL;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        struct stat status;
        char name[SCRATCH_PATH + 300];
        (void)snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (entry->d_name[0] == '.' && strcmp(entry->d_name, ".varve") != 0)
            continue;
        if (lstat(name, &status) != 0)
            continue;
        bytes += S_ISDIR(status.st_mode) ? blocks_of(name) : (uint64_t)status.st_blocks * 512;
    }
    if (dir != NULL)
        (void)closedir(dir);
    return bytes;
}

static struct sample take_sample(const struct driver *d, pid_t worker)
{
    const struct sample sample = { .memory = own_memory(worker),
                                   .descriptors = descriptors_of(worker),
                                   .disk = blocks_of(d->path) };
    if (sample.memory > samples.most.memory)
        samples.most.memory = sample.memory;
    if (sample.descriptors > samples.most.descriptors)
        samples.most.descriptors = sample.descriptors;
    if (sample.disk > samples.most.disk)
        samples.most.disk = sample.disk;
    return sample;
}

/* The mean over a part of the samples, in thirds. */
static struct sample mean_of(unsigned third)
{
    struct sample sum = { .memory = 0 };
    const size_t from = samples.count * third / 3, to = samples.count * (third + 1) / 3;

    for (size_t i = from; i < to; i++) {
        sum.memory += samples.list[i].memory;
        sum.descriptors += samples.list[i].descriptors;
        sum.disk += samples.list[i].disk;
    }
    if (to > from) {
        sum.memory /= to - from;
        sum.descriptors /= to - from;
        sum.disk /= to - from;
    }
    return sum;
}

static void judge_samples(struct driver *d)
{
    const struct sample early = mean_of(1), late = mean_of(2);

    printf("          memory KiB  descriptors  disk KiB\n");
    for (unsigned third = 0; third < 3; third++) {
        const struct sample mean = mean_of(third);
        printf("third %u   %10" PRIu64 "  %11" PRIu64 "  %8" PRIu64 "\n", third + 1, mean.memory / KIB,
               mean.descriptors, mean.disk / KIB);
    }
    printf("most      %10" PRIu64 "  %11" PRIu64 "  %8" PRIu64 "; in a long life memory grew by %" PRIu64
           " KiB at most\n",
           samples.most.memory / KIB, samples.most.descriptors, samples.most.disk / KIB, samples.grown / KIB);
    is(d, d->said->commits > d->lives, "the worker hardly works");
    is(d, late.memory <= early.memory + early.memory / 4 + 2 * MIB, "memory goes up and up");
    is(d, late.disk <= early.disk + early.disk / 4 + 128 * MIB, "the store goes up and up");
    is(d, samples.most.descriptors <= DESCRIPTORS_MAX, "too many descriptors");
    is(d, late.descriptors <= early.descriptors + 4, "descriptors go up and up");
}

/* ---- Lives ------------------------------------------------------------------------------------ */

static pid_t start_worker(const struct driver *d)
{
    char seed[32], retain[32];

    (void)snprintf(seed, sizeof seed, "%" PRIu64, d->seed);
    (void)snprintf(retain, sizeof retain, "%" PRIu64, d->retain);
    (void)fflush(stdout);
    const pid_t worker = fork();
    if (worker == 0) {
        (void)execl(d->program, d->program, "--work", d->path, d->said_path, seed, retain, (char *)NULL);
        _exit(3);
    }
    return worker;
}

static void live(struct driver *d, uint64_t left_ms)
{
    const bool is_long = d->lives % LONG_LIFE_EVERY == LONG_LIFE_EVERY - 1 && left_ms > 6000;
    const pid_t worker = start_worker(d);
    int status = 0;

    if (is_long) {
        nap_ms(1500);
        const struct sample first = take_sample(d, worker);
        nap_ms(3500);
        const struct sample last = take_sample(d, worker);
        if (last.memory > first.memory + samples.grown)
            samples.grown = last.memory - first.memory;
        d->long_lives++;
    } else {
        nap_ms(50 + roll(&d->chance, 450));
        if (roll(&d->chance, 3) == 0)
            look_beside(d);
        if (samples.count < SAMPLES_MAX && has_begun(worker))
            samples.list[samples.count++] = take_sample(d, worker);
    }
    (void)kill(worker, SIGKILL);
    if (waitpid(worker, &status, 0) == worker)
        is(d, WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "the worker ended by itself");
    d->lives++;
    look(d);
}

static uint64_t option(int argc, char **argv, const char *name, uint64_t otherwise)
{
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return strtoull(argv[i + 1], NULL, 10);
    return otherwise;
}

int main(int argc, char **argv)
{
    static struct driver d;
    const uint64_t seconds = option(argc, argv, "--seconds", 20), end = now_ns() + seconds * 1000000000u;

    if (argc == 6 && strcmp(argv[1], "--work") == 0)
        return work(argv[2], argv[3], strtoull(argv[4], NULL, 10), strtoull(argv[5], NULL, 10));
    d.program = "/proc/self/exe";
    d.seed = option(argc, argv, "--seed", now_ns() % 1000000);
    d.retain = option(argc, argv, "--retain", 64);
    d.chance = d.seed;
    printf("soak --seconds %" PRIu64 " --seed %" PRIu64 " --retain %" PRIu64 "\n", seconds, d.seed, d.retain);
    scratch_new(d.path);
    (void)snprintf(d.said_path, sizeof d.said_path, "%s.said", d.path);
    d.said = map_said(d.said_path);
    if (d.said == NULL)
        give_up("map", NULL);
    for (uint64_t now = now_ns(); now < end && d.wrong < 10; now = now_ns())
        live(&d, (end - now) / 1000000);
    printf("%" PRIu64 " lives (%" PRIu64 " long), %" PRIu64 " openings, %" PRIu64 " commits, %" PRIu64
           " deletes, %" PRIu64 " times maintained (%" PRIu64 " MiB freed); %" PRIu64 " checks, %" PRIu64
           " looks beside the worker, %" PRIu64 " commits found, %" PRIu64 " compared whole, %u wrong\n",
           d.lives, d.long_lives, (uint64_t)d.said->opens, (uint64_t)d.said->commits,
           (uint64_t)d.said->deletes, (uint64_t)d.said->maintained, (uint64_t)d.said->freed / MIB, d.checks,
           d.beside, d.walked, d.compared, d.wrong);
    judge_samples(&d);
    if (d.wrong == 0) {
        scratch_remove(d.path);
        (void)unlink(d.said_path);
    } else {
        printf("soak: the store is in %s\n", d.path);
    }
    printf("%d passed, %d failed\n", d.wrong == 0, d.wrong != 0);
    return d.wrong != 0;
}
