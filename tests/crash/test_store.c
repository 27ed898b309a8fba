/* Stores and sessions, killed before and in the middle of every call that changes the disk, and with each of them
 * failing. Rows: sweep.h.
 *
 * A step is one commit of a session: image "i" then has the step's number in its first byte, and that many pages. */
#include <stdio.h>
#include <string.h>

#include "page/root.h"
#include "store/session.h"
#include "sweep.h"

enum { CREATED = 1, FIRST = 2, LAST = 5 };

static varve_status open_store(const struct vv_vfs *vfs, const char *path, uint32_t flags,
                               varve_store **store)
{
    const varve_store_options options = { .size = sizeof options, .flags = flags };

    *store = NULL;
    return vv_store_open(vfs, path, &options, store);
}

static varve_status run_create(const struct vv_vfs *vfs, const char *path, struct sweep_ledger *ledger,
                               void *context)
{
    varve_store *store = NULL;

    (void)context;
    sweep_begin(ledger, CREATED);
    const varve_status rc =
        sweep_end(ledger, CREATED, open_store(vfs, path, VARVE_STORE_CREATE, &store), NULL, 0);
    vv_store_close(store);
    return rc;
}

/* A store that was made is there; what was not made whole is none, and can be made. */
static bool check_created(const char *path, struct sweep_ledger *ledger, void *context)
{
    const enum sweep_expectation expected = sweep_expect(ledger, CREATED);
    varve_store *store = NULL;

    (void)context;
    const varve_status found = open_store(&vv_vfs_system, path, 0, &store);
    vv_store_close(store);
    if (found != VARVE_OK && found != VARVE_NOT_FOUND)
        return sweep_deny(ledger, "opening what create left: %s", vv_words());
    if (found == VARVE_NOT_FOUND && expected == SWEEP_PRESENT)
        return sweep_deny(ledger, "the store that was made is not there");
    if (found == VARVE_OK)
        return true;
    const varve_status made = open_store(&vv_vfs_system, path, VARVE_STORE_CREATE, &store);
    vv_store_close(store);
    if (made != VARVE_OK)
        return sweep_deny(ledger, "making the store after an interrupted create: %s", vv_words());
    return open_store(&vv_vfs_system, path, 0, &store) == VARVE_OK ? (vv_store_close(store), true)
                                                                   : sweep_deny(ledger, "%s", vv_words());
}

static varve_status write_step(varve_session *session, unsigned step)
{
    const varve_image_options options = { .size = sizeof options, .name = "i", .create_size = VV_PAGE_SIZE };
    varve_module_id id;
    varve_image *image = NULL;
    const uint8_t byte = (uint8_t)step;
    varve_status rc = VARVE_OK;

    vv_name_id("i", id.bytes);
    TRY(vv_session_open_image(session, &id, &options, &image));
    TRY(vv_session_grow_image(image, step * (uint64_t)VV_PAGE_SIZE));
    TRY(vv_session_write_image(image, 0, &byte, 1));
    TRY(vv_session_write_image(image, (step - 1) * (uint64_t)VV_PAGE_SIZE + 7, &byte, 1));
out:
    return rc;
}

static varve_status commit_steps(const struct vv_vfs *vfs, const char *path, struct sweep_ledger *ledger,
                                 unsigned first, unsigned last)
{
    const varve_session_options begin = { .size = sizeof begin };
    varve_session *session = NULL;
    varve_store *store = NULL;
    varve_status rc = VARVE_OK;

    TRY(open_store(vfs, path, 0, &store));
    TRY(vv_session_begin(store, &begin, &session));
    for (unsigned step = first; step <= last; step++) {
        const varve_commit_options options = { .size = sizeof options,
                                               .flags = step == last ? 0 : VARVE_COMMIT_CHAIN,
                                               .time_ns = step };
        varve_commit *commit = NULL;
        bool ended = false;
        TRY(write_step(session, step));
        sweep_begin(ledger, step);
        rc = vv_session_commit(session, &options, &commit, &ended);
        TRY(sweep_end(ledger, step, rc, NULL, 0));
        vv_commit_close(commit);
        if (ended)
            session = NULL;
    }
out:
    if (session != NULL)
        vv_session_abort(session);
    vv_store_close(store);
    return rc;
}

static varve_status prepare_commit(const char *path, struct sweep_ledger *ledger, void *context)
{
    varve_store *store = NULL;
    varve_status rc = VARVE_OK;

    (void)context;
    TRY(open_store(&vv_vfs_system, path, VARVE_STORE_CREATE, &store));
    vv_store_close(store);
    TRY(commit_steps(&vv_vfs_system, path, ledger, FIRST, FIRST));
out:
    return rc;
}

static varve_status run_commits(const struct vv_vfs *vfs, const char *path, struct sweep_ledger *ledger,
                                void *context)
{
    (void)context;
    return commit_steps(vfs, path, ledger, FIRST + 1, LAST);
}

/* The image is that of one step, the last that must be there or one that may. */
static bool check_commits(const char *path, struct sweep_ledger *ledger, void *context)
{
    const varve_session_options begin = { .size = sizeof begin, .flags = VARVE_SESSION_READ_ONLY };
    varve_session *session = NULL;
    varve_store *store = NULL;
    varve_image *image = NULL;
    varve_module_id id;
    bool right = false;

    (void)context;
    vv_name_id("i", id.bytes);
    if (open_store(&vv_vfs_system, path, 0, &store) != VARVE_OK ||
        vv_session_begin(store, &begin, &session) != VARVE_OK ||
        vv_session_open_image(session, &id, &VARVE_INIT(varve_image_options), &image) != VARVE_OK) {
        (void)sweep_deny(ledger, "%s", vv_words());
        goto out;
    }
    const uint8_t *bytes = vv_image_bytes(image->image);
    const unsigned step = bytes[0];
    right = step >= FIRST && step <= LAST && vv_image_size(image->image) == step * (uint64_t)VV_PAGE_SIZE &&
            sweep_expect(ledger, step) != SWEEP_ABSENT;
    for (unsigned i = FIRST; right && i <= LAST; i++)
        right = i <= step ? bytes[(i - 1) * VV_PAGE_SIZE + 7] == i : sweep_expect(ledger, i) != SWEEP_PRESENT;
    if (!right)
        (void)sweep_deny(ledger, "the image is that of step %u", step);
out:
    if (session != NULL)
        vv_session_abort(session);
    vv_store_close(store);
    return right;
}

static varve_status reopen(const struct vv_vfs *vfs, const char *path, void *context)
{
    varve_store *store = NULL;

    (void)context;
    const varve_status rc = open_store(vfs, path, 0, &store);
    vv_store_close(store);
    return rc;
}

/* The lock's text is words only; `making` says no more than what a second create then finds. */
static bool is_hint(const char *name)
{
    return strcmp(name, "head") == 0 || strcmp(name, ".varve/lock") == 0;
}

int main(int argc, char **argv)
{
    const struct sweep_op ops[] = {
        { "create", NULL, run_create, check_created, NULL, is_hint, NULL },
        { "commit", prepare_commit, run_commits, check_commits, reopen, is_hint, NULL },
    };

    return sweep_main(argc, argv, ops, sizeof ops / sizeof *ops);
}
