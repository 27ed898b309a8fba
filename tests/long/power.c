/* power.c - a history of deeds on a real file system, and the judge of what a power loss left of it.
 *
 *   power run DIR SEED DEEDS [--mark COMMAND] [--no-sync]   do them; after each one run `COMMAND deed-N`, if given
 *   power check DIR SEED DONE                               judge: deeds up to DONE were promised; "none": not even
 *                                                           that there is a store
 *   power replay DIR SEED LOG DISK SCRATCH TYPE EVERY       judge DIR in all states of blocklog.h; DIR/.. is mounted
 *
 * Which deed comes n-th follows from the seed: a durable commit, a buffered one made durable, a branch, a restore, a
 * deletion, space given back, another opening. With --no-sync the library believes that it synced its files, and did not: the judge must see it.
 * The journal here has its torture limits (meson.build), so segments and checkpoints turn over within few deeds.
 *
 * The judge: the store opens undamaged, by its own word and by the check's; it holds exactly the commits and refs of
 * the first DONE deeds, or of one more, which was under way; the newest commits and some older ones are compared byte
 * by byte (the check has read all); a second opening finds the same. Exit code 1 and words when something is wrong. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/vfs.h"
#include "blocklog.h"
#include "steps.h"
#include "store/store.h"

enum { DEEDS_MAX = 4096, OTHER_THAN_DONE = 2, LOOKED_INTO = 4 };

struct entry {
    varve_commit_id id;
    bool deleted;
    struct shadow_state state;
};
struct history {
    uint64_t seed;
    struct entry commits[DEEDS_MAX]; /* in the order in which they were made */
    int parent[DEEDS_MAX];
    int count, main, topic; /* -1: nothing yet */
};

static void history_begin(struct history *h, uint64_t seed)
{
    *h = (struct history){ .seed = seed, .main = -1, .topic = -1 };
}

static void history_end(struct history *h)
{
    for (int i = 0; i < h->count; i++)
        shadow_release(&h->commits[i].state);
}

/* ---- Deeds, of the model ---------------------------------------------------------------------- */

enum deed { COMMIT, BUFFERED, BRANCH, RESTORE, DELETE, MAINTAIN, REOPEN };

/* The nearest ancestor that is there. */
static int parent_of(const struct history *h, int commit)
{
    int at = h->parent[commit];

    while (at >= 0 && h->commits[at].deleted)
        at = h->parent[at];
    return at;
}

/* What the n-th deed would delete. */
static int victim_at(const struct history *h, uint64_t n)
{
    return (int)(steps_mix(h->seed + n * 7) % (uint64_t)h->count);
}

static enum deed deed_at(const struct history *h, uint64_t n)
{
    const unsigned drawn = (unsigned)(steps_mix(h->seed * 31 + n) % 16);

    if (h->main < 0 || drawn >= 9)
        return COMMIT;
    if (drawn == 8)
        return MAINTAIN;
    if (drawn >= 6) {
        const int victim = victim_at(h, n);
        return victim == h->main || victim == h->topic || h->commits[victim].deleted ? COMMIT : DELETE;
    }
    if (drawn == 5)
        return parent_of(h, h->main) >= 0 ? RESTORE : BUFFERED;
    return drawn == 0 ? BRANCH : drawn == 1 ? REOPEN : BUFFERED;
}

static void add_commit(struct history *h, uint64_t n)
{
    struct entry *e = &h->commits[h->count];
    uint8_t root[32];

    if (h->main >= 0)
        shadow_copy(&e->state, &h->commits[h->main].state);
    (void)steps_change(NULL, &e->state, h->seed, n, NULL);
    shadow_root(&e->state, root);
    shadow_commit_id(h->main < 0 ? NULL : h->commits[h->main].id.bytes, root, (int64_t)n, "", e->id.bytes);
    h->parent[h->count] = h->main;
    h->main = h->count++;
}

static void remember(struct history *h, uint64_t n)
{
    switch (deed_at(h, n)) {
    case COMMIT:
    case BUFFERED:
        add_commit(h, n);
        break;
    case BRANCH:
        h->topic = h->main;
        break;
    case RESTORE:
        h->main = parent_of(h, h->main);
        break;
    case DELETE:
        h->commits[victim_at(h, n)].deleted = true;
        break;
    case MAINTAIN:
    case REOPEN:
        break;
    }
}

/* ---- Deeds, done ------------------------------------------------------------------------------ */

static int believe_synced(const struct vv_vfs *self, int fd)
{
    (void)self;
    (void)fd;
    return 0;
}

static _Noreturn void give_up(const char *what, const varve_error *error)
{
    printf("power: %s: %s\n", what, error->message);
    exit(OTHER_THAN_DONE);
}

static void open_store(const struct vv_vfs *vfs, const char *path, varve_store **store)
{
    const varve_store_options options = { .size = sizeof options, .flags = VARVE_STORE_CREATE };

    if (vv_store_open(vfs, path, &options, store) != VARVE_OK) {
        printf("power: open: %s\n", vv_words());
        exit(OTHER_THAN_DONE);
    }
}

static void commit_step(varve_store *store, const struct history *h, uint64_t n, bool durable)
{
    const varve_commit_options options = { .size = sizeof options,
                                           .flags = VARVE_COMMIT_EMPTY,
                                           .time_ns = (int64_t)n,
                                           .durability = durable ? VARVE_DURABLE : VARVE_BUFFERED };
    struct shadow_state state = { .image = { NULL } };
    varve_session *session = NULL;
    varve_error error;

    if (h->main >= 0)
        shadow_copy(&state, &h->commits[h->main].state);
    if (varve_session_begin(store, NULL, &session, &error) != VARVE_OK ||
        steps_change(session, &state, h->seed, n, &error) != VARVE_OK ||
        varve_session_commit(session, &options, NULL, &error) != VARVE_OK ||
        (!durable && varve_store_persist(store, &error) != VARVE_OK))
        give_up("commit", &error);
    shadow_release(&state);
}

static void set_ref(varve_store *store, const char *name, const char *revision)
{
    varve_commit *commit = NULL;
    varve_error error;

    if (varve_commit_open(store, revision, &commit, &error) != VARVE_OK ||
        varve_ref_set(store, name, commit, NULL, VARVE_REF_FORCE, &error) != VARVE_OK)
        give_up(name, &error);
    varve_commit_close(commit);
}

static void delete_commit(varve_store *store, const struct entry *e)
{
    char text[65];
    varve_commit *commit = NULL;
    varve_error error;

    varve_hex_format(e->id.bytes, text);
    if (varve_commit_open(store, text, &commit, &error) != VARVE_OK ||
        varve_commit_delete(store, commit, &error) != VARVE_OK)
        give_up("delete", &error);
    varve_commit_close(commit);
}

static void mark(const char *command, uint64_t n)
{
    char line[256];

    if (command == NULL)
        return;
    (void)snprintf(line, sizeof line, "%s deed-%" PRIu64, command, n);
    if (system(line) != 0) {
        printf("power: %s failed\n", line);
        exit(OTHER_THAN_DONE);
    }
}

static int run(const char *path, uint64_t seed, uint64_t deeds, const char *marker, const struct vv_vfs *vfs)
{
    static struct history history;
    struct history *h = &history;
    varve_store *store = NULL;
    varve_error error;

    history_begin(h, seed);

    open_store(vfs, path, &store);
    mark(marker, 0);
    for (uint64_t n = 1; n <= deeds; n++) {
        switch (deed_at(h, n)) {
        case COMMIT:
            commit_step(store, h, n, true);
            break;
        case BUFFERED:
            commit_step(store, h, n, false);
            break;
        case BRANCH:
            set_ref(store, "topic", "main");
            break;
        case RESTORE:
            set_ref(store, "main", "main~1");
            break;
        case DELETE:
            delete_commit(store, &h->commits[victim_at(h, n)]);
            break;
        case MAINTAIN:
            if (varve_store_maintain(store, NULL, NULL, &error) != VARVE_OK)
                give_up("maintain", &error);
            break;
        case REOPEN:
            varve_store_close(store);
            open_store(vfs, path, &store);
            break;
        }
        remember(h, n);
        mark(marker, n);
    }
    varve_store_close(store);
    printf("power: %" PRIu64 " deeds, %d commits\n", deeds, h->count);
    history_end(h);
    return 0;
}

/* ---- The judge -------------------------------------------------------------------------------- */

static char complaint[600];

static bool complain(const char *what, const char *words)
{
    (void)snprintf(complaint, sizeof complaint, "%s: %s", what, words);
    return false;
}

static void find_damage(void *context, const varve_finding *finding)
{
    bool *sound = context;

    if (finding->severity == VARVE_DAMAGE && *sound)
        *sound = complain("damage", finding->text);
}

static bool is_commit(varve_store *store, const struct entry *e, bool all)
{
    char text[65];
    varve_commit *commit = NULL;
    varve_error error;

    varve_hex_format(e->id.bytes, text);
    varve_status rc = varve_commit_open(store, text, &commit, &error);
    if (rc == VARVE_OK && all)
        rc = steps_compare(store, commit, &e->state, &error);
    varve_commit_close(commit);
    if (e->deleted)
        return rc == VARVE_NOT_FOUND || complain(text, "it is there, and was deleted");
    return rc == VARVE_OK || complain(text, error.message);
}

static bool is_ref(varve_store *store, const struct history *h, const char *name, int at)
{
    varve_commit *commit = NULL;
    varve_error error;
    const varve_status rc = varve_commit_open(store, name, &commit, &error);
    const bool right = at < 0
                           ? rc == VARVE_NOT_FOUND
                           : rc == VARVE_OK && vv_id_equal(&varve_commit_get(commit)->id, &h->commits[at].id);

    varve_commit_close(commit);
    return right ||
           complain(name, rc == VARVE_OK ? "it names another commit" : "it is not there, or should not be");
}

static bool is_history(varve_store *store, const struct history *h)
{
    varve_store_info info = { .size = sizeof info };
    uint64_t commits = 0;

    for (int i = 0; i < h->count; i++)
        commits += !h->commits[i].deleted;
    if (varve_store_stat(store, &info, NULL) != VARVE_OK || info.commits != commits)
        return complain("commits", "more or fewer than there should be");
    if (!is_ref(store, h, "main", h->main) || !is_ref(store, h, "topic", h->topic))
        return false;
    for (int i = 0; i < h->count; i++) {
        const bool some = i >= h->count - 2 || (i + h->count) % (h->count / LOOKED_INTO + 1) == 0;
        if (!is_commit(store, &h->commits[i], some))
            return false;
    }
    return true;
}

static bool open_sound(const char *path, uint32_t flags, varve_store **store)
{
    bool sound = true;
    const varve_store_options options = {
        .size = sizeof options, .flags = flags, .finding = find_damage, .context = &sound
    };
    varve_error error;

    if (varve_store_open(path, &options, store, &error) != VARVE_OK)
        return complain("open", error.message);
    return sound;
}

static bool check_clean(const char *path)
{
    bool sound = true;
    const varve_check_options options = { .size = sizeof options, .finding = find_damage, .context = &sound };
    uint64_t damage = 0;
    varve_error error;

    if (varve_store_check(path, &options, &damage, &error) != VARVE_OK)
        return complain("the check", error.message);
    return sound && damage == 0;
}

/* What was promised is there; what was begun is there whole or not at all, and which of the two stays so. */
static bool judge(const char *path, struct history *h, uint64_t promised)
{
    varve_store *store = NULL;
    bool right = check_clean(path) && open_sound(path, 0, &store) && is_history(store, h);

    if (!right && store != NULL) {
        remember(h, promised + 1);
        right = is_history(store, h);
    }
    varve_store_close(store);
    store = NULL;
    right = right && open_sound(path, 0, &store) && is_history(store, h);
    varve_store_close(store);
    return right && check_clean(path);
}

/* What was being made is made, or can be. */
static bool judge_making(const char *path, const struct history *h)
{
    varve_store *store = NULL;
    const bool right = open_sound(path, VARVE_STORE_CREATE, &store) && is_history(store, h);

    varve_store_close(store);
    return right && check_clean(path);
}

struct task {
    const char *path;
    uint64_t seed;
};

static bool check(void *context, const char *deed)
{
    static struct history history;
    const struct task *task = context;
    const uint64_t promised = strtoull(deed, NULL, 10);

    history_begin(&history, task->seed);
    for (uint64_t n = 1; n <= promised; n++)
        remember(&history, n);
    const bool right = strcmp(deed, "none") == 0 ? judge_making(task->path, &history)
                                                 : judge(task->path, &history, promised);
    history_end(&history);
    if (!right)
        printf("after deed %s: %s\n", deed, complaint);
    return right;
}

static int replay(struct task *task, char **argv)
{
    char mountpoint[256];

    (void)snprintf(mountpoint, sizeof mountpoint, "%.*s", (int)(strrchr(task->path, '/') - task->path),
                   task->path);
    const struct blocklog with = {
        .log = argv[0],
        .disk = argv[1],
        .scratch = argv[2],
        .type = argv[3],
        .every = (unsigned)strtoul(argv[4], NULL, 10),
        .mountpoint = mountpoint,
        .judge = check,
        .context = task,
    };
    return blocklog_replay(&with) > 0;
}

int main(int argc, char **argv)
{
    struct vv_vfs vfs = vv_vfs_system;
    const char *marker = NULL;

    if (argc < 5)
        return OTHER_THAN_DONE;
    struct task task = { .path = argv[2], .seed = strtoull(argv[3], NULL, 10) };
    if (strcmp(argv[1], "replay") == 0 && argc == 9)
        return replay(&task, argv + 4);
    if (strcmp(argv[1], "check") == 0)
        return !check(&task, argv[4]);
    for (int i = 5; i < argc; i++) {
        if (strcmp(argv[i], "--no-sync") == 0)
            vfs.sync = believe_synced;
        else if (strcmp(argv[i], "--mark") == 0 && i + 1 < argc)
            marker = argv[++i];
    }
    return run(task.path, task.seed, strtoull(argv[4], NULL, 10), marker, &vfs);
}
