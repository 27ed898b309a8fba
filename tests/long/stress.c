/* stress.c - sessions, commits, branches, readers and all else that a store allows at once, in many threads and
 * processes; made to be run under the thread sanitizer (tsan.sh).
 *
 *   stress [--seconds N] [--seed N]
 *   stress --read DIR SECONDS SEED    one of the readers in other processes
 *
 * Each writer has a branch, on which it commits step after step (steps.h), chained or not, and now and then loses a race
 * for the branch of all. The others read what was committed: every byte is read and the root computed anew, by code that
 * is not the library's. Readers in other processes do the same beside all that, each with an old commit that it holds for
 * as long as it has the store open; one is killed now and then. What a thread promised and others know of is kept beside the store, by id and root. At the end
 * the store is checked, opened again, and asked for all of it. */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "scratch.h"
#include "steps.h"

enum { WRITERS = 3, LOOKERS = 2, READERS = 2, KNOWN = 64, OPENING_LOOKS = 40 };

struct known {
    varve_commit_id id;
    varve_root root;
};
struct stress {
    varve_store *store;
    uint64_t seed, deadline_ns;
    pthread_mutex_t mutex; /* guards `known` */
    struct known known[KNOWN];
    size_t known_count;
    _Atomic uint64_t killed, snapshots, freed, commits, conflicts, deletes, verified, walked;
    _Atomic unsigned wrong;
};
struct actor {
    struct stress *stress;
    unsigned number;
    uint64_t chance;
    varve_error error;
};

static uint64_t now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static unsigned roll(struct actor *a, unsigned below)
{
    a->chance = steps_mix(a->chance);
    return (unsigned)((a->chance >> 20) % below);
}

static bool going_on(const struct stress *s)
{
    return s->wrong == 0 && now_ns() < s->deadline_ns;
}

static bool is(struct actor *a, const char *what, bool right)
{
    if (!right) {
        a->stress->wrong++;
        printf("stress: actor %u: %s: %s\n", a->number, what, a->error.message);
    }
    return right;
}

/* ---- What others may ask for ------------------------------------------------------------------ */

static void make_known(struct actor *a, const varve_commit *commit)
{
    struct stress *s = a->stress;
    const varve_commit_info *info = varve_commit_get(commit);

    pthread_mutex_lock(&s->mutex);
    const size_t at = s->known_count < KNOWN ? s->known_count++ : roll(a, KNOWN);
    s->known[at] = (struct known){ .id = info->id, .root = info->root };
    pthread_mutex_unlock(&s->mutex);
}

static bool pick_known(struct actor *a, struct known *known)
{
    struct stress *s = a->stress;

    pthread_mutex_lock(&s->mutex);
    const bool any = s->known_count > 0;
    if (any)
        *known = s->known[roll(a, (unsigned)s->known_count)];
    pthread_mutex_unlock(&s->mutex);
    return any;
}

/* Nobody is to ask for it any more; false: somebody was faster. */
static bool forget_known(struct stress *s, const struct known *known)
{
    bool found = false;

    pthread_mutex_lock(&s->mutex);
    for (size_t i = 0; i < s->known_count && !found; i++) {
        found = memcmp(&s->known[i].id, &known->id, sizeof known->id) == 0;
        if (found)
            s->known[i] = s->known[--s->known_count];
    }
    pthread_mutex_unlock(&s->mutex);
    return found;
}

static bool is_known(struct stress *s, const struct known *known)
{
    bool found = false;

    pthread_mutex_lock(&s->mutex);
    for (size_t i = 0; i < s->known_count && !found; i++)
        found = memcmp(&s->known[i].id, &known->id, sizeof known->id) == 0;
    pthread_mutex_unlock(&s->mutex);
    return found;
}

/* NULL: it was deleted meanwhile. */
static varve_commit *open_known(struct actor *a, const struct known *known)
{
    char text[65];
    varve_commit *commit = NULL;

    varve_hex_format(known->id.bytes, text);
    const varve_status rc = varve_commit_open(a->stress->store, text, &commit, &a->error);
    if (rc == VARVE_NOT_FOUND && !is_known(a->stress, known))
        return NULL;
    if (is(a, "open what was committed", rc == VARVE_OK))
        is(a, "the root of what was committed",
           memcmp(&varve_commit_get(commit)->root, &known->root, sizeof known->root) == 0);
    return commit;
}

/* ---- Writers ---------------------------------------------------------------------------------- */

static varve_session *begin(struct actor *a, const char *branch)
{
    const varve_session_options options = { .size = sizeof options, .branch = branch };
    varve_session *session = NULL;
    varve_status rc = varve_session_begin(a->stress->store, &options, &session, &a->error);

    if (rc == VARVE_NOT_FOUND) { /* the first on this branch */
        const varve_session_options genesis = { .size = sizeof genesis,
                                                .flags = VARVE_SESSION_GENESIS,
                                                .branch = branch };
        rc = varve_session_begin(a->stress->store, &genesis, &session, &a->error);
    }
    is(a, "begin", rc == VARVE_OK);
    return session;
}

/* A few commits on `branch`. Others may be on it too when it is `shared`. */
static void commit_on(struct actor *a, const char *branch, bool shared)
{
    struct stress *s = a->stress;
    struct shadow_state state = { .image = { NULL } };
    varve_session *session = begin(a, branch);
    uint32_t savepoint = 0;

    if (session == NULL)
        return;
    bool going = is(a, "load", steps_load(session, &state, &a->error) == VARVE_OK);
    for (unsigned left = 1 + roll(a, 6); left > 0 && going; left--) {
        const varve_commit_options options = { .size = sizeof options,
                                               .flags =
                                                   VARVE_COMMIT_EMPTY | (left > 1 ? VARVE_COMMIT_CHAIN : 0),
                                               .message = branch,
                                               .durability =
                                                   roll(a, 4) == 0 ? VARVE_DURABLE : VARVE_BUFFERED };
        const uint64_t step = steps_height(session) + 1, seed = s->seed + a->number;
        varve_commit *commit = NULL;
        varve_root root;
        going = is(a, "change", steps_change(session, &state, seed, step, &a->error) == VARVE_OK) &&
                is(a, "savepoint", varve_session_savepoint(session, &savepoint, &a->error) == VARVE_OK) &&
                is(a, "a named value", varve_session_set_meta(session, "a", "b", 1, &a->error) == VARVE_OK) &&
                is(a, "rollback", varve_session_rollback(session, savepoint, &a->error) == VARVE_OK);
        if (!going)
            break;
        const varve_status rc = varve_session_commit(session, &options, &commit, &a->error);
        if (rc == VARVE_CONFLICT && shared) {
            s->conflicts++;
            break;
        }
        going = is(a, "commit", rc == VARVE_OK);
        if (!going)
            break;
        if (left == 1)
            session = NULL;
        s->commits++;
        shadow_root(&state, root.bytes);
        is(a, "the root of a commit", memcmp(&varve_commit_get(commit)->root, &root, sizeof root) == 0);
        make_known(a, commit);
        varve_commit_close(commit);
    }
    shadow_release(&state);
    varve_session_abort(session);
}

static void *write_on(void *context)
{
    struct actor *a = context;
    char branch[32];

    (void)snprintf(branch, sizeof branch, "writer/%u", a->number);
    while (going_on(a->stress)) {
        const bool shared = roll(a, 4) == 0;
        commit_on(a, shared ? "main" : branch, shared);
    }
    return NULL;
}

/* ---- Who looks -------------------------------------------------------------------------------- */

static void verify_some(struct actor *a)
{
    struct known known;

    if (!pick_known(a, &known))
        return;
    varve_commit *commit = open_known(a, &known);
    if (commit != NULL &&
        is(a, "read a commit", steps_verify(a->stress->store, commit, &a->error) == VARVE_OK))
        a->stress->verified++;
    varve_commit_close(commit);
}

static void compare_two(struct actor *a)
{
    struct known from, to;
    varve_diff *diff = NULL;
    const varve_change *change = NULL;
    varve_status rc = VARVE_OK;

    if (!pick_known(a, &from) || !pick_known(a, &to))
        return;
    varve_commit *one = open_known(a, &from), *two = open_known(a, &to);
    if (one != NULL && two != NULL &&
        is(a, "diff", varve_diff_open(a->stress->store, one, two, &diff, &a->error) == VARVE_OK)) {
        while ((rc = varve_diff_next(diff, &change, &a->error)) == VARVE_OK)
            ;
        is(a, "a difference", rc == VARVE_END);
    }
    varve_diff_close(diff);
    varve_commit_close(one);
    varve_commit_close(two);
}

static void walk(struct actor *a)
{
    varve_log *log = NULL;
    const varve_commit_info *info = NULL;
    varve_store_info told = { .size = sizeof told };
    varve_ref ref = { .size = sizeof ref };
    varve_status rc = varve_log_open(a->stress->store, NULL, &log, &a->error);

    if (!is(a, "log", rc == VARVE_OK || rc == VARVE_NOT_FOUND))
        return;
    for (unsigned i = 0; i < 16 && rc == VARVE_OK; i++) {
        rc = varve_log_next(log, &info, &a->error);
        is(a, "a step of the log", rc == VARVE_OK || rc == VARVE_END);
        a->stress->walked++;
    }
    varve_log_close(log);
    is(a, "stat", varve_store_stat(a->stress->store, &told, &a->error) == VARVE_OK);
    rc = varve_ref_next(a->stress->store, NULL, &ref, &a->error);
    is(a, "a ref", rc == VARVE_OK || rc == VARVE_END);
}

static void tag_some(struct actor *a)
{
    struct known known;
    char name[32];

    (void)snprintf(name, sizeof name, "tags/%u", roll(a, 8));
    if (!pick_known(a, &known))
        return;
    varve_commit *commit = open_known(a, &known);
    if (commit != NULL) {
        const varve_status rc =
            varve_ref_set(a->stress->store, name, commit, NULL, VARVE_REF_FORCE, &a->error);
        is(a, "tag", rc == VARVE_OK || (rc == VARVE_NOT_FOUND && !is_known(a->stress, &known)));
    }
    varve_commit_close(commit);
}

/* A commit goes while others may hold it, read it, go on from it; whoever holds it reads on. */
static void delete_some(struct actor *a)
{
    struct known known;

    if (!pick_known(a, &known))
        return;
    varve_commit *commit = open_known(a, &known);
    if (commit != NULL && forget_known(a->stress, &known)) {
        const varve_status rc = varve_commit_delete(a->stress->store, commit, &a->error);
        is(a, "delete", rc == VARVE_OK || rc == VARVE_MISUSE); /* a ref names it */
        a->stress->deletes += rc == VARVE_OK;
        is(a, "read what was deleted", steps_verify(a->stress->store, commit, &a->error) == VARVE_OK);
    }
    varve_commit_close(commit);
}

static void maintain(struct actor *a)
{
    uint64_t freed = 0;

    is(a, "maintain", varve_store_maintain(a->stress->store, NULL, &freed, &a->error) == VARVE_OK);
    a->stress->freed += freed;
}

/* Walks and maintenance look at the whole history, and take as long as some hundred of the others. */
static void *look_on(void *context)
{
    struct actor *a = context;

    while (going_on(a->stress)) {
        const unsigned what = roll(a, 128);
        if (what == 0)
            walk(a);
        else if (what == 1)
            maintain(a);
        else if (what < 16)
            is(a, "persist", varve_store_persist(a->stress->store, &a->error) == VARVE_OK);
        else if (what < 32)
            compare_two(a);
        else if (what < 48)
            tag_some(a);
        else if (what < 64)
            delete_some(a);
        else
            verify_some(a);
    }
    return NULL;
}

/* ---- Readers in other processes --------------------------------------------------------------- */

/* What a branch holds now, read whole; it never goes back. */
static void read_branch(struct actor *a, const char *branch, uint64_t *number)
{
    varve_commit *commit = NULL;
    const varve_status rc = varve_commit_open(a->stress->store, branch, &commit, &a->error);

    if (!is(a, branch, rc == VARVE_OK || rc == VARVE_NOT_FOUND) || commit == NULL)
        return;
    is(a, "a branch went back", varve_commit_get(commit)->number >= *number);
    *number = varve_commit_get(commit)->number;
    if (is(a, "read a branch", steps_verify(a->stress->store, commit, &a->error) == VARVE_OK))
        a->stress->verified++;
    varve_commit_close(commit);
}

/* A commit by its number, if it is there. */
static varve_commit *open_number(struct actor *a, uint64_t number)
{
    char revision[32];
    varve_commit *commit = NULL;

    (void)snprintf(revision, sizeof revision, "r%" PRIu64, number);
    const varve_status rc = varve_commit_open(a->stress->store, revision, &commit, &a->error);
    is(a, revision, rc == VARVE_OK || rc == VARVE_NOT_FOUND);
    return commit;
}

/* One opening: an old commit is held, and read again after each look at what is new. */
static void read_for_a_while(struct actor *a, const char *path)
{
    struct stress *s = a->stress;
    const varve_store_options options = { .size = sizeof options, .flags = VARVE_STORE_READ_ONLY };
    char branch[32];
    uint64_t main_number = 0, own_number = 0;
    varve_commit *held = NULL;

    if (!is(a, "open beside the writer", varve_store_open(path, &options, &s->store, &a->error) == VARVE_OK))
        return;
    (void)snprintf(branch, sizeof branch, "writer/%u", roll(a, WRITERS));
    for (unsigned looks = 1 + roll(a, OPENING_LOOKS); looks > 0 && going_on(s); looks--) {
        read_branch(a, "main", &main_number);
        read_branch(a, branch, &own_number);
        if (held == NULL && own_number > 1)
            held = open_number(a, own_number - roll(a, (unsigned)(own_number < 64 ? own_number : 64)));
        if (held != NULL)
            is(a, "read what is held", steps_verify(s->store, held, &a->error) == VARVE_OK);
        walk(a);
    }
    varve_commit_close(held);
    varve_store_close(s->store);
}

static int read_beside(const char *path, uint64_t seconds, uint64_t seed)
{
    static struct stress stress;
    struct actor actor = { .stress = &stress, .number = 100, .chance = seed };

    stress.deadline_ns = now_ns() + seconds * 1000000000u;
    while (going_on(&stress))
        read_for_a_while(&actor, path);
    printf("a reader: %" PRIu64 " commits read whole, %" PRIu64 " steps of logs, %u wrong\n", stress.verified,
           stress.walked, stress.wrong);
    return stress.wrong != 0;
}

static pid_t start_reader(const struct stress *s, const char *path, unsigned number, uint64_t seconds)
{
    char time[32], seed[32];

    (void)snprintf(time, sizeof time, "%" PRIu64, seconds);
    (void)snprintf(seed, sizeof seed, "%" PRIu64, s->seed + 7919 * (number + 1));
    (void)fflush(stdout);
    const pid_t reader = fork();
    if (reader == 0) {
        (void)execl("/proc/self/exe", "stress", "--read", path, time, seed, (char *)NULL);
        _exit(3);
    }
    return reader;
}

static void await(struct stress *s, pid_t reader, int killed_by)
{
    int status = 0;

    if (waitpid(reader, &status, 0) != reader)
        s->wrong++;
    else if (killed_by == 0 ? status != 0 : !WIFSIGNALED(status) || WTERMSIG(status) != killed_by)
        s->wrong++;
}

/* All readers but the first live to the end; that one is killed now and then, and another takes its place. */
static void mind_readers(struct stress *s, const char *path, uint64_t seconds)
{
    pid_t readers[READERS];
    const struct timespec pause = { .tv_nsec = 300000000 };

    for (unsigned i = 0; i < READERS; i++)
        readers[i] = start_reader(s, path, i, seconds);
    for (unsigned n = READERS; going_on(s); n++) {
        (void)nanosleep(&pause, NULL);
        (void)kill(readers[0], SIGKILL);
        await(s, readers[0], SIGKILL);
        s->killed++;
        readers[0] = start_reader(s, path, n, seconds);
    }
    (void)kill(readers[0], SIGKILL);
    await(s, readers[0], SIGKILL);
    for (unsigned i = 1; i < READERS; i++)
        await(s, readers[i], 0);
}

/* ---- All of it -------------------------------------------------------------------------------- */

static bool open_store(struct stress *s, const char *path)
{
    const varve_store_options options = { .size = sizeof options,
                                          .flags = VARVE_STORE_CREATE,
                                          .snapshot_bytes = 256 << 10 };
    varve_error error;

    if (varve_store_open(path, &options, &s->store, &error) == VARVE_OK)
        return true;
    printf("stress: open: %s\n", error.message);
    s->wrong++;
    return false;
}

/* With nobody else about: sound, and all that is known is there. */
static void look_again(struct stress *s, const char *path)
{
    struct actor a = { .stress = s, .number = WRITERS + LOOKERS };
    uint64_t damage = 0;

    is(&a, "check", varve_store_check(path, NULL, &damage, &a.error) == VARVE_OK);
    is(&a, "damage", damage == 0);
    if (!open_store(s, path))
        return;
    for (size_t i = 0; i < s->known_count; i++) {
        varve_commit *commit = open_known(&a, &s->known[i]);
        is(&a, "read again", commit != NULL && steps_verify(s->store, commit, &a.error) == VARVE_OK);
        varve_commit_close(commit);
    }
    varve_store_close(s->store);
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
    static struct stress stress = { .mutex = PTHREAD_MUTEX_INITIALIZER };
    static struct actor actors[WRITERS + LOOKERS];
    pthread_t threads[WRITERS + LOOKERS];
    char path[SCRATCH_PATH];
    const uint64_t seconds = option(argc, argv, "--seconds", 5);

    if (argc == 5 && strcmp(argv[1], "--read") == 0)
        return read_beside(argv[2], strtoull(argv[3], NULL, 10), strtoull(argv[4], NULL, 10));
    stress.seed = option(argc, argv, "--seed", now_ns() % 1000000);
    printf("stress --seconds %" PRIu64 " --seed %" PRIu64 "\n", seconds, stress.seed);
    if (getenv("TMPDIR") == NULL && access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1);
    scratch_new(path);
    stress.deadline_ns = now_ns() + seconds * 1000000000u;
    if (open_store(&stress, path)) {
        for (unsigned i = 0; i < WRITERS + LOOKERS; i++) {
            actors[i] = (struct actor){ .stress = &stress, .number = i, .chance = stress.seed + 1000 * i };
            if (pthread_create(&threads[i], NULL, i < WRITERS ? write_on : look_on, &actors[i]) != 0)
                abort();
        }
        mind_readers(&stress, path, seconds);
        for (unsigned i = 0; i < WRITERS + LOOKERS; i++)
            (void)pthread_join(threads[i], NULL);
        varve_store_info info = { .size = sizeof info };
        if (varve_store_stat(stress.store, &info, NULL) == VARVE_OK)
            stress.snapshots = info.snapshots_taken;
        varve_store_close(stress.store);
        look_again(&stress, path);
    }
    printf("%" PRIu64 " commits, %" PRIu64 " conflicts, %" PRIu64 " deletes, %" PRIu64
           " commits read whole, %" PRIu64 " steps of logs, %" PRIu64 " readers killed, %" PRIu64
           " snapshots, %" PRIu64 " KiB freed, %u wrong\n",
           stress.commits, stress.conflicts, stress.deletes, stress.verified, stress.walked, stress.killed,
           stress.snapshots, stress.freed >> 10, stress.wrong);
    if (stress.wrong == 0)
        scratch_remove(path);
    printf("%d passed, %d failed\n", stress.wrong == 0, stress.wrong != 0);
    return stress.wrong != 0;
}
