/* node.c - see node.h, where the laws (N1) to (N4) stand.
 *
 * All walks are loops over a stack of at most 65 places: a page tree has 13 levels at most, a key 64 nibbles,
 * and what is loaded is checked against its place before it is followed. */
#include "page/node.h"

#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"

enum { STACK_MAX = VV_NODE_DEPTH_MAX + 1, NODE_VERSION = 1, NODE_KEYED = 2 };

/* ---- Life ------------------------------------------------------------------------------------- */

varve_status vv_node_new(bool keyed, struct vv_node **node)
{
    const size_t size = sizeof **node + (keyed ? VV_NODE_SLOTS * sizeof(*node)->keys[0] : 0);
    const varve_status rc = vv_alloc(node, 1, size);

    if (rc == VARVE_OK) {
        atomic_store_explicit(&(*node)->holders, 1, memory_order_relaxed);
        (*node)->keyed = keyed;
    }
    return rc;
}

void vv_node_hold(struct vv_node *node)
{
    atomic_fetch_add_explicit(&node->holders, 1, memory_order_relaxed);
}

static bool let_go(struct vv_node *node)
{
    return atomic_fetch_sub_explicit(&node->holders, 1, memory_order_acq_rel) == 1;
}

static struct vv_node *child_in_memory(const struct vv_node *node, unsigned slot)
{
    return atomic_load_explicit(&node->child[slot], memory_order_acquire);
}

static unsigned lowest(uint32_t mask)
{
    return (unsigned)__builtin_ctz(mask);
}

void vv_node_drop(struct vv_node *node)
{
    struct vv_node *stack[STACK_MAX];
    unsigned depth = 0;

    if (node == NULL || !let_go(node))
        return;
    stack[0] = node;
    for (;;) { /* the last holder is gone: `nodes` serves as the list of what is still to be dropped */
        struct vv_node *at = stack[depth];
        if (at->nodes == 0) {
            vv_free(at);
            if (depth-- == 0)
                return;
            continue;
        }
        const unsigned slot = lowest(at->nodes);
        struct vv_node *child = child_in_memory(at, slot);
        at->nodes &= (uint16_t)(at->nodes - 1);
        if (child != NULL && let_go(child)) {
            VV_ASSERT(depth + 1 < STACK_MAX);
            stack[++depth] = child;
        }
    }
}

/* A copy that its maker owns; children are shared. The original may be shared itself (N1). It has no address:
 * it is about to change. */
static varve_status copy_node(const struct vv_node *node, struct vv_node **copy)
{
    const varve_status rc = vv_node_new(node->keyed, copy);

    if (rc != VARVE_OK)
        return rc;
    VV_ASSERT(node->stale == 0); /* (N2) */
    (*copy)->leaves = node->leaves;
    (*copy)->nodes = node->nodes;
    memcpy((*copy)->hash, node->hash, sizeof node->hash);
    memcpy((*copy)->number, node->number, sizeof node->number);
    if (node->keyed)
        memcpy((*copy)->keys, node->keys, VV_NODE_SLOTS * sizeof node->keys[0]);
    for (uint32_t left = node->nodes; left != 0; left &= left - 1) {
        struct vv_node *child = child_in_memory(node, lowest(left));
        if (child == NULL)
            continue;
        vv_node_hold(child);
        atomic_store_explicit(&(*copy)->child[lowest(left)], child, memory_order_relaxed);
    }
    return VARVE_OK;
}

/* ---- Loading ---------------------------------------------------------------------------------- */

static varve_status check_shape(const struct vv_node *node, struct vv_node_shape shape)
{
    if (node->keyed != shape.keyed)
        return vv_fail(VARVE_CORRUPT, "it is a node of another kind of tree");
    if (!shape.keyed && (shape.level == 0 ? node->nodes : node->leaves) != 0)
        return vv_fail(VARVE_CORRUPT, "it has leaves where nodes belong, or nodes where leaves belong");
    if (shape.keyed && shape.level + 1 >= VV_NODE_DEPTH_MAX && node->nodes != 0)
        return vv_fail(VARVE_CORRUPT, "it goes deeper than a key is long");
    if (shape.keyed && shape.level > 0 && node->nodes == 0 && (node->leaves & (node->leaves - 1)) == 0)
        return vv_fail(VARVE_CORRUPT, "it holds a single key, which belongs above it");
    for (uint32_t left = shape.keyed ? node->leaves : 0; left != 0; left &= left - 1)
        if (vv_key_nibble(node->keys[lowest(left)], shape.level) != lowest(left))
            return vv_fail(VARVE_CORRUPT, "it holds a key that belongs elsewhere");
    return VARVE_OK;
}

/* Read the node saved at `address` and hold it against what is known of it (N3). */
static varve_status load(const struct vv_node_source *source, uint64_t address,
                         const uint8_t hash[VV_HASH_SIZE], struct vv_node_shape shape, struct vv_node **node)
{
    varve_status rc = VARVE_OK;
    struct vv_bytes bytes = VV_BYTES_NONE;

    *node = NULL;
    if (source == NULL)
        TRY(vv_fail(VARVE_CORRUPT, "there is nowhere to read it from"));
    TRY(source->read(source->context, address, &bytes));
    TRY(vv_bytes_done(&bytes));
    TRY(vv_node_decode(bytes.data, bytes.size, node));
    if (!vv_hash_equal((*node)->hash[1], hash))
        TRY(vv_fail(VARVE_CORRUPT, "its hash is not the one that stands above it"));
    TRY(check_shape(*node, shape));
    atomic_store_explicit(&(*node)->address, address, memory_order_relaxed);
out:
    vv_bytes_release(&bytes);
    if (rc != VARVE_OK) {
        vv_node_drop(*node);
        *node = NULL;
        (void)vv_fail_within(rc, "tree node at %llu", (unsigned long long)address);
    }
    return rc;
}

/* Make `loaded` the node at `place`, unless another thread was first: then take that one. */
static struct vv_node *publish(struct vv_node *_Atomic *place, struct vv_node *loaded)
{
    struct vv_node *there = NULL;

    if (atomic_compare_exchange_strong_explicit(place, &there, loaded, memory_order_acq_rel,
                                                memory_order_acquire))
        return loaded;
    vv_node_drop(loaded);
    return there;
}

varve_status vv_top_node(const struct vv_top *top, const struct vv_node_source *source,
                         struct vv_node_shape shape, struct vv_node **node)
{
    *node = atomic_load_explicit(&top->node, memory_order_acquire);
    if (*node != NULL || top->address == 0)
        return VARVE_OK;
    const varve_status rc = load(source, top->address, top->hash, shape, node);
    if (rc == VARVE_OK) /* loading does not change what a top says, so a const one may be loaded (N1) */
        *node = publish(&((struct vv_top *)(uintptr_t)top)->node, *node);
    return rc;
}

varve_status vv_node_child(struct vv_node *node, unsigned slot, const struct vv_node_source *source,
                           struct vv_node_shape shape, struct vv_node **child)
{
    *child = NULL;
    if ((node->nodes >> slot & 1) == 0)
        return VARVE_OK;
    *child = child_in_memory(node, slot);
    if (*child != NULL)
        return VARVE_OK;
    const varve_status rc = load(source, node->number[slot], node->hash[VV_NODE_SLOTS + slot], shape, child);
    if (rc == VARVE_OK)
        *child = publish(&node->child[slot], *child);
    return rc;
}

varve_status vv_top_take(const struct vv_top *top, const struct vv_node_source *source,
                         struct vv_node_shape shape, struct vv_node **node)
{
    *node = atomic_load_explicit(&top->node, memory_order_acquire);
    if (*node != NULL)
        vv_node_hold(*node);
    if (*node != NULL || top->address == 0)
        return VARVE_OK;
    return load(source, top->address, top->hash, shape, node);
}

varve_status vv_node_take_child(struct vv_node *node, unsigned slot, const struct vv_node_source *source,
                                struct vv_node_shape shape, struct vv_node **child)
{
    *child = NULL;
    if ((node->nodes >> slot & 1) == 0)
        return VARVE_OK;
    *child = child_in_memory(node, slot);
    if (*child != NULL) {
        vv_node_hold(*child);
        return VARVE_OK;
    }
    return load(source, node->number[slot], node->hash[VV_NODE_SLOTS + slot], shape, child);
}

/* ---- Owning and changing ---------------------------------------------------------------------- */

/* Put a copy at `place` when others hold the node that is there. */
static varve_status own(struct vv_node *_Atomic *place, struct vv_node **node)
{
    struct vv_node *copy = NULL;

    if (*node == NULL || atomic_load_explicit(&(*node)->holders, memory_order_acquire) == 1)
        return VARVE_OK;
    const varve_status rc = copy_node(*node, &copy);
    if (rc != VARVE_OK)
        return rc;
    atomic_store_explicit(place, copy, memory_order_release);
    vv_node_drop(*node);
    *node = copy;
    return VARVE_OK;
}

varve_status vv_top_own(struct vv_top *top, const struct vv_node_source *source, struct vv_node_shape shape,
                        struct vv_node **node)
{
    const varve_status rc = vv_top_node(top, source, shape, node);
    return rc != VARVE_OK ? rc : own(&top->node, node);
}

varve_status vv_node_own_child(struct vv_node *node, unsigned slot, const struct vv_node_source *source,
                               struct vv_node_shape shape, struct vv_node **child)
{
    const varve_status rc = vv_node_child(node, slot, source, shape, child);
    return rc != VARVE_OK ? rc : own(&node->child[slot], child);
}

void vv_node_forget(struct vv_node *node)
{
    atomic_store_explicit(&node->address, 0, memory_order_relaxed);
}

void vv_node_touch(struct vv_node *node, unsigned slot)
{
    unsigned position = VV_NODE_SLOTS + slot;

    vv_node_forget(node);
    if ((node->nodes >> slot & 1) != 0)
        node->stale |= UINT32_C(1) << position;
    while ((position /= 2) != 0)
        node->stale |= UINT32_C(1) << position;
}

void vv_node_clear(struct vv_node *node, unsigned slot)
{
    const unsigned position = VV_NODE_SLOTS + slot;
    struct vv_node *child = child_in_memory(node, slot);

    node->leaves &= (uint16_t) ~(1u << slot);
    node->nodes &= (uint16_t) ~(1u << slot);
    node->number[slot] = 0;
    node->stale &= ~(UINT32_C(1) << position);
    memset(node->hash[position], 0, VV_HASH_SIZE);
    if (node->keyed)
        memset(node->keys[slot], 0, sizeof node->keys[slot]);
    atomic_store_explicit(&node->child[slot], NULL, memory_order_relaxed);
    vv_node_touch(node, slot);
    vv_node_drop(child);
}

void vv_node_put_leaf(struct vv_node *node, unsigned slot, const uint8_t *key,
                      const uint8_t hash[VV_HASH_SIZE], uint64_t locator)
{
    VV_ASSERT(node->keyed == (key != NULL));
    vv_node_clear(node, slot);
    node->leaves |= (uint16_t)(1u << slot);
    node->number[slot] = locator;
    memcpy(node->hash[VV_NODE_SLOTS + slot], hash, VV_HASH_SIZE);
    if (key != NULL)
        memcpy(node->keys[slot], key, sizeof node->keys[slot]);
}

void vv_node_put_child(struct vv_node *node, unsigned slot, struct vv_node *child)
{
    vv_node_clear(node, slot);
    node->nodes |= (uint16_t)(1u << slot);
    atomic_store_explicit(&node->child[slot], child, memory_order_release);
    vv_node_touch(node, slot);
}

void vv_node_put_saved(struct vv_node *node, unsigned slot, const uint8_t hash[VV_HASH_SIZE],
                       uint64_t address)
{
    VV_ASSERT(address != 0);
    vv_node_clear(node, slot);
    node->nodes |= (uint16_t)(1u << slot);
    node->number[slot] = address;
    memcpy(node->hash[VV_NODE_SLOTS + slot], hash, VV_HASH_SIZE);
}

/* ---- Hashing ---------------------------------------------------------------------------------- */

enum vv_node_keys vv_node_keys_below(const struct vv_node *node, unsigned position, unsigned *slot)
{
    unsigned first = position, span = 1;

    for (; first < VV_NODE_SLOTS; first *= 2)
        span *= 2;
    first -= VV_NODE_SLOTS;
    const uint32_t below = ((UINT32_C(1) << span) - 1) << first;
    const uint32_t leaves = node->leaves & below;
    if ((node->nodes & below) != 0 || (leaves & (leaves - 1)) != 0)
        return VV_KEYS_MANY;
    if (leaves == 0)
        return VV_KEYS_NONE;
    *slot = lowest(leaves);
    return VV_KEYS_ONE;
}

/* Pairs to be hashed abreast. */
struct pair_batch {
    const uint8_t *pairs[16];
    uint8_t *out[16];
    size_t count;
};

static void batch_flush(struct pair_batch *batch)
{
    vv_hash_pairs(batch->pairs, batch->count, batch->out);
    batch->count = 0;
}

static void batch_put(struct pair_batch *batch, const uint8_t *pair, uint8_t *out)
{
    batch->pairs[batch->count] = pair;
    batch->out[batch->count++] = out;
    if (batch->count == sizeof batch->pairs / sizeof batch->pairs[0])
        batch_flush(batch);
}

/* Hash all that is stale in nodes whose children are hashed: binary level by binary level over all of them. */
static void hash_group(struct vv_node *const *nodes, size_t count)
{
    struct pair_batch batch = { .count = 0 };

    for (size_t n = 0; n < count; n++)
        for (uint32_t left = nodes[n]->stale >> VV_NODE_SLOTS; left != 0; left &= left - 1)
            memcpy(nodes[n]->hash[VV_NODE_SLOTS + lowest(left)],
                   child_in_memory(nodes[n], lowest(left))->hash[1], VV_HASH_SIZE);
    for (unsigned first = VV_NODE_SLOTS / 2; first >= 1; first /= 2) {
        const uint32_t level = (UINT32_C(1) << 2 * first) - (UINT32_C(1) << first);
        for (size_t n = 0; n < count; n++) {
            struct vv_node *node = nodes[n];
            for (uint32_t left = node->stale & level; left != 0; left &= left - 1) {
                const unsigned position = lowest(left);
                unsigned slot = 0;
                if (node->keyed && vv_node_keys_below(node, position, &slot) == VV_KEYS_ONE)
                    memcpy(node->hash[position], node->hash[VV_NODE_SLOTS + slot], VV_HASH_SIZE);
                else
                    batch_put(&batch, node->hash[2 * position], node->hash[position]);
            }
        }
        batch_flush(&batch);
    }
    for (size_t n = 0; n < count; n++)
        nodes[n]->stale = 0;
}

/* Go through the stale nodes `depth` below the top and hash them, in groups; with `hash` false only look.
 * True when stale nodes lie deeper still. */
static bool visit_stale(struct vv_node *top, unsigned depth, bool hash)
{
    struct vv_node *group[128], *stack[STACK_MAX];
    uint32_t left[STACK_MAX];
    size_t grouped = 0;
    unsigned at = 0;
    bool deeper = false;

    stack[0] = top;
    left[0] = top->stale >> VV_NODE_SLOTS;
    for (;;) {
        if (at == depth) {
            deeper = deeper || left[at] != 0;
            if (hash && stack[at]->stale != 0) /* a shared one is not, and is not written (N2) */
                group[grouped++] = stack[at];
            if (grouped == sizeof group / sizeof group[0]) {
                hash_group(group, grouped);
                grouped = 0;
            }
            left[at] = 0;
        }
        while (left[at] == 0 && at > 0)
            at--;
        if (left[at] == 0)
            break;
        struct vv_node *child = child_in_memory(stack[at], lowest(left[at]));
        left[at] &= left[at] - 1;
        VV_ASSERT(at + 1 < STACK_MAX);
        stack[++at] = child;
        left[at] = child->stale >> VV_NODE_SLOTS;
    }
    hash_group(group, grouped);
    return deeper;
}

static void rehash(struct vv_node *top)
{
    unsigned depth = 0;

    if (top->stale == 0)
        return;
    while (visit_stale(top, depth, false))
        depth++;
    for (;; depth--) { /* the deepest first: all of one depth abreast */
        (void)visit_stale(top, depth, true);
        if (depth == 0)
            return;
    }
}

/* ---- Tops ------------------------------------------------------------------------------------- */

void vv_top_set(struct vv_top *top, struct vv_node *node)
{
    struct vv_node *old = atomic_load_explicit(&top->node, memory_order_relaxed);

    atomic_store_explicit(&top->node, node, memory_order_relaxed);
    top->address = 0;
    memset(top->hash, 0, sizeof top->hash);
    vv_node_drop(old);
}

void vv_top_copy(struct vv_top *copy, const struct vv_top *top)
{
    struct vv_node *node = atomic_load_explicit(&top->node, memory_order_acquire);

    if (node != NULL) {
        rehash(node); /* (N2) */
        vv_node_hold(node);
    }
    atomic_store_explicit(&copy->node, node, memory_order_relaxed);
    copy->address = top->address;
    memcpy(copy->hash, top->hash, sizeof copy->hash);
}

bool vv_top_is_empty(const struct vv_top *top)
{
    return atomic_load_explicit(&top->node, memory_order_acquire) == NULL && top->address == 0;
}

void vv_top_hash(const struct vv_top *top, uint8_t hash[VV_HASH_SIZE])
{
    struct vv_node *node = atomic_load_explicit(&top->node, memory_order_acquire);

    if (node != NULL)
        rehash(node);
    memcpy(hash, node != NULL ? node->hash[1] : top->hash, VV_HASH_SIZE);
}

uint64_t vv_top_address(const struct vv_top *top)
{
    struct vv_node *node = atomic_load_explicit(&top->node, memory_order_acquire);
    return node != NULL ? atomic_load_explicit(&node->address, memory_order_relaxed) : top->address;
}

/* ---- Saving ----------------------------------------------------------------------------------- */

static bool is_unsaved(struct vv_node *node)
{
    return node != NULL && atomic_load_explicit(&node->address, memory_order_relaxed) == 0;
}

static varve_status save_one(struct vv_node *node, struct vv_bytes *bytes, vv_node_write_fn put,
                             void *context)
{
    uint64_t address = 0;

    vv_bytes_clear(bytes);
    vv_node_encode(node, bytes);
    varve_status rc = vv_bytes_done(bytes);
    if (rc == VARVE_OK)
        rc = put(context, bytes->data, bytes->size, &address);
    if (rc == VARVE_OK) {
        VV_ASSERT(address != 0);
        atomic_store_explicit(&node->address, address, memory_order_relaxed);
    }
    return rc;
}

varve_status vv_top_save(const struct vv_top *top, vv_node_write_fn put, void *context, uint64_t *address)
{
    varve_status rc = VARVE_OK;
    struct vv_bytes bytes = VV_BYTES_NONE;
    struct vv_node *stack[STACK_MAX];
    uint32_t left[STACK_MAX];
    unsigned at = 0;

    stack[0] = atomic_load_explicit(&top->node, memory_order_acquire);
    if (is_unsaved(stack[0])) {
        rehash(stack[0]);
        left[0] = stack[0]->nodes;
        for (;;) {
            if (left[at] == 0) { /* all below it is saved */
                TRY(save_one(stack[at], &bytes, put, context));
                if (at-- == 0)
                    break;
                continue;
            }
            struct vv_node *child = child_in_memory(stack[at], lowest(left[at]));
            left[at] &= left[at] - 1;
            if (is_unsaved(child)) {
                VV_ASSERT(at + 1 < STACK_MAX);
                stack[++at] = child;
                left[at] = child->nodes;
            }
        }
    }
    *address = vv_top_address(top);
out:
    vv_bytes_release(&bytes);
    return rc;
}

void vv_top_unsave(const struct vv_top *top, uint64_t from)
{
    struct vv_node *stack[STACK_MAX], *next = atomic_load_explicit(&top->node, memory_order_acquire);
    uint32_t left[STACK_MAX];
    unsigned depth = 0; /* places on the stack */

    for (;;) {
        const uint64_t address =
            next == NULL ? 1 : atomic_load_explicit(&next->address, memory_order_relaxed);
        if (next != NULL && (address == 0 || address >= from)) { /* below older ones all is older (N4) */
            VV_ASSERT(depth < STACK_MAX);
            vv_node_forget(next);
            left[depth] = next->nodes;
            stack[depth++] = next;
        }
        while (depth > 0 && left[depth - 1] == 0)
            depth--;
        if (depth == 0)
            return;
        next = child_in_memory(stack[depth - 1], lowest(left[depth - 1]));
        left[depth - 1] &= left[depth - 1] - 1;
    }
}

/* `forgot`: the node has no address now. As deep as shapes allow: VV_NODE_DEPTH_MAX. */
static varve_status forget_below(struct vv_node *node, const struct vv_node_source *source,
                                 struct vv_node_shape shape, uint64_t start, bool *forgot)
{
    varve_status rc = VARVE_OK;
    const uint64_t address = atomic_load_explicit(&node->address, memory_order_relaxed);
    struct vv_node_shape below = shape;

    VV_ASSERT(shape.level <= VV_NODE_DEPTH_MAX);
    *forgot = address < start;
    below.level = shape.keyed ? shape.level + 1 : shape.level - 1;
    for (uint32_t left = node->nodes; left != 0; left &= left - 1) {
        struct vv_node *child = NULL;
        bool child_forgot = false;
        TRY(vv_node_child(node, lowest(left), source, below, &child));
        TRY(forget_below(child, source, below, start, &child_forgot));
        *forgot = *forgot || child_forgot;
    }
    if (*forgot)
        vv_node_forget(node);
out:
    return rc;
}

varve_status vv_top_forget_below(const struct vv_top *top, const struct vv_node_source *source,
                                 struct vv_node_shape shape, uint64_t start)
{
    varve_status rc = VARVE_OK;
    struct vv_node *node = NULL;
    bool forgot = false;

    TRY(vv_top_node(top, source, shape, &node));
    if (node != NULL)
        TRY(forget_below(node, source, shape, start, &forgot));
out:
    return rc;
}

static bool is_held_once(struct vv_node *node)
{
    return atomic_load_explicit(&node->holders, memory_order_acquire) == 1;
}

/* A child that was saved as it is, below a parent that knows its hash, may be named by its address. */
static bool may_go(const struct vv_node *node, unsigned slot, struct vv_node *child)
{
    return !is_unsaved(child) && (node->stale >> (VV_NODE_SLOTS + slot) & 1) == 0;
}

void vv_top_let_go(struct vv_top *top, unsigned depth)
{
    struct vv_node *stack[STACK_MAX], *node = atomic_load_explicit(&top->node, memory_order_acquire);
    uint32_t left[STACK_MAX];
    unsigned at = 0;

    if (node == NULL)
        return;
    if (depth == 0 && !is_unsaved(node)) {
        top->address = atomic_load_explicit(&node->address, memory_order_relaxed);
        memcpy(top->hash, node->hash[1], sizeof top->hash);
        atomic_store_explicit(&top->node, NULL, memory_order_relaxed);
        vv_node_drop(node);
        return;
    }
    stack[0] = node;
    left[0] = is_held_once(node) ? node->nodes : 0;
    for (;;) {
        while (left[at] == 0 && at > 0)
            at--;
        if (left[at] == 0)
            return;
        const unsigned slot = lowest(left[at]);
        struct vv_node *child = child_in_memory(stack[at], slot);
        left[at] &= left[at] - 1;
        if (child != NULL && at + 1 >= depth && may_go(stack[at], slot, child)) {
            stack[at]->number[slot] = atomic_load_explicit(&child->address, memory_order_relaxed);
            atomic_store_explicit(&stack[at]->child[slot], NULL, memory_order_relaxed);
            vv_node_drop(child);
        } else if (child != NULL && is_held_once(child)) { /* below others' nodes all is others' (N1) */
            VV_ASSERT(at + 1 < STACK_MAX);
            stack[++at] = child;
            left[at] = child->nodes;
        }
    }
}

/* ---- The saved form --------------------------------------------------------------------------- *
 *
 * u8 kind: 1 page tree, 2 keyed; u16 leaves; u16 nodes; then for each used slot in order:
 * [keyed leaf: key 32] hash 32, varint zigzag of its number minus that of the slot before (0 at first). */

static uint64_t saved_number(const struct vv_node *node, unsigned slot)
{
    struct vv_node *child = child_in_memory(node, slot);

    if ((node->leaves >> slot & 1) != 0 || child == NULL)
        return node->number[slot];
    return atomic_load_explicit(&child->address, memory_order_relaxed);
}

void vv_node_encode(const struct vv_node *node, struct vv_bytes *out)
{
    uint64_t last = 0;

    VV_ASSERT(node->stale == 0);
    vv_bytes_u8(out, node->keyed ? NODE_KEYED : NODE_VERSION);
    vv_bytes_u16(out, node->leaves);
    vv_bytes_u16(out, node->nodes);
    for (uint32_t left = vv_node_used(node); left != 0; left &= left - 1) {
        const unsigned slot = lowest(left);
        const bool is_leaf = (node->leaves >> slot & 1) != 0;
        const uint64_t number = saved_number(node, slot);
        VV_ASSERT(number != 0 || (is_leaf && node->keyed));
        if (is_leaf && node->keyed)
            vv_bytes_put(out, node->keys[slot], sizeof node->keys[slot]);
        vv_bytes_put(out, node->hash[VV_NODE_SLOTS + slot], VV_HASH_SIZE);
        vv_bytes_varint(out, vv_zigzag(number - last));
        last = number;
    }
}

static varve_status decode_slots(struct vv_reader *reader, struct vv_node *node)
{
    uint64_t last = 0;

    for (uint32_t left = vv_node_used(node); left != 0; left &= left - 1) {
        const unsigned slot = lowest(left);
        const bool is_leaf = (node->leaves >> slot & 1) != 0;
        if (is_leaf && node->keyed)
            vv_reader_copy(reader, node->keys[slot], sizeof node->keys[slot]);
        vv_reader_copy(reader, node->hash[VV_NODE_SLOTS + slot], VV_HASH_SIZE);
        last += vv_unzigzag(vv_reader_varint(reader));
        node->number[slot] = last;
        if (vv_hash_is_zero(node->hash[VV_NODE_SLOTS + slot]) || (last == 0 && !(is_leaf && node->keyed)))
            return vv_fail(VARVE_CORRUPT, "saved node: slot %u has no hash or no address", slot);
        vv_node_touch(node, slot);
        node->stale &= UINT16_MAX; /* a saved child's hash is known */
    }
    return vv_reader_done(reader, "saved node");
}

varve_status vv_node_decode(const void *bytes, size_t size, struct vv_node **node)
{
    varve_status rc = VARVE_OK;
    struct vv_reader reader = vv_reader_of(bytes, size);
    const uint8_t kind = vv_reader_u8(&reader);
    const uint16_t leaves = vv_reader_u16(&reader), nodes = vv_reader_u16(&reader);

    *node = NULL;
    if (kind != NODE_VERSION && kind != NODE_KEYED)
        return vv_fail(VARVE_CORRUPT, "saved node: unknown kind %u", kind);
    if ((leaves & nodes) != 0 || (leaves | nodes) == 0)
        return vv_fail(VARVE_CORRUPT, "saved node: a slot is two things, or none is anything");
    TRY(vv_node_new(kind == NODE_KEYED, node));
    (*node)->leaves = leaves;
    (*node)->nodes = nodes;
    TRY(decode_slots(&reader, *node));
    hash_group(&(struct vv_node *){ *node }, 1);
out:
    if (rc != VARVE_OK) {
        vv_node_drop(*node);
        *node = NULL;
    }
    return rc;
}

/* ---- Siblings --------------------------------------------------------------------------------- */

void vv_siblings_put(struct vv_bytes *proof, const uint8_t (*siblings)[VV_HASH_SIZE], size_t count)
{
    uint8_t mask[VV_SIBLINGS_MAX / 8] = { 0 };

    VV_ASSERT(count <= VV_SIBLINGS_MAX);
    for (size_t i = 0; i < count; i++)
        if (!vv_hash_is_zero(siblings[i]))
            mask[i / 8] |= (uint8_t)(1 << i % 8);
    vv_bytes_put(proof, mask, (count + 7) / 8);
    for (size_t i = 0; i < count; i++)
        if (!vv_hash_is_zero(siblings[i]))
            vv_bytes_put(proof, siblings[i], VV_HASH_SIZE);
}

void vv_siblings_get(struct vv_reader *proof, uint8_t (*siblings)[VV_HASH_SIZE], size_t count)
{
    uint8_t mask[VV_SIBLINGS_MAX / 8] = { 0 };

    VV_ASSERT(count <= VV_SIBLINGS_MAX);
    vv_reader_copy(proof, mask, (count + 7) / 8);
    for (size_t i = 0; i < (count + 7) / 8 * 8; i++) {
        const bool some = (mask[i / 8] >> i % 8 & 1) != 0;
        if (i >= count) {
            proof->bad = proof->bad || some; /* one form only: what is beyond the end is 0 */
            continue;
        }
        memset(siblings[i], 0, VV_HASH_SIZE);
        if (some)
            vv_reader_copy(proof, siblings[i], VV_HASH_SIZE);
        if (some && vv_hash_is_zero(siblings[i]))
            proof->bad = true;
    }
}
