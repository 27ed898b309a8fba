/* Sessions against plain memory: whatever is written, undone, committed and reopened, the state is the model's. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "fake_layout.h"
#include "page/root.h"
#include "store/session.h"
#include "scratch.h"

/* ---- The store under test: the fake layout, or the journal in a directory of its own ------------- */

struct fixture {
    bool fake;
    struct vv_place *place;
    char path[SCRATCH_PATH];
    varve_store *store;
};

static void store_open(struct fixture *f)
{
    if (f->fake) {
        assert_int_equal(vv_store_new(&fake_layout, f->place, &f->store), VARVE_OK);
        return;
    }
    const varve_store_options options = { .size = sizeof options, .flags = VARVE_STORE_CREATE };
    assert_int_equal(vv_store_open(&vv_vfs_system, f->path, &options, &f->store), VARVE_OK);
}

static int set_up(void **state, bool fake)
{
    struct fixture *f = calloc(1, sizeof *f);

    f->fake = fake;
    if (fake)
        f->place = fake_place_new();
    else
        scratch_new(f->path);
    store_open(f);
    *state = f;
    return 0;
}

static int set_up_fake(void **state)
{
    return set_up(state, true);
}

static int set_up_journal(void **state)
{
    return set_up(state, false);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    vv_store_close(f->store);
    if (f->fake) {
        assert_int_equal(fake_place_holds(f->place), 0);
        fake_place_free(f->place);
    } else {
        scratch_remove(f->path);
    }
    free(f);
    return 0;
}

static varve_session *begin(struct fixture *f, const char *branch)
{
    const varve_session_options options = { .size = sizeof options, .branch = branch };
    varve_session *session = NULL;

    assert_int_equal(vv_session_begin(f->store, &options, &session), VARVE_OK);
    return session;
}

static varve_status commit(varve_session *session, uint32_t flags, const char *branch, varve_commit **made)
{
    static int64_t time;
    const varve_commit_options options = {
        .size = sizeof options, .flags = flags, .branch = branch, .time_ns = ++time, .message = "m"
    };
    varve_commit *result = NULL;
    bool ended = false;
    const varve_status rc = vv_session_commit(session, &options, &result, &ended);

    if (rc == VARVE_OK)
        assert_int_equal(ended, !(flags & VARVE_COMMIT_CHAIN));
    if (made != NULL)
        *made = result;
    else
        vv_commit_close(result);
    return rc;
}

/* ---- The model ---------------------------------------------------------------------------------- */

enum { MODULES = 5, PAGES = 12, KEYS = 4, VALUE = 8, LEVELS = 6 };

struct model_module {
    bool present;
    uint32_t pages;
    uint64_t instance; /* 0: none */
    uint8_t bytes[PAGES * VV_PAGE_SIZE];
};
struct model {
    struct model_module modules[MODULES];
    char meta[KEYS][VALUE]; /* "": absent */
};
static struct model now, saved[LEVELS];

static uint64_t seed;

static uint32_t roll(uint32_t sides)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % sides;
}

static varve_module_id id_of(uint32_t module)
{
    varve_module_id id;
    char name[8];

    (void)snprintf(name, sizeof name, "m%u", module);
    vv_name_id(name, id.bytes);
    return id;
}

static struct vv_module *fields_new(uint32_t module)
{
    struct vv_module *fields = NULL;

    assert_int_equal(vv_module_new(&fields), VARVE_OK);
    fields->id = id_of(module);
    (void)snprintf(fields->name, sizeof fields->name, "m%u", module);
    return fields;
}

/* A guest as the VM would hang one on: what is live is ahead of the fields until captured. */
static uint64_t live[MODULES];

static varve_status capture(void *context, struct vv_working *working)
{
    const uint64_t value = *(uint64_t *)working->guest;

    return vv_session_set_instance(context, working, &value, value == 0 ? 0 : sizeof value);
}

static void forget_guest(void *context, struct vv_working *working)
{
    (void)context;
    working->guest = NULL;
}

static void hang_guests_on(varve_session *session)
{
    const struct vv_guest_hooks hooks = { .context = session, .capture = capture, .discard = forget_guest };

    vv_session_set_hooks(session, &hooks);
}

static struct vv_working *working_of(varve_session *session, uint32_t module)
{
    const varve_module_id id = id_of(module);
    struct vv_working *working = NULL;

    assert_int_equal(vv_session_working(session, &id, &working), VARVE_OK);
    return working;
}

static uint64_t instance_of(varve_session *session, uint32_t module)
{
    const struct vv_working *working = working_of(session, module);

    if (working->guest != NULL)
        return *(uint64_t *)working->guest;
    return working->fields->instance_size == 0 ? 0 : vv_get_u64(working->fields->instance);
}

static void call_guest(varve_session *session, uint32_t module)
{
    struct vv_working *working = working_of(session, module);
    const uint64_t value = roll(3) == 0 ? 0 : 1 + roll(1000);

    if (working->guest == NULL) {
        live[module] = instance_of(session, module);
        working->guest = &live[module];
    }
    assert_int_equal(vv_session_enter(session, working), VARVE_OK);
    live[module] = value;
    now.modules[module].instance = value;
}

/* As a C program writes, or as the VM does. */
static void write_bytes(varve_session *session, uint32_t module)
{
    struct model_module *m = &now.modules[module];
    const varve_module_id id = id_of(module);
    const uint64_t size = m->pages * (uint64_t)VV_PAGE_SIZE;
    const uint64_t offset = roll((uint32_t)size);
    const uint64_t most = size - offset < 6000 ? size - offset : 6000;
    const size_t length = 1 + roll((uint32_t)most);
    const bool zeros = roll(4) == 0;
    struct vv_image *image = NULL;
    varve_image *handle = NULL;

    for (size_t i = 0; i < length; i++)
        m->bytes[offset + i] = zeros ? 0 : (uint8_t)roll(4);
    switch (roll(3)) {
    case 0:
        assert_int_equal(vv_session_image(session, working_of(session, module), 0, &image), VARVE_OK);
        assert_int_equal(vv_session_enter(session, working_of(session, module)), VARVE_OK);
        memcpy(vv_image_bytes(image) + offset, m->bytes + offset, length);
        break;
    case 1:
        assert_int_equal(vv_session_open_image(session, &id, &VARVE_INIT(varve_image_options), &handle),
                         VARVE_OK);
        memcpy(vv_image_bytes(handle->image) + offset, m->bytes + offset, length);
        break;
    default:
        assert_int_equal(vv_session_open_image(session, &id, &VARVE_INIT(varve_image_options), &handle),
                         VARVE_OK);
        assert_int_equal(vv_session_write_image(handle, offset, m->bytes + offset, length), VARVE_OK);
    }
}

static void grow(varve_session *session, uint32_t module)
{
    struct model_module *m = &now.modules[module];
    const varve_module_id id = id_of(module);
    const uint32_t pages = m->pages + roll(PAGES - m->pages + 1);
    varve_image *handle = NULL;

    assert_int_equal(vv_session_open_image(session, &id, &VARVE_INIT(varve_image_options), &handle),
                     VARVE_OK);
    assert_int_equal(vv_session_grow_image(handle, pages * (uint64_t)VV_PAGE_SIZE), VARVE_OK);
    m->pages = pages;
}

static void add(varve_session *session, uint32_t module)
{
    struct model_module *m = &now.modules[module];
    struct vv_working *working = NULL;

    memset(m, 0, sizeof *m);
    m->present = true;
    m->pages = 1 + roll(PAGES / 2);
    assert_int_equal(
        vv_session_add(session, fields_new(module), NULL, 0, m->pages * (uint64_t)VV_PAGE_SIZE, 0, &working),
        VARVE_OK);
}

static void set_meta(varve_session *session)
{
    const uint32_t key = roll(KEYS);
    char name[8];

    (void)snprintf(name, sizeof name, "k%u", key);
    (void)snprintf(now.meta[key], VALUE, "%.0u", roll(3) == 0 ? 0 : roll(1000));
    assert_int_equal(vv_session_set_meta(session, name, now.meta[key], strlen(now.meta[key])), VARVE_OK);
}

static void assert_module_is_the_models(varve_session *session, uint32_t module)
{
    const struct model_module *m = &now.modules[module];
    const varve_module_id id = id_of(module);
    struct vv_working *working = NULL;
    struct vv_image *image = NULL;
    const varve_status rc = vv_session_working(session, &id, &working);

    assert_int_equal(rc, m->present ? VARVE_OK : VARVE_NOT_FOUND);
    if (!m->present)
        return;
    assert_int_equal(vv_session_image(session, working, 0, &image), VARVE_OK);
    assert_int_equal(vv_image_size(image), m->pages * (uint64_t)VV_PAGE_SIZE);
    assert_memory_equal(vv_image_bytes(image), m->bytes, m->pages * (size_t)VV_PAGE_SIZE);
    assert_true(instance_of(session, module) == m->instance);
}

static void assert_session_is_the_model(varve_session *session)
{
    for (uint32_t i = 0; i < MODULES; i++)
        assert_module_is_the_models(session, i);
    for (uint32_t i = 0; i < KEYS; i++) {
        const void *value = NULL;
        size_t size = 0;
        char name[8];
        (void)snprintf(name, sizeof name, "k%u", i);
        const varve_status rc = vv_session_get_meta(session, name, &value, &size);
        assert_int_equal(rc, now.meta[i][0] == '\0' ? VARVE_NOT_FOUND : VARVE_OK);
        if (rc == VARVE_OK) {
            assert_int_equal(size, strlen(now.meta[i]));
            assert_memory_equal(value, now.meta[i], size);
        }
    }
}

/* The root of the model: of a session that makes it in one go, on a place of its own, in the order given. */
static varve_root root_of_model(bool backwards)
{
    struct vv_place *place = fake_place_new();
    varve_store *store = NULL;
    varve_session *session = NULL;
    varve_root root;
    const varve_session_options options = { .size = sizeof options };

    assert_int_equal(vv_store_new(&fake_layout, place, &store), VARVE_OK);
    assert_int_equal(vv_session_begin(store, &options, &session), VARVE_OK);
    for (uint32_t i = 0; i < MODULES; i++) {
        const uint32_t module = backwards ? MODULES - 1 - i : i;
        const struct model_module *m = &now.modules[module];
        struct vv_working *working = NULL;
        struct vv_image *image = NULL;
        if (!m->present)
            continue;
        assert_int_equal(vv_session_add(session, fields_new(module), NULL, 0,
                                        m->pages * (uint64_t)VV_PAGE_SIZE, 0, &working),
                         VARVE_OK);
        assert_int_equal(vv_session_image(session, working, 0, &image), VARVE_OK);
        memcpy(vv_image_bytes(image), m->bytes, m->pages * (size_t)VV_PAGE_SIZE);
        assert_int_equal(vv_session_set_instance(session, working, &m->instance, m->instance == 0 ? 0 : 8),
                         VARVE_OK);
    }
    for (uint32_t i = 0; i < KEYS; i++) {
        char name[8];
        (void)snprintf(name, sizeof name, "k%u", i);
        assert_int_equal(vv_session_set_meta(session, name, now.meta[i], strlen(now.meta[i])), VARVE_OK);
    }
    assert_int_equal(vv_session_root(session, &root), VARVE_OK);
    vv_session_abort(session);
    vv_store_close(store);
    fake_place_free(place);
    return root;
}

static void assert_root_is_the_models(varve_session *session)
{
    const varve_root forwards = root_of_model(false), backwards = root_of_model(true);
    varve_root root;

    assert_int_equal(vv_session_root(session, &root), VARVE_OK);
    assert_memory_equal(&root, &forwards, sizeof root);
    assert_memory_equal(&root, &backwards, sizeof root);
}

/* One random step inside a session. */
static void step(varve_session *session)
{
    const uint32_t module = roll(MODULES);
    struct model_module *m = &now.modules[module];
    uint32_t depth = vv_session_depth(session), taken = 0;

    switch (roll(12)) {
    case 0:
        if (depth < LEVELS) {
            assert_int_equal(vv_session_savepoint(session, &taken), VARVE_OK);
            assert_int_equal(taken, depth + 1);
            saved[depth] = now;
        }
        break;
    case 1:
        if (depth > 0) {
            depth = 1 + roll(depth);
            assert_int_equal(vv_session_rollback(session, depth), VARVE_OK);
            now = saved[depth - 1];
            assert_int_equal(vv_session_depth(session), depth);
        }
        break;
    case 2:
        if (depth > 0) {
            depth = 1 + roll(depth);
            assert_int_equal(vv_session_release(session, depth), VARVE_OK);
            assert_int_equal(vv_session_depth(session), depth - 1);
        }
        break;
    case 3:
        set_meta(session);
        break;
    case 4:
        if (m->present && roll(3) == 0) {
            assert_int_equal(vv_session_remove_module(session, working_of(session, module)), VARVE_OK);
            memset(m, 0, sizeof *m);
        }
        break;
    case 5:
        if (m->present)
            grow(session, module);
        break;
    case 6:
        if (m->present)
            call_guest(session, module);
        break;
    default:
        if (m->present)
            write_bytes(session, module);
        else
            add(session, module);
    }
}

/* Random steps, roots, aborts, commits, chains and reopened stores; after each the session is the model, and the root
 * is that of the same state made at once, in either order. */
static void a_session_is_plain_memory_with_undo_and_history(void **state)
{
    struct fixture *f = *state;
    static struct model committed;
    varve_session *session = NULL;

    seed = 2026;
    memset(&now, 0, sizeof now);
    memset(&committed, 0, sizeof committed);
    session = begin(f, NULL);
    hang_guests_on(session);
    for (int i = 0; i < 3000; i++) {
        const uint32_t what = roll(100);
        if (what < 94) {
            step(session);
            if (roll(2) == 0) /* not each time: what was looked at is open, and then other ways are gone */
                assert_session_is_the_model(session);
            else if (roll(2) == 0)
                assert_module_is_the_models(session, roll(MODULES));
            continue;
        }
        if (what < 95) {
            assert_root_is_the_models(session);
            continue;
        }
        if (what < 96) {
            vv_session_abort(session);
            now = committed;
        } else {
            const bool chained = what < 98;
            assert_root_is_the_models(session);
            assert_int_equal(commit(session, chained ? VARVE_COMMIT_CHAIN : 0, NULL, NULL), VARVE_OK);
            committed = now;
            if (chained) {
                assert_int_equal(vv_session_depth(session), 0);
                assert_session_is_the_model(session);
                assert_root_is_the_models(session);
                continue;
            }
        }
        if (roll(3) == 0) {
            vv_store_close(f->store);
            store_open(f);
        }
        session = begin(f, NULL);
        hang_guests_on(session);
        assert_session_is_the_model(session);
    }
    vv_session_abort(session);
}

/* ---- One law each -------------------------------------------------------------------------------- */

static void fill(varve_session *session, uint32_t module, uint32_t pages, uint8_t value)
{
    struct vv_working *working = NULL;
    struct vv_image *image = NULL;

    assert_int_equal(
        vv_session_add(session, fields_new(module), NULL, 0, pages * (uint64_t)VV_PAGE_SIZE, 0, &working),
        VARVE_OK);
    assert_int_equal(vv_session_image(session, working, 0, &image), VARVE_OK);
    memset(vv_image_bytes(image), value, pages * (size_t)VV_PAGE_SIZE);
}

static void poke_page(varve_session *session, uint32_t module, uint32_t page, uint8_t value)
{
    struct vv_image *image = NULL;

    assert_int_equal(vv_session_image(session, working_of(session, module), 0, &image), VARVE_OK);
    assert_int_equal(vv_session_enter(session, working_of(session, module)), VARVE_OK);
    vv_image_bytes(image)[page * VV_PAGE_SIZE] = value;
}

static void poke(varve_session *session, uint32_t module, uint8_t value)
{
    poke_page(session, module, 0, value);
}

static uint8_t peek(varve_session *session, uint32_t module)
{
    struct vv_image *image = NULL;

    assert_int_equal(vv_session_image(session, working_of(session, module), 0, &image), VARVE_OK);
    return vv_image_bytes(image)[0];
}

static void a_commit_is_conflicted_when_the_branch_moved_and_the_session_is_whole(void **state)
{
    struct fixture *f = *state;
    varve_session *first = NULL, *second = NULL;
    varve_commit *made = NULL;

    first = begin(f, NULL);
    fill(first, 0, 2, 1);
    assert_int_equal(commit(first, 0, NULL, NULL), VARVE_OK);
    first = begin(f, NULL);
    second = begin(f, NULL);
    poke(first, 0, 2);
    poke(second, 0, 3);
    assert_int_equal(commit(first, 0, NULL, NULL), VARVE_OK);
    assert_int_equal(commit(second, 0, NULL, NULL), VARVE_CONFLICT);
    assert_int_equal(peek(second, 0), 3);
    poke(second, 0, 4);
    assert_int_equal(commit(second, 0, "main", NULL), VARVE_CONFLICT);
    assert_int_equal(commit(second, 0, "other", &made), VARVE_OK);
    assert_string_equal(made->info.branch, "other");
    assert_int_equal(made->info.pages_changed, 1);
    assert_int_equal(made->info.modules, 1);
    vv_commit_close(made);

    first = begin(f, "main");
    second = begin(f, "other");
    assert_int_equal(peek(first, 0), 2);
    assert_int_equal(peek(second, 0), 4);
    poke(second, 0, 5);
    assert_int_equal(commit(second, 0, "main", NULL), VARVE_EXISTS);
    vv_session_abort(first);
    vv_session_abort(second);
}

static void what_changed_nothing_makes_no_commit(void **state)
{
    struct fixture *f = *state;
    varve_session *session = NULL;
    varve_commit *first = NULL, *second = NULL;

    session = begin(f, NULL);
    assert_int_equal(commit(session, 0, NULL, &first), VARVE_OK);
    assert_null(first);
    session = begin(f, NULL);
    fill(session, 0, 1, 7);
    assert_int_equal(commit(session, VARVE_COMMIT_CHAIN, NULL, &first), VARVE_OK);
    poke(session, 0, 8);
    poke(session, 0, 7);
    assert_int_equal(commit(session, VARVE_COMMIT_CHAIN, NULL, &second), VARVE_OK);
    assert_true(vv_id_equal(&first->facts.id, &second->facts.id));
    vv_commit_close(second);
    assert_int_equal(commit(session, VARVE_COMMIT_EMPTY, NULL, &second), VARVE_OK);
    assert_false(vv_id_equal(&first->facts.id, &second->facts.id));
    assert_true(vv_id_equal(&first->facts.id, &second->facts.parent));
    assert_memory_equal(&first->facts.root, &second->facts.root, sizeof first->facts.root);
    vv_commit_close(first);
    vv_commit_close(second);
}

/* The same parent, root, time and message, made twice: one commit, and both branches name it. The session that is
 * chained to it goes on from what the store holds. */
static void a_commit_that_exists_is_that_commit(void **state)
{
    struct fixture *f = *state;
    varve_commit_options options = { .size = sizeof options, .time_ns = 42, .message = "same" };
    varve_commit *first = NULL, *second = NULL;
    varve_session *a = begin(f, NULL), *b = NULL;
    struct vv_bytes proof = VV_BYTES_NONE;
    bool ended = false;

    fill(a, 0, 3, 1);
    assert_int_equal(commit(a, 0, NULL, NULL), VARVE_OK);
    a = begin(f, NULL);
    b = begin(f, NULL);
    poke(a, 0, 9);
    poke(b, 0, 9);
    poke_page(a, 0, 2, 9);
    poke_page(b, 0, 2, 9);
    assert_int_equal(vv_session_commit(a, &options, &first, &ended), VARVE_OK);
    options.branch = "twin";
    options.flags = VARVE_COMMIT_CHAIN;
    assert_int_equal(vv_session_commit(b, &options, &second, &ended), VARVE_OK);
    assert_true(vv_id_equal(&first->facts.id, &second->facts.id));
    assert_int_equal(first->facts.number, second->facts.number);
    poke(b, 0, 10);
    assert_int_equal(commit(b, 0, NULL, NULL), VARVE_OK);
    vv_commit_close(first);
    vv_commit_close(second);
    b = begin(f, "twin");
    const varve_module_id id = id_of(0);
    assert_int_equal(vv_session_prove(b, &id, 2, &proof), VARVE_OK); /* by the page that is stored */
    vv_bytes_release(&proof);
    vv_session_abort(b);
    vv_store_close(f->store);
    store_open(f);
    b = begin(f, "twin");
    assert_int_equal(peek(b, 0), 10);
    vv_session_abort(b);
    a = begin(f, NULL);
    assert_int_equal(peek(a, 0), 9);
    vv_session_abort(a);
}

static void a_session_on_an_older_commit_cannot_move_the_branch_back(void **state)
{
    struct fixture *f = *state;
    varve_commit *first = NULL;
    varve_session *session = begin(f, NULL);
    varve_session_options options = { .size = sizeof options };

    fill(session, 0, 1, 1);
    assert_int_equal(commit(session, VARVE_COMMIT_CHAIN, NULL, &first), VARVE_OK);
    poke(session, 0, 2);
    assert_int_equal(commit(session, 0, NULL, NULL), VARVE_OK);
    options.base = first;
    assert_int_equal(vv_session_begin(f->store, &options, &session), VARVE_OK);
    assert_int_equal(peek(session, 0), 1);
    poke(session, 0, 3);
    assert_int_equal(commit(session, 0, NULL, NULL), VARVE_CONFLICT);
    vv_session_abort(session);
    options.branch = "";
    assert_int_equal(vv_session_begin(f->store, &options, &session), VARVE_OK);
    poke(session, 0, 4);
    vv_commit_close(first);
    assert_int_equal(commit(session, 0, NULL, &first), VARVE_OK);
    assert_string_equal(first->info.branch, "");
    vv_commit_close(first);
    options = (varve_session_options){ .size = sizeof options, .branch = "nowhere" };
    assert_int_equal(vv_session_begin(f->store, &options, &session), VARVE_NOT_FOUND);
    options = (varve_session_options){ .size = sizeof options, .flags = VARVE_SESSION_READ_ONLY };
    assert_int_equal(vv_session_begin(f->store, &options, &session), VARVE_OK);
    poke(session, 0, 5);
    assert_int_equal(commit(session, 0, NULL, NULL), VARVE_MISUSE);
    vv_session_abort(session);
}

/* The branch leaves its history behind, if it still stands where it stood; its own log shows the way back. */
/* What a session has of the store from before something was retired is good for one commit more: then its state is
 * looked up again, under a hold of now. */
static void a_chained_session_holds_what_was_retired_for_one_commit(void **state)
{
    struct fixture *f = *state;
    varve_session *session = begin(f, NULL);
    varve_commit *old = NULL;

    fill(session, 0, 3, 1);
    assert_int_equal(commit(session, VARVE_COMMIT_CHAIN, NULL, &old), VARVE_OK);
    poke(session, 0, 2);
    assert_int_equal(commit(session, VARVE_COMMIT_CHAIN, NULL, NULL), VARVE_OK);
    assert_int_equal(fake_place_views(f->place), 0); /* its state was at hand */
    fake_place_retire(f->place);
    assert_int_equal(vv_session_base(session)->hold, 0);
    poke(session, 0, 3);
    assert_int_equal(commit(session, VARVE_COMMIT_CHAIN, NULL, NULL), VARVE_OK);
    assert_int_equal(fake_place_views(f->place), 1);
    assert_int_equal(vv_session_base(session)->hold, 1);
    poke(session, 0, 4);
    assert_int_equal(commit(session, VARVE_COMMIT_CHAIN, NULL, NULL), VARVE_OK);
    assert_int_equal(fake_place_views(f->place), 1);
    assert_int_equal(peek(session, 0), 4);
    assert_int_equal(old->hold, 0); /* whoever has it may read it */
    assert_int_equal(fake_place_holds(f->place), 2);
    vv_commit_close(old);
    vv_session_abort(session);
}

static void a_session_from_the_genesis_starts_history_anew(void **state)
{
    struct fixture *f = *state;
    const varve_session_options options = { .size = sizeof options, .flags = VARVE_SESSION_GENESIS };
    varve_session *session = begin(f, NULL), *late = NULL;
    varve_commit *made = NULL;
    struct vv_working *working = NULL;
    const varve_module_id id = id_of(0);

    fill(session, 0, 1, 1);
    assert_int_equal(commit(session, 0, NULL, NULL), VARVE_OK);
    assert_int_equal(vv_session_begin(f->store, &options, &session), VARVE_OK);
    assert_int_equal(vv_session_begin(f->store, &options, &late), VARVE_OK);
    assert_null(vv_session_base(session));
    assert_int_equal(vv_session_working(session, &id, &working), VARVE_NOT_FOUND);
    fill(session, 1, 1, 2);
    fill(late, 2, 1, 3);
    assert_int_equal(commit(session, 0, NULL, &made), VARVE_OK);
    assert_true(vv_id_is_zero(&made->facts.parent));
    assert_int_equal(made->facts.modules, 1);
    vv_commit_close(made);
    assert_int_equal(commit(late, 0, NULL, NULL), VARVE_CONFLICT);
    assert_int_equal(commit(late, 0, "", &made), VARVE_OK); /* on no branch at all */
    assert_string_equal(made->info.branch, "");
    vv_commit_close(made);
    session = begin(f, NULL);
    assert_int_equal(peek(session, 1), 2);
    vv_session_abort(session);
}

/* A module that is taken out and put back as it was is no change; beside a real one it is stored all the same. */
static void what_is_put_back_as_it_was_is_no_change(void **state)
{
    struct fixture *f = *state;
    varve_session *session = begin(f, NULL);
    varve_commit *first = NULL, *second = NULL;

    fill(session, 0, 2, 1);
    fill(session, 1, 2, 1);
    assert_int_equal(commit(session, VARVE_COMMIT_CHAIN, NULL, &first), VARVE_OK);
    assert_int_equal(vv_session_remove_module(session, working_of(session, 0)), VARVE_OK);
    fill(session, 0, 2, 1);
    assert_int_equal(commit(session, VARVE_COMMIT_CHAIN, NULL, &second), VARVE_OK);
    assert_true(vv_id_equal(&first->facts.id, &second->facts.id));
    vv_commit_close(first);
    vv_commit_close(second);
    poke(session, 1, 2);
    assert_int_equal(commit(session, 0, NULL, &first), VARVE_OK);
    assert_int_equal(first->info.modules_changed, 1);
    assert_int_equal(first->info.modules, 2);
    vv_commit_close(first);
    vv_store_close(f->store);
    store_open(f);
    session = begin(f, NULL);
    assert_int_equal(peek(session, 0), 1);
    assert_int_equal(peek(session, 1), 2);
    vv_session_abort(session);
}

/* The VM enters a module before it opens the memory, and then the guest writes. */
static void an_image_that_is_opened_after_enter_is_rolled_back(void **state)
{
    struct fixture *f = *state;
    varve_session *session = begin(f, NULL);
    struct vv_image *image = NULL;
    uint32_t savepoint = 0;

    fill(session, 0, 2, 1);
    assert_int_equal(commit(session, 0, NULL, NULL), VARVE_OK);
    session = begin(f, NULL);
    assert_int_equal(vv_session_savepoint(session, &savepoint), VARVE_OK);
    assert_int_equal(vv_session_enter(session, working_of(session, 0)), VARVE_OK);
    assert_int_equal(vv_session_image(session, working_of(session, 0), 0, &image), VARVE_OK);
    vv_image_bytes(image)[0] = 2;
    assert_int_equal(vv_session_rollback(session, savepoint), VARVE_OK);
    assert_int_equal(peek(session, 0), 1);
    vv_session_abort(session);
}

/* The module that was replaced had no image open when the savepoint was taken; it must not inherit the new one's. */
static void a_replaced_module_comes_back_with_its_own_memory(void **state)
{
    struct fixture *f = *state;
    varve_session *session = begin(f, NULL);
    uint32_t savepoint = 0;

    fill(session, 0, 2, 1);
    assert_int_equal(commit(session, 0, NULL, NULL), VARVE_OK);
    session = begin(f, NULL);
    assert_int_equal(vv_session_savepoint(session, &savepoint), VARVE_OK);
    assert_int_equal(vv_session_remove_module(session, working_of(session, 0)), VARVE_OK);
    fill(session, 0, 3, 9);
    assert_int_equal(vv_session_rollback(session, savepoint), VARVE_OK);
    assert_int_equal(peek(session, 0), 1);
    assert_int_equal(vv_image_size(working_of(session, 0)->image->image), 2 * VV_PAGE_SIZE);
    vv_session_abort(session);
}

static void *write_behind_the_back(void *context)
{
    *(volatile uint8_t *)context = 5;
    return NULL;
}

/* Whoever has an image's address may write on any thread, without a word to the session. */
static void what_another_thread_writes_is_rolled_back_and_committed(void **state)
{
    struct fixture *f = *state;
    const varve_module_id id = id_of(0);
    varve_session *session = begin(f, NULL);
    varve_image *image = NULL;
    uint32_t savepoint = 0;
    pthread_t thread;

    fill(session, 0, 8, 1);
    assert_int_equal(commit(session, 0, NULL, NULL), VARVE_OK);
    session = begin(f, NULL);
    assert_int_equal(vv_session_open_image(session, &id, &VARVE_INIT(varve_image_options), &image), VARVE_OK);
    uint8_t *bytes = vv_image_bytes(image->image);
    for (unsigned page = 0; page < 8; page++) {
        const size_t at = page * (size_t)VV_PAGE_SIZE;
        assert_int_equal(vv_session_write_image(image, at + 1, "x", 1), VARVE_OK);
        assert_int_equal(vv_session_savepoint(session, &savepoint), VARVE_OK);
        assert_int_equal(pthread_create(&thread, NULL, write_behind_the_back, bytes + at), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        if (page % 2 == 0)
            assert_int_equal(vv_session_rollback(session, savepoint), VARVE_OK);
        assert_int_equal(vv_session_release(session, savepoint), VARVE_OK);
        assert_int_equal(bytes[at], page % 2 == 0 ? 1 : 5);
        assert_int_equal(bytes[at + 1], 'x');
    }
    assert_int_equal(commit(session, 0, NULL, NULL), VARVE_OK);
    vv_store_close(f->store);
    store_open(f);
    session = begin(f, NULL);
    assert_int_equal(vv_session_open_image(session, &id, &VARVE_INIT(varve_image_options), &image), VARVE_OK);
    for (unsigned page = 0; page < 8; page++)
        assert_int_equal(vv_image_bytes(image->image)[page * (size_t)VV_PAGE_SIZE], page % 2 == 0 ? 1 : 5);
    vv_session_abort(session);
}

/* The next session on what was committed finds the image as it lies; one on what was aborted too. */
static void an_image_stays_warm_for_the_next_session(void **state)
{
    struct fixture *f = *state;
    varve_session *session = begin(f, NULL);

    fill(session, 0, 64, 1);
    assert_int_equal(commit(session, 0, NULL, NULL), VARVE_OK);
    (void)fake_place_reads(f->place);
    session = begin(f, NULL);
    poke(session, 0, 2);
    assert_int_equal(commit(session, 0, NULL, NULL), VARVE_OK);
    session = begin(f, NULL);
    poke(session, 0, 3);
    vv_session_abort(session);
    session = begin(f, NULL);
    assert_int_equal(peek(session, 0), 2);
    vv_session_abort(session);
    assert_in_range(fake_place_reads(f->place), 0, 4); /* single base pages; never all 64 */
}

/* Fail the 1st, 2nd, 3rd... allocation of a commit. Nothing was made then, and the session is whole: the same commit
 * works afterwards. A failure after the one instant shows in the session only. */
static void a_commit_is_whole_or_nothing_under_every_failing_allocation(void **state)
{
    struct fixture *f = *state;

    for (unsigned nth = 1;; nth++) {
        varve_session *session = begin(f, NULL);
        varve_commit *made = NULL;
        if (nth == 1)
            fill(session, 0, 4, 1);
        else
            poke(session, 0, (uint8_t)(nth % 250 + 1));
        fill(session, 1 + nth, 1, (uint8_t)nth);
        assert_int_equal(vv_session_set_meta(session, "n", &nth, sizeof nth), VARVE_OK);
        const size_t before = (size_t)f->store->layout->last_number(f->store->place);
        vv_alloc_fail_at(nth);
        varve_status rc = commit(session, VARVE_COMMIT_CHAIN, NULL, &made);
        const bool failed = vv_alloc_disarm();
        const size_t after = (size_t)f->store->layout->last_number(f->store->place);
        assert_int_equal(after - before, rc == VARVE_OK ? 1 : 0);
        if (rc != VARVE_OK) {
            assert_int_equal(rc, VARVE_MEMORY);
            rc = commit(session, VARVE_COMMIT_CHAIN, NULL, &made);
        }
        assert_int_equal(rc, VARVE_OK);
        vv_commit_close(made);
        vv_session_abort(session);
        session = begin(f, NULL);
        assert_int_equal(peek(session, 0), nth == 1 ? 1 : (uint8_t)(nth % 250 + 1));
        assert_int_equal(peek(session, 1 + nth), (uint8_t)nth);
        vv_session_abort(session);
        if (!failed) {
            assert_in_range(nth, 10, 1000);
            break;
        }
    }
}

/* The same for savepoint, write, growth and rollback: it fails with MEMORY and the session goes on, or is poisoned and
 * says so; in the store nothing happened. */
static void savepoints_survive_every_failing_allocation(void **state)
{
    struct fixture *f = *state;
    varve_session *session = begin(f, NULL);

    fill(session, 0, 8, 1);
    assert_int_equal(commit(session, 0, NULL, NULL), VARVE_OK);
    for (unsigned nth = 1;; nth++) {
        struct vv_working *working = NULL;
        uint32_t savepoint = 0;
        struct vv_image *image = NULL;
        const varve_module_id id = id_of(0);
        varve_status rc = VARVE_OK;
        session = begin(f, NULL);
        vv_alloc_fail_at(nth);
        TRY(vv_session_savepoint(session, &savepoint));
        TRY(vv_session_working(session, &id, &working));
        TRY(vv_session_image(session, working, 0, &image));
        TRY(vv_session_enter(session, working));
        vv_image_bytes(image)[0] = 2;
        TRY(vv_session_set_instance(session, working, "abc", 3));
        TRY(vv_session_set_meta(session, "k", "v", 1));
        TRY(vv_session_savepoint(session, &savepoint));
        TRY(vv_session_enter(session, working));
        vv_image_bytes(image)[0] = 3;
        TRY(vv_session_set_meta(session, "k", "w", 1));
        TRY(vv_session_rollback(session, 2));
        TRY(vv_session_release(session, 2));
        TRY(vv_session_rollback(session, 1));
    out:
        if (!vv_alloc_disarm()) {
            assert_int_equal(rc, VARVE_OK);
            vv_session_abort(session);
            break;
        }
        assert_true(rc == VARVE_OK || rc == VARVE_MEMORY);
        if (session->poisoned == VARVE_OK && vv_session_depth(session) > 0) {
            assert_int_equal(vv_session_rollback(session, 1), VARVE_OK);
            assert_int_equal(peek(session, 0), 1);
            assert_int_equal(working_of(session, 0)->fields->instance_size, 0);
        }
        vv_session_abort(session);
    }
}

static void after_an_uncertain_commit_a_session_can_only_be_aborted(void **state)
{
    struct fixture *f = *state;
    const varve_commit_options options = { .size = sizeof options };
    varve_session *session = begin(f, NULL);
    varve_commit *made = NULL;
    bool ended = false;

    fill(session, 0, 1, 1);
    fake_place_fail(f->place, VARVE_UNCERTAIN);
    assert_int_equal(vv_session_commit(session, &options, &made, &ended), VARVE_UNCERTAIN);
    assert_false(ended);
    assert_null(made);
    assert_int_equal(vv_session_commit(session, &options, &made, &ended), VARVE_UNCERTAIN);
    vv_session_abort(session);
    session = begin(f, NULL);
    poke(session, 0, 2);
    fake_place_fail(f->place, VARVE_FULL);
    assert_int_equal(vv_session_commit(session, &options, &made, &ended), VARVE_FULL);
    assert_false(ended);
    assert_int_equal(commit(session, 0, NULL, NULL), VARVE_OK);
}

/* The same seed gives the same bytes however they are cut; an undo puts the stream back; a commit goes on with it. */
static void chance_is_a_stream_that_undo_rewinds(void **state)
{
    struct fixture *f = *state;
    static const uint8_t chance[32] = { 7 };
    const varve_session_options options = { .size = sizeof options, .seed = chance };
    varve_session *session = NULL;
    uint8_t whole[100], cut[100], again[100];
    uint32_t savepoint = 0;

    assert_int_equal(vv_session_begin(f->store, &options, &session), VARVE_OK);
    assert_int_equal(vv_session_random(session, whole, sizeof whole), VARVE_OK);
    vv_session_abort(session);
    assert_int_equal(vv_session_begin(f->store, &options, &session), VARVE_OK);
    assert_int_equal(vv_session_random(session, cut, 33), VARVE_OK);
    assert_int_equal(vv_session_savepoint(session, &savepoint), VARVE_OK);
    assert_int_equal(vv_session_random(session, again, 50), VARVE_OK);
    assert_int_equal(vv_session_rollback(session, savepoint), VARVE_OK);
    assert_int_equal(commit(session, VARVE_COMMIT_CHAIN, NULL, NULL), VARVE_OK);
    assert_int_equal(vv_session_random(session, cut + 33, 67), VARVE_OK);
    assert_memory_equal(whole, cut, sizeof whole);
    assert_memory_equal(again, whole + 33, 50);
    const char *key = NULL;
    assert_int_equal(vv_session_next_meta(session, NULL, &key), VARVE_END);
    vv_session_abort(session);
}

/* A million guarded calls inside one savepoint must not pile up records: (S4). */
static void released_savepoints_leave_one_record_of_a_module(void **state)
{
    struct fixture *f = *state;
    varve_session *session = begin(f, NULL);
    uint32_t outer = 0, inner = 0;

    fill(session, 0, 1, 1);
    assert_int_equal(vv_session_savepoint(session, &outer), VARVE_OK);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(vv_session_savepoint(session, &inner), VARVE_OK);
        poke(session, 0, (uint8_t)(i + 2));
        assert_int_equal(vv_session_set_meta(session, "i", &i, sizeof i), VARVE_OK);
        assert_int_equal(vv_session_release(session, inner), VARVE_OK);
        assert_int_equal(session->undo_count, 2);
    }
    uint64_t pages = 0;
    assert_int_equal(vv_session_pages_changed(session, outer, &pages), VARVE_OK);
    assert_int_equal(pages, 1);
    assert_int_equal(vv_session_rollback(session, outer), VARVE_OK);
    assert_int_equal(peek(session, 0), 1);
    vv_session_abort(session);
}

static void code_is_stored_with_the_commit_and_lent_again(void **state)
{
    struct fixture *f = *state;
    varve_session *session = begin(f, NULL);
    struct vv_module *fields = fields_new(0);
    struct vv_working *working = NULL;
    const uint8_t *code = NULL;
    size_t size = 0;

    fields->kind = VARVE_KIND_MODULE;
    vv_code_hash("bytecode", 8, fields->code);
    assert_int_equal(vv_session_add(session, fields, "bytecode", 8, VV_WASM_PAGE_SIZE, 0, &working),
                     VARVE_OK);
    assert_int_equal(commit(session, 0, NULL, NULL), VARVE_OK);
    vv_store_close(f->store);
    store_open(f);
    session = begin(f, NULL);
    assert_int_equal(vv_session_code(session, working_of(session, 0), &code, &size), VARVE_OK);
    assert_int_equal(size, 8);
    assert_memory_equal(code, "bytecode", 8);

    fields = fields_new(0);
    fields->kind = VARVE_KIND_MODULE;
    vv_code_hash("other", 5, fields->code);
    assert_int_equal(vv_session_replace(session, working_of(session, 0), fields, "other", 5), VARVE_OK);
    assert_int_equal(commit(session, VARVE_COMMIT_CHAIN, NULL, NULL), VARVE_OK);
    assert_int_equal(vv_session_code(session, working_of(session, 0), &code, &size), VARVE_OK);
    assert_memory_equal(code, "other", 5);
    assert_int_equal(vv_session_base(session)->facts.modules_changed, 1);
    assert_int_equal(vv_session_base(session)->facts.pages_changed, 0);
    vv_session_abort(session);
}

#define ON_FAKE(test) cmocka_unit_test_setup_teardown(test, set_up_fake, tear_down)
#define ON_JOURNAL(test)                                         \
    {                                                            \
        "journal: " #test, test, set_up_journal, tear_down, NULL \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_FAKE(a_session_is_plain_memory_with_undo_and_history),
        ON_FAKE(a_commit_is_conflicted_when_the_branch_moved_and_the_session_is_whole),
        ON_FAKE(what_changed_nothing_makes_no_commit),
        ON_FAKE(a_commit_that_exists_is_that_commit),
        ON_FAKE(a_chained_session_holds_what_was_retired_for_one_commit),
        ON_FAKE(a_session_from_the_genesis_starts_history_anew),
        ON_FAKE(what_is_put_back_as_it_was_is_no_change),
        ON_FAKE(an_image_that_is_opened_after_enter_is_rolled_back),
        ON_FAKE(a_replaced_module_comes_back_with_its_own_memory),
        ON_FAKE(what_another_thread_writes_is_rolled_back_and_committed),
        ON_FAKE(a_session_on_an_older_commit_cannot_move_the_branch_back),
        ON_FAKE(an_image_stays_warm_for_the_next_session),
        ON_FAKE(a_commit_is_whole_or_nothing_under_every_failing_allocation),
        ON_FAKE(savepoints_survive_every_failing_allocation),
        ON_FAKE(after_an_uncertain_commit_a_session_can_only_be_aborted),
        ON_FAKE(chance_is_a_stream_that_undo_rewinds),
        ON_FAKE(released_savepoints_leave_one_record_of_a_module),
        ON_FAKE(code_is_stored_with_the_commit_and_lent_again),
        ON_JOURNAL(a_session_is_plain_memory_with_undo_and_history),
        ON_JOURNAL(a_commit_is_conflicted_when_the_branch_moved_and_the_session_is_whole),
        ON_JOURNAL(what_changed_nothing_makes_no_commit),
        ON_JOURNAL(a_commit_that_exists_is_that_commit),
        ON_JOURNAL(a_session_from_the_genesis_starts_history_anew),
        ON_JOURNAL(what_is_put_back_as_it_was_is_no_change),
        ON_JOURNAL(a_session_on_an_older_commit_cannot_move_the_branch_back),
        ON_JOURNAL(a_commit_is_whole_or_nothing_under_every_failing_allocation),
        ON_JOURNAL(code_is_stored_with_the_commit_and_lent_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
