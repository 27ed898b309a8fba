/* past.h - a store whose past is known: commits of model states, refs, code; made through any layout, and read back.
 *
 * It is told here what was done, outside the store; so reading compares with what must be there. */
#ifndef VV_TEST_PAST_H
#define VV_TEST_PAST_H

#include "model.h"
#include "store/store.h"

enum { PAST_COMMITS = 48, PAST_REFS = 12, PAST_CODES = 4, PAST_CODE_SIZE = 1500 };

struct past {
    struct {
        varve_commit_id id;
        struct model_state state;
        bool deleted;
    } commits[PAST_COMMITS];
    unsigned commit_count;
    struct {
        char name[24];
        unsigned commit;
    } refs[PAST_REFS];
    unsigned ref_count;
    unsigned code_count;
    struct model_chance chance; /* of what changes; a seed */
};

/* One more commit, on the commit that `branch` names here; a branch that is new starts at `from` (a commit; or
 * PAST_COMMITS: from nothing). It changes a little. */
varve_status past_commit(struct past *past, varve_store *store, const char *branch, unsigned from,
                         varve_durability durability);
/* A ref that names a commit, made or moved. */
varve_status past_ref(struct past *past, varve_store *store, const char *name, unsigned commit);
varve_status past_ref_gone(struct past *past, varve_store *store, const char *name);
varve_status past_code(struct past *past, varve_store *store);
/* The commit goes out of the history. */
varve_status past_remove(struct past *past, varve_store *store, unsigned commit);
/* All background work that is due, a step of `budget` at a time. */
varve_status past_tidy(varve_store *store, uint64_t budget);
bool past_is_named(const struct past *past, unsigned commit); /* by a ref */
/* Where a ref stands; PAST_COMMITS: it is not there. */
unsigned past_stands(const struct past *past, const char *name);

/* Read back. VARVE_CONFLICT: what is read without an error is something else. Any other status is the store's. */
varve_status past_read(const struct past *past, varve_store *store, unsigned commit);
varve_status past_read_ref(const struct past *past, varve_store *store, unsigned ref);
varve_status past_read_code(varve_store *store, unsigned code);
/* The same commit as a session maps it. */
varve_status past_read_images(const struct past *past, varve_store *store, unsigned commit);
/* And through a commit that is held, deleted or not. */
varve_status past_read_held(const struct past *past, varve_store *store, varve_commit *held, unsigned commit);
/* All of it must be there. */
varve_status past_read_all(const struct past *past, varve_store *store);
/* And no other commit. */
varve_status past_read_only(const struct past *past, varve_store *store);

#endif
