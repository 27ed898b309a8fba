/* diff.c - see diff.h. The tries say which modules differ, their page trees which pages; bytes are read one page at
 * a time, as they are asked for.
 *
 *   modules   ids that differ, in order; `module` is how many were begun
 *   old, new  the module at hand on each side, held; NULL: not there
 *   heads     what is told of it before its pages
 *   pages     indices of its pages that differ
 *   i, j      where the merge of the named values is on each side */
#include "store/diff.h"

#include <string.h>

#include "base/alloc.h"

enum { HEADS = 4 };

struct varve_diff {
    varve_store *store;
    varve_commit *old_commit, *new_commit; /* held: the states are theirs; old NULL: nothing */
    struct vv_state from, to;
    varve_module_id *modules;
    size_t module_count, module_capacity, module;
    struct vv_module *old, *new;
    varve_change heads[HEADS];
    size_t head_count, head;
    uint64_t *pages;
    size_t page_count, page_capacity, page;
    size_t i, j;
    varve_change change; /* the one lent, when it is no head */
    uint8_t before[VV_PAGE_SIZE], after[VV_PAGE_SIZE];
};

void vv_diff_close(varve_diff *diff)
{
    if (diff == NULL)
        return;
    vv_module_drop(diff->old);
    vv_module_drop(diff->new);
    vv_state_release(&diff->from);
    vv_state_release(&diff->to);
    vv_free(diff->modules);
    vv_free(diff->pages);
    vv_commit_close(diff->old_commit);
    vv_commit_close(diff->new_commit);
    vv_store_close(diff->store);
    vv_free(diff);
}

static varve_status make_room(void *pointer, size_t count, size_t *capacity, size_t size)
{
    const size_t wanted = *capacity == 0 ? 16 : 2 * *capacity;
    varve_status rc = VARVE_OK;

    if (count < *capacity)
        return VARVE_OK;
    rc = vv_resize(pointer, wanted, size);
    if (rc == VARVE_OK)
        *capacity = wanted;
    return rc;
}

static varve_status collect_module(void *context, const struct vv_item *from, const struct vv_item *to)
{
    varve_diff *diff = context;
    varve_status rc = VARVE_OK;

    TRY(make_room(&diff->modules, diff->module_count, &diff->module_capacity, sizeof *diff->modules));
    memcpy(diff->modules[diff->module_count++].bytes, to != NULL ? to->key : from->key,
           sizeof(varve_module_id));
out:
    return rc;
}

static varve_status collect_page(void *context, uint64_t index, const struct vv_leaf *from,
                                 const struct vv_leaf *to)
{
    varve_diff *diff = context;
    varve_status rc = VARVE_OK;

    (void)from;
    (void)to;
    TRY(make_room(&diff->pages, diff->page_count, &diff->page_capacity, sizeof *diff->pages));
    diff->pages[diff->page_count++] = index;
out:
    return rc;
}

varve_status vv_diff_open(varve_store *store, varve_commit *from, varve_commit *to, varve_diff **out)
{
    varve_diff *diff = NULL;
    varve_status rc = VARVE_OK;

    if ((from != NULL && from->store != store) || to->store != store)
        return vv_fail(VARVE_MISUSE, "the commits to compare are not of this store");
    TRY(vv_alloc(&diff, 1, sizeof *diff));
    diff->store = store;
    vv_store_hold(store);
    diff->old_commit = from;
    diff->new_commit = to;
    if (from != NULL)
        vv_commit_hold(from);
    vv_commit_hold(to);
    TRY(from == NULL ? vv_state_init(&diff->from, NULL, NULL) : vv_commit_state(from, &diff->from));
    TRY(vv_commit_state(to, &diff->to));
    TRY(vv_trie_diff(&diff->from.trie, &diff->to.trie, collect_module, diff));
    *out = diff;
    diff = NULL;
out:
    vv_diff_close(diff);
    return rc;
}

/* ---- One module ------------------------------------------------------------------------------- */

static uint64_t size_of(const struct vv_module *module)
{
    return module == NULL ? 0 : module->memory.page_count * VV_PAGE_SIZE;
}

static varve_change *add_head(varve_diff *diff, varve_change_kind kind)
{
    const struct vv_module *named = diff->new != NULL ? diff->new : diff->old;
    varve_change *head = &diff->heads[diff->head_count++];

    VV_ASSERT(diff->head_count <= HEADS);
    *head = (varve_change){ .kind = kind, .module = named->id, .key = "", .name = named->name };
    return head;
}

static void add_sizes(varve_diff *diff, varve_change_kind kind)
{
    varve_change *head = add_head(diff, kind);

    head->before_size = size_of(diff->old);
    head->after_size = size_of(diff->new);
}

static bool same_bytes(const void *a, size_t a_size, const void *b, size_t b_size)
{
    return a_size == b_size && (a_size == 0 || memcmp(a, b, a_size) == 0);
}

/* What says who the module is and what its code gets, apart from memory and instance state. */
static bool same_descriptor(const struct vv_module *a, const struct vv_module *b)
{
    return a->kind == b->kind && strcmp(a->name, b->name) == 0 &&
           memcmp(a->code, b->code, sizeof a->code) == 0 &&
           memcmp(a->owner, b->owner, sizeof a->owner) == 0 &&
           same_bytes(a->extra, a->extra_size, b->extra, b->extra_size);
}

static void add_heads(varve_diff *diff)
{
    struct vv_module *old = diff->old, *new = diff->new;

    if (old == NULL || new == NULL) {
        add_sizes(diff, old == NULL ? VARVE_CHANGE_ADDED : VARVE_CHANGE_REMOVED);
        return;
    }
    if (!same_descriptor(old, new)) {
        varve_change *head = add_head(diff, VARVE_CHANGE_CODE);
        head->before = old->code;
        head->after = new->code;
        head->before_size = head->after_size = sizeof old->code;
    }
    if (size_of(old) != size_of(new))
        add_sizes(diff, VARVE_CHANGE_SIZE);
    if (!same_bytes(old->instance, old->instance_size, new->instance, new->instance_size)) {
        varve_change *head = add_head(diff, VARVE_CHANGE_GLOBAL);
        head->before = old->instance;
        head->before_size = old->instance_size;
        head->after = new->instance;
        head->after_size = new->instance_size;
    }
}

static varve_status hold_module(struct vv_state *state, const varve_module_id *id, struct vv_module **held)
{
    struct vv_module *module = NULL;
    const varve_status rc = vv_state_get(state, id, &module);

    vv_module_drop(*held);
    *held = rc == VARVE_OK ? module : NULL;
    if (*held != NULL)
        vv_module_hold(*held);
    return rc;
}

static varve_status begin_module(varve_diff *diff, const varve_module_id *id)
{
    struct vv_pagetree nothing;
    varve_status rc = VARVE_OK;

    vv_pagetree_init(&nothing, 0, NULL);
    diff->page = diff->page_count = diff->head = diff->head_count = 0;
    TRY(hold_module(&diff->from, id, &diff->old));
    TRY(hold_module(&diff->to, id, &diff->new));
    TRY(vv_pagetree_diff(diff->old == NULL ? NULL : &diff->old->memory,
                         diff->new == NULL ? &nothing : &diff->new->memory, collect_page, diff));
    add_heads(diff);
out:
    if (rc != VARVE_OK)
        diff->page_count = 0; /* nothing of a module is told before all of it is known */
    vv_pagetree_release(&nothing);
    return rc;
}

/* A page's bytes on one side; NULL: zeros there, or beyond the end. */
static varve_status read_side(varve_diff *diff, const struct vv_module *module, uint64_t index,
                              uint8_t bytes[VV_PAGE_SIZE], const void **out, size_t *size)
{
    const varve_store *store = diff->store;
    struct vv_leaf leaf;
    bool present = false;
    varve_status rc = VARVE_OK;

    if (module != NULL && index < module->memory.page_count)
        TRY(vv_pagetree_get(&module->memory, index, &leaf, &present));
    if (present) {
        TRY(store->layout->read(store->place, &leaf, bytes));
        *out = bytes;
        *size = VV_PAGE_SIZE;
    }
out:
    return rc;
}

static varve_status tell_page(varve_diff *diff)
{
    const struct vv_module *named = diff->new != NULL ? diff->new : diff->old;
    varve_change *change = &diff->change;
    varve_status rc = VARVE_OK;

    *change = (varve_change){ .kind = VARVE_CHANGE_PAGE,
                              .module = named->id,
                              .index = diff->pages[diff->page],
                              .key = "",
                              .name = named->name };
    TRY(read_side(diff, diff->old, change->index, diff->before, &change->before, &change->before_size));
    TRY(read_side(diff, diff->new, change->index, diff->after, &change->after, &change->after_size));
    diff->page++;
out:
    return rc;
}

/* ---- Named values ----------------------------------------------------------------------------- */

/* The next value that differs, by a merge of two sorted lists; varve's own are not told. */
static bool tell_meta(varve_diff *diff)
{
    while (diff->i < diff->from.meta_count || diff->j < diff->to.meta_count) {
        const struct vv_meta_pair *old = diff->i < diff->from.meta_count ? diff->from.meta[diff->i] : NULL;
        const struct vv_meta_pair *new = diff->j < diff->to.meta_count ? diff->to.meta[diff->j] : NULL;
        const int order = old == NULL ? 1 : new == NULL ? -1 : strcmp(old->key, new->key);
        if (order > 0)
            old = NULL;
        if (order < 0)
            new = NULL;
        diff->i += old != NULL;
        diff->j += new != NULL;
        const char *key = old != NULL ? old->key : new->key;
        const bool same =
            old != NULL && new != NULL &&same_bytes(old->value, old->value_size, new->value, new->value_size);
        if (same || strncmp(key, VV_META_HIDDEN, strlen(VV_META_HIDDEN)) == 0)
            continue;
        diff->change = (varve_change){
            .kind = VARVE_CHANGE_META,
            .key = key,
            .name = "",
            .before = old == NULL ? NULL : old->value,
            .before_size = old == NULL ? 0 : old->value_size,
            .after = new == NULL ? NULL : new->value,
            .after_size = new == NULL ? 0 : new->value_size,
        };
        return true;
    }
    return false;
}

varve_status vv_diff_next(varve_diff *diff, const varve_change **change)
{
    varve_status rc = VARVE_OK;

    *change = &diff->change;
    for (;;) {
        if (diff->head < diff->head_count) {
            *change = &diff->heads[diff->head++];
            return VARVE_OK;
        }
        if (diff->page < diff->page_count)
            return tell_page(diff);
        if (diff->module == diff->module_count)
            return tell_meta(diff) ? VARVE_OK : VARVE_END;
        TRY(begin_module(diff, &diff->modules[diff->module]));
        diff->module++;
    }
out:
    return rc;
}
