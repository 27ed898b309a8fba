/* history.c - see history.h.
 *
 *   facts   of the commit told last; its texts are what `info` lends
 *   next    the commit to look at next, zeros: none; of moves: the locator of the next one
 *           A commit that was deleted is stepped over
 *   until   the youngest commit reachable from `until` that is not younger than where the walk is. Numbers fall
 *           along parents, so both walks go back in step and meet where they join, if they do */
#include "store/history.h"

#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "page/root.h"

struct varve_log {
    varve_store *store;
    uint64_t hold; /* the layout's, from before anything was looked up */
    struct vv_commit_facts facts;
    varve_commit_info info;
    varve_commit_id next;
    bool has_until;
    struct vv_commit_facts until;
    bool has_module;
    varve_module_id module;
    bool moves, begun;
    char ref[256];
    struct vv_move_facts move;
};

void vv_history_close(varve_log *log)
{
    if (log == NULL)
        return;
    vv_commit_facts_release(&log->facts);
    vv_commit_facts_release(&log->until);
    log->store->layout->drop(log->store->place, log->hold);
    vv_store_close(log->store);
    vv_free(log);
}

static varve_status module_named(const char *text, varve_module_id *id)
{
    varve_status rc = VARVE_OK;

    if (strlen(text) == 64)
        return vv_hex_parse(text, id->bytes);
    rc = vv_module_name_check(text);
    if (rc == VARVE_OK)
        vv_name_id(text, id->bytes);
    return rc;
}

static varve_status load(varve_log *log, const varve_commit_id *id, struct vv_commit_facts *facts)
{
    struct vv_commit_facts loaded = { .locator = 0 };
    const varve_status rc = log->store->layout->facts(log->store->place, id, &loaded);

    if (rc != VARVE_OK)
        return rc;
    vv_commit_facts_release(facts);
    *facts = loaded;
    return VARVE_OK;
}

varve_status vv_history_open(varve_store *store, const varve_log_options *options, varve_log **out)
{
    varve_log *log = NULL;
    varve_commit_id until;
    varve_status rc = VARVE_OK;

    if (options->moves && (options->until != NULL || options->module != NULL))
        return vv_fail(VARVE_MISUSE, "a log of moves takes neither `until` nor `module`");
    TRY(vv_alloc(&log, 1, sizeof *log));
    log->store = store;
    vv_store_hold(store);
    log->hold = store->layout->hold(store->place);
    log->moves = options->moves;
    if (options->moves) {
        TRY(vv_revision_ref(store, options->from, log->ref));
    } else {
        TRY(vv_revision_id(store, options->from, &log->next));
        if (options->until != NULL) {
            TRY(vv_revision_id(store, options->until, &until));
            TRY(load(log, &until, &log->until));
            log->has_until = true;
        }
        if (options->module != NULL) {
            TRY(module_named(options->module, &log->module));
            log->has_module = true;
        }
    }
    *out = log;
    log = NULL;
out:
    vv_history_close(log);
    return rc;
}

/* The nearest commit before it that is there; zeros: none. */
static varve_status parent_of(const varve_log *log, const struct vv_commit_facts *facts,
                              varve_commit_id *parent)
{
    *parent = facts->parent;
    if (vv_id_is_zero(parent))
        return VARVE_OK;
    return log->store->layout->ancestor(log->store->place, &facts->parent, parent);
}

/* Whether the commit in `facts` can be reached from `until`. */
static varve_status is_excluded(varve_log *log, bool *excluded)
{
    varve_status rc = VARVE_OK;

    while (log->has_until && log->until.number > log->facts.number) {
        varve_commit_id parent;
        TRY(parent_of(log, &log->until, &parent));
        log->has_until = !vv_id_is_zero(&parent);
        if (log->has_until)
            TRY(load(log, &parent, &log->until));
    }
    *excluded = log->has_until && vv_id_equal(&log->until.id, &log->facts.id);
out:
    return rc;
}

struct search {
    const varve_module_id *module;
    bool found;
};

static varve_status look_for(void *context, const varve_module_id *id, bool removed, uint64_t pages,
                             uint64_t bytes)
{
    struct search *search = context;

    (void)removed;
    (void)pages;
    (void)bytes;
    search->found = memcmp(id->bytes, search->module->bytes, sizeof id->bytes) == 0;
    return search->found ? VARVE_END : VARVE_OK;
}

static varve_status is_wanted(varve_log *log, bool *wanted)
{
    struct search search = { .module = &log->module };
    varve_status rc = VARVE_OK;

    *wanted = true;
    if (!log->has_module)
        return VARVE_OK;
    rc = log->store->layout->changed(log->store->place, &log->facts, look_for, &search);
    *wanted = search.found;
    return rc == VARVE_END ? VARVE_OK : rc;
}

static varve_status next_parent(varve_log *log)
{
    bool wanted = false, excluded = false;
    varve_status rc = VARVE_OK;

    while (!wanted) {
        if (vv_id_is_zero(&log->next))
            return VARVE_END;
        TRY(load(log, &log->next, &log->facts));
        TRY(is_excluded(log, &excluded));
        if (excluded) {
            log->next = (varve_commit_id){ { 0 } };
            return VARVE_END;
        }
        TRY(parent_of(log, &log->facts, &log->next));
        TRY(is_wanted(log, &wanted));
    }
    vv_commit_tell(&log->facts, &log->info);
out:
    return rc;
}

/* Of a commit that was deleted only its id is known. */
static varve_status load_named(varve_log *log, const varve_commit_id *id)
{
    const varve_status rc = load(log, id, &log->facts);

    if (rc != VARVE_NOT_FOUND)
        return rc;
    vv_commit_facts_release(&log->facts);
    log->facts.id = *id;
    return VARVE_OK;
}

static varve_status next_move(varve_log *log)
{
    const uint64_t locator = log->begun ? log->move.previous : 0;
    varve_status rc = VARVE_OK;

    if (log->begun && locator == 0)
        return VARVE_END;
    TRY(log->store->layout->ref_move(log->store->place, log->ref, locator, &log->move));
    log->begun = true;
    if (vv_id_is_zero(&log->move.to))
        vv_commit_facts_release(&log->facts);
    else
        TRY(load_named(log, &log->move.to));
    vv_commit_tell(&log->facts, &log->info);
    log->info.time_ns = log->move.time_ns;
    log->info.move = log->move.what;
out:
    return rc;
}

varve_status vv_history_next(varve_log *log, const varve_commit_info **info)
{
    const varve_status rc = log->moves ? next_move(log) : next_parent(log);

    if (rc == VARVE_OK)
        *info = &log->info;
    return rc;
}
