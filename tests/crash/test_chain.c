/* The layout chain, killed before and in the middle of every call that changes the disk, and with each of them failing:
 * what is left is a history that somebody persisted, whole, and a store that goes on. Rows: sweep.h; judging:
 * chain_story.h. Opening is swept too, where it has most to do: it makes images anew and gives deltas their names. */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "chain_story.h"
#include "sweep.h"

/* In shared memory: children do and judge. */
struct stories {
    struct chain_story prepared, told;
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
    const varve_status rc = chain_open(&vv_vfs_system, path, VARVE_STORE_CREATE, &store);

    (void)ledger;
    chain_begin(&stories->prepared);
    vv_store_close(store);
    return rc;
}

/* Commits that are durable, a tag, and two that are not: their files are what a life before left. */
static varve_status prepare_old(const char *path, struct sweep_ledger *ledger, void *context)
{
    struct stories *stories = context;
    struct chain_story *story = &stories->prepared;
    varve_store *store = NULL;
    varve_status rc = VARVE_OK;

    (void)ledger;
    chain_begin(story);
    TRY(chain_open(&vv_vfs_system, path, VARVE_STORE_CREATE, &store));
    for (unsigned step = 1; step <= 4; step++)
        TRY(chain_commit(story, store, step));
    TRY(chain_tag(story, store, 2));
    TRY(chain_persist(story, store));
    TRY(chain_commit(story, store, 5));
    TRY(chain_restore(story, store, 3));
    TRY(chain_commit(story, store, 6));
    chain_end_of_life(story);
out:
    vv_store_close(store);
    return rc;
}

static varve_status run_commit(const struct vv_vfs *vfs, const char *path, struct sweep_ledger *ledger,
                               void *context)
{
    struct stories *stories = context;
    struct chain_story *story = &stories->told;
    varve_store *store = NULL;
    unsigned step = 1;

    *story = stories->prepared;
    varve_status rc = note(ledger, &step, chain_open(vfs, path, 0, &store));
    if (store == NULL)
        return rc;
    keep_first(&rc, note(ledger, &step, chain_commit(story, store, 6)));
    keep_first(&rc, note(ledger, &step, chain_persist(story, store)));
    keep_first(&rc, note(ledger, &step, chain_commit(story, store, 7)));
    keep_first(&rc, note(ledger, &step, chain_commit_mapped(story, store, 8)));
    keep_first(&rc, note(ledger, &step, chain_persist(story, store)));
    close_store(store, ledger);
    return rc;
}

/* Main goes back and on, names of leftovers are met again, the oldest goes. */
static varve_status run_restore(const struct vv_vfs *vfs, const char *path, struct sweep_ledger *ledger,
                                void *context)
{
    struct stories *stories = context;
    struct chain_story *story = &stories->told;
    varve_store *store = NULL;
    unsigned step = 1;
    uint64_t freed = 0;

    *story = stories->prepared;
    varve_status rc = note(ledger, &step, chain_open(vfs, path, 0, &store));
    if (store == NULL)
        return rc;
    keep_first(&rc, note(ledger, &step, chain_restore(story, store, 2)));
    keep_first(&rc, note(ledger, &step, chain_commit_mapped(story, store, 5)));
    keep_first(&rc, note(ledger, &step, chain_delete(story, store, 1)));
    keep_first(&rc, note(ledger, &step, store->layout->maintain(store->place, 0, NULL, NULL, &freed)));
    close_store(store, ledger);
    return rc;
}

/* The newest goes. */
static varve_status run_delete(const struct vv_vfs *vfs, const char *path, struct sweep_ledger *ledger,
                               void *context)
{
    struct stories *stories = context;
    struct chain_story *story = &stories->told;
    varve_store *store = NULL;
    unsigned step = 1;

    *story = stories->prepared;
    varve_status rc = note(ledger, &step, chain_open(vfs, path, 0, &store));
    if (store == NULL)
        return rc;
    keep_first(&rc, note(ledger, &step, chain_restore(story, store, 3)));
    keep_first(&rc, note(ledger, &step, chain_delete(story, store, 4)));
    close_store(store, ledger);
    return rc;
}

/* A version comes again after another, and has the name of the one before but for its number. */
static varve_status run_again(const struct vv_vfs *vfs, const char *path, struct sweep_ledger *ledger,
                              void *context)
{
    static const unsigned steps[] = { CHAIN_TWIN - 1, 7, CHAIN_TWIN, 8 };
    struct stories *stories = context;
    struct chain_story *story = &stories->told;
    varve_store *store = NULL;
    unsigned step = 1;

    *story = stories->prepared;
    varve_status rc = note(ledger, &step, chain_open(vfs, path, 0, &store));
    if (store == NULL)
        return rc;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        keep_first(&rc, note(ledger, &step, chain_restore(story, store, 2)));
        keep_first(&rc, note(ledger, &step, chain_commit(story, store, steps[i])));
    }
    keep_first(&rc, note(ledger, &step, chain_persist(story, store)));
    close_store(store, ledger);
    return rc;
}

static varve_status reopen(const struct vv_vfs *vfs, const char *path, void *context)
{
    varve_store *store = NULL;
    const varve_status rc = chain_open(vfs, path, 0, &store);

    (void)context;
    vv_store_close(store);
    return rc;
}

/* Images and what vouches for them are caches, whose sync at the close nobody is told of. */
static bool is_hint(const char *name)
{
    return strncmp(name, ".varve/images", 13) == 0;
}

static bool check_chain(const char *path, struct sweep_ledger *ledger, void *context)
{
    const struct stories *stories = context;
    char denial[512] = "";

    return chain_judge(&stories->told, path, UINT_MAX, denial) || sweep_deny(ledger, "%s", denial);
}

int main(int argc, char **argv)
{
    struct stories *stories =
        mmap(NULL, sizeof *stories, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    const struct sweep_op ops[] = {
        { "chain-commit", prepare_new, run_commit, check_chain, reopen, is_hint, stories },
        { "chain-restore", prepare_old, run_restore, check_chain, NULL, is_hint, stories },
        { "chain-again", prepare_old, run_again, check_chain, NULL, is_hint, stories },
        { "chain-delete", prepare_old, run_delete, check_chain, reopen, is_hint, stories },
    };

    if (stories == MAP_FAILED) {
        perror("mmap");
        return 2;
    }
    sweep_repeats(&stories->told, sizeof stories->told);
    return sweep_main(argc, argv, ops, sizeof ops / sizeof *ops);
}
