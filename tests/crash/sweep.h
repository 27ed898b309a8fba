/* sweep.h - kill and fail an operation on a store at every call that changes a disk, and judge what is left.
 *
 * An operation is one row of a table: prepare a store, run something on it, check what a reader then finds. It
 * consists of numbered steps ("commit 3"). Before each step it tells the ledger that it begins, after it with
 * which status it ended. The ledger lies in shared memory outside the store, so it outlives every kill, and the
 * check asks it what must now be there:
 *
 *     never begun, or ended in a plain failure   SWEEP_ABSENT    "on any other failure nothing was made"
 *     begun and never ended, or UNCERTAIN        SWEEP_EITHER
 *     ended in VARVE_OK                          SWEEP_PRESENT
 *
 * What the harness does with a row, each time in children on a fresh copy of what `prepare` made:
 *   plain      run to the end, counting the calls marked (W) in vfs.h; it must succeed
 *   kill torn  for each call: die before it; die in the middle of it
 *   fault sticky   for each call and errno: fail it; fail it and all later ones
 *   half short     for each write: half is written, then an errno; half is written and told
 *   memory     for each allocation: fail it
 *   recovery   after each kill, where the row has `reopen`: kill and fail that at each of its calls too
 * After each of them `check` is called, and once more if it changed anything, each time in a child of its own: opening
 * again changes nothing. The
 * harness itself judges what a check cannot see: a child that dies of anything but our kill, or hangs; a failed
 * sync that nobody reports as UNCERTAIN (the bytes are still in the page cache, so they look well), or after which
 * the same opening syncs that file again; a status that does not fit the errno. What none of this sees is bytes
 * that were never synced: lost-write replay does. */
#ifndef SWEEP_H
#define SWEEP_H

#include "base/vfs.h"

enum { SWEEP_STEPS = 64, SWEEP_EVIDENCE = 64 };
enum sweep_expectation { SWEEP_ABSENT, SWEEP_EITHER, SWEEP_PRESENT };

struct sweep_step {
    bool begun, ended;
    varve_status status;
    uint8_t evidence[SWEEP_EVIDENCE]; /* what the step made, for the check: a commit's id, say */
};
struct sweep_ledger {
    struct sweep_step steps[SWEEP_STEPS];
    unsigned openings; /* see sweep_reopened */
    bool closing;      /* see sweep_closing */
    char denial[512];  /* why the check says no */
};

void sweep_begin(struct sweep_ledger *ledger, unsigned step);
/* `evidence` may be NULL. Returns `status`. */
varve_status sweep_end(struct sweep_ledger *ledger, unsigned step, varve_status status, const void *evidence,
                       size_t evidence_size);
/* `run` has closed the store and opens it again: whoever does may sync a file whose sync failed before. */
void sweep_reopened(struct sweep_ledger *ledger);
/* `run` closes the store, which tells nobody what fails: it may write only what nobody was promised. */
void sweep_closing(struct sweep_ledger *ledger);
enum sweep_expectation sweep_expect(const struct sweep_ledger *ledger, unsigned step);
/* Why a check says no; returns false. */
bool sweep_deny(struct sweep_ledger *ledger, const char *format, ...) __attribute__((format(printf, 2, 3)));

struct sweep_op {
    const char *name;
    /* Make what the operation starts from, at `path`, where nothing is yet. Its steps stay in the ledger. NULL:
     * the operation starts from nothing. */
    varve_status (*prepare)(const char *path, struct sweep_ledger *ledger, void *context);
    /* The operation, all its I/O through `vfs`. A step that fails need not be the last: what comes after a plain
     * failure must work. Returns the first status that is not OK. */
    varve_status (*run)(const struct vv_vfs *vfs, const char *path, struct sweep_ledger *ledger,
                        void *context);
    /* Open the store as a user would and compare it with the ledger. The ledger holds `prepare`'s and `run`'s steps. */
    bool (*check)(const char *path, struct sweep_ledger *ledger, void *context);
    /* Open the store, finishing or undoing what a crash left, and close it. NULL: opening writes nothing. */
    varve_status (*reopen)(const struct vv_vfs *vfs, const char *path, void *context);
    /* Whether the file of this name (relative to `path`) is a hint only, whose failed sync may be passed over.
     * NULL: none is. */
    bool (*is_hint)(const char *name);
    void *context;
};

enum sweep_kind {
    SWEEP_PLAIN,
    SWEEP_KILL,
    SWEEP_TORN,
    SWEEP_FAULT,
    SWEEP_STICKY,
    SWEEP_HALF,
    SWEEP_SHORT,
    SWEEP_MEMORY,
    SWEEP_RECOVERY,
    SWEEP_KINDS
};
struct sweep_report {
    unsigned calls;                   /* (W) calls of a run without faults */
    unsigned points[SWEEP_KINDS];     /* children run */
    unsigned violations[SWEEP_KINDS]; /* findings */
    unsigned looks;                   /* checks of folders that were not like one that had been found sound */
    unsigned absorbed;                /* failed calls after which the run rightly succeeded all the same */
    unsigned unfired; /* the run made fewer calls than the plain one: it was not deterministic */
};

/* Sweep one operation; with VARVE_TEST_QUICK in the environment not by every errno and allocation, and
 * not on when enough was found; with VARVE_TEST_SCALE all that is left is checked, twice, seen before or not. Says what it finds on stderr unless
 * `quiet`. */
void sweep_run(const struct sweep_op *op, bool quiet, struct sweep_report *report);
unsigned sweep_violations(const struct sweep_report *report);

/* From now on chance and time are the same in every run. Rows of this program wait for no time then, and do the same
 * whenever they run; their checks ask nothing but the store, `sweep_expect`, evidence and these bytes, in shared memory
 * (NULL: none). So a store that was found sound is not checked again while all of that is the same, nor its recovery
 * swept. Of ten points that saves nine checks. */
void sweep_repeats(const void *told, size_t told_size);
/* A program's main: sweep all rows, or those named on the command line (-NAME: all but that), and print a table of
 * counts. Returns the program's exit code. */
int sweep_main(int argc, char **argv, const struct sweep_op *ops, size_t count);

#endif
