/* steps.h - a history that follows from a seed: step n changes a state in a way that seed and n decide, in a session
 * and in a model of it alike. So whoever knows the seed and how many steps were made knows every byte. */
#ifndef VV_TEST_STEPS_H
#define VV_TEST_STEPS_H

#include "shadow.h"
#include "varve.h"

uint64_t steps_mix(uint64_t x); /* a number that looks like chance */

/* Change `state`, and the session's state (NULL: the model alone), by step `step`: some writes to some images, which
 * appear, grow and go. The named value "height" is then `step`, as 8 bytes. */
varve_status steps_change(varve_session *session, struct shadow_state *state, uint64_t seed, uint64_t step,
                          varve_error *error);
/* "height" of a session's state; 0: it has none. */
uint64_t steps_height(varve_session *session);

/* All that a session's state holds; `state` must be empty. */
varve_status steps_load(varve_session *session, struct shadow_state *state, varve_error *error);

/* Read all that a commit holds and compute its root anew. VARVE_CONFLICT, with words: it is another. */
varve_status steps_verify(varve_store *store, const varve_commit *commit, varve_error *error);

/* Compare all that a commit holds with `state`, its root too. VARVE_CONFLICT, with words in `error`: they differ. */
varve_status steps_compare(varve_store *store, const varve_commit *commit, const struct shadow_state *state,
                           varve_error *error);

#endif
