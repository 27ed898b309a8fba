/* What a power loss leaves of a store of the layout flat or chain: a history that somebody made durable, whole, and a store
 * that goes on. Method: replay.h; scripts and judging: line_story.h.
 *
 *   new      the first commits of a new store, persisted twice
 *   old      on a store with history and with files of a life before: main goes back and on, commits go, names of
 *            leftovers are met again
 *   stamped  chain: commits that are not persisted, on newest images that were whole
 *   killed   before the power went, a process was killed between a name and its sync, and another went on in what it
 *            had left in the page cache: what that one promises must last, and what it takes away must be needed by
 *            nothing that could come back */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "line_story.h"
#include "replay.h"
#include "scratch.h"
#include "tally.h"

static const struct row {
    const char *layout, *name;
    const struct story_kind *kind;
    const char *before, *script;
} rows[] = {
    { "flat", "new", &story_flat, "", "c6 c7 p c8 p" },
    { "flat", "old", &story_flat, "c1 c2 c3 c4 t2 p r3 c5", "r1 c5 t4 d3 d1 g r2 c9 p" },
    { "chain", "new", &story_chain, "", "c6 c7 p c8 p" },
    { "chain", "old", &story_chain, "c1 c2 c3 c4 t2 p r3 c5", "r2 c6 m5 d1 g r4 d5 c9 p" },
    { "chain", "stamped", &story_chain, "c1 c2 c3 c4 c5 p", "c6 c7" },
};

/* What is killed before each of its syncs of a directory, and all who go on: names that are not synced are all that is
 * believed of somebody who was killed, as a file is synced before it has the name that is looked for. */
static const struct killed_row {
    const char *layout;
    const struct story_kind *kind;
    const char *before, *script;
} killed_rows[] = {
    { "flat", &story_flat, "", "c6 p" },
    { "flat", &story_flat, "c1 c2 c3 c4 t2 p r3 c5", "c9 p d1 t1" },
    { "chain", &story_chain, "", "c6 p" },
    { "chain", &story_chain, "c1 c2 c3 c4 t2 p r3 c5", "c9 p d1" },
};
static const char *const afterwards[] = { "p", "g", "t4", "r2 p", "d1 g", "" };
enum { AFTERWARDS = sizeof afterwards / sizeof *afterwards, SYNCS = 40, ENOUGH = 40 };

struct setting {
    struct replay *replay;
    struct story *story; /* shared, for a child that is killed */
    unsigned opened;     /* calls that opening made */
    struct replay_report report;
};

static void must(const char *what, varve_status rc)
{
    if (rc == VARVE_OK)
        return;
    (void)fprintf(stderr, "test_line_power: %s: %s\n", what, vv_words());
    exit(2);
}

static unsigned calls_of(void *context, bool promise)
{
    struct replay *replay = context;

    return promise ? replay_mark(replay) : replay_calls(replay);
}

static bool check(void *context, const char *world, unsigned calls, char denial[512])
{
    const struct setting *setting = context;
    char path[SCRATCH_PATH + 32];

    (void)snprintf(path, sizeof path, "%s/store", world);
    return story_judge(setting->story, path, calls, true, denial);
}

static bool is_dull(const char *path)
{
    return strcmp(path, "store/.varve/lock") == 0;
}

/* From now on all is recorded; what is durable is the first history. */
static void begin_record(struct setting *setting, const char *world)
{
    struct story *story = setting->story;

    story->histories[0] = story->histories[story->promised];
    story->histories[0].begun = story->histories[0].durable = 0;
    story->count = 1;
    story->promised = 0;
    replay_begin(setting->replay, world);
    story->calls = calls_of;
    story->context = setting->replay;
}

static void record(struct setting *setting, const char *world, const char *path, const char *script)
{
    struct story *story = setting->story;
    varve_store *store = NULL;
    struct vv_double d;

    begin_record(setting, world);
    vv_double_init(&d, &vv_vfs_system);
    replay_attach(setting->replay, &d);
    must("open", story_open(story, &d.table, path, 0, &store));
    setting->opened = replay_calls(setting->replay);
    while (*script != '\0')
        must("do", story_next(story, store, &script));
    vv_store_close(store);
    story->calls = NULL;
}

static void lose_power(struct setting *setting, const struct row *row, unsigned one_in)
{
    const struct replay_scope scope = { .name = row->name,
                                        .chances = 4,
                                        .one_in = row->before[0] == '\0' ? 1 : one_in, /* a new store is cheap */
                                        .enough = ENOUGH,
                                        .is_dull = is_dull };
    const uint64_t checked = setting->report.checked, found = setting->report.violations;
    char world[SCRATCH_PATH], path[SCRATCH_PATH + 16];

    scratch_new(world);
    (void)snprintf(path, sizeof path, "%s/store", world);
    must("prepare", story_prepare(setting->story, row->kind, path, row->before));
    record(setting, world, path, row->script);
    replay_run(setting->replay, &scope, check, setting, &setting->report);
    (void)printf("%-8s %u calls, %llu states checked, %llu violations\n", row->name,
                 replay_calls(setting->replay), (unsigned long long)(setting->report.checked - checked),
                 (unsigned long long)(setting->report.violations - found));
    scratch_remove(world);
}

/* ---- Killed, then the power goes ---------------------------------------------------------------- */

/* Do the script, killed before the nth call. Whether there was such a call. */
static bool kill_at(struct setting *setting, const char *path, const char *script, unsigned nth)
{
    struct vv_double d;
    varve_store *store = NULL;
    int status = 0;

    const pid_t child = fork();
    if (child == 0) {
        vv_double_init(&d, &vv_vfs_system);
        replay_attach(setting->replay, &d);
        vv_double_arm(&d, VV_DOUBLE_KILL, nth, 0);
        must("open", story_open(setting->story, &d.table, path, 0, &store));
        while (*script != '\0')
            must("do", story_next(setting->story, store, &script));
        vv_store_close(store);
        _exit(0);
    }
    if (child == -1 || waitpid(child, &status, 0) != child ||
        (WIFEXITED(status) && WEXITSTATUS(status) != 0)) {
        perror("test_line_power: a child");
        exit(2);
    }
    return WIFSIGNALED(status);
}

/* Another process goes on where one was killed. */
static void go_on(struct setting *setting, const char *name, const char *path, const char *script,
                  unsigned one_in)
{
    const struct replay_scope scope = { .name = name,
                                        .first = replay_calls(setting->replay),
                                        .chances = 4,
                                        .one_in = one_in,
                                        .brief = true,
                                        .enough = ENOUGH,
                                        .is_dull = is_dull };
    struct vv_double d;
    varve_store *store = NULL;
    char denial[512] = "";

    vv_double_init(&d, &vv_vfs_system);
    replay_attach(setting->replay, &d);
    if (story_open(setting->story, &d.table, path, 0, &store) != VARVE_OK) {
        (void)fprintf(stderr, "%s: it does not open: %s\n", name, vv_words());
        setting->report.violations++;
        return;
    }
    if (!story_take_up(setting->story, store, path, denial)) {
        (void)fprintf(stderr, "%s: %s\n", name, denial);
        setting->report.violations++;
    }
    while (denial[0] == '\0' && *script != '\0')
        must(name, story_next(setting->story, store, &script));
    vv_store_close(store);
    setting->story->calls = NULL;
    if (denial[0] == '\0')
        replay_run(setting->replay, &scope, check, setting, &setting->report);
}

/* Whether there was such a call. */
static bool kill_and_go_on(struct setting *setting, const struct killed_row *row, unsigned nth,
                           const char *after, unsigned one_in)
{
    char world[SCRATCH_PATH], path[SCRATCH_PATH + 16], name[120];

    scratch_new(world);
    (void)snprintf(path, sizeof path, "%s/store", world);
    (void)snprintf(name, sizeof name, "%s killed at %u, then %s", row->script, nth, after);
    must("prepare", story_prepare(setting->story, row->kind, path, row->before));
    begin_record(setting, world);
    const bool killed = kill_at(setting, path, row->script, nth);
    if (killed)
        go_on(setting, name, path, after, one_in);
    setting->story->calls = NULL;
    scratch_remove(world);
    return killed;
}

/* Which calls of the script, once the store is open, sync a directory, by number. */
static unsigned find_syncs(struct setting *setting, const struct killed_row *row, unsigned syncs[SYNCS])
{
    char world[SCRATCH_PATH], path[SCRATCH_PATH + 16];
    unsigned count = 0;

    scratch_new(world);
    (void)snprintf(path, sizeof path, "%s/store", world);
    must("prepare", story_prepare(setting->story, row->kind, path, row->before));
    record(setting, world, path, row->script);
    for (unsigned i = setting->opened; i < replay_calls(setting->replay); i++)
        if (replay_call(setting->replay, i) == VV_CALL_SYNC_DIR && count < SYNCS)
            syncs[count++] = i;
    scratch_remove(world);
    return count;
}

static void kill_each(struct setting *setting, const struct killed_row *row, unsigned one_in)
{
    const uint64_t checked = setting->report.checked, found = setting->report.violations;
    unsigned syncs[SYNCS], kills = 0;
    const unsigned count = find_syncs(setting, row, syncs);

    for (unsigned i = 0; i < count * AFTERWARDS && setting->report.violations < ENOUGH; i++) {
        /* On history a state takes long: a quick run has a third of those who go on, another third for each kill. */
        if (one_in > 1 && row->before[0] != '\0' && (i / AFTERWARDS + i % AFTERWARDS) % 3 != 0)
            continue;
        kills += kill_and_go_on(setting, row, syncs[i / AFTERWARDS] + 1, afterwards[i % AFTERWARDS],
                                row->before[0] == '\0' ? 1 : one_in);
    }
    (void)printf("%-8s %u kills, %llu states checked, %llu violations\n", "killed", kills,
                 (unsigned long long)(setting->report.checked - checked),
                 (unsigned long long)(setting->report.violations - found));
}

int main(int argc, char **argv)
{
    static struct setting setting;
    const char *text = getenv("VARVE_TEST_SCALE");
    const unsigned scale = text == NULL || atol(text) < 1 ? 1 : (unsigned)atol(text);
    const unsigned one_in = scale >= 4 ? 1 : 4 / scale;
    char name[32];

    if (argc != 2) {
        (void)fprintf(stderr, "usage: crash_line_power flat|chain\n");
        return 2;
    }
    scratch_in_memory();
    setting.replay = replay_new();
    setting.story =
        mmap(NULL, sizeof *setting.story, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (setting.story == MAP_FAILED) {
        perror("mmap");
        return 2;
    }
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strcmp(rows[i].layout, argv[1]) == 0)
            lose_power(&setting, &rows[i], one_in);
    for (size_t i = 0; i < sizeof killed_rows / sizeof *killed_rows; i++)
        if (strcmp(killed_rows[i].layout, argv[1]) == 0)
            kill_each(&setting, &killed_rows[i], one_in);
    replay_free(setting.replay);
    (void)snprintf(name, sizeof name, "%s-power", argv[1]);
    tally(name, setting.report.checked, setting.report.violations);
    return setting.report.violations == 0 && setting.report.checked > 0 ? 0 : 1;
}
