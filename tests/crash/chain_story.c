/* chain_story.c - see chain_story.h. */
#include "chain_story.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GOING_ON = 19 }; /* the step of the judge's own commit */

void chain_begin(struct chain_story *story)
{
    memset(story, 0, sizeof *story);
    story->count = 1; /* nothing */
}

void chain_end_of_life(struct chain_story *story)
{
    story->now = story->histories[story->promised];
}

varve_status chain_open(const struct vv_vfs *vfs, const char *path, uint32_t flags, varve_store **store)
{
    const varve_store_options options = { .size = sizeof options,
                                          .flags = flags | VARVE_STORE_NO_THREADS,
                                          .layout = VARVE_LAYOUT_CHAIN };

    return vv_store_open(vfs, path, &options, store);
}

/* What a commit with this message must hold. Two steps do the same. */
static void state_of(const char *message, struct model_state *state)
{
    memset(state, 0, sizeof *state);
    for (const char *at = message; *at != '\0';) {
        char *end = NULL;
        const unsigned long step = strtoul(at, &end, 10);
        struct model_chance chance = { .state = 2000 + (step == CHAIN_TWIN ? CHAIN_TWIN - 1 : step) };
        for (unsigned i = 0; i < 3; i++)
            model_mutate(state, &chance);
        at = *end == ' ' ? end + 1 : end;
    }
}

static unsigned step_of(const char *message)
{
    const char *last = strrchr(message, ' ');

    return (unsigned)strtoul(last == NULL ? message : last + 1, NULL, 10);
}

/* ---- Doing and telling -------------------------------------------------------------------------- */

static struct chain_history *begin(struct chain_story *story, const struct chain_history *history)
{
    VV_ASSERT(story->count < CHAIN_HISTORIES);
    struct chain_history *begun = &story->histories[story->count];
    *begun = *history;
    begun->failed = false;
    begun->begun = story->calls == NULL ? 0 : story->calls(story->context, false);
    begun->durable = UINT_MAX;
    story->count++; /* a kill may come at any time from here on */
    return begun;
}

static varve_status end(struct chain_story *story, struct chain_history *history, varve_status rc)
{
    history->failed = rc != VARVE_OK && rc != VARVE_UNCERTAIN;
    if (rc == VARVE_OK) {
        history->durable = story->calls == NULL ? 0 : story->calls(story->context, true);
        story->promised = (unsigned)(history - story->histories);
    }
    return rc;
}

varve_status chain_commit(struct chain_story *story, varve_store *store, unsigned step)
{
    const struct vv_layout *layout = store->layout;
    const unsigned from = story->now.main;
    struct vv_commit_facts parent = { .locator = 0 }, made = { .locator = 0 };
    struct vv_ref_move move = { .name = "main", .what = "commit", .to = &made.id };
    struct model_state base, after;
    varve_status rc = VARVE_OK;

    memset(&base, 0, sizeof base);
    (void)snprintf(story->commits[step].message, CHAIN_MESSAGE, "%u", step);
    if (from != CHAIN_NONE) {
        TRY(layout->facts(store->place, &story->commits[from].id, &parent));
        state_of(parent.message, &base);
        move.expected = &parent.id;
        (void)snprintf(story->commits[step].message, CHAIN_MESSAGE, "%.40s %u", parent.message, step);
    }
    state_of(story->commits[step].message, &after);
    TRY(model_commit(layout, store->place, &base, from == CHAIN_NONE ? NULL : &parent, &after,
                     story->commits[step].message, &move, VARVE_BUFFERED, &made));
    story->commits[step].id = made.id;
    story->now.has[step] = true;
    story->now.main = step;
out:
    vv_commit_facts_release(&parent);
    vv_commit_facts_release(&made);
    return rc;
}

struct mapped {
    struct vv_source source;
    uint8_t bytes[MODEL_PAGES * VV_PAGE_SIZE];
};

static void read_mapped(struct mapped *mapped, uint8_t *bytes)
{
    size_t got = 0;

    memset(bytes, 0, sizeof mapped->bytes);
    if (mapped->source.file.fd != -1)
        (void)vv_file_read_some(&mapped->source.file, bytes, mapped->source.pages * VV_PAGE_SIZE, 0, &got);
}

varve_status chain_commit_mapped(struct chain_story *story, varve_store *store, unsigned step)
{
    static struct mapped mapped[MODEL_MODULES];
    static uint8_t now[sizeof mapped[0].bytes];
    const struct vv_layout *layout = store->layout;
    struct vv_commit_facts facts = { .locator = 0 };
    struct vv_state state = { .fresh = NULL };
    const uint64_t hold = layout->hold(store->place);
    varve_status rc = VARVE_OK;

    for (unsigned i = 0; i < MODEL_MODULES; i++)
        mapped[i].source = (struct vv_source){ .file = VV_FILE_NONE };
    if (story->now.main == CHAIN_NONE)
        goto out;
    TRY(layout->facts(store->place, &story->commits[story->now.main].id, &facts));
    TRY(layout->view(store->place, &facts, &state));
    for (unsigned i = 0; i < MODEL_MODULES; i++) {
        struct vv_module *module = NULL;
        varve_module_id id;
        model_module_id(i, &id);
        TRY(vv_state_get(&state, &id, &module));
        if (module == NULL)
            continue;
        layout->source(store->place, &id, &module->memory, &mapped[i].source);
        read_mapped(&mapped[i], mapped[i].bytes);
    }
    TRY(chain_commit(story, store, step));
    for (unsigned i = 0; i < MODEL_MODULES; i++) {
        read_mapped(&mapped[i], now);
        if (mapped[i].source.file.fd != -1 && memcmp(now, mapped[i].bytes, sizeof now) != 0)
            (void)snprintf(story->broken, sizeof story->broken,
                           "step %u changed an image of module %u that was mapped", step, i);
    }
out:
    for (unsigned i = 0; i < MODEL_MODULES; i++)
        if (mapped[i].source.file.fd != -1)
            layout->source_end(store->place, &mapped[i].source);
    if (state.fresh != NULL)
        vv_state_release(&state);
    vv_commit_facts_release(&facts);
    layout->drop(store->place, hold);
    return rc;
}

varve_status chain_persist(struct chain_story *story, varve_store *store)
{
    struct chain_history *history = begin(story, &story->now);

    return end(story, history, store->layout->persist(store->place));
}

static varve_status move_ref(varve_store *store, const char *name, const struct chain_story *story,
                             unsigned step)
{
    struct vv_ref_move move = { .what = "restore", .to = &story->commits[step].id, .force = true };

    (void)snprintf(move.name, sizeof move.name, "%s", name);
    return store->layout->move_refs(store->place, &move, 1, 1000);
}

varve_status chain_restore(struct chain_story *story, varve_store *store, unsigned step)
{
    varve_status rc = VARVE_OK;

    if (!story->now.has[step])
        return VARVE_OK;
    rc = move_ref(store, "main", story, step);
    if (rc == VARVE_OK)
        story->now.main = step;
    return rc;
}

varve_status chain_tag(struct chain_story *story, varve_store *store, unsigned step)
{
    varve_status rc = VARVE_OK;

    if (!story->now.has[step])
        return VARVE_OK;
    rc = move_ref(store, "tags/t", story, step);
    if (rc == VARVE_OK)
        story->now.tag = step;
    return rc;
}

varve_status chain_delete(struct chain_story *story, varve_store *store, unsigned step)
{
    struct chain_history after = story->now;
    struct chain_history *history = NULL;
    varve_status rc = VARVE_OK;

    if (!story->now.has[step] || story->now.main == step || story->now.tag == step)
        return VARVE_OK;
    after.has[step] = false;
    history = begin(story, &after);
    rc = end(story, history, store->layout->remove(store->place, &story->commits[step].id, 1, 1000));
    if (rc == VARVE_OK)
        story->now = after;
    return rc;
}

/* ---- Judging ------------------------------------------------------------------------------------ */

static bool deny(char denial[512], const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool deny(char denial[512], const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(denial, 512, format, arguments);
    va_end(arguments);
    return false;
}

/* What the store says, as a history; every commit has the state that its message tells. */
static bool read_history(varve_store *store, struct chain_history *found, varve_commit_id *main_at,
                         char denial[512])
{
    const struct vv_layout *layout = store->layout;
    const uint64_t last = layout->last_number(store->place);
    struct vv_ref_facts ref;

    memset(found, 0, sizeof *found);
    for (uint64_t number = 1; number <= last; number++) {
        struct vv_commit_facts facts = { .locator = 0 };
        struct model_state expected;
        varve_commit_id id;
        const varve_status rc = layout->find_number(store->place, number, &id);
        if (rc == VARVE_NOT_FOUND)
            continue;
        if (rc != VARVE_OK || layout->facts(store->place, &id, &facts) != VARVE_OK)
            return deny(denial, "commit %u: %s", (unsigned)number, vv_words());
        const unsigned step = step_of(facts.message);
        state_of(facts.message, &expected);
        vv_commit_facts_release(&facts);
        if (step == 0 || step >= CHAIN_STEPS || found->has[step])
            return deny(denial, "commit %u is none that was made", (unsigned)number);
        if (model_compare(layout, store->place, &id, &expected) != VARVE_OK)
            return deny(denial, "step %u: %s", step, vv_words());
        found->has[step] = true;
        if (layout->ref_get(store->place, "main", &ref) == VARVE_OK && vv_id_equal(&ref.commit, &id)) {
            found->main = step;
            *main_at = id;
        }
        if (layout->ref_get(store->place, "tags/t", &ref) == VARVE_OK && vv_id_equal(&ref.commit, &id))
            found->tag = step;
    }
    return true;
}

static bool equal(const struct chain_history *a, const struct chain_history *b)
{
    return memcmp(a->has, b->has, sizeof a->has) == 0 && a->main == b->main && a->tag == b->tag;
}

/* One of those from the last on that was promised by then. */
static bool may_be(const struct chain_story *story, const struct chain_history *found, unsigned calls)
{
    unsigned least = 0;

    for (unsigned i = 0; i < story->count; i++)
        if (calls == UINT_MAX ? i <= story->promised : story->histories[i].durable <= calls)
            least = i;
    for (unsigned i = least; i < story->count; i++)
        if (!story->histories[i].failed && story->histories[i].begun <= calls &&
            equal(&story->histories[i], found))
            return true;
    return false;
}

static void tell(const struct chain_history *history, char text[160])
{
    text[0] = '\0';
    for (unsigned i = 0; i < CHAIN_STEPS; i++)
        if (history->has[i])
            (void)snprintf(text + strlen(text), 160 - strlen(text), " %u", i);
    (void)snprintf(text + strlen(text), 160 - strlen(text), ", main %u, tag %u", history->main, history->tag);
}

static bool judge_sound(const char *path, char denial[512])
{
    const varve_check_options options = { .size = sizeof options };
    uint64_t damage = 1;

    if (vv_store_check(&vv_vfs_system, path, &options, &damage) != VARVE_OK)
        return deny(denial, "fsck: %s", vv_words());
    return damage == 0 || deny(denial, "fsck finds damage");
}

/* A commit more, persisted, is there when the store is opened again, and nothing else has changed. */
static bool go_on(struct chain_history *found, const varve_commit_id *main_at, varve_store **store,
                  const char *path, char denial[512])
{
    static struct chain_story next;
    struct chain_history then;
    varve_commit_id at;

    chain_begin(&next);
    next.now = *found;
    next.commits[found->main].id = *main_at;
    if (!found->has[GOING_ON] &&
        (chain_commit(&next, *store, GOING_ON) != VARVE_OK || chain_persist(&next, *store) != VARVE_OK))
        return deny(denial, "going on: %s", vv_words());
    vv_store_close(*store);
    *store = NULL;
    if (chain_open(&vv_vfs_system, path, 0, store) != VARVE_OK)
        return deny(denial, "opened after going on: %s", vv_words());
    if (!read_history(*store, &then, &at, denial))
        return false;
    return equal(&then, &next.now) || deny(denial, "after going on the history is another");
}

bool chain_judge(const struct chain_story *story, const char *path, unsigned calls, char denial[512])
{
    varve_store *store = NULL;
    struct chain_history found;
    varve_commit_id main_at = { { 0 } };
    char text[160];

    if (story->broken[0] != '\0')
        return deny(denial, "%s", story->broken);
    if (chain_open(&vv_vfs_system, path, 0, &store) != VARVE_OK)
        return deny(denial, "the store does not open: %s", vv_words());
    bool fine = read_history(store, &found, &main_at, denial);
    if (fine && found.has[GOING_ON]) { /* the judge's own, when it looks a second time */
        vv_store_close(store);
        return judge_sound(path, denial);
    }
    if (fine && !may_be(story, &found, calls)) {
        tell(&found, text);
        fine = deny(denial, "commits%s: no history that may be left", text);
    }
    fine = fine && go_on(&found, &main_at, &store, path, denial);
    vv_store_close(store);
    return fine && judge_sound(path, denial);
}
