/* fake_store.h - a store over the fake layout, and short words for what tests of history do to it. All of them end
 * the test when the library refuses. */
#ifndef FAKE_STORE_H
#define FAKE_STORE_H

#include "fake_layout.h"
#include "store/session.h"

struct fake_store {
    struct vv_place *place;
    varve_store *store;
    int64_t time_ns; /* of the next commit; goes up by one second with each */
};

int fake_store_set_up(void **state); /* for cmocka; the state is a struct fake_store */
int fake_store_tear_down(void **state);

varve_module_id fake_id(const char *name);
/* A session on a branch (NULL: main), or on any revision, from where its commits move `branch`. */
varve_session *fake_begin(struct fake_store *f, const char *branch);
varve_session *fake_begin_at(struct fake_store *f, const char *revision, const char *branch);
/* Write `size` bytes at `offset` of image `name`, which is made with 2 pages when absent and grows as needed. */
void fake_write(varve_session *session, const char *name, uint64_t offset, const void *data, size_t size);
void fake_meta(varve_session *session, const char *key, const char *value); /* "": removes */
varve_commit *fake_commit(struct fake_store *f, varve_session *session, const char *message);
/* All of it in one: a byte of image `name` becomes `value`, and that is a commit on `branch`. */
void fake_step(struct fake_store *f, const char *branch, const char *name, uint8_t value);
varve_commit *fake_open(struct fake_store *f, const char *revision);

#endif
