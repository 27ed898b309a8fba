/* What a power loss leaves of a store of the layout flat or chain: a history that somebody made durable, whole, and a store
 * that goes on. Method: replay.h; scripts and judging: line_story.h.
 *
 *   new      the first commits of a new store, persisted twice
 *   old      on a store with history and with files of a life before: main goes back and on, commits go, names of
 *            leftovers are met again
 *   stamped  chain: commits that are not persisted, on newest images that were whole */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

struct setting {
    struct replay *replay;
    struct story story;
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
    return story_judge(&setting->story, path, calls, true, denial);
}

static bool is_dull(const char *path)
{
    return strcmp(path, "store/.varve/lock") == 0;
}

/* Do the script with all of it recorded; what is durable when that begins is the first history. */
static void record(struct setting *setting, const char *world, const char *path, const char *script)
{
    struct story *story = &setting->story;
    varve_store *store = NULL;
    struct vv_double d;

    story->histories[0] = story->histories[story->promised];
    story->histories[0].begun = story->histories[0].durable = 0;
    story->count = 1;
    story->promised = 0;
    replay_begin(setting->replay, world);
    story->calls = calls_of;
    story->context = setting->replay;
    vv_double_init(&d, &vv_vfs_system);
    replay_attach(setting->replay, &d);
    must("open", story_open(story, &d.table, path, 0, &store));
    while (*script != '\0')
        must("do", story_next(story, store, &script));
    vv_store_close(store);
    story->calls = NULL;
}

static void lose_power(struct setting *setting, const struct row *row, unsigned one_in)
{
    const struct replay_scope scope = {
        .name = row->name, .chances = 4, .one_in = one_in, .enough = 40, .is_dull = is_dull
    };
    const uint64_t checked = setting->report.checked, found = setting->report.violations;
    char world[SCRATCH_PATH], path[SCRATCH_PATH + 16];

    scratch_new(world);
    (void)snprintf(path, sizeof path, "%s/store", world);
    must("prepare", story_prepare(&setting->story, row->kind, path, row->before));
    record(setting, world, path, row->script);
    replay_run(setting->replay, &scope, check, setting, &setting->report);
    (void)printf("%-8s %u calls, %llu states checked, %llu violations\n", row->name,
                 replay_calls(setting->replay), (unsigned long long)(setting->report.checked - checked),
                 (unsigned long long)(setting->report.violations - found));
    scratch_remove(world);
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
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strcmp(rows[i].layout, argv[1]) == 0)
            lose_power(&setting, &rows[i], one_in);
    replay_free(setting.replay);
    (void)snprintf(name, sizeof name, "%s-power", argv[1]);
    tally(name, setting.report.checked, setting.report.violations);
    return setting.report.violations == 0 && setting.report.checked > 0 ? 0 : 1;
}
