/* pagetree.c - see pagetree.h; the nodes and their laws are in node.h.
 *
 * Level 0 nodes hold leaves; a tree of h radix levels has its top at level h - 1. The index of a page, cut into
 * nibbles, is its path. Every walk is a loop over a stack of LEVELS_MAX places. */
#include "page/pagetree.h"

#include <stdatomic.h>
#include <string.h>

enum { LEVELS_MAX = VV_PAGETREE_LEVELS, BITS = 4 };

unsigned vv_pagetree_levels(uint64_t page_count)
{
    unsigned levels = 1;

    VV_ASSERT(page_count <= VV_PAGETREE_PAGES_MAX);
    while (page_count > UINT64_C(1) << BITS * levels)
        levels++;
    return levels;
}

static unsigned slot_of(uint64_t index, unsigned level)
{
    return (unsigned)(index >> BITS * level) & (VV_NODE_SLOTS - 1);
}

static struct vv_node_shape shape_of(unsigned level)
{
    return (struct vv_node_shape){ .keyed = false, .level = level };
}

static bool has(uint16_t mask, unsigned slot)
{
    return (mask >> slot & 1) != 0;
}

static struct vv_leaf leaf_of(const struct vv_node *node, unsigned slot)
{
    struct vv_leaf leaf = { .locator = node->number[slot] };
    memcpy(leaf.hash, node->hash[VV_NODE_SLOTS + slot], VV_HASH_SIZE);
    return leaf;
}

/* ---- Life ------------------------------------------------------------------------------------- */

void vv_pagetree_init(struct vv_pagetree *tree, uint64_t page_count, const struct vv_node_source *source)
{
    VV_ASSERT(page_count <= VV_PAGETREE_PAGES_MAX);
    memset(tree, 0, sizeof *tree);
    tree->page_count = page_count;
    tree->source = source;
}

varve_status vv_pagetree_open(struct vv_pagetree *tree, uint64_t page_count, uint64_t address,
                              const uint8_t top[VV_HASH_SIZE], const struct vv_node_source *source)
{
    const bool some = address != 0;

    if (page_count > VV_PAGETREE_PAGES_MAX || some == vv_hash_is_zero(top) || (some && page_count == 0)) {
        vv_pagetree_init(tree, 0, source);
        return vv_fail(VARVE_CORRUPT,
                       "page tree: %llu pages, its top's address and its hash do not belong together",
                       (unsigned long long)page_count);
    }
    vv_pagetree_init(tree, page_count, source);
    tree->top.address = address;
    memcpy(tree->top.hash, top, VV_HASH_SIZE);
    return VARVE_OK;
}

void vv_pagetree_copy(struct vv_pagetree *copy, const struct vv_pagetree *tree)
{
    vv_pagetree_init(copy, tree->page_count, tree->source);
    vv_top_copy(&copy->top, &tree->top);
}

void vv_pagetree_release(struct vv_pagetree *tree)
{
    vv_top_set(&tree->top, NULL);
    tree->page_count = 0;
}

/* ---- One leaf --------------------------------------------------------------------------------- */

static varve_status check_index(const struct vv_pagetree *tree, uint64_t index)
{
    if (index < tree->page_count)
        return VARVE_OK;
    return vv_fail(VARVE_MISUSE, "page %llu is beyond the end of a memory of %llu pages",
                   (unsigned long long)index, (unsigned long long)tree->page_count);
}

varve_status vv_pagetree_get(const struct vv_pagetree *tree, uint64_t index, struct vv_leaf *leaf,
                             bool *present)
{
    varve_status rc = VARVE_OK;
    struct vv_node *node = NULL;
    unsigned level = vv_pagetree_levels(tree->page_count) - 1;

    *present = false;
    TRY(check_index(tree, index));
    TRY(vv_top_node(&tree->top, tree->source, shape_of(level), &node));
    for (; node != NULL && level > 0; level--)
        TRY(vv_node_child(node, slot_of(index, level), tree->source, shape_of(level - 1), &node));
    if (node != NULL && has(node->leaves, slot_of(index, 0))) {
        *leaf = leaf_of(node, slot_of(index, 0));
        *present = true;
    }
out:
    return rc;
}

/* How much of the way leads to `index` too: the lowest level whose node does; above the top when none is there. */
static unsigned shared_level(const struct vv_pagetree_way *way, uint64_t index)
{
    unsigned level = way->bottom;

    while (level <= way->top && way->index >> BITS * (level + 1) != index >> BITS * (level + 1))
        level++;
    return level;
}

/* Own what is there of the way to `index`. Changes nothing that the tree says, also when it fails. */
static varve_status own_way(struct vv_pagetree_way *way, uint64_t index)
{
    varve_status rc = VARVE_OK;
    struct vv_pagetree *tree = way->tree;
    struct vv_node *node = NULL;

    if (way->bottom > way->top) {
        way->top = vv_pagetree_levels(tree->page_count) - 1;
        way->bottom = way->top + 1;
    }
    way->bottom = shared_level(way, index);
    way->index = index;
    if (way->bottom > way->top)
        TRY(vv_top_own(&tree->top, tree->source, shape_of(way->top), &node));
    for (;;) {
        if (node != NULL)
            way->node[--way->bottom] = node;
        if (way->bottom == 0 || way->bottom > way->top)
            break;
        TRY(vv_node_own_child(way->node[way->bottom], slot_of(index, way->bottom), tree->source,
                              shape_of(way->bottom - 1), &node));
        if (node == NULL)
            break;
    }
out:
    return rc;
}

/* Add the nodes that the way lacks: all, or none. */
static varve_status complete_way(struct vv_pagetree_way *way)
{
    varve_status rc = VARVE_OK;
    unsigned made = 0; /* levels 0 .. made - 1 are new and not linked yet */

    for (; made < way->bottom; made++)
        TRY(vv_node_new(false, &way->node[made]));
    for (; way->bottom > 0; way->bottom--) {
        struct vv_node *node = way->node[way->bottom - 1];
        if (way->bottom > way->top)
            vv_top_set(&way->tree->top, node);
        else
            vv_node_put_child(way->node[way->bottom], slot_of(way->index, way->bottom), node);
    }
    made = 0;
out:
    while (made > 0)
        vv_node_drop(way->node[--made]);
    return rc;
}

static void touch_way(const struct vv_pagetree_way *way)
{
    for (unsigned level = way->bottom; level <= way->top; level++)
        vv_node_touch(way->node[level], slot_of(way->index, level));
}

/* Take nodes that became empty off the way, from below. */
static void prune_way(struct vv_pagetree_way *way)
{
    for (; way->bottom <= way->top && vv_node_used(way->node[way->bottom]) == 0; way->bottom++) {
        if (way->bottom == way->top)
            vv_top_set(&way->tree->top, NULL);
        else
            vv_node_clear(way->node[way->bottom + 1], slot_of(way->index, way->bottom + 1));
    }
}

static varve_status remove_leaf(struct vv_pagetree_way *way, uint64_t index)
{
    varve_status rc = VARVE_OK;

    TRY(own_way(way, index));
    VV_ASSERT(way->bottom == 0);
    touch_way(way);
    vv_node_clear(way->node[0], slot_of(index, 0));
    prune_way(way);
out:
    return rc;
}

static varve_status put_leaf(struct vv_pagetree_way *way, uint64_t index, const struct vv_leaf *leaf)
{
    varve_status rc = VARVE_OK;

    TRY(own_way(way, index));
    TRY(complete_way(way));
    touch_way(way);
    vv_node_put_leaf(way->node[0], slot_of(index, 0), NULL, leaf->hash, leaf->locator);
out:
    return rc;
}

/* The leaf of a page as it is, without owning anything. */
static varve_status look_on(const struct vv_pagetree_way *way, uint64_t index, struct vv_leaf *leaf,
                            bool *present)
{
    const varve_status rc = check_index(way->tree, index);

    if (rc != VARVE_OK || shared_level(way, index) != 0)
        return rc != VARVE_OK ? rc : vv_pagetree_get(way->tree, index, leaf, present);
    *present = has(way->node[0]->leaves, slot_of(index, 0));
    if (*present)
        *leaf = leaf_of(way->node[0], slot_of(index, 0));
    return VARVE_OK;
}

varve_status vv_pagetree_replace(struct vv_pagetree_way *way, uint64_t index, const struct vv_leaf *leaf,
                                 struct vv_leaf *old)
{
    varve_status rc = VARVE_OK;
    struct vv_leaf there = { .locator = 0 };
    bool present = false;

    VV_ASSERT(leaf == NULL || !vv_hash_is_zero(leaf->hash));
    TRY(look_on(way, index, &there, &present));
    if (leaf == NULL && present)
        TRY(remove_leaf(way, index));
    else if (leaf != NULL && /* nothing is copied for nothing */
             !(present && vv_hash_equal(there.hash, leaf->hash) && there.locator == leaf->locator))
        TRY(put_leaf(way, index, leaf));
    *old = there;
out:
    return rc;
}

varve_status vv_pagetree_set(struct vv_pagetree *tree, uint64_t index, const struct vv_leaf *leaf)
{
    struct vv_pagetree_way way = vv_pagetree_way(tree);
    struct vv_leaf old;

    return vv_pagetree_replace(&way, index, leaf, &old);
}

varve_status vv_pagetree_relocate(struct vv_pagetree_way *way, uint64_t index, uint64_t locator)
{
    varve_status rc = VARVE_OK;

    TRY(check_index(way->tree, index));
    TRY(own_way(way, index));
    VV_ASSERT(way->bottom == 0 && has(way->node[0]->leaves, slot_of(index, 0)));
    way->node[0]->number[slot_of(index, 0)] = locator;
    for (unsigned level = 0; level <= way->top; level++)
        vv_node_forget(way->node[level]);
out:
    return rc;
}

varve_status vv_pagetree_locate(struct vv_pagetree *tree, uint64_t index, uint64_t locator)
{
    struct vv_pagetree_way way = vv_pagetree_way(tree);

    return vv_pagetree_relocate(&way, index, locator);
}

/* ---- Length ----------------------------------------------------------------------------------- */

/* Put nodes above the top until the tree has the levels of `page_count`. */
static varve_status raise_top(struct vv_pagetree *tree, uint64_t page_count)
{
    varve_status rc = VARVE_OK;
    unsigned levels = vv_pagetree_levels(tree->page_count);

    for (; levels < vv_pagetree_levels(page_count) && !vv_top_is_empty(&tree->top); levels++) {
        struct vv_node *above = NULL, *node = atomic_load(&tree->top.node);
        TRY(vv_node_new(false, &above));
        if (node != NULL) {
            vv_node_hold(node);
            vv_node_put_child(above, 0, node);
        } else {
            vv_node_put_saved(above, 0, tree->top.hash, tree->top.address);
        }
        vv_top_set(&tree->top, above);
    }
    tree->page_count = page_count;
out:
    return rc;
}

/* Take out all that lies at or beyond `page_count` > 0. */
static varve_status cut_beyond(struct vv_pagetree *tree, uint64_t page_count)
{
    varve_status rc = VARVE_OK;
    const uint64_t last = page_count - 1;
    struct vv_pagetree_way way = vv_pagetree_way(tree);

    TRY(own_way(&way, last));
    if (way.bottom > way.top)
        goto out;
    touch_way(&way);
    for (unsigned level = way.bottom; level <= way.top; level++)
        for (unsigned slot = slot_of(last, level) + 1; slot < VV_NODE_SLOTS; slot++)
            if (has(vv_node_used(way.node[level]), slot))
                vv_node_clear(way.node[level], slot);
    prune_way(&way);
out:
    return rc;
}

/* Take tops away whose only slot in use is the first, until the tree has the levels of `page_count`. */
static varve_status lower_top(struct vv_pagetree *tree, uint64_t page_count)
{
    varve_status rc = VARVE_OK;
    unsigned levels = vv_pagetree_levels(tree->page_count);

    for (; levels > vv_pagetree_levels(page_count) && !vv_top_is_empty(&tree->top); levels--) {
        struct vv_node *top = NULL, *below = NULL;
        TRY(vv_top_node(&tree->top, tree->source, shape_of(levels - 1), &top));
        VV_ASSERT(vv_node_used(top) == 1);
        TRY(vv_node_child(top, 0, tree->source, shape_of(levels - 2), &below));
        vv_node_hold(below);
        vv_top_set(&tree->top, below);
    }
    tree->page_count = page_count;
out:
    return rc;
}

varve_status vv_pagetree_resize(struct vv_pagetree *tree, uint64_t page_count)
{
    varve_status rc = VARVE_OK;
    struct vv_pagetree changed;

    if (page_count > VV_PAGETREE_PAGES_MAX)
        return vv_fail(VARVE_MISUSE, "a memory of %llu pages is too long", (unsigned long long)page_count);
    if (page_count == tree->page_count)
        return VARVE_OK;
    vv_pagetree_copy(&changed, tree); /* so that a failure half-way changes nothing */
    if (page_count > tree->page_count) {
        TRY(raise_top(&changed, page_count));
    } else if (page_count == 0) {
        vv_pagetree_release(&changed);
    } else {
        TRY(cut_beyond(&changed, page_count));
        TRY(lower_top(&changed, page_count));
    }
    const struct vv_pagetree old = *tree;
    *tree = changed;
    changed = old;
out:
    vv_pagetree_release(&changed);
    return rc;
}

/* ---- Hashes ----------------------------------------------------------------------------------- */

varve_status vv_pagetree_top(struct vv_pagetree *tree, uint8_t top[VV_HASH_SIZE])
{
    vv_top_hash(&tree->top, top);
    return VARVE_OK;
}

void vv_memory_root(uint64_t page_count, const uint8_t top[VV_HASH_SIZE], uint8_t root[VV_HASH_SIZE])
{
    struct vv_hasher hasher;

    VV_ASSERT(page_count <= VV_PAGETREE_PAGES_MAX);
    vv_hasher_init(&hasher, VV_HASH_MEMORY);
    vv_hasher_u64(&hasher, page_count * VV_PAGE_SIZE);
    vv_hasher_put(&hasher, top, VV_HASH_SIZE);
    vv_hasher_end(&hasher, root);
}

varve_status vv_pagetree_root(struct vv_pagetree *tree, uint8_t root[VV_HASH_SIZE])
{
    uint8_t top[VV_HASH_SIZE];

    vv_top_hash(&tree->top, top);
    vv_memory_root(tree->page_count, top, root);
    return VARVE_OK;
}

/* ---- Differences ------------------------------------------------------------------------------ */

/* One side of a difference, level by level. A tree with fewer levels than the other stands under virtual nodes
 * that have it in their slot 0: while the walk is above `top_level`, `here` stays the top. */
struct side {
    const struct vv_pagetree *tree; /* NULL: all zero */
    unsigned top_level;
    uint8_t top_hash[VV_HASH_SIZE];
    struct vv_node *node[LEVELS_MAX]; /* by level; NULL: nothing there, or virtual */
    bool is_virtual[LEVELS_MAX];
};

static void side_init(struct side *side, const struct vv_pagetree *tree)
{
    memset(side, 0, sizeof *side);
    side->tree = tree;
    if (tree == NULL)
        return;
    side->top_level = vv_pagetree_levels(tree->page_count) - 1;
    vv_top_hash(&tree->top, side->top_hash);
}

/* Put the node at `level` in place: the top's, or a virtual one above it. */
static varve_status side_start(struct side *side, unsigned level)
{
    side->is_virtual[level] =
        level > side->top_level && side->tree != NULL && !vv_top_is_empty(&side->tree->top);
    side->node[level] = NULL;
    if (side->is_virtual[level] || side->tree == NULL || level > side->top_level)
        return VARVE_OK;
    return vv_top_node(&side->tree->top, side->tree->source, shape_of(level), &side->node[level]);
}

static uint16_t side_used(const struct side *side, unsigned level)
{
    if (side->is_virtual[level])
        return 1;
    return side->node[level] == NULL ? 0 : vv_node_used(side->node[level]);
}

static varve_status side_descend(struct side *side, unsigned level, unsigned slot)
{
    side->is_virtual[level - 1] = false;
    side->node[level - 1] = NULL;
    if (side->is_virtual[level])
        return slot == 0 ? side_start(side, level - 1) : VARVE_OK;
    if (side->node[level] == NULL)
        return VARVE_OK;
    return vv_node_child(side->node[level], slot, side->tree->source, shape_of(level - 1),
                         &side->node[level - 1]);
}

/* The hash of what is in a slot; false when it is not known without going on (a virtual node's). */
static bool side_hash(const struct side *side, unsigned level, unsigned slot, const uint8_t **hash)
{
    *hash = vv_hash_zero;
    if (side->is_virtual[level] && slot == 0) {
        *hash = side->top_hash;
        return level - 1 == side->top_level;
    }
    if (side->node[level] != NULL)
        *hash = side->node[level]->hash[VV_NODE_SLOTS + slot];
    return true;
}

/* The page's leaf on this side, or NULL. Law (N3) holds nodes to their place, not to the memory's length. */
static varve_status side_leaf(const struct side *side, uint64_t index, struct vv_leaf *room,
                              const struct vv_leaf **leaf)
{
    const struct vv_node *node = side->node[0];

    *leaf = NULL;
    if (node == NULL || !has(node->leaves, slot_of(index, 0)))
        return VARVE_OK;
    if (index >= side->tree->page_count)
        return vv_fail(VARVE_CORRUPT, "page tree: it has page %llu of a memory of %llu",
                       (unsigned long long)index, (unsigned long long)side->tree->page_count);
    *room = leaf_of(node, slot_of(index, 0));
    *leaf = room;
    return VARVE_OK;
}

/* Tell of the pages in one pair of bottom nodes that differ. */
static varve_status diff_leaves(const struct side *from, const struct side *to, uint64_t index, unsigned slot,
                                vv_leaf_diff_fn each, void *context)
{
    varve_status rc = VARVE_OK;

    for (uint32_t left = (uint32_t)(side_used(from, 0) | side_used(to, 0)) >> slot << slot; left != 0;
         left &= left - 1) {
        struct vv_leaf rooms[2];
        const struct vv_leaf *a = NULL, *b = NULL;
        const uint64_t at = index + (unsigned)__builtin_ctz(left);
        TRY(side_leaf(from, at, &rooms[0], &a));
        TRY(side_leaf(to, at, &rooms[1], &b));
        if (a == NULL || b == NULL || !vv_hash_equal(a->hash, b->hash))
            TRY(each(context, at, a, b));
    }
out:
    return rc;
}

/* The walk under both each and diff: pages >= first that differ. */
static varve_status walk(const struct vv_pagetree *from, const struct vv_pagetree *to, uint64_t first,
                         vv_leaf_diff_fn each, void *context)
{
    varve_status rc = VARVE_OK;
    struct side a, b;
    uint32_t left[LEVELS_MAX]; /* slots still to be visited, by level */

    side_init(&a, from);
    side_init(&b, to);
    const unsigned top = a.top_level > b.top_level ? a.top_level : b.top_level;
    unsigned level = top;
    uint64_t index = 0; /* of the first page below the node at `level` */
    TRY(side_start(&a, top));
    TRY(side_start(&b, top));
    left[top] = (uint32_t)(side_used(&a, top) | side_used(&b, top));
    for (;;) {
        const uint64_t span = UINT64_C(1) << BITS * level; /* pages per slot */
        if (level == 0) {
            TRY(diff_leaves(&a, &b, index, first > index ? (unsigned)(first - index) : 0, each, context));
            left[0] = 0;
        }
        if (left[level] == 0) {
            if (level == top)
                break;
            level++;
            index &= ~((UINT64_C(1) << BITS * (level + 1)) - 1);
            continue;
        }
        const unsigned slot = (unsigned)__builtin_ctz(left[level]);
        const uint64_t below = index + slot * span;
        const uint8_t *hash_a = NULL, *hash_b = NULL;
        left[level] &= left[level] - 1;
        if (below + span <= first)
            continue;
        if (side_hash(&a, level, slot, &hash_a) && side_hash(&b, level, slot, &hash_b) &&
            vv_hash_equal(hash_a, hash_b))
            continue;
        TRY(side_descend(&a, level, slot));
        TRY(side_descend(&b, level, slot));
        level--;
        index = below;
        left[level] = (uint32_t)(side_used(&a, level) | side_used(&b, level));
    }
out:
    return rc;
}

varve_status vv_pagetree_diff(const struct vv_pagetree *from, const struct vv_pagetree *to,
                              vv_leaf_diff_fn each, void *context)
{
    uint8_t top_from[VV_HASH_SIZE] = { 0 }, top_to[VV_HASH_SIZE];

    vv_top_hash(&to->top, top_to); /* both are fully hashed from here on */
    if (from != NULL)
        vv_top_hash(&from->top, top_from);
    if (vv_hash_equal(top_from, top_to) &&
        (from == NULL || vv_pagetree_levels(from->page_count) == vv_pagetree_levels(to->page_count)))
        return VARVE_OK;
    return walk(from, to, 0, each, context);
}

struct each_context {
    vv_leaf_fn each;
    void *context;
};

static varve_status each_present(void *context, uint64_t index, const struct vv_leaf *from,
                                 const struct vv_leaf *to)
{
    const struct each_context *inner = context;

    (void)from;
    return inner->each(inner->context, index, to);
}

varve_status vv_pagetree_each(const struct vv_pagetree *tree, uint64_t first, vv_leaf_fn each, void *context)
{
    struct each_context inner = { each, context };
    uint8_t top[VV_HASH_SIZE];

    vv_top_hash(&tree->top, top);
    if (first >= tree->page_count)
        return VARVE_OK;
    return walk(NULL, tree, first, each_present, &inner);
}

static varve_status count_one(void *context, uint64_t index, const struct vv_leaf *leaf)
{
    (void)index;
    (void)leaf;
    ++*(uint64_t *)context;
    return VARVE_OK;
}

varve_status vv_pagetree_count(const struct vv_pagetree *tree, uint64_t *count)
{
    *count = 0;
    return vv_pagetree_each(tree, 0, count_one, count);
}

/* ---- Saving and proving ----------------------------------------------------------------------- */

varve_status vv_pagetree_save(struct vv_pagetree *tree, vv_node_write_fn put, void *context,
                              uint64_t *address)
{
    return vv_top_save(&tree->top, put, context, address);
}

void vv_pagetree_unsave(struct vv_pagetree *tree, uint64_t from)
{
    vv_top_unsave(&tree->top, from);
}

varve_status vv_pagetree_forget_below(struct vv_pagetree *tree, uint64_t start)
{
    return vv_top_forget_below(&tree->top, tree->source, shape_of(vv_pagetree_levels(tree->page_count) - 1),
                               start);
}

void vv_pagetree_let_go(struct vv_pagetree *tree, unsigned depth)
{
    vv_top_let_go(&tree->top, depth);
}

uint64_t vv_pagetree_address(const struct vv_pagetree *tree)
{
    return vv_top_address(&tree->top);
}

varve_status vv_pagetree_prove(struct vv_pagetree *tree, uint64_t index, struct vv_bytes *proof)
{
    varve_status rc = VARVE_OK;
    uint8_t siblings[LEVELS_MAX * BITS][VV_HASH_SIZE], top[VV_HASH_SIZE];
    const unsigned levels = vv_pagetree_levels(tree->page_count);
    struct vv_node *node = NULL;

    TRY(check_index(tree, index));
    vv_top_hash(&tree->top, top);
    memset(siblings, 0, sizeof siblings);
    TRY(vv_top_node(&tree->top, tree->source, shape_of(levels - 1), &node));
    for (unsigned level = levels; level-- > 0 && node != NULL;) {
        unsigned position = VV_NODE_SLOTS + slot_of(index, level);
        for (unsigned bit = 0; bit < BITS; bit++, position /= 2)
            memcpy(siblings[level * BITS + bit], node->hash[position ^ 1], VV_HASH_SIZE);
        if (level > 0)
            TRY(vv_node_child(node, slot_of(index, level), tree->source, shape_of(level - 1), &node));
    }
    vv_siblings_put(proof, (const uint8_t(*)[VV_HASH_SIZE])siblings, levels * BITS);
    TRY(vv_bytes_done(proof));
out:
    return rc;
}
