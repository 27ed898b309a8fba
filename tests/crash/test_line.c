/* The layouts flat and chain, killed before and in the middle of every call that changes the disk, and with each of them
 * failing: what is left is a history that somebody made durable, whole, and, in a chain, a store that goes on. Rows:
 * sweep.h; their scripts and the judging: line_story.h. Opening is swept too, where it has most to do: in flat it moves
 * pointers and takes away what is half-made, in a chain it makes images anew and gives deltas their names. */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "line_story.h"
#include "sweep.h"

/* In shared memory: children do and judge. */
struct stories {
    struct story prepared, told;
};
static struct stories *stories;

/* `before` ends with commits that are not durable: their files are what a life before left. */
static const struct row {
    const char *name;
    const struct story_kind *kind;
    const char *before, *script;
    bool reopens; /* opening is swept */
} rows[] = {
    { "flat-commit", &story_flat, "", "c6 p c8 p", true },
    /* Main goes back and on, the tag moves; what is removed stays away; d1: main, as it lasts, stands there. */
    { "flat-restore", &story_flat, "c1 c2 c3 t2 p r2 c5", "r1 t3 c6 d2 d1 t0 g r3", true },
    { "chain-commit", &story_chain, "", "c6 p c7 m8 p", true },
    /* Main goes back and on, names of leftovers are met again, the oldest goes. */
    { "chain-restore", &story_chain, "c1 c2 c3 c4 t2 p c5 r3 c6", "r2 m5 d1 g", false },
    /* A version comes again after another (14 and 15 do the same), and has its name but for the number. */
    { "chain-again", &story_chain, "c1 c2 c3 c4 t2 p c5 r3 c6", "r2 c14 r2 c7 r2 c15 r2 c8 p", false },
    { "chain-delete", &story_chain, "c1 c2 c3 c4 t2 p c5 r3 c6", "r3 d4", true }, /* the newest goes */
};
enum { ROWS = sizeof rows / sizeof *rows };

static varve_status prepare(const char *path, struct sweep_ledger *ledger, void *context)
{
    const struct row *row = context;

    (void)ledger;
    return story_prepare(&stories->prepared, row->kind, path, row->before);
}

/* How a step ended, for what the harness itself judges. */
static varve_status note(struct sweep_ledger *ledger, unsigned *step, varve_status rc)
{
    sweep_begin(ledger, *step);
    return sweep_end(ledger, (*step)++, rc, NULL, 0);
}

static varve_status run(const struct vv_vfs *vfs, const char *path, struct sweep_ledger *ledger,
                        void *context)
{
    const struct row *row = context;
    const char *script = row->script;
    struct story *story = &stories->told;
    varve_store *store = NULL;
    unsigned step = 1;

    *story = stories->prepared;
    varve_status rc = note(ledger, &step, story_open(story, vfs, path, 0, &store));
    if (store == NULL)
        return rc;
    while (*script != '\0') { /* what comes after a failure is done all the same */
        const varve_status status = note(ledger, &step, story_next(story, store, &script));
        rc = rc == VARVE_OK ? status : rc;
    }
    sweep_closing(ledger);
    vv_store_close(store);
    return rc;
}

static varve_status reopen(const struct vv_vfs *vfs, const char *path, void *context)
{
    varve_store *store = NULL;
    const varve_status rc = story_open(&stories->told, vfs, path, 0, &store);

    (void)context;
    vv_store_close(store);
    return rc;
}

/* A chain's images and what vouches for them are caches, whose sync at the close nobody is told of. */
static bool is_hint(const char *name)
{
    return strncmp(name, ".varve/images", 13) == 0;
}

static bool check(const char *path, struct sweep_ledger *ledger, void *context)
{
    const struct row *row = context;
    char denial[512] = "";

    return story_judge(&stories->told, path, UINT_MAX, row->kind == &story_chain, denial) ||
           sweep_deny(ledger, "%s", denial);
}

int main(int argc, char **argv)
{
    struct sweep_op ops[ROWS];

    stories = mmap(NULL, sizeof *stories, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (stories == MAP_FAILED) {
        perror("mmap");
        return 2;
    }
    for (size_t i = 0; i < ROWS; i++)
        ops[i] = (struct sweep_op){ .name = rows[i].name,
                                    .prepare = prepare,
                                    .run = run,
                                    .check = check,
                                    .reopen = rows[i].reopens ? reopen : NULL,
                                    .is_hint = rows[i].kind == &story_chain ? is_hint : NULL,
                                    .context = (void *)(uintptr_t)&rows[i] };
    sweep_repeats(&stories->told, sizeof stories->told);
    return sweep_main(argc, argv, ops, ROWS);
}
