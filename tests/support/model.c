/* model.c - see model.h. */
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "page/root.h"

uint32_t model_chance(struct model_chance *chance, uint32_t below)
{
    chance->state = chance->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((chance->state >> 33) % below);
}

/* What the pages of one kind have in common. It is asked for over and over, mostly for the same kind. */
static const uint8_t *common_bytes(uint32_t kind)
{
    static _Thread_local uint8_t bytes[VV_PAGE_SIZE];
    static _Thread_local uint32_t made = UINT32_MAX;
    struct model_chance chance = { .state = kind };

    for (size_t i = 0; made != kind && i < VV_PAGE_SIZE; i += 4) {
        const uint32_t word = model_chance(&chance, 0x7fffffff);
        memcpy(bytes + i, &word, 4);
    }
    made = kind;
    return bytes;
}

void model_page(uint32_t number, uint8_t page[VV_PAGE_SIZE])
{
    memset(page, 0, VV_PAGE_SIZE);
    if (number == 0)
        return;
    memcpy(page, common_bytes(number >> 8), VV_PAGE_SIZE);
    for (uint32_t i = 0; i < (number & 0xff); i++)
        page[(i * 131) % VV_PAGE_SIZE] ^= (uint8_t)(i + 1);
}

void model_module_id(unsigned module, varve_module_id *id)
{
    char name[16];

    snprintf(name, sizeof name, "module%u", module);
    vv_name_id(name, id->bytes);
}

void model_mutate(struct model_state *state, struct model_chance *chance)
{
    const unsigned module = model_chance(chance, MODEL_MODULES);

    if (!state->present[module]) {
        state->present[module] = true;
        state->size[module] = 1 + model_chance(chance, MODEL_PAGES);
        state->instance[module] = 0;
        memset(state->page[module], 0, sizeof state->page[module]);
    } else if (model_chance(chance, 12) == 0) {
        state->present[module] = false;
        state->size[module] = 0;
        memset(state->page[module], 0, sizeof state->page[module]);
        return;
    }
    if (model_chance(chance, 6) == 0) {
        const uint32_t size = 1 + model_chance(chance, MODEL_PAGES);
        for (uint32_t i = size; i < MODEL_PAGES; i++)
            state->page[module][i] = 0;
        state->size[module] = size;
    }
    if (model_chance(chance, 4) == 0)
        state->instance[module] = model_chance(chance, 1000);
    if (model_chance(chance, 4) == 0)
        state->meta = model_chance(chance, 5);
    for (uint32_t writes = model_chance(chance, 5); writes > 0; writes--) {
        uint32_t *page = &state->page[module][model_chance(chance, state->size[module])];
        if (model_chance(chance, 8) == 0)
            *page = 0;
        else if (*page == 0 || model_chance(chance, 4) == 0)
            *page = (1 + model_chance(chance, 100000)) << 8;
        else
            *page = (*page & ~0xffu) | ((*page + 1) & 0xff);
    }
}

/* ---- Committing ------------------------------------------------------------------------------- */

/* What one commit borrows until it is published. */
struct draft {
    struct vv_state before, after;
    struct vv_module_change changes[MODEL_MODULES];
    struct vv_pagetree shared[MODEL_MODULES]; /* as others may share the nodes of what is committed */
    struct vv_page_change pages[MODEL_MODULES][MODEL_PAGES];
    uint8_t bytes[MODEL_MODULES][MODEL_PAGES][2][VV_PAGE_SIZE];
    struct vv_change change;
    const struct vv_meta_pair *pair;
};

static bool same_module(const struct model_state *a, const struct model_state *b, unsigned module)
{
    return a->present[module] == b->present[module] && a->size[module] == b->size[module] &&
           a->instance[module] == b->instance[module] &&
           memcmp(a->page[module], b->page[module], sizeof a->page[module]) == 0;
}

static varve_status draft_page(struct draft *draft, unsigned module, uint32_t index, uint32_t was,
                               uint32_t is, struct vv_module_change *change)
{
    varve_status rc = VARVE_OK;
    struct vv_page_change *page = &draft->pages[module][change->page_count];
    uint8_t(*bytes)[VV_PAGE_SIZE] = draft->bytes[module][index];
    struct vv_leaf leaf = { .locator = 0 };
    bool present = false;

    *page = (struct vv_page_change){ .index = index };
    if (was != 0 && index < change->after->memory.page_count) {
        TRY(vv_pagetree_get(&change->after->memory, index, &leaf, &present));
        if (present) {
            model_page(was, bytes[0]);
            page->base = bytes[0];
            page->base_locator = leaf.locator;
        }
    }
    if (is != 0) {
        model_page(is, bytes[1]);
        page->bytes = bytes[1];
        vv_hash_pages(&page->bytes, 1, &page->hash);
        memcpy(leaf.hash, page->hash, VV_HASH_SIZE);
        leaf.locator = 0;
    }
    TRY(vv_pagetree_set(&change->after->memory, index, is == 0 ? NULL : &leaf));
    change->page_count++;
out:
    return rc;
}

static varve_status draft_module(struct draft *draft, unsigned module, const struct model_state *base,
                                 const struct model_state *after)
{
    varve_status rc = VARVE_OK;
    struct vv_module_change *change = &draft->changes[draft->change.module_count++];
    struct vv_module *before = NULL;

    model_module_id(module, &change->id);
    change->pages = draft->pages[module];
    if (!after->present[module]) {
        TRY(vv_state_remove(&draft->after, &change->id));
        goto out;
    }
    TRY(vv_state_get(&draft->before, &change->id, &before));
    if (before != NULL) {
        TRY(vv_module_clone(before, &change->after));
    } else {
        TRY(vv_module_new(&change->after));
        change->after->id = change->id;
        snprintf(change->after->name, sizeof change->after->name, "module%u", module);
        vv_pagetree_init(&change->after->memory, 0, draft->after.trie.source);
    }
    vv_free(change->after->instance);
    change->after->instance = NULL;
    change->after->instance_size = 0;
    if (after->instance[module] != 0) {
        TRY(vv_memdup(&change->after->instance, &after->instance[module], 4));
        change->after->instance_size = 4;
    }
    if (after->size[module] > change->after->memory.page_count)
        TRY(vv_pagetree_resize(&change->after->memory, after->size[module]));
    for (uint32_t i = 0; i < after->size[module]; i++) {
        const uint32_t was = base->present[module] ? base->page[module][i] : 0;
        if (was != after->page[module][i])
            TRY(draft_page(draft, module, i, was, after->page[module][i], change));
    }
    TRY(vv_pagetree_resize(&change->after->memory, after->size[module]));
    TRY(vv_state_set(&draft->after, change->after));
out:
    return rc;
}

static int by_id(const void *a, const void *b)
{
    const struct vv_module_change *x = a;
    const struct vv_module_change *y = b;

    return memcmp(x->id.bytes, y->id.bytes, sizeof x->id.bytes);
}

static varve_status draft_meta(struct draft *draft, const struct model_state *base,
                               const struct model_state *after)
{
    static const char *const key = "counter";

    if (base->meta == after->meta)
        return VARVE_OK;
    const varve_status rc = vv_state_set_meta(&draft->after, key, &after->meta, after->meta == 0 ? 0 : 4);
    if (after->meta == 0) {
        draft->change.meta_removed = &key;
        draft->change.meta_removed_count = 1;
    } else {
        draft->pair = vv_state_meta(&draft->after, key);
        draft->change.meta_set = &draft->pair;
        draft->change.meta_set_count = 1;
    }
    return rc;
}

varve_status model_commit(const struct vv_layout *layout, struct vv_place *place,
                          const struct model_state *base, const struct vv_commit_facts *parent,
                          const struct model_state *after, const char *message,
                          const struct vv_ref_move *move, varve_durability durability,
                          struct vv_commit_facts *facts)
{
    varve_status rc = VARVE_OK;
    static const struct model_state nothing;
    struct draft *draft = calloc(1, sizeof *draft); /* not vv_alloc: the test's own memory does not run out */
    struct vv_pending *pending = NULL;
    struct vv_commit_facts *made = &draft->change.facts;
    const uint64_t hold = layout->hold(place);

    base = base == NULL ? &nothing : base;
    if (parent != NULL)
        TRY(layout->view(place, parent, &draft->before));
    else
        TRY(vv_state_init(&draft->before, NULL, NULL));
    TRY(vv_state_copy(&draft->after, &draft->before));
    for (unsigned module = 0; module < MODEL_MODULES; module++) {
        if (!same_module(base, after, module))
            TRY(draft_module(draft, module, base, after));
    }
    TRY(draft_meta(draft, base, after));
    qsort(draft->changes, draft->change.module_count, sizeof *draft->changes, by_id);
    draft->change.base = parent;
    draft->change.after = &draft->after;
    draft->change.modules = draft->changes;
    TRY(vv_state_root(&draft->after, &made->root));
    made->time_ns = 1000;
    made->parent = parent == NULL ? (varve_commit_id){ { 0 } } : parent->id;
    made->modules_changed = draft->change.module_count;
    TRY(vv_strdup(&made->message, message));
    TRY(vv_strdup(&made->branch, move == NULL ? "" : move->name));
    TRY(vv_strdup(&made->engine, "model 1"));
    vv_commit_id_hash(parent == NULL ? NULL : parent->id.bytes, made->root.bytes, made->time_ns, message,
                      strlen(message), made->id.bytes);
    draft->change.hold = hold;
    TRY(layout->prepare(place, &draft->change, &pending));
    for (unsigned i = 0; i < MODEL_MODULES; i++) {
        if (draft->changes[i].after != NULL)
            vv_pagetree_copy(&draft->shared[i], &draft->changes[i].after->memory);
    }
    TRY(layout->publish(place, &draft->change, pending, move, durability));
    *facts = *made;
    *made = (struct vv_commit_facts){ .locator = 0 };
out:
    vv_commit_facts_release(made);
    for (unsigned i = 0; i < MODEL_MODULES; i++) {
        vv_module_drop(draft->changes[i].after);
        vv_pagetree_release(&draft->shared[i]);
    }
    if (draft->before.fresh != NULL)
        vv_state_release(&draft->before);
    if (draft->after.fresh != NULL)
        vv_state_release(&draft->after);
    free(draft);
    layout->drop(place, hold);
    return rc;
}

/* ---- Comparing -------------------------------------------------------------------------------- */

struct comparing {
    const struct model_state *expected;
    unsigned module;
    uint32_t seen;
};

static varve_status compare_page(const struct comparing *comparing, uint64_t index,
                                 const uint8_t page[VV_PAGE_SIZE])
{
    uint8_t wanted[VV_PAGE_SIZE];

    model_page(comparing->expected->page[comparing->module][index], wanted);
    if (memcmp(page, wanted, VV_PAGE_SIZE) == 0)
        return VARVE_OK;
    return vv_fail(VARVE_CONFLICT, "page %u of module %u is another", (unsigned)index, comparing->module);
}

static varve_status put_page(void *context, uint64_t index, const uint8_t *page)
{
    struct comparing *comparing = context;

    comparing->seen++;
    return compare_page(comparing, index, page);
}

static varve_status put_on_top(void *context, uint64_t index, const uint8_t *page)
{
    static const uint8_t zeros[VV_PAGE_SIZE];
    uint8_t(*memory)[VV_PAGE_SIZE] = context;

    memcpy(memory[index], page == NULL ? zeros : page, VV_PAGE_SIZE);
    return VARVE_OK;
}

/* Memory as a session would have it: a file below, what differs on top. */
static varve_status compare_mapped(const struct vv_layout *layout, struct vv_place *place,
                                   const struct vv_module *module, struct comparing *comparing)
{
    varve_status rc = VARVE_OK;
    struct vv_source source;
    uint8_t(*memory)[VV_PAGE_SIZE] = NULL;

    layout->source(place, &module->id, &module->memory, &source);
    if (source.file.fd < 0)
        goto out;
    TRY(vv_alloc(&memory, MODEL_PAGES, VV_PAGE_SIZE));
    if (source.pages > module->memory.page_count)
        TRY(vv_fail(VARVE_CONFLICT, "more pages of a file than the memory has"));
    TRY(vv_file_read(&source.file, memory, source.pages * VV_PAGE_SIZE, source.offset));
    TRY(layout->read_diff(place, source.tree, &module->memory, put_on_top, memory));
    for (uint32_t i = 0; i < comparing->expected->size[comparing->module]; i++)
        TRY(compare_page(comparing, i, memory[i]));
out:
    layout->source_end(place, &source);
    vv_free(memory);
    return rc;
}

static varve_status compare_module(const struct vv_layout *layout, struct vv_place *place,
                                   const struct vv_module *module, struct comparing *comparing)
{
    varve_status rc = VARVE_OK;
    const struct model_state *expected = comparing->expected;
    const unsigned number = comparing->module;
    uint8_t page[VV_PAGE_SIZE];
    uint32_t present_count = 0;

    if (module->memory.page_count != expected->size[number])
        return vv_fail(VARVE_CONFLICT, "module %u has %u pages instead of %u", number,
                       (unsigned)module->memory.page_count, expected->size[number]);
    if (module->instance_size != (expected->instance[number] == 0 ? 0u : 4u) ||
        (module->instance_size == 4 && memcmp(module->instance, &expected->instance[number], 4) != 0))
        return vv_fail(VARVE_CONFLICT, "module %u has another instance state", number);
    for (uint32_t i = 0; i < expected->size[number]; i++) {
        struct vv_leaf leaf;
        bool present = false;
        TRY(vv_pagetree_get(&module->memory, i, &leaf, &present));
        if (present != (expected->page[number][i] != 0))
            TRY(vv_fail(VARVE_CONFLICT, "page %u of module %u should %sbe there", i, number,
                        present ? "not " : ""));
        if (!present)
            continue;
        present_count++;
        TRY(layout->read(place, &leaf, page));
        TRY(compare_page(comparing, i, page));
    }
    comparing->seen = 0;
    TRY(layout->read_diff(place, NULL, &module->memory, put_page, comparing));
    if (comparing->seen != present_count)
        TRY(vv_fail(VARVE_CONFLICT, "read_diff gave %u pages of %u", comparing->seen, present_count));
    TRY(compare_mapped(layout, place, module, comparing));
out:
    return rc;
}

static varve_status compare_state(const struct vv_layout *layout, struct vv_place *place,
                                  struct vv_state *state, const struct model_state *expected)
{
    varve_status rc = VARVE_OK;
    uint64_t count = 0;
    uint64_t expected_count = 0;

    for (unsigned module = 0; module < MODEL_MODULES; module++) {
        struct comparing comparing = { .expected = expected, .module = module };
        struct vv_module *found = NULL;
        varve_module_id id;
        model_module_id(module, &id);
        TRY(vv_state_get(state, &id, &found));
        if ((found != NULL) != expected->present[module])
            TRY(vv_fail(VARVE_CONFLICT, "module %u is there or not, wrongly", module));
        expected_count += expected->present[module];
        if (found != NULL)
            TRY(compare_module(layout, place, found, &comparing));
    }
    TRY(vv_state_count(state, &count));
    const struct vv_meta_pair *pair = vv_state_meta(state, "counter");
    if (count != expected_count || (pair != NULL) != (expected->meta != 0) ||
        (pair != NULL && memcmp(pair->value, &expected->meta, 4) != 0))
        rc = vv_fail(VARVE_CONFLICT, "the modules or the named values are others");
out:
    return rc;
}

varve_status model_compare(const struct vv_layout *layout, struct vv_place *place, const varve_commit_id *id,
                           const struct model_state *expected)
{
    varve_status rc = VARVE_OK;
    struct vv_commit_facts facts = { .locator = 0 };
    struct vv_state state = { .fresh = NULL };
    uint8_t hash[VV_HASH_SIZE];
    const uint64_t hold = layout->hold(place);

    TRY(layout->facts(place, id, &facts));
    const bool rooted = vv_hash_is_zero(facts.parent.bytes);
    vv_commit_id_hash(rooted ? NULL : facts.parent.bytes, facts.root.bytes, facts.time_ns, facts.message,
                      strlen(facts.message), hash);
    if (memcmp(hash, id->bytes, sizeof hash) != 0)
        TRY(vv_fail(VARVE_CONFLICT, "the commit's facts do not give its id"));
    TRY(layout->view(place, &facts, &state));
    TRY(compare_state(layout, place, &state, expected));
out:
    vv_commit_facts_release(&facts);
    if (state.fresh != NULL)
        vv_state_release(&state);
    layout->drop(place, hold);
    return rc;
}
