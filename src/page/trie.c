/* trie.c - see trie.h; the nodes and their laws are in node.h.
 *
 * A key is a path of 64 nibbles. A leaf stands as high as it is alone: below a node other than the top there are
 * two keys or more, so that neither order nor history shows. Every walk is a loop over a stack of 64 places; a
 * loaded leaf whose key does not fit the way that leads to it is CORRUPT. */
#include "page/trie.h"

#include <stdatomic.h>
#include <string.h>

static struct vv_node_shape shape_of(unsigned depth)
{
    return (struct vv_node_shape){ .keyed = true, .level = depth };
}

static bool has(uint16_t mask, unsigned slot)
{
    return (mask >> slot & 1) != 0;
}

static struct vv_item item_of(const struct vv_node *node, unsigned slot)
{
    struct vv_item item = { .locator = node->number[slot] };

    memcpy(item.key, node->keys[slot], sizeof item.key);
    memcpy(item.hash, node->hash[VV_NODE_SLOTS + slot], VV_HASH_SIZE);
    return item;
}

static void put_item(struct vv_node *node, unsigned depth, const struct vv_item *item)
{
    vv_node_put_leaf(node, vv_key_nibble(item->key, depth), item->key, item->hash, item->locator);
}

static bool same_key(const uint8_t a[32], const uint8_t b[32])
{
    return memcmp(a, b, 32) == 0;
}

/* ---- Life ------------------------------------------------------------------------------------- */

void vv_trie_init(struct vv_trie *trie, const struct vv_node_source *source)
{
    memset(trie, 0, sizeof *trie);
    trie->source = source;
}

varve_status vv_trie_open(struct vv_trie *trie, uint64_t address, const uint8_t top[VV_HASH_SIZE],
                          const struct vv_node_source *source)
{
    vv_trie_init(trie, source);
    if ((address == 0) != vv_hash_is_zero(top))
        return vv_fail(VARVE_CORRUPT, "trie: its top's address and its hash do not belong together");
    trie->top.address = address;
    memcpy(trie->top.hash, top, VV_HASH_SIZE);
    return VARVE_OK;
}

void vv_trie_copy(struct vv_trie *copy, const struct vv_trie *trie)
{
    vv_trie_init(copy, trie->source);
    vv_top_copy(&copy->top, &trie->top);
}

void vv_trie_release(struct vv_trie *trie)
{
    vv_top_set(&trie->top, NULL);
}

/* ---- One item --------------------------------------------------------------------------------- */

varve_status vv_trie_get(const struct vv_trie *trie, const uint8_t key[32], struct vv_item *item,
                         bool *present)
{
    varve_status rc = VARVE_OK;
    struct vv_node *node = NULL;

    *present = false;
    TRY(vv_top_node(&trie->top, trie->source, shape_of(0), &node));
    for (unsigned depth = 0; node != NULL; depth++) {
        const unsigned slot = vv_key_nibble(key, depth);
        if (has(node->leaves, slot) && same_key(node->keys[slot], key)) {
            *item = item_of(node, slot);
            *present = true;
            break;
        }
        TRY(vv_node_child(node, slot, trie->source, shape_of(depth + 1), &node));
    }
out:
    return rc;
}

/* The nodes on the way of a key, from the top; all are the trie's own. */
struct path {
    unsigned count;
    struct vv_node *node[VV_NODE_DEPTH_MAX];
};

/* Own what is there of the path of `key`. Changes nothing that the trie says, also when it fails. */
static varve_status own_path(struct vv_trie *trie, const uint8_t key[32], struct path *path)
{
    varve_status rc = VARVE_OK;
    struct vv_node *node = NULL;

    path->count = 0;
    TRY(vv_top_own(&trie->top, trie->source, shape_of(0), &node));
    while (node != NULL) {
        const unsigned depth = path->count++;
        path->node[depth] = node;
        TRY(vv_node_own_child(node, vv_key_nibble(key, depth), trie->source, shape_of(depth + 1), &node));
    }
out:
    return rc;
}

static void touch_path(const struct path *path, const uint8_t key[32])
{
    for (unsigned depth = 0; depth < path->count; depth++)
        vv_node_touch(path->node[depth], vv_key_nibble(key, depth));
}

/* Make the nodes that two keys share from `depth` on, down to the one where they part; link each to the one
 * above. The first is returned, the last holds both: all, or none. */
static varve_status make_fork(unsigned depth, const struct vv_item *a, const struct vv_item *b,
                              struct vv_node **first)
{
    varve_status rc = VARVE_OK;
    struct vv_node *above = NULL;

    *first = NULL;
    for (;; depth++) {
        struct vv_node *node = NULL;
        VV_ASSERT(depth < VV_NODE_DEPTH_MAX); /* the keys differ somewhere */
        TRY(vv_node_new(true, &node));
        if (above == NULL)
            *first = node;
        else
            vv_node_put_child(above, vv_key_nibble(a->key, depth - 1), node);
        above = node;
        if (vv_key_nibble(a->key, depth) != vv_key_nibble(b->key, depth))
            break;
    }
    put_item(above, depth, a);
    put_item(above, depth, b);
out:
    if (rc != VARVE_OK) {
        vv_node_drop(*first);
        *first = NULL;
    }
    return rc;
}

/* Add an item whose key is not there. */
static varve_status add_item(struct vv_trie *trie, const struct vv_item *item)
{
    varve_status rc = VARVE_OK;
    struct path path;
    struct vv_node *fork = NULL;

    TRY(own_path(trie, item->key, &path));
    if (path.count == 0) {
        TRY(vv_node_new(true, &fork));
        put_item(fork, 0, item);
        vv_top_set(&trie->top, fork);
        goto out;
    }
    const unsigned last = path.count - 1, slot = vv_key_nibble(item->key, last);
    struct vv_node *node = path.node[last];
    if (has(node->leaves, slot)) {
        const struct vv_item there = item_of(node, slot);
        TRY(make_fork(last + 1, &there, item, &fork));
        vv_node_put_child(node, slot, fork);
    } else {
        put_item(node, last, item);
    }
    touch_path(&path, item->key);
out:
    return rc;
}

varve_status vv_trie_set(struct vv_trie *trie, const struct vv_item *item)
{
    varve_status rc = VARVE_OK;
    struct path path;
    struct vv_item old;
    bool present = false;

    VV_ASSERT(!vv_hash_is_zero(item->hash));
    TRY(vv_trie_get(trie, item->key, &old, &present));
    if (!present) {
        TRY(add_item(trie, item));
        goto out;
    }
    if (vv_hash_equal(old.hash, item->hash) && old.locator == item->locator)
        goto out; /* nothing is copied for nothing */
    TRY(own_path(trie, item->key, &path));
    struct vv_node *node = path.node[path.count - 1];
    const unsigned slot = vv_key_nibble(item->key, path.count - 1);
    VV_ASSERT(has(node->leaves, slot));
    if (vv_hash_equal(old.hash, item->hash)) { /* only where it lies: no hash changes */
        node->number[slot] = item->locator;
        for (unsigned depth = 0; depth < path.count; depth++)
            vv_node_forget(path.node[depth]);
        goto out;
    }
    put_item(node, path.count - 1, item);
    touch_path(&path, item->key);
out:
    return rc;
}

/* Is this one leaf all that the node holds? */
static bool holds_one_leaf(const struct vv_node *node, unsigned *slot)
{
    return vv_node_keys_below(node, 1, slot) == VV_KEYS_ONE;
}

varve_status vv_trie_remove(struct vv_trie *trie, const uint8_t key[32])
{
    varve_status rc = VARVE_OK;
    struct path path;
    struct vv_item old;
    bool present = false;

    TRY(vv_trie_get(trie, key, &old, &present));
    if (!present)
        goto out;
    TRY(own_path(trie, key, &path));
    touch_path(&path, key);
    unsigned last = path.count - 1, slot = 0;
    vv_node_clear(path.node[last], vv_key_nibble(key, last));
    for (; last > 0 && holds_one_leaf(path.node[last], &slot); last--) { /* who is left alone goes up */
        const struct vv_item alone = item_of(path.node[last], slot);
        put_item(path.node[last - 1], last - 1, &alone);
    }
    if (vv_node_used(path.node[0]) == 0)
        vv_top_set(&trie->top, NULL);
out:
    return rc;
}

varve_status vv_trie_top(struct vv_trie *trie, uint8_t top[VV_HASH_SIZE])
{
    vv_top_hash(&trie->top, top);
    return VARVE_OK;
}

/* ---- Walks ------------------------------------------------------------------------------------ */

/* The first `count` nibbles of a key as slots on the way to it. */
static varve_status check_way(const struct vv_item *item, const uint8_t *slots, unsigned count)
{
    for (unsigned depth = 0; depth < count; depth++)
        if (vv_key_nibble(item->key, depth) != slots[depth])
            return vv_fail(VARVE_CORRUPT, "trie: a key stands where it does not belong");
    return VARVE_OK;
}

varve_status vv_trie_next(const struct vv_trie *trie, const uint8_t *from, struct vv_item *item,
                          bool *present)
{
    varve_status rc = VARVE_OK;
    struct vv_node *stack[VV_NODE_DEPTH_MAX];
    uint32_t left[VV_NODE_DEPTH_MAX];
    uint8_t slots[VV_NODE_DEPTH_MAX];
    unsigned depth = 0;
    bool bound = from != NULL; /* the way so far is `from`'s: what is before it is skipped */

    *present = false;
    TRY(vv_top_node(&trie->top, trie->source, shape_of(0), &stack[0]));
    if (stack[0] == NULL)
        goto out;
    left[0] = vv_node_used(stack[0]);
    if (bound)
        left[0] = left[0] >> vv_key_nibble(from, 0) << vv_key_nibble(from, 0);
    for (;;) {
        if (left[depth] == 0) { /* nothing (more) here */
            bound = false;
            if (depth-- == 0)
                break;
            continue;
        }
        const unsigned slot = (unsigned)__builtin_ctz(left[depth]);
        left[depth] &= left[depth] - 1;
        slots[depth] = (uint8_t)slot;
        bound = bound && slot == vv_key_nibble(from, depth);
        if (has(stack[depth]->leaves, slot)) {
            const struct vv_item found = item_of(stack[depth], slot);
            TRY(check_way(&found, slots, depth + 1));
            if (from == NULL || memcmp(found.key, from, sizeof found.key) >= 0) {
                *item = found; /* only now: `from` may lie in it */
                *present = true;
                break;
            }
            bound = false;
            continue;
        }
        TRY(vv_node_child(stack[depth], slot, trie->source, shape_of(depth + 1), &stack[depth + 1]));
        depth++;
        left[depth] = vv_node_used(stack[depth]);
        if (bound)
            left[depth] = left[depth] >> vv_key_nibble(from, depth) << vv_key_nibble(from, depth);
    }
out:
    return rc;
}

/* One side of a difference, by depth: a node; or a leaf that stands higher, carried down to where the other side
 * has nodes; or nothing. */
struct side {
    const struct vv_node_source *source;
    struct vv_node *node[VV_NODE_DEPTH_MAX];
    bool has_leaf[VV_NODE_DEPTH_MAX];
    struct vv_item leaf[VV_NODE_DEPTH_MAX];
};

static uint16_t side_used(const struct side *side, unsigned depth)
{
    if (side->has_leaf[depth])
        return (uint16_t)(1u << vv_key_nibble(side->leaf[depth].key, depth));
    return side->node[depth] == NULL ? 0 : vv_node_used(side->node[depth]);
}

static bool side_has_node(const struct side *side, unsigned depth, unsigned slot)
{
    return side->node[depth] != NULL && has(side->node[depth]->nodes, slot);
}

static bool side_leaf(const struct side *side, unsigned depth, unsigned slot, struct vv_item *item)
{
    if (side->has_leaf[depth] && vv_key_nibble(side->leaf[depth].key, depth) == slot) {
        *item = side->leaf[depth];
        return true;
    }
    if (side->node[depth] == NULL || !has(side->node[depth]->leaves, slot))
        return false;
    *item = item_of(side->node[depth], slot);
    return true;
}

static const uint8_t *side_hash(const struct side *side, unsigned depth, unsigned slot)
{
    if (side->has_leaf[depth])
        return vv_key_nibble(side->leaf[depth].key, depth) == slot ? side->leaf[depth].hash : vv_hash_zero;
    return side->node[depth] == NULL ? vv_hash_zero : side->node[depth]->hash[VV_NODE_SLOTS + slot];
}

static varve_status side_descend(struct side *side, unsigned depth, unsigned slot)
{
    VV_ASSERT(depth + 1 < VV_NODE_DEPTH_MAX);
    side->node[depth + 1] = NULL;
    side->has_leaf[depth + 1] = side_leaf(side, depth, slot, &side->leaf[depth + 1]);
    if (side->node[depth] == NULL)
        return VARVE_OK;
    return vv_node_child(side->node[depth], slot, side->source, shape_of(depth + 1), &side->node[depth + 1]);
}

/* Tell of at most one leaf on each side, in key order. */
static varve_status diff_items(const struct vv_item *a, const struct vv_item *b, vv_item_diff_fn each,
                               void *context)
{
    varve_status rc = VARVE_OK;
    const int order = a == NULL || b == NULL ? 0 : memcmp(a->key, b->key, sizeof a->key);

    if (order == 0)
        return each(context, a, b);
    TRY(order < 0 ? each(context, a, NULL) : each(context, NULL, b));
    TRY(order < 0 ? each(context, NULL, b) : each(context, a, NULL));
out:
    return rc;
}

/* Tell what differs in one slot, when neither side has a node there. */
static varve_status diff_slot(const struct side *from, const struct side *to, const uint8_t *slots,
                              unsigned depth, vv_item_diff_fn each, void *context)
{
    varve_status rc = VARVE_OK;
    struct vv_item rooms[2];
    const struct vv_item *a = side_leaf(from, depth, slots[depth], &rooms[0]) ? &rooms[0] : NULL;
    const struct vv_item *b = side_leaf(to, depth, slots[depth], &rooms[1]) ? &rooms[1] : NULL;

    if (a != NULL)
        TRY(check_way(a, slots, depth + 1));
    if (b != NULL)
        TRY(check_way(b, slots, depth + 1));
    TRY(diff_items(a, b, each, context));
out:
    return rc;
}

static varve_status side_start(struct side *side, const struct vv_trie *trie)
{
    uint8_t top[VV_HASH_SIZE];

    side->source = trie == NULL ? NULL : trie->source;
    side->node[0] = NULL;
    side->has_leaf[0] = false;
    if (trie == NULL)
        return VARVE_OK;
    vv_top_hash(&trie->top, top); /* fully hashed from here on */
    return vv_top_node(&trie->top, trie->source, shape_of(0), &side->node[0]);
}

varve_status vv_trie_diff(const struct vv_trie *from, const struct vv_trie *to, vv_item_diff_fn each,
                          void *context)
{
    varve_status rc = VARVE_OK;
    struct side a, b;
    uint32_t left[VV_NODE_DEPTH_MAX];
    uint8_t slots[VV_NODE_DEPTH_MAX], top[2][VV_HASH_SIZE] = { { 0 } };
    unsigned depth = 0;

    if (from != NULL)
        vv_top_hash(&from->top, top[0]);
    vv_top_hash(&to->top, top[1]);
    if (vv_hash_equal(top[0], top[1]))
        return VARVE_OK;
    TRY(side_start(&a, from));
    TRY(side_start(&b, to));
    left[0] = (uint32_t)(side_used(&a, 0) | side_used(&b, 0));
    for (;;) {
        if (left[depth] == 0) {
            if (depth-- == 0)
                break;
            continue;
        }
        const unsigned slot = (unsigned)__builtin_ctz(left[depth]);
        left[depth] &= left[depth] - 1;
        slots[depth] = (uint8_t)slot;
        if (vv_hash_equal(side_hash(&a, depth, slot), side_hash(&b, depth, slot)))
            continue;
        if (!side_has_node(&a, depth, slot) && !side_has_node(&b, depth, slot)) {
            TRY(diff_slot(&a, &b, slots, depth, each, context));
            continue;
        }
        TRY(side_descend(&a, depth, slot));
        TRY(side_descend(&b, depth, slot));
        depth++;
        left[depth] = (uint32_t)(side_used(&a, depth) | side_used(&b, depth));
    }
out:
    return rc;
}

static varve_status count_one(void *context, const struct vv_item *from, const struct vv_item *to)
{
    (void)from;
    (void)to;
    ++*(uint64_t *)context;
    return VARVE_OK;
}

varve_status vv_trie_count(const struct vv_trie *trie, uint64_t *count)
{
    *count = 0;
    return vv_trie_diff(NULL, trie, count_one, count);
}

/* ---- Saving and proving ----------------------------------------------------------------------- */

varve_status vv_trie_save(struct vv_trie *trie, vv_node_write_fn put, void *context, uint64_t *address)
{
    return vv_top_save(&trie->top, put, context, address);
}

void vv_trie_unsave(struct vv_trie *trie, uint64_t from)
{
    vv_top_unsave(&trie->top, from);
}

varve_status vv_trie_forget_below(struct vv_trie *trie, uint64_t start)
{
    return vv_top_forget_below(&trie->top, trie->source, shape_of(0), start);
}

void vv_trie_let_go(struct vv_trie *trie, unsigned depth)
{
    vv_top_let_go(&trie->top, depth);
}

uint64_t vv_trie_address(const struct vv_trie *trie)
{
    return vv_top_address(&trie->top);
}

static unsigned key_bit(const uint8_t key[32], unsigned depth)
{
    return key[depth / 8] >> (7 - depth % 8) & 1;
}

varve_status vv_trie_prove(struct vv_trie *trie, const uint8_t key[32], struct vv_bytes *proof,
                           struct vv_item *item, bool *present)
{
    varve_status rc = VARVE_OK;
    uint8_t siblings[VV_SIBLINGS_MAX][VV_HASH_SIZE],
        top[VV_HASH_SIZE]; /* filled from the end: lowest first */
    unsigned bits = 0, position = 1, slot = 0;
    struct vv_node *node = NULL;

    *present = false;
    vv_top_hash(&trie->top, top);
    TRY(vv_top_node(&trie->top, trie->source, shape_of(0), &node));
    while (node != NULL) {
        const enum vv_node_keys keys = position < VV_NODE_SLOTS || !has(node->nodes, position - VV_NODE_SLOTS)
                                           ? vv_node_keys_below(node, position, &slot)
                                           : VV_KEYS_MANY;
        if (keys == VV_KEYS_ONE) {
            *item = item_of(node, slot);
            *present = true;
        }
        if (keys != VV_KEYS_MANY)
            break;
        if (position >= VV_NODE_SLOTS) {
            TRY(vv_node_child(node, position - VV_NODE_SLOTS, trie->source, shape_of(bits / 4), &node));
            position = 1;
        }
        position = 2 * position + key_bit(key, bits);
        memcpy(siblings[VV_SIBLINGS_MAX - ++bits], node->hash[position ^ 1], VV_HASH_SIZE);
    }
    vv_bytes_u16(proof, (uint16_t)bits);
    vv_siblings_put(proof, (const uint8_t(*)[VV_HASH_SIZE])siblings + (VV_SIBLINGS_MAX - bits), bits);
    TRY(vv_bytes_done(proof));
out:
    return rc;
}
