/* What a power loss leaves of a clone: no store, or all of it; all of it from the moment that the call returned. Method:
 * replay.h. The source is a journal with three commits, a tag and a deleted one; it is cloned into each layout, commit by
 * commit, and, when nobody writes to it, as files. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "past.h"
#include "replay.h"
#include "scratch.h"
#include "store/clone.h"
#include "tally.h"

struct setting {
    struct past past;
    varve_layout layout;
    unsigned mark; /* calls made when it was told that the clone is there; UINT_MAX: not yet */
};

static void must(const char *what, varve_status rc)
{
    if (rc == VARVE_OK)
        return;
    (void)fprintf(stderr, "test_clone: %s: %s\n", what, vv_words());
    exit(2);
}

static varve_status open_at(const char *path, uint32_t flags, varve_layout layout, varve_store **store)
{
    const varve_store_options options = { .size = sizeof options,
                                          .flags = flags | VARVE_STORE_NO_THREADS,
                                          .layout = layout };

    return vv_store_open(&vv_vfs_system, path, &options, store);
}

static bool check(void *context, const char *world, unsigned calls, char denial[512])
{
    const struct setting *setting = context;
    const varve_check_options options = { .size = sizeof options };
    char path[SCRATCH_PATH + 32];
    varve_store *store = NULL;
    uint64_t damage = 0;

    (void)snprintf(path, sizeof path, "%s/store", world);
    varve_status rc = open_at(path, 0, setting->layout, &store);
    if (rc == VARVE_OK)
        rc = past_read_only(&setting->past, store);
    vv_store_close(store);
    if (rc == VARVE_OK)
        rc = vv_store_check(&vv_vfs_system, path, &options, &damage);
    if (rc == VARVE_OK && damage == 0)
        return true;
    if (rc == VARVE_NOT_FOUND && store == NULL && calls < setting->mark)
        return true; /* no store, and none was promised */
    (void)snprintf(denial, 512, "%s, %llu damaged: %s", varve_status_name(rc), (unsigned long long)damage,
                   vv_words());
    return false;
}

/* The source, open as asked for. */
static varve_store *make_source(const char *path, struct past *past, uint32_t flags)
{
    varve_store *store = NULL;

    *past = (struct past){ .chance = { .state = 11 } };
    must("create", open_at(path, VARVE_STORE_CREATE, VARVE_LAYOUT_JOURNAL, &store));
    for (unsigned i = 0; i < 4; i++)
        must("commit", past_commit(past, store, "main", PAST_COMMITS, VARVE_BUFFERED));
    must("tag", past_ref(past, store, "tags/one", 1));
    must("delete", past_remove(past, store, 2));
    must("persist", store->layout->persist(store->place));
    vv_store_close(store);
    must("open", open_at(path, flags, VARVE_LAYOUT_DEFAULT, &store));
    return store;
}

/* `flags`: how the source is opened; READ_ONLY lets a clone of its own layout be copied as files. */
static void lose_power(struct replay *replay, varve_layout layout, uint32_t flags, unsigned one_in,
                       struct replay_report *report)
{
    struct setting setting = { .layout = layout, .mark = UINT_MAX };
    const varve_clone_options options = { .size = sizeof options, .layout = layout };
    const char *name = flags == 0 ? vv_layout_with(layout)->name : "as files";
    const struct replay_scope scope = { .name = name, .chances = 2, .one_in = one_in, .enough = 40 };
    char home[SCRATCH_PATH], world[SCRATCH_PATH], from[SCRATCH_PATH + 16], to[SCRATCH_PATH + 16];
    const uint64_t checked = report->checked, found = report->violations;
    struct vv_double d;

    scratch_new(home);
    scratch_new(world);
    (void)snprintf(from, sizeof from, "%s/source", home);
    (void)snprintf(to, sizeof to, "%s/store", world);
    varve_store *source = make_source(from, &setting.past, flags);
    replay_begin(replay, world);
    vv_double_init(&d, &vv_vfs_system);
    replay_attach(replay, &d);
    must("clone", vv_store_clone(source, &d.table, to, &options));
    setting.mark = replay_mark(replay);
    vv_store_close(source);
    replay_run(replay, &scope, check, &setting, report);
    (void)printf("%-8s %u calls, %llu states checked, %llu violations\n", name, replay_calls(replay),
                 (unsigned long long)(report->checked - checked),
                 (unsigned long long)(report->violations - found));
    scratch_remove(home);
    scratch_remove(world);
}

int main(void)
{
    const char *text = getenv("VARVE_TEST_SCALE");
    const unsigned scale = text == NULL || atol(text) < 1 ? 1 : (unsigned)atol(text);
    const unsigned one_in = scale >= 8 ? 1 : 8 / scale;
    struct replay_report report = { .checked = 0 };

    scratch_in_memory();
    struct replay *replay = replay_new();
    for (varve_layout layout = VARVE_LAYOUT_FLAT; layout <= VARVE_LAYOUT_JOURNAL; layout++)
        lose_power(replay, layout, 0, one_in, &report);
    lose_power(replay, VARVE_LAYOUT_JOURNAL, VARVE_STORE_READ_ONLY, 1, &report);
    replay_free(replay);
    tally("clone-power", report.checked, report.violations);
    return report.violations == 0 && report.checked > 0 ? 0 : 1;
}
