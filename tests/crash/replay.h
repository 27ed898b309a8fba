/* replay.h - what a power loss may leave of the calls that a workload made: every legal state of it, checked.
 *
 * The calls of a workload that change a disk are recorded through base/double.h, with marks from whoever drives
 * it ("here it was told that commit 3 is durable"). Then, without the store, for each number of calls that may have
 * been made when the power went: what was synced is there, and of the rest any part may be.
 *
 *   bytes of a file   stand once the file was synced. Until then a write may be lost, or land alone, or without
 *                     earlier ones; it may be torn (one half, or all but a sector or a page); the file may have
 *                     got its length and nothing but zeros in it; or garbage, in whole sectors, so that older
 *                     bytes which share one with the write are gone too. Of lengths that were set: lost or there.
 *                     A hole that was punched is bytes too: zeros, block by block, that land or not.
 *   names             stand once their directory was synced: syncing the file is not enough, nor is syncing another
 *                     directory. Until then each create, mkdir, rename and unlink is lost or there, on its own. A
 *                     symbolic link is a name that has its text from the beginning.
 *
 * The states that are tried for each point (all subsets would be too many): none of what is pending; all; each
 * prefix in order; each operation missing; each alone; names without bytes; each write as zeros or garbage, and torn
 * in six ways; each hole in part; some subsets by chance, from a seed. A state that was tried before with the same marks behind it is
 * passed over. The others are written out as files and shown to a check, which may do with them what it likes. The
 * model is ALICE's (Pillai and others, OSDI 2014), at its strictest. */
#ifndef REPLAY_H
#define REPLAY_H

#include "base/double.h"

/* A recording. It lies in shared memory: a child may make it, and be killed in the middle. */
struct replay;
struct replay *replay_new(void);
void replay_free(struct replay *replay);

/* Record from now on what is done beneath the directory `world`; what lies there already is durable. */
void replay_begin(struct replay *replay, const char *world);
/* Let `d` tell the recording. Any number of doubles, one after the other. */
void replay_attach(struct replay *replay, struct vv_double *d);
/* Something is promised from here on. Returns how many calls were made until now. */
unsigned replay_mark(struct replay *replay);
unsigned replay_calls(const struct replay *replay);
/* Which call was made when so many had been made before. */
enum vv_double_call replay_call(const struct replay *replay, unsigned number);

/* Judge what lies in `world` when `calls` calls were made: true, or why not in `denial`. */
typedef bool (*replay_check_fn)(void *context, const char *world, unsigned calls, char denial[512]);

struct replay_scope {
    const char *name;                  /* of the workload, for words */
    unsigned first;                    /* points before so many calls are left out */
    unsigned chances;                  /* subsets by chance for each point */
    unsigned one_in;                   /* of the distinct states every so-manieth is checked; 0, 1: all */
    bool brief;                        /* no torn and no zeroed writes */
    uint64_t enough;                   /* violations in the report after which no point is looked at; 0: all are */
    bool (*is_dull)(const char *path); /* files whose bytes do not matter; may be NULL */
    bool (*is_hint)(
        const char *path); /* of whose pending writes each but the last is only lost or there; may be NULL */
};
struct replay_report {
    uint64_t workloads, calls, tried, distinct, checked, violations;
};
/* Adds to the report. */
void replay_run(struct replay *replay, const struct replay_scope *scope, replay_check_fn check, void *context,
                struct replay_report *report);
/* The state that is being checked, in words, for a program that is about to die of it. */
const char *replay_current(void);

#endif
