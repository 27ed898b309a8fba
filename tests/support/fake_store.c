/* fake_store.c - see fake_store.h. */
#include "fake_store.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "page/root.h"

/* A failed step of a test is no result of the test: end it with the library's words. */
static void must(varve_status rc)
{
    if (rc != VARVE_OK)
        (void)vv_fail_within(rc, "this step of a test must work");
    VV_ASSERT(rc == VARVE_OK);
}

int fake_store_set_up(void **state)
{
    struct fake_store *f = calloc(1, sizeof *f);

    VV_ASSERT(f != NULL);
    f->place = fake_place_new();
    f->time_ns = INT64_C(1000000000);
    must(vv_store_new(&fake_layout, f->place, &f->store));
    *state = f;
    return 0;
}

int fake_store_tear_down(void **state)
{
    struct fake_store *f = *state;

    vv_store_close(f->store);
    VV_ASSERT(fake_place_holds(f->place) == 0);
    fake_place_free(f->place);
    free(f);
    return 0;
}

varve_module_id fake_id(const char *name)
{
    varve_module_id id;

    vv_name_id(name, id.bytes);
    return id;
}

varve_session *fake_begin(struct fake_store *f, const char *branch)
{
    const varve_session_options options = { .size = sizeof options, .branch = branch };
    varve_session *session = NULL;

    must(vv_session_begin(f->store, &options, &session));
    return session;
}

varve_commit *fake_open(struct fake_store *f, const char *revision)
{
    varve_commit *commit = NULL;

    must(varve_commit_open(f->store, revision, &commit, NULL));
    return commit;
}

varve_session *fake_begin_at(struct fake_store *f, const char *revision, const char *branch)
{
    varve_commit *base = fake_open(f, revision);
    const varve_session_options options = { .size = sizeof options, .branch = branch, .base = base };
    varve_session *session = NULL;

    must(vv_session_begin(f->store, &options, &session));
    vv_commit_close(base);
    return session;
}

void fake_write(varve_session *session, const char *name, uint64_t offset, const void *data, size_t size)
{
    const varve_module_id id = fake_id(name);
    const varve_image_options options = { .size = sizeof options,
                                          .name = name,
                                          .create_size = 2 * VV_PAGE_SIZE };
    varve_image *image = NULL;

    must(varve_image_open(session, &id, &options, &image, NULL));
    if (offset + size > varve_image_size(image))
        must(varve_image_grow(image, vv_pages_for(offset + size) * VV_PAGE_SIZE, NULL));
    must(varve_image_write(image, offset, data, size, NULL));
}

void fake_meta(varve_session *session, const char *key, const char *value)
{
    must(varve_session_set_meta(session, key, value, strlen(value), NULL));
}

varve_commit *fake_commit(struct fake_store *f, varve_session *session, const char *message)
{
    const varve_commit_options options = { .size = sizeof options,
                                           .message = message,
                                           .time_ns = f->time_ns };
    varve_commit *commit = NULL;

    f->time_ns += INT64_C(1000000000);
    must(varve_session_commit(session, &options, &commit, NULL));
    return commit;
}

void fake_step(struct fake_store *f, const char *branch, const char *name, uint8_t value)
{
    varve_session *session = fake_begin(f, branch);

    fake_write(session, name, 0, &value, 1);
    varve_commit_close(fake_commit(f, session, name));
}
