/* line_story.c - see line_story.h. */
#include "line_story.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"

enum { GOING_ON = STORY_COMMITS - 1 }; /* the step of the judge's own commit */

void story_begin(struct story *story, const struct story_kind *kind)
{
    memset(story, 0, sizeof *story);
    story->kind = kind;
    story->count = 1; /* nothing */
}

void story_end_of_life(struct story *story)
{
    story->now = story->histories[story->promised];
    for (unsigned i = 0; i < STORY_COMMITS; i++)
        story->commits[i].made = story->now.has[i];
}

varve_status story_open(const struct story *story, const struct vv_vfs *vfs, const char *path, uint32_t flags,
                        varve_store **store)
{
    const varve_store_options options = { .size = sizeof options,
                                          .flags = flags | VARVE_STORE_NO_THREADS,
                                          .layout = story->kind->layout };

    return vv_store_open(vfs, path, &options, store);
}

/* What a commit with this message must hold. Two steps do the same. */
static void state_of(const struct story_kind *kind, const char *message, struct model_state *state)
{
    memset(state, 0, sizeof *state);
    for (const char *at = message; *at != '\0';) {
        char *end = NULL;
        const unsigned long step = strtoul(at, &end, 10);
        struct model_chance chance = { .state = kind->chance + (step == STORY_TWIN ? STORY_TWIN - 1 : step) };
        for (unsigned i = 0; i < kind->changes; i++)
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

static struct story_history *begin(struct story *story, const struct story_history *history)
{
    VV_ASSERT(story->count < STORY_HISTORIES);
    struct story_history *begun = &story->histories[story->count];
    *begun = *history;
    begun->failed = false;
    begun->begun = story->calls == NULL ? 0 : story->calls(story->context, false);
    begun->durable = UINT_MAX;
    story->count++; /* a kill may come at any time from here on */
    return begun;
}

static varve_status end(struct story *story, struct story_history *history, varve_status rc)
{
    history->failed = rc != VARVE_OK && rc != VARVE_UNCERTAIN;
    if (rc == VARVE_OK) {
        history->durable = story->calls == NULL ? 0 : story->calls(story->context, true);
        story->promised = (unsigned)(history - story->histories);
    }
    return rc;
}

varve_status story_commit(struct story *story, varve_store *store, unsigned step)
{
    const struct vv_layout *layout = store->layout;
    const unsigned from = story->now.main;
    struct vv_commit_facts parent = { .locator = 0 }, made = { .locator = 0 };
    struct vv_ref_move move = { .name = "main", .what = "commit", .to = &made.id };
    struct model_state base, after;
    varve_status rc = VARVE_OK;

    memset(&base, 0, sizeof base);
    (void)snprintf(story->commits[step].message, STORY_MESSAGE, "%u", step);
    if (from != STORY_NONE) {
        TRY(layout->facts(store->place, &story->commits[from].id, &parent));
        state_of(story->kind, parent.message, &base);
        move.expected = &parent.id;
        (void)snprintf(story->commits[step].message, STORY_MESSAGE, "%s %u", parent.message, step);
    }
    state_of(story->kind, story->commits[step].message, &after);
    TRY(model_commit(layout, store->place, &base, from == STORY_NONE ? NULL : &parent, &after,
                     story->commits[step].message, &move, VARVE_BUFFERED, &made));
    story->commits[step].id = made.id;
    story->commits[step].made = true;
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

varve_status story_commit_mapped(struct story *story, varve_store *store, unsigned step)
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
    if (story->now.main == STORY_NONE)
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
    TRY(story_commit(story, store, step));
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

static bool equal(const struct story_history *a, const struct story_history *b)
{
    return memcmp(a->has, b->has, sizeof a->has) == 0 && a->main == b->main && a->tag == b->tag;
}

static void all_is_durable(struct story *story)
{
    for (unsigned i = 0; i < STORY_COMMITS; i++)
        story->commits[i].durable = story->commits[i].durable || story->now.has[i];
}

varve_status story_persist(struct story *story, varve_store *store)
{
    struct story_history *history = begin(story, &story->now);
    const varve_status rc = end(story, history, store->layout->persist(store->place));

    if (rc == VARVE_OK)
        all_is_durable(story);
    return rc;
}

/* The newest that may be left and does not have to be gone: what the durable moves go on from. */
static const struct story_history *durable(const struct story *story)
{
    return &story->histories[story->promised];
}

static varve_status move_ref(struct story *story, varve_store *store, const char *name, unsigned step,
                             bool tag)
{
    struct vv_ref_move move = { .what = tag ? "create" : "restore",
                                .to = step == STORY_NONE ? NULL : &story->commits[step].id,
                                .force = true };
    struct story_history then = *durable(story);
    struct story_history *history = NULL;
    varve_status rc = VARVE_OK;

    (void)snprintf(move.name, sizeof move.name, "%s", name);
    const bool lasts = story->kind->refs_last &&
                       (step == STORY_NONE ? then.tag != STORY_NONE : story->commits[step].durable);
    if (tag)
        then.tag = step;
    else
        then.main = step;
    if (lasts)
        history = begin(story, &then);
    rc = store->layout->move_refs(store->place, &move, 1, 1000);
    if (lasts)
        (void)end(story, history, rc);
    if (rc == VARVE_OK && tag)
        story->now.tag = step;
    else if (rc == VARVE_OK)
        story->now.main = step;
    return rc;
}

varve_status story_restore(struct story *story, varve_store *store, unsigned step)
{
    return story->now.has[step] ? move_ref(story, store, "main", step, false) : VARVE_OK;
}

varve_status story_tag(struct story *story, varve_store *store, unsigned step)
{
    if (step == STORY_NONE ? story->now.tag == STORY_NONE : !story->now.has[step])
        return VARVE_OK;
    return move_ref(story, store, "tags/t", step, true);
}

varve_status story_delete(struct story *story, varve_store *store, unsigned step)
{
    struct story_history then = *durable(story), after = story->now;
    struct story_history *history = NULL;
    varve_status rc = VARVE_OK;

    if (!story->now.has[step] || story->now.main == step || story->now.tag == step)
        return VARVE_OK;
    after.has[step] = false;
    const bool lasts = story->kind->removal_persists || story->commits[step].durable;
    const bool takes_all = story->kind->removal_persists || then.main == step || then.tag == step;
    then.has[step] = false;
    if (lasts)
        history = begin(story, takes_all ? &after : &then);
    rc = store->layout->remove(store->place, &story->commits[step].id, 1, 1000);
    if (lasts)
        (void)end(story, history, rc);
    if (rc == VARVE_OK) {
        story->now = after;
        if (lasts && takes_all)
            all_is_durable(story);
    }
    return rc;
}

/* ---- Scripts ------------------------------------------------------------------------------------ */

varve_status story_next(struct story *story, varve_store *store, const char **script)
{
    char *end = NULL;
    uint64_t freed = 0;
    const char what = **script;
    const unsigned step = (unsigned)strtoul(*script + 1, &end, 10);

    *script = *end == ' ' ? end + 1 : end;
    switch (what) {
    case 'c':
        return story_commit(story, store, step);
    case 'm':
        return story_commit_mapped(story, store, step);
    case 'p':
        return story_persist(story, store);
    case 'r':
        return story_restore(story, store, step);
    case 't':
        return story_tag(story, store, step);
    case 'd':
        return story_delete(story, store, step);
    default:
        VV_ASSERT(what == 'g');
        return store->layout->maintain(store->place, 0, NULL, NULL, &freed);
    }
}

varve_status story_prepare(struct story *story, const struct story_kind *kind, const char *path,
                           const char *script)
{
    varve_store *store = NULL;
    varve_status rc = VARVE_OK;

    story_begin(story, kind);
    TRY(story_open(story, &vv_vfs_system, path, VARVE_STORE_CREATE, &store));
    while (*script != '\0')
        TRY(story_next(story, store, &script));
    story_end_of_life(story);
out:
    vv_store_close(store);
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

/* What the store says, as a history. */
static bool read_history(const struct story *story, varve_store *store, struct story_history *found,
                         char denial[512])
{
    const struct vv_layout *layout = store->layout;
    const uint64_t last = layout->last_number(store->place);
    struct vv_ref_facts ref;

    memset(found, 0, sizeof *found);
    for (uint64_t number = 1; number <= last; number++) {
        struct vv_commit_facts facts = { .locator = 0 };
        varve_commit_id id;
        const varve_status rc = layout->find_number(store->place, number, &id);
        if (rc == VARVE_NOT_FOUND)
            continue;
        if (rc != VARVE_OK || layout->facts(store->place, &id, &facts) != VARVE_OK)
            return deny(denial, "commit %u: %s", (unsigned)number, vv_words());
        const unsigned step = step_of(facts.message);
        struct model_state expected;
        state_of(story->kind, facts.message, &expected);
        vv_commit_facts_release(&facts);
        if (step == 0 || step >= STORY_COMMITS || found->has[step] ||
            (story->commits[step].made && !vv_id_equal(&id, &story->commits[step].id)))
            return deny(denial, "commit %u is none that was made", (unsigned)number);
        if (model_compare(layout, store->place, &id, &expected) != VARVE_OK)
            return deny(denial, "step %u: %s", step, vv_words());
        found->has[step] = true;
        if (layout->ref_get(store->place, "main", &ref) == VARVE_OK && vv_id_equal(&ref.commit, &id))
            found->main = step;
        if (layout->ref_get(store->place, "tags/t", &ref) == VARVE_OK && vv_id_equal(&ref.commit, &id))
            found->tag = step;
    }
    return true;
}

static bool may_be(const struct story *story, const struct story_history *found, unsigned calls)
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

static const char *words_of(const struct story_history *history, char words[160])
{
    int used = snprintf(words, 160, "main %u, tag %u:", history->main, history->tag);

    for (unsigned i = 0; i < STORY_COMMITS; i++)
        if (history->has[i] && used < 150)
            used += snprintf(words + used, 160 - (size_t)used, " %u", i);
    return words;
}

/* What it holds, as `found`; every commit has the state that its message tells. */
static bool read_store(const struct story *story, varve_store *store, const char *path,
                       struct story_history *found, char denial[512])
{
    struct vv_layout_stat stat = { 0 };

    store->layout->stat(store->place, &stat);
    if (stat.damaged)
        return deny(denial, "the store says that it is damaged");
    return read_history(story, store, found, denial) &&
           (story->kind->look == NULL || story->kind->look(store, path, denial));
}

static bool judge_history(const struct story *story, const struct story_history *found, unsigned calls,
                          char denial[512])
{
    char words[160];

    return may_be(story, found, calls) ||
           deny(denial, "nobody made this history: %s", words_of(found, words));
}

static bool judge_sound(const char *path, char denial[512])
{
    const varve_check_options options = { .size = sizeof options };
    uint64_t damage = 1;

    if (vv_store_check(&vv_vfs_system, path, &options, &damage) != VARVE_OK || damage != 0)
        return deny(denial, "fsck: %s", vv_words());
    return true;
}

/* Another commit and a persist: they are there, with all that was. */
static bool go_on_from(const struct story *story, const struct story_history *found, varve_store **store,
                       const char *path, char denial[512])
{
    static struct story next;
    struct vv_ref_facts ref;

    story_begin(&next, story->kind);
    next.now = *found;
    if (found->main != STORY_NONE) {
        if ((*store)->layout->ref_get((*store)->place, "main", &ref) != VARVE_OK)
            return deny(denial, "main: %s", vv_words());
        next.commits[found->main].id = ref.commit;
    }
    if (story_commit(&next, *store, GOING_ON) != VARVE_OK || story_persist(&next, *store) != VARVE_OK)
        return deny(denial, "going on: %s", vv_words());
    vv_store_close(*store);
    *store = NULL;
    if (story_open(&next, &vv_vfs_system, path, 0, store) != VARVE_OK)
        return deny(denial, "opened after going on: %s", vv_words());
    return read_store(&next, *store, path, &next.now, denial) &&
           judge_history(&next, &next.now, UINT_MAX, denial);
}

/* What is found is not promised yet. */
bool story_take_up(struct story *story, varve_store *store, const char *path, char denial[512])
{
    struct story_history found;

    if (!read_store(story, store, path, &found, denial) || !judge_history(story, &found, UINT_MAX, denial))
        return false;
    story->promised = (unsigned)(begin(story, &found) - story->histories);
    story->now = found;
    for (unsigned i = 0; i < STORY_COMMITS; i++)
        story->commits[i].made = story->commits[i].durable = found.has[i];
    return true;
}

bool story_judge(const struct story *story, const char *path, unsigned calls, bool go_on, char denial[512])
{
    varve_store *store = NULL;
    struct story_history found;
    bool fine = true;

    if (story->broken[0] != '\0')
        return deny(denial, "%s", story->broken);
    if (story_open(story, &vv_vfs_system, path, 0, &store) != VARVE_OK)
        return deny(denial, "the store does not open: %s", vv_words());
    fine = read_store(story, store, path, &found, denial);
    if (fine && !(go_on && found.has[GOING_ON])) /* the judge's own commit, when it looks a second time */
        fine = judge_history(story, &found, calls, denial) &&
               (!go_on || go_on_from(story, &found, &store, path, denial));
    vv_store_close(store);
    return fine && judge_sound(path, denial);
}

/* ---- flat --------------------------------------------------------------------------------------- */

/* F1: the pointers are those of main, all of them. */
static bool judge_pointers(varve_store *store, const char *path, char denial[512])
{
    struct vv_state state = { .fresh = NULL };
    struct vv_commit_facts facts = { .locator = 0 };
    struct vv_ref_facts ref;
    bool fine = true;

    if (store->layout->ref_get(store->place, "main", &ref) == VARVE_OK &&
        (store->layout->facts(store->place, &ref.commit, &facts) != VARVE_OK ||
         store->layout->view(store->place, &facts, &state) != VARVE_OK))
        return deny(denial, "main: %s", vv_words());
    vv_commit_facts_release(&facts);
    for (unsigned i = 0; fine && i < MODEL_MODULES; i++) {
        struct vv_module *module = NULL;
        varve_module_id id;
        char name[65], leaf[65], link[512], text[512] = "", wanted[160] = "";
        uint8_t hash[VV_HASH_SIZE];
        model_module_id(i, &id);
        vv_hex_format(id.bytes, name);
        if (state.fresh != NULL && vv_state_get(&state, &id, &module) == VARVE_OK && module != NULL &&
            vv_module_leaf(module, hash) == VARVE_OK) {
            vv_hex_format(hash, leaf);
            (void)snprintf(wanted, sizeof wanted, "%s_%s", name, leaf);
        }
        (void)snprintf(link, sizeof link, "%s/%s_last", path, name);
        const ssize_t size = readlink(link, text, sizeof text - 1);
        text[size < 0 ? 0 : size] = '\0';
        if (strcmp(text, wanted) != 0)
            fine = deny(denial, "module %u: _last says '%.80s', main '%.80s'", i, text, wanted);
    }
    if (state.fresh != NULL)
        vv_state_release(&state);
    return fine;
}

const struct story_kind story_flat = {
    .layout = VARVE_LAYOUT_FLAT, .refs_last = true, .chance = 1000, .changes = 4, .look = judge_pointers
};

/* ---- chain -------------------------------------------------------------------------------------- */

const struct story_kind story_chain = {
    .layout = VARVE_LAYOUT_CHAIN, .removal_persists = true, .chance = 2000, .changes = 3
};
