/* mark.c - see mark.h. */
#include "store/journal/mark.h"

#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"

/* ---- Blocks ----------------------------------------------------------------------------------- */

static struct vv_mark_segment *segment_of(const struct vv_mark *mark, uint64_t address)
{
    size_t low = 0;
    size_t high = mark->segment_count;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (mark->segments[middle].start <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low == 0 || address >= mark->segments[low - 1].end ? NULL : &mark->segments[low - 1];
}

static void mark_range(struct vv_mark *mark, uint64_t address, uint64_t size, bool needed)
{
    struct vv_mark_segment *segment = segment_of(mark, address);

    if (segment == NULL)
        return; /* behind the horizon */
    const uint64_t end = address + size < segment->end ? address + size : segment->end;
    segment->needed += needed ? end - address : 0;
    for (uint64_t at = address - address % VV_RECORD_ALIGN; at < end; at += VV_RECORD_ALIGN) {
        const uint64_t block = (at - segment->start) / VV_RECORD_ALIGN;
        segment->blocks[block / 8] |= (uint8_t)(1 << block % 8);
    }
}

bool vv_mark_is_needed(const struct vv_mark_segment *segment, uint64_t address)
{
    const uint64_t block = (address - segment->start) / VV_RECORD_ALIGN;

    return (segment->blocks[block / 8] >> block % 8 & 1) != 0;
}

static varve_status list_segments(struct vv_mark *mark)
{
    varve_status rc = VARVE_OK;
    uint64_t start = 0;

    while (vv_log_segment_after(&mark->place->log, start, &start) && start < mark->horizon) {
        const uint64_t end = start + vv_log_left(&mark->place->log, start);
        TRY(vv_resize(&mark->segments, mark->segment_count + 1, sizeof *mark->segments));
        struct vv_mark_segment *segment = &mark->segments[mark->segment_count];
        *segment =
            (struct vv_mark_segment){ .start = start, .end = end < mark->horizon ? end : mark->horizon };
        TRY(vv_alloc(&segment->blocks, (segment->end - start) / VV_RECORD_ALIGN / 8 + 1, 1));
        mark->segment_count++;
    }
out:
    return rc;
}

/* ---- What was looked at ----------------------------------------------------------------------- */

static bool is_known(const struct vv_table *table, uint64_t address, uint64_t *lowest)
{
    const union vv_value *value = vv_table_get(table, &address);

    if (value != NULL && value->number < *lowest)
        *lowest = value->number;
    return value != NULL;
}

static varve_status know(struct vv_table *table, uint64_t address, uint64_t lowest)
{
    return vv_table_put(table, &address, (union vv_value){ .number = lowest });
}

static void lower(uint64_t *lowest, uint64_t address)
{
    *lowest = address < *lowest ? address : *lowest;
}

/* ---- Pages ------------------------------------------------------------------------------------ */

/* The frame is needed, and which of its slots stand on what. */
static varve_status read_slots(struct vv_mark *mark, uint64_t address, struct vv_frame *slots)
{
    varve_status rc = VARVE_OK;
    uint8_t head[VV_FRAME_HEADER];
    uint8_t *bytes = NULL;
    size_t size = 0;

    TRY(vv_log_read(&mark->place->log, address, head, sizeof head));
    TRY(vv_frame_size(head, sizeof head, &size));
    TRY(vv_alloc(&bytes, size, 1));
    TRY(vv_log_read(&mark->place->log, address, bytes, size));
    TRY(vv_frame_slots(bytes, size, slots));
out:
    vv_free(bytes);
    return rc;
}

static varve_status mark_frame(struct vv_mark *mark, uint64_t address)
{
    varve_status rc = VARVE_OK;
    uint8_t head[VV_FRAME_HEADER];
    size_t size = 0;

    if (vv_table_get(&mark->frames, &address) != NULL)
        return VARVE_OK;
    TRY(vv_log_read(&mark->place->log, address, head, sizeof head));
    TRY(vv_frame_size(head, sizeof head, &size));
    mark_range(mark, address, size, true);
    TRY(know(&mark->frames, address, size));
out:
    return rc;
}

varve_status vv_mark_page(struct vv_mark *mark, uint64_t locator, uint64_t *lowest)
{
    varve_status rc = VARVE_OK;
    uint64_t own = UINT64_MAX;
    uint64_t below = UINT64_MAX;
    struct vv_frame frame;

    /* A frame lies below those that stand on it, so this ends, and the last one is the lowest. */
    for (uint64_t at = locator; at != 0;) {
        const uint64_t address = vv_locator_frame(at);
        const unsigned slot = vv_locator_slot(at);
        if (address >= below)
            TRY(vv_fail(VARVE_CORRUPT, "the page frame at address %llu is based on itself",
                        (unsigned long long)address));
        below = address;
        lower(&own, address);
        if (vv_locator_depth(at) > 0 && is_known(&mark->pages, at, &own))
            break;
        TRY(mark_frame(mark, address));
        if (vv_locator_depth(at) == 0)
            break;
        TRY(read_slots(mark, address, &frame));
        at =
            slot < frame.count && frame.slots[slot].form == VV_FORM_RUNS ? frame.slots[slot].base_locator : 0;
    }
    if (vv_locator_depth(locator) > 0)
        TRY(know(&mark->pages, locator, own));
    lower(lowest, own);
out:
    return rc;
}

/* ---- Saved nodes ------------------------------------------------------------------------------ */

static varve_status mark_saved(struct vv_mark *mark, uint64_t address)
{
    varve_status rc = VARVE_OK;
    uint8_t head[VV_SAVED_HEADER];

    TRY(vv_log_read(&mark->place->log, address, head, sizeof head));
    mark_range(mark, address, VV_SAVED_HEADER + (uint64_t)vv_get_u32(head), true);
out:
    return rc;
}

static struct vv_node_shape shape_below(struct vv_node_shape shape)
{
    shape.level = shape.keyed ? shape.level + 1 : shape.level - 1;
    return shape;
}

static uint64_t address_of(const struct vv_node *node)
{
    return atomic_load_explicit(&node->address, memory_order_relaxed);
}

/* What is done with the leaves of a tree: nothing, or each is followed. */
typedef varve_status (*leaf_fn)(struct vv_mark *mark, struct vv_state *state, const uint8_t *key,
                                uint64_t locator, uint64_t *lowest);
struct walk {
    struct vv_mark *mark;
    const struct vv_node_source *source;
    struct vv_table *known;
    bool saved; /* mark the saved nodes themselves */
    leaf_fn leaf;
    struct vv_state *state; /* lent to `leaf` */
};

/* As deep as shapes allow: VV_NODE_DEPTH_MAX. */
static varve_status walk_node(const struct walk *walk, struct vv_node *node, struct vv_node_shape shape,
                              uint64_t *lowest)
{
    varve_status rc = VARVE_OK;
    const uint64_t address = address_of(node);
    uint64_t own = UINT64_MAX;
    struct vv_node *child = NULL; /* held: a whole tree may be larger than memory */

    VV_ASSERT(shape.level <= VV_NODE_DEPTH_MAX);
    if (address != 0 && is_known(walk->known, address, lowest))
        return VARVE_OK;
    if (address != 0 && walk->saved)
        TRY(mark_saved(walk->mark, address));
    if (address != 0)
        own = address;
    for (unsigned slot = 0; slot < VV_NODE_SLOTS; slot++) {
        if (node->leaves >> slot & 1)
            TRY(walk->leaf(walk->mark, walk->state, node->keyed ? node->keys[slot] : NULL, node->number[slot],
                           &own));
        if ((node->nodes >> slot & 1) == 0)
            continue;
        if (atomic_load_explicit(&node->child[slot], memory_order_acquire) == NULL &&
            is_known(walk->known, node->number[slot], &own))
            continue; /* without loading it */
        TRY(vv_node_take_child(node, slot, walk->source, shape_below(shape), &child));
        TRY(walk_node(walk, child, shape_below(shape), &own));
        vv_node_drop(child);
        child = NULL;
    }
    if (address != 0)
        TRY(know(walk->known, address, own));
    lower(lowest, own);
out:
    vv_node_drop(child);
    return rc;
}

static varve_status walk_top(const struct walk *walk, const struct vv_top *top, struct vv_node_shape shape,
                             uint64_t *lowest)
{
    varve_status rc = VARVE_OK;
    struct vv_node *node = NULL;
    const uint64_t address = vv_top_address(top);

    if (address != 0 && is_known(walk->known, address, lowest))
        return VARVE_OK;
    TRY(vv_top_take(top, walk->source, shape, &node));
    if (node != NULL)
        TRY(walk_node(walk, node, shape, lowest));
out:
    vv_node_drop(node);
    return rc;
}

static struct vv_node_shape tree_shape(const struct vv_pagetree *tree)
{
    return (struct vv_node_shape){ .keyed = false, .level = vv_pagetree_levels(tree->page_count) - 1 };
}

static const struct vv_node_shape trie_shape = { .keyed = true, .level = 0 };

static varve_status leave(struct vv_mark *mark, struct vv_state *state, const uint8_t *key, uint64_t locator,
                          uint64_t *lowest)
{
    (void)mark;
    (void)state;
    (void)key;
    (void)locator;
    (void)lowest;
    return VARVE_OK;
}

static varve_status follow_page(struct vv_mark *mark, struct vv_state *state, const uint8_t *key,
                                uint64_t locator, uint64_t *lowest)
{
    (void)state;
    (void)key;
    return vv_mark_page(mark, locator, lowest);
}

static varve_status module_of(struct vv_state *state, const uint8_t *key, struct vv_module **module)
{
    varve_module_id id;

    memcpy(id.bytes, key, sizeof id.bytes);
    const varve_status rc = vv_state_get(state, &id, module);
    if (rc == VARVE_OK && *module == NULL)
        return vv_fail(VARVE_CORRUPT, "a state does not have the module that it names");
    return rc;
}

/* A module of a checkpoint: its saved entry, and the saved nodes of its tree. */
static varve_status follow_entry(struct vv_mark *mark, struct vv_state *state, const uint8_t *key,
                                 uint64_t locator, uint64_t *lowest)
{
    varve_status rc = VARVE_OK;
    struct vv_module *module = NULL;
    uint64_t own = locator;
    const struct walk walk = {
        .mark = mark, .source = &mark->place->views.nodes, .known = &mark->nodes, .saved = true, .leaf = leave
    };

    if (is_known(&mark->nodes, locator, lowest))
        return VARVE_OK;
    TRY(mark_saved(mark, locator));
    TRY(module_of(state, key, &module));
    TRY(walk_top(&walk, &module->memory.top, tree_shape(&module->memory), &own));
    TRY(know(&mark->nodes, locator, own));
    lower(lowest, own);
out:
    return rc;
}

/* A module of a commit: the pages that it has. */
static varve_status follow_module(struct vv_mark *mark, struct vv_state *state, const uint8_t *key,
                                  uint64_t locator, uint64_t *lowest)
{
    varve_status rc = VARVE_OK;
    struct vv_module *module = NULL;
    uint64_t own = UINT64_MAX;
    const struct walk walk = {
        .mark = mark, .source = &mark->place->views.nodes, .known = &mark->leaves, .leaf = follow_page
    };

    if (locator != 0 && is_known(&mark->leaves, locator, lowest))
        return VARVE_OK;
    TRY(module_of(state, key, &module));
    TRY(walk_top(&walk, &module->memory.top, tree_shape(&module->memory), &own));
    if (locator != 0) {
        lower(&own, locator);
        TRY(know(&mark->leaves, locator, own));
    }
    lower(lowest, own);
out:
    return rc;
}

static varve_status mark_index_tree(struct vv_mark *mark, const struct vv_top *top,
                                    struct vv_node_shape shape)
{
    uint64_t lowest = UINT64_MAX;
    const struct walk walk = {
        .mark = mark, .source = &mark->place->views.nodes, .known = &mark->nodes, .saved = true, .leaf = leave
    };

    return walk_top(&walk, top, shape, &lowest);
}

/* ---- Ways ------------------------------------------------------------------------------------- */

static void mark_directory(struct vv_mark *mark, const struct vv_record *record)
{
    mark_range(mark, vv_record_directory_at(record), record->directory_size, true);
    mark_range(mark, record->address, VV_RECORD_HEADER + record->facts_size, true);
}

/* All that a checkpoint or kept record saved of a state. */
static varve_status mark_start(struct vv_mark *mark, const struct vv_record *record, uint64_t *lowest)
{
    varve_status rc = VARVE_OK;
    struct vv_record again;
    struct vv_state state = { .fresh = NULL };
    uint64_t own = record->address;
    const struct walk walk = { .mark = mark,
                               .source = &mark->place->views.nodes,
                               .known = &mark->nodes,
                               .saved = true,
                               .leaf = follow_entry,
                               .state = &state };

    if (is_known(&mark->ways, record->address, lowest))
        return VARVE_OK;
    mark_directory(mark, record);
    TRY(know(&mark->ways, record->address,
             own)); /* who checks must look at it even if it cannot be followed */
    if (record->kind == VV_RECORD_KEPT)
        TRY(vv_views_open_kept(&mark->place->views, record, &state));
    else
        TRY(vv_views_open_checkpoint(&mark->place->views, record->address, &again, &state));
    TRY(walk_top(&walk, &state.trie.top, trie_shape, &own));
    TRY(know(&mark->ways, record->address, own));
    lower(lowest, own);
out:
    if (state.fresh != NULL)
        vv_state_release(&state);
    return rc;
}

/* The way that a view takes when it knows nothing but what the records say (view.c). */
static varve_status mark_way(struct vv_mark *mark, uint64_t address, uint64_t *lowest)
{
    varve_status rc = VARVE_OK;
    struct vv_log *log = &mark->place->log;
    struct vv_record record;
    struct vv_record checkpoint;
    uint64_t known = UINT64_MAX;
    const uint64_t first = address;

    for (;;) {
        if (is_known(&mark->ways, address, &known))
            break;
        const uint64_t only = vv_views_way(&mark->place->views, address);
        if (only != 0 && !vv_views_avoided(&mark->place->views, only)) {
            TRY(vv_log_record(log, only, VV_RECORD_CHECKPOINT, &checkpoint));
            TRY(mark_start(mark, &checkpoint, &known));
            break;
        }
        TRY(vv_log_record(log, address, 0, &record));
        if (record.kind == VV_RECORD_KEPT) {
            TRY(mark_start(mark, &record, &known));
            break;
        }
        if (record.kind != VV_RECORD_COMMIT)
            TRY(vv_fail(VARVE_CORRUPT, "no commit lies at address %llu", (unsigned long long)address));
        mark_directory(mark, &record);
        lower(&known, address);
        if (record.parent == 0)
            break;
        if (record.checkpoint != 0 && !vv_views_avoided(&mark->place->views, record.checkpoint)) {
            const varve_status rc_there =
                vv_log_record(log, record.checkpoint, VV_RECORD_CHECKPOINT, &checkpoint);
            if (rc_there != VARVE_CORRUPT) /* else it is passed by, as a view does */
                TRY(rc_there);
            if (rc_there == VARVE_OK && checkpoint.parent == record.parent) {
                TRY(mark_start(mark, &checkpoint, &known));
                break;
            }
        }
        address = record.parent; /* which is lower */
    }
    TRY(know(&mark->ways, first, known));
    lower(lowest, known);
out:
    return rc;
}

/* ---- Commits ---------------------------------------------------------------------------------- */

static varve_status remember(struct vv_mark *mark, uint64_t number, uint64_t lowest)
{
    if (mark->commit_count == mark->commit_capacity) {
        const size_t capacity = mark->commit_capacity == 0 ? 64 : 2 * mark->commit_capacity;
        const varve_status rc = vv_resize(&mark->commits, capacity, sizeof *mark->commits);
        if (rc != VARVE_OK)
            return rc;
        mark->commit_capacity = capacity;
    }
    mark->commits[mark->commit_count++] = (struct vv_mark_commit){ .number = number, .lowest = lowest };
    return VARVE_OK;
}

/* The next commit that there is; false: there are no more. */
static varve_status mark_next(struct vv_mark *mark, bool *more)
{
    varve_status rc = VARVE_OK;
    struct vv_place *place = mark->place;
    struct vv_state state = { .fresh = NULL };
    struct vv_commit_facts facts = { .locator = 0 };
    uint8_t id[32];
    uint64_t number = 0;
    uint64_t address = 0;
    uint64_t lowest = UINT64_MAX;
    const uint64_t hold = vv_place_hold(place);
    const struct walk walk = { .mark = mark,
                               .source = &place->views.nodes,
                               .known = &mark->leaves,
                               .leaf = follow_module,
                               .state = &state };

    pthread_mutex_lock(&place->mutex);
    rc = vv_index_next_number(&place->index, mark->number, &number, id, &address);
    if (address == 0)
        number = place->index.last_number;
    pthread_mutex_unlock(&place->mutex);
    TRY(rc);
    *more = address != 0;
    mark->number = number;
    if (address == 0 || (mark->left_out != NULL && vv_table_get(mark->left_out, id) != NULL))
        goto out;
    TRY(vv_place_facts(place, address, &facts));
    TRY(vv_table_put(&mark->parents, facts.parent.bytes, (union vv_value){ .number = 1 }));
    union vv_value *stale = vv_table_get(&mark->stale, facts.root.bytes);
    if (stale != NULL)
        stale->number = number; /* they rise: the newest stays */
    TRY(mark_way(mark, address, &lowest));
    TRY(vv_views_get(&place->views, address, &state));
    TRY(walk_top(&walk, &state.trie.top, trie_shape, &lowest));
    TRY(remember(mark, number, lowest));
out:
    if (state.fresh != NULL)
        vv_state_release(&state);
    vv_commit_facts_release(&facts);
    vv_place_drop(place, hold);
    return rc;
}

/* ---- Roots ------------------------------------------------------------------------------------ */

void vv_mark_roots(struct vv_mark *mark)
{
    mark->roots = false;
}

/* The next root of the saved index; those of commits made meanwhile lead to them. */
static varve_status mark_root(struct vv_mark *mark)
{
    varve_status rc = VARVE_OK;
    struct vv_place *place = mark->place;
    uint8_t root[32];
    bool gone = false;
    bool more = false;

    pthread_mutex_lock(&place->mutex);
    rc = vv_index_next_root(&place->index, mark->next_root, root, &gone, &more);
    pthread_mutex_unlock(&place->mutex);
    TRY(rc);
    if (gone)
        TRY(vv_table_put(&mark->stale, root, (union vv_value){ .number = 0 }));
    mark->roots = !more;
out:
    return rc;
}

varve_status vv_mark_mend_roots(const struct vv_mark *mark)
{
    varve_status rc = VARVE_OK;
    size_t cursor = 0;
    const void *root = NULL;
    union vv_value *newest = NULL;

    pthread_mutex_lock(&mark->place->mutex);
    while (rc == VARVE_OK && vv_table_next(&mark->stale, &cursor, &root, &newest))
        rc = vv_index_mend_root(&mark->place->index, root, newest->number);
    pthread_mutex_unlock(&mark->place->mutex);
    return rc;
}

/* ---- Steps ------------------------------------------------------------------------------------ */

varve_status vv_mark_begin(struct vv_mark *mark, struct vv_place *place, const struct vv_table *left_out)
{
    varve_status rc = VARVE_OK;

    *mark = (struct vv_mark){ .place = place, .left_out = left_out, .roots = true };
    vv_table_init(&mark->ways, sizeof(uint64_t));
    vv_table_init(&mark->nodes, sizeof(uint64_t));
    vv_table_init(&mark->leaves, sizeof(uint64_t));
    vv_table_init(&mark->frames, sizeof(uint64_t));
    vv_table_init(&mark->pages, sizeof(uint64_t));
    vv_table_init(&mark->parents, 32);
    vv_table_init(&mark->stale, 32);
    vv_place_take_turn(place);
    mark->horizon = place->chain.end;
    vv_place_end_turn(place);
    TRY(list_segments(mark));
    vv_log_begin(&place->log, &mark->chain);
    mark->headers = mark->chain.end >= mark->horizon;
out:
    if (rc != VARVE_OK)
        vv_mark_release(mark);
    return rc;
}

void vv_mark_release(struct vv_mark *mark)
{
    for (size_t i = 0; i < mark->segment_count; i++)
        vv_free(mark->segments[i].blocks);
    vv_free(mark->segments);
    vv_free(mark->commits);
    vv_table_release(&mark->ways);
    vv_table_release(&mark->nodes);
    vv_table_release(&mark->leaves);
    vv_table_release(&mark->frames);
    vv_table_release(&mark->pages);
    vv_table_release(&mark->parents);
    vv_table_release(&mark->stale);
    vv_declared_release(&mark->declared);
    *mark = (struct vv_mark){ .place = NULL };
}

/* The record behind a place where records are missing, and a repair has said so. */
static varve_status find_behind(struct vv_mark *mark, struct vv_record *record)
{
    varve_status rc = VARVE_OK;
    const uint64_t end = mark->chain.end;
    uint64_t next = 0;

    if (!mark->looked)
        TRY(vv_repairs_declared(&mark->place->log, &mark->declared));
    mark->looked = true;
    for (size_t i = 0; i < mark->declared.dead_count; i++) {
        const struct vv_dead *dead = &mark->declared.dead[i];
        if (dead->address <= end && end - dead->address < dead->size && dead->address + dead->size > next)
            next = dead->address + dead->size;
    }
    if (next == 0)
        TRY(vv_fail(VARVE_CORRUPT,
                    "records of the log are missing behind address %llu; run fsck to see what is lost",
                    (unsigned long long)end));
    TRY(vv_log_record(&mark->place->log, next, 0, record));
out:
    return rc;
}

/* The record that continues the chain: behind it, or at the start of a later segment. */
static varve_status find_next(struct vv_mark *mark, struct vv_record *record)
{
    uint64_t at = mark->chain.end;

    for (;;) {
        const varve_status rc = vv_log_record(&mark->place->log, at, 0, record);
        if (rc == VARVE_OK && vv_chain_joins(&mark->chain, record))
            return VARVE_OK;
        if (rc != VARVE_OK && rc != VARVE_CORRUPT)
            return rc;
        if (!vv_log_segment_after(&mark->place->log, at, &at) || at >= mark->horizon)
            return find_behind(mark, record);
    }
}

/* One record's header and facts stay, whatever becomes of the rest. */
static varve_status mark_header(struct vv_mark *mark)
{
    struct vv_record record;
    const varve_status rc = find_next(mark, &record);

    if (rc != VARVE_OK)
        return rc;
    mark_range(mark, record.address, VV_RECORD_HEADER + record.facts_size, false);
    vv_chain_advance(&mark->chain, &record);
    mark->headers = mark->chain.end >= mark->horizon;
    return VARVE_OK;
}

/* Trees in memory may have been saved by checkpoints that no way leads to: those that are known. */
static varve_status mark_made(struct vv_mark *mark)
{
    varve_status rc = VARVE_OK;
    struct vv_views *views = &mark->place->views;
    struct vv_record record;
    uint64_t *made = NULL;
    size_t count = 0;
    size_t cursor = 0;
    const void *key = NULL;
    union vv_value *value = NULL;

    pthread_mutex_lock(&views->mutex);
    rc = vv_alloc(&made, views->made.count + 1, sizeof *made);
    while (rc == VARVE_OK && vv_table_next(&views->made, &cursor, &key, &value)) {
        if (value->number != 0)
            made[count++] = value->number;
    }
    pthread_mutex_unlock(&views->mutex);
    TRY(rc);
    for (size_t i = 0; i < count; i++) {
        uint64_t unused = UINT64_MAX;
        if (vv_views_avoided(views, made[i]))
            continue; /* no tree is opened from it */
        TRY(vv_log_record(&mark->place->log, made[i], VV_RECORD_CHECKPOINT, &record));
        TRY(mark_start(mark, &record, &unused));
    }
out:
    vv_free(made);
    return rc;
}

static varve_status mark_newest(struct vv_mark *mark)
{
    varve_status rc = VARVE_OK;
    struct vv_place *place = mark->place;
    struct vv_record record;
    struct vv_index index;
    struct vv_checkpoint checkpoint;
    uint8_t *facts = NULL;
    uint64_t unused = UINT64_MAX;

    vv_index_init(&index, &place->views.nodes);
    vv_place_take_turn(place);
    const uint64_t newest = place->newest;
    vv_place_end_turn(place);
    if (newest == 0)
        goto out;
    TRY(vv_log_record_facts(&place->log, newest, VV_RECORD_CHECKPOINT, &record, &facts));
    TRY(vv_checkpoint_decode(&record, facts, &checkpoint));
    TRY(mark_start(mark, &record, &unused));
    TRY(mark_made(mark));
    TRY(vv_index_open(&index, &record, &checkpoint));
    TRY(mark_index_tree(mark, &index.ids.top, trie_shape));
    TRY(mark_index_tree(mark, &index.roots.top, trie_shape));
    TRY(mark_index_tree(mark, &index.numbers.top, tree_shape(&index.numbers)));
out:
    vv_index_release(&index);
    vv_free(facts);
    return rc;
}

varve_status vv_mark_step(struct vv_mark *mark, uint64_t budget, bool *done)
{
    varve_status rc = VARVE_OK;
    bool more = true;

    *done = false;
    for (; budget > 0 && !mark->headers; budget--)
        TRY(mark_header(mark));
    for (; budget > 0 && !mark->roots; budget--)
        TRY(mark_root(mark));
    for (; budget > 0 && more; budget--)
        TRY(mark_next(mark, &more));
    if (more)
        goto out;
    TRY(mark_newest(mark));
    *done = true;
out:
    return rc;
}

varve_status vv_mark_finish(struct vv_mark *mark)
{
    varve_status rc = VARVE_OK;
    bool more = true;

    VV_ASSERT(mark->headers);
    while (more)
        TRY(mark_next(mark, &more));
out:
    return rc;
}

/* ---- Asking ----------------------------------------------------------------------------------- */

bool vv_mark_needs(const struct vv_mark *mark, uint64_t address)
{
    const struct vv_mark_segment *segment = segment_of(mark, address);

    return segment == NULL || vv_mark_is_needed(segment, address);
}

bool vv_mark_knows(const struct vv_mark *mark, uint64_t record)
{
    return vv_table_get(&mark->ways, &record) != NULL;
}

varve_status vv_mark_each_frame(const struct vv_mark *mark,
                                varve_status (*each)(void *context, uint64_t address), void *context)
{
    varve_status rc = VARVE_OK;
    size_t cursor = 0;
    const void *key = NULL;
    union vv_value *value = NULL;

    while (rc == VARVE_OK && vv_table_next(&mark->frames, &cursor, &key, &value)) {
        uint64_t address = 0;
        memcpy(&address, key, sizeof address);
        rc = each(context, address);
    }
    return rc;
}

varve_status vv_mark_check_frame(struct vv_mark *mark, uint64_t address)
{
    struct vv_frame slots;
    const varve_status rc = read_slots(mark, address, &slots);

    return rc != VARVE_CORRUPT
               ? rc
               : vv_fail_within(rc, "page frame at address %llu", (unsigned long long)address);
}
