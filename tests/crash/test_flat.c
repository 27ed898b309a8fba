/* The layout flat, killed before and in the middle of every call that changes the disk, and with each of them failing:
 * what is left is a history that somebody made durable, whole, with its pointers. Rows: sweep.h; judging: flat_story.h.
 * Opening is swept too: it moves pointers and takes away what is half-made. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "flat_story.h"
#include "sweep.h"

/* In shared memory: children do and judge. */
struct stories {
    struct flat_story prepared, told;
};

static void keep_first(varve_status *rc, varve_status status)
{
    *rc = *rc == VARVE_OK ? status : *rc;
}

/* How a step ended, for what the harness itself judges. */
static varve_status note(struct sweep_ledger *ledger, unsigned *step, varve_status rc)
{
    sweep_begin(ledger, *step);
    return sweep_end(ledger, (*step)++, rc, NULL, 0);
}

static void close_store(varve_store *store, struct sweep_ledger *ledger)
{
    sweep_closing(ledger);
    vv_store_close(store);
}

static varve_status prepare_new(const char *path, struct sweep_ledger *ledger, void *context)
{
    struct stories *stories = context;
    varve_store *store = NULL;
    const varve_status rc = flat_open(&vv_vfs_system, path, VARVE_STORE_CREATE, &store);

    (void)ledger;
    flat_story_begin(&stories->prepared);
    vv_store_close(store);
    return rc;
}

/* Commits that are durable, a tag, and one commit that is not: its files are what a life before left. */
static varve_status prepare_old(const char *path, struct sweep_ledger *ledger, void *context)
{
    struct stories *stories = context;
    struct flat_story *story = &stories->prepared;
    varve_store *store = NULL;
    varve_status rc = VARVE_OK;

    (void)ledger;
    flat_story_begin(story);
    TRY(flat_open(&vv_vfs_system, path, VARVE_STORE_CREATE, &store));
    for (unsigned step = 1; step <= 3; step++)
        TRY(flat_commit(story, store, step));
    TRY(flat_tag(story, store, 2));
    TRY(flat_persist(story, store));
    TRY(flat_restore(story, store, 2));
    TRY(flat_commit(story, store, 5));
    story->now = story->histories[story->promised]; /* the process ends here */
    story->commits[5].made = false;
out:
    vv_store_close(store);
    return rc;
}

static varve_status run_commit(const struct vv_vfs *vfs, const char *path, struct sweep_ledger *ledger, void *context)
{
    struct stories *stories = context;
    struct flat_story *story = &stories->told;
    varve_store *store = NULL;
    unsigned step = 1;

    *story = stories->prepared;
    varve_status rc = note(ledger, &step, flat_open(vfs, path, 0, &store));
    if (store == NULL)
        return rc;
    keep_first(&rc, note(ledger, &step, flat_commit(story, store, 6)));
    keep_first(&rc, note(ledger, &step, flat_persist(story, store)));
    keep_first(&rc, note(ledger, &step, flat_commit(story, store, 8)));
    keep_first(&rc, note(ledger, &step, flat_persist(story, store)));
    close_store(store, ledger);
    return rc;
}

/* Main goes back and on, the tag moves; what is removed stays away. */
static varve_status run_restore(const struct vv_vfs *vfs, const char *path, struct sweep_ledger *ledger, void *context)
{
    struct stories *stories = context;
    struct flat_story *story = &stories->told;
    varve_store *store = NULL;
    unsigned step = 1;
    uint64_t freed = 0;

    *story = stories->prepared;
    varve_status rc = note(ledger, &step, flat_open(vfs, path, 0, &store));
    if (store == NULL)
        return rc;
    keep_first(&rc, note(ledger, &step, flat_restore(story, store, 1)));
    keep_first(&rc, note(ledger, &step, flat_tag(story, store, 3)));
    keep_first(&rc, note(ledger, &step, flat_commit(story, store, 6)));
    keep_first(&rc, note(ledger, &step, flat_delete(story, store, 2)));
    keep_first(&rc, note(ledger, &step, flat_delete(story, store, 1))); /* main, as it lasts, stands there */
    keep_first(&rc, note(ledger, &step, flat_tag(story, store, STORY_NONE)));
    keep_first(&rc, note(ledger, &step, store->layout->maintain(store->place, 0, NULL, NULL, &freed)));
    keep_first(&rc, note(ledger, &step, flat_restore(story, store, 3)));
    close_store(store, ledger);
    return rc;
}

static varve_status reopen(const struct vv_vfs *vfs, const char *path, void *context)
{
    varve_store *store = NULL;
    const varve_status rc = flat_open(vfs, path, 0, &store);

    (void)context;
    vv_store_close(store);
    return rc;
}

static bool check_flat(const char *path, struct sweep_ledger *ledger, void *context)
{
    const struct stories *stories = context;
    char denial[512] = "";

    return flat_judge(&stories->told, path, UINT_MAX, false, denial) || sweep_deny(ledger, "%s", denial);
}

int main(int argc, char **argv)
{
    struct stories *stories =
        mmap(NULL, sizeof *stories, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    const struct sweep_op ops[] = {
        { "flat-commit", prepare_new, run_commit, check_flat, reopen, NULL, stories },
        { "flat-restore", prepare_old, run_restore, check_flat, reopen, NULL, stories },
    };

    if (stories == MAP_FAILED) {
        perror("mmap");
        return 2;
    }
    sweep_repeats(&stories->told, sizeof stories->told);
    return sweep_main(argc, argv, ops, sizeof ops / sizeof *ops);
}
