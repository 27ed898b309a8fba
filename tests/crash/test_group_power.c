/* Groups of commits and the power going at any moment: every legal state that is left is opened. What was promised to
 * last is there, and of the rest each commit is whole or absent. Method: replay.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "groups.h"
#include "replay.h"
#include "scratch.h"
#include "tally.h"
#include "store/journal/journal.h"

struct setting {
    struct replay *replay;
    _Atomic unsigned promised[GROUPS_STEPS + 1]; /* from which call on; 0: never */
};

/* Who commits BUFFERED is promised nothing; and the marks are taken one at a time. */
static void end(struct crowd_member *member)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    struct setting *setting = member->context;

    if (member->status != VARVE_OK || member->durability != VARVE_DURABLE)
        return;
    (void)pthread_mutex_lock(&mutex);
    setting->promised[member->number] = replay_mark(setting->replay);
    (void)pthread_mutex_unlock(&mutex);
}

static bool check(void *context, const char *world, unsigned calls, char denial[512])
{
    const struct setting *setting = context;
    const struct vv_layout_options options = { .vfs = &vv_vfs_system, .read_only = true };
    bool seen[GROUPS_STEPS + 1] = { false };
    struct opened store = OPENED_NONE;
    uint64_t damage = 0;
    char path[SCRATCH_PATH + 16];
    bool fine = true;

    (void)snprintf(path, sizeof path, "%s/store", world);
    if (groups_open(&store, &vv_vfs_system, path, false) != VARVE_OK) {
        (void)snprintf(denial, 512, "it does not open: %.400s", vv_words());
        fine = false;
    }
    fine = fine && groups_see(store.place, seen, NULL, denial);
    for (unsigned step = 1; fine && step <= GROUPS_STEPS; step++) {
        const unsigned promised = setting->promised[step];
        if (promised != 0 && promised <= calls && !seen[step]) {
            (void)snprintf(denial, 512, "step %u was promised to last and is lost", step);
            fine = false;
        }
    }
    vv_journal_close(store.place);
    if (fine && (vv_journal_check(&store.dir, &options, 0, &damage) != VARVE_OK || damage != 0)) {
        (void)snprintf(denial, 512, "the check finds damage: %.400s", vv_words());
        fine = false;
    }
    vv_dir_close(&store.dir);
    return fine;
}

static void what_a_group_promised_outlives_every_power_loss(void **state)
{
    struct setting setting = { .replay = replay_new() };
    struct replay_report report = { .calls = 0 };
    const struct replay_scope scope = { .name = "groups", .chances = 12 };
    struct opened store = OPENED_NONE;
    struct vv_double d;
    char world[SCRATCH_PATH], path[SCRATCH_PATH + 16];

    (void)state;
    scratch_new(world);
    (void)snprintf(path, sizeof path, "%s/store", world);
    assert_int_equal(groups_create(&vv_vfs_system, path), VARVE_OK);
    replay_begin(setting.replay, world);
    vv_double_init(&d, &vv_vfs_system);
    replay_attach(setting.replay, &d);
    assert_int_equal(groups_open(&store, &d.table, path, false), VARVE_OK);
    assert_int_equal(groups_make(store.place, NULL, end, &setting), VARVE_OK);
    opened_end(&store);
    replay_run(setting.replay, &scope, check, &setting, &report);
    print_message("%lu states of %lu calls, %lu violations\n", (unsigned long)report.checked,
                  (unsigned long)report.calls, (unsigned long)report.violations);
    tally("replay", report.checked, report.violations);
    assert_int_equal(report.violations, 0);
    assert_true(report.checked > 100);
    replay_free(setting.replay);
    scratch_remove(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_group_promised_outlives_every_power_loss),
    };

    return cmocka_run_group_tests_name("group_power", tests, NULL, NULL);
}
