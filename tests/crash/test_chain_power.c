/* What a power loss leaves of a store of the layout chain: a history that somebody persisted, whole,
 * and a store that goes on. Method: replay.h; judging: chain_story.h.
 *
 *   new      the first commits of a new store, persisted twice
 *   old      on a store with history and with files of a life before: main goes back and on, commits go at both ends
 *   stamped  commits that are not persisted, on newest images that were whole */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chain_story.h"
#include "replay.h"
#include "scratch.h"
#include "tally.h"

struct setting {
    struct replay *replay;
    struct chain_story story;
    struct replay_report report;
    struct vv_double d;
    char world[SCRATCH_PATH], path[SCRATCH_PATH + 16];
    varve_store *store;
};

static _Noreturn void give_up(const char *what)
{
    (void)fprintf(stderr, "test_chain_power: %s: %s\n", what, vv_words());
    exit(2);
}

static void must(const char *what, varve_status rc)
{
    if (rc != VARVE_OK)
        give_up(what);
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
    return chain_judge(&setting->story, path, calls, denial);
}

static bool is_dull(const char *path)
{
    return strcmp(path, "store/.varve/lock") == 0;
}

/* From here on all that is done to the store is recorded; what is durable so far is the first history. */
static void record(struct setting *setting)
{
    struct chain_story *story = &setting->story;

    story->histories[0] = story->histories[story->promised];
    story->histories[0].begun = story->histories[0].durable = 0;
    story->count = 1;
    story->promised = 0;
    story->now = story->histories[0];
    replay_begin(setting->replay, setting->world);
    story->calls = calls_of;
    story->context = setting->replay;
    vv_double_init(&setting->d, &vv_vfs_system);
    replay_attach(setting->replay, &setting->d);
    must("open", chain_open(&setting->d.table, setting->path, 0, &setting->store));
}

static void lose_power(struct setting *setting, const char *name, unsigned one_in)
{
    const struct replay_scope scope = {
        .name = name, .chances = 4, .one_in = one_in, .enough = 40, .is_dull = is_dull
    };
    const uint64_t checked = setting->report.checked, found = setting->report.violations;

    vv_store_close(setting->store);
    setting->store = NULL;
    setting->story.calls = NULL;
    replay_run(setting->replay, &scope, check, setting, &setting->report);
    (void)printf("%-8s %llu calls, %llu states checked, %llu violations\n", name,
                 (unsigned long long)replay_calls(setting->replay),
                 (unsigned long long)(setting->report.checked - checked),
                 (unsigned long long)(setting->report.violations - found));
}

static void begin(struct setting *setting)
{
    scratch_remove(setting->world);
    scratch_new(setting->world);
    (void)snprintf(setting->path, sizeof setting->path, "%s/store", setting->world);
    chain_begin(&setting->story);
    must("create", chain_open(&vv_vfs_system, setting->path, VARVE_STORE_CREATE, &setting->store));
}

static void run_new(struct setting *setting, unsigned one_in)
{
    struct chain_story *story = &setting->story;

    begin(setting);
    vv_store_close(setting->store);
    record(setting);
    must("commit", chain_commit(story, setting->store, 6));
    must("commit", chain_commit(story, setting->store, 7));
    must("persist", chain_persist(story, setting->store));
    must("commit", chain_commit(story, setting->store, 8));
    must("persist", chain_persist(story, setting->store));
    lose_power(setting, "new", one_in);
}

static void run_old(struct setting *setting, unsigned one_in)
{
    struct chain_story *story = &setting->story;
    uint64_t freed = 0;

    begin(setting);
    for (unsigned step = 1; step <= 4; step++)
        must("commit", chain_commit(story, setting->store, step));
    must("tag", chain_tag(story, setting->store, 2));
    must("persist", chain_persist(story, setting->store));
    must("restore", chain_restore(story, setting->store, 3));
    must("commit", chain_commit(story, setting->store, 5));
    chain_end_of_life(story);
    vv_store_close(setting->store);
    record(setting);
    must("restore", chain_restore(story, setting->store, 2));
    must("commit", chain_commit(story, setting->store, 6));
    must("commit", chain_commit_mapped(story, setting->store, 5)); /* names that a life before left */
    must("delete", chain_delete(story, setting->store, 1));
    must("gc", setting->store->layout->maintain(setting->store->place, 0, NULL, NULL, &freed));
    must("restore", chain_restore(story, setting->store, 4));
    must("delete", chain_delete(story, setting->store, 5));
    must("commit", chain_commit(story, setting->store, 9));
    must("persist", chain_persist(story, setting->store));
    lose_power(setting, "old", one_in);
}

/* Newest images that stamps vouch for, and commits that are not persisted. */
static void run_stamped(struct setting *setting, unsigned one_in)
{
    struct chain_story *story = &setting->story;

    begin(setting);
    for (unsigned step = 1; step <= 5; step++)
        must("commit", chain_commit(story, setting->store, step));
    must("persist", chain_persist(story, setting->store));
    vv_store_close(setting->store);
    record(setting);
    must("commit", chain_commit(story, setting->store, 6));
    must("commit", chain_commit(story, setting->store, 7));
    lose_power(setting, "stamped", one_in);
}

int main(void)
{
    static struct setting setting;
    const char *text = getenv("VARVE_TEST_SCALE");
    const unsigned scale = text == NULL || atol(text) < 1 ? 1 : (unsigned)atol(text);
    const unsigned one_in = scale >= 4 ? 1 : 4 / scale;

    scratch_in_memory();
    setting.replay = replay_new();
    scratch_new(setting.world);
    run_new(&setting, one_in);
    run_old(&setting, one_in);
    run_stamped(&setting, one_in);
    scratch_remove(setting.world);
    replay_free(setting.replay);
    tally("chain-power", setting.report.checked, setting.report.violations);
    return setting.report.violations == 0 && setting.report.checked > 0 ? 0 : 1;
}
