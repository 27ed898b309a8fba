/* node.h - one node of a persistent radix-16 tree: the page tree's and the trie's.
 *
 *   top -> node -> node -> ... -> leaves     a slot is empty, a leaf, or a node: in memory, or saved at an address
 *
 * A node is four levels of a binary Merkle tree, kept as a heap: hash[1] is the node's own, hash[2k] and
 * hash[2k + 1] are below hash[k], hash[16 + i] belongs to slot i. So only what is above a change is hashed
 * again, and every pair lies side by side, as the hash wants it.
 * Laws:
 *   (N1) A node with more than one holder, or below such a node, is never changed, but for the two things that
 *        do not change what it says: a saved child that is loaded (published by compare-and-swap; the loser's
 *        copy is freed), and the address at which it was saved. A loaded child is let go of by the one holder of all
 *        that is above it, while nobody reads.
 *   (N2) A node that is shared is fully hashed; so only a tree's one owner ever hashes.
 *   (N3) What was loaded has the hash that its parent holds, and the shape that its place wants.
 *   (N4) A node that has an address is, with all below it, as it was saved.
 * A *keyed* node (trie) has a key for each leaf, and a heap position above exactly one key has that leaf's hash;
 * all else is H(NODE, left | right), zero above nothing. */
#ifndef VV_NODE_H
#define VV_NODE_H

#include "base/bytes.h"
#include "page/hash.h"

enum { VV_NODE_SLOTS = 16, VV_NODE_DEPTH_MAX = 64 };

/* Stores the bytes of a node and answers their address, never 0. */
typedef varve_status (*vv_node_write_fn)(void *context, const void *bytes, size_t size, uint64_t *address);

struct vv_node;
/* Where saved nodes are. `read` gives the bytes of the node saved at `address` (its own checksum checked);
 * the callee appends them to `bytes`. NULL source: the tree is all in memory. */
struct vv_node_source {
    varve_status (*read)(void *context, uint64_t address, struct vv_bytes *bytes);
    void *context;
};

/* Where a tree begins: a node in memory, or one saved and not loaded yet, or nothing. */
struct vv_top {
    struct vv_node *_Atomic node;
    uint64_t address;           /* while `node` is NULL: where it was saved; 0: nothing there, all zero */
    uint8_t hash[VV_HASH_SIZE]; /* while `node` is NULL */
};

struct vv_node {
    unsigned _Atomic holders;
    bool keyed;
    uint16_t leaves, nodes; /* which slots are what; disjoint */
    uint32_t stale;         /* heap positions to be hashed again: k < 16, and 16 + i where slot i is a node */
    uint64_t _Atomic address; /* where it was saved; 0: not saved as it is now */
    uint8_t hash[2 * VV_NODE_SLOTS][VV_HASH_SIZE];
    uint64_t number[VV_NODE_SLOTS]; /* of a leaf: its locator; of a node not in memory: its address */
    struct vv_node *_Atomic child[VV_NODE_SLOTS];
    uint8_t keys[][32]; /* 16 when keyed */
};

/* What may stand at a place, to be checked when it is loaded. */
struct vv_node_shape {
    bool keyed;
    unsigned level; /* keyed: nibbles above it; else: radix levels below it, 0: all slots are leaves */
};

static inline uint16_t vv_node_used(const struct vv_node *node)
{
    return node->leaves | node->nodes;
}
static inline unsigned vv_key_nibble(const uint8_t key[32], unsigned depth)
{
    return depth % 2 == 0 ? key[depth / 2] >> 4 : key[depth / 2] & 15;
}

varve_status vv_node_new(bool keyed, struct vv_node **node); /* one holder */
void vv_node_hold(struct vv_node *node);
void vv_node_drop(struct vv_node *node); /* NULL is fine */

/* Reading: the node at a place, lent; NULL when nothing is there. Loads it when it must (thread safe). */
varve_status vv_top_node(const struct vv_top *top, const struct vv_node_source *source,
                         struct vv_node_shape shape, struct vv_node **node);
varve_status vv_node_child(struct vv_node *node, unsigned slot, const struct vv_node_source *source,
                           struct vv_node_shape shape, struct vv_node **child);
/* The same for who passes once through a large tree: held, not lent, and what must be loaded stays with the caller
 * alone, who drops it. */
varve_status vv_top_take(const struct vv_top *top, const struct vv_node_source *source,
                         struct vv_node_shape shape, struct vv_node **node);
varve_status vv_node_take_child(struct vv_node *node, unsigned slot, const struct vv_node_source *source,
                                struct vv_node_shape shape, struct vv_node **child);

/* Writing: the same, and the place's owner may change the node (it is copied first when others hold it). */
varve_status vv_top_own(struct vv_top *top, const struct vv_node_source *source, struct vv_node_shape shape,
                        struct vv_node **node);
varve_status vv_node_own_child(struct vv_node *node, unsigned slot, const struct vv_node_source *source,
                               struct vv_node_shape shape, struct vv_node **child);
/* Put into a slot of an owned node; what was there goes. A child is taken over. Hashes become stale. */
void vv_node_put_leaf(struct vv_node *node, unsigned slot, const uint8_t *key,
                      const uint8_t hash[VV_HASH_SIZE], uint64_t locator);
void vv_node_put_child(struct vv_node *node, unsigned slot, struct vv_node *child);
void vv_node_put_saved(struct vv_node *node, unsigned slot, const uint8_t hash[VV_HASH_SIZE],
                       uint64_t address);
void vv_node_clear(struct vv_node *node, unsigned slot);
/* Something below slot changed: what is above is stale, and the node is no longer as it was saved. */
void vv_node_touch(struct vv_node *node, unsigned slot);
void vv_node_forget(struct vv_node *node); /* only its locators changed: it is to be saved again */

/* Tops. */
void vv_top_set(struct vv_top *top,
                struct vv_node *node); /* takes over; what was there goes; NULL: nothing */
void vv_top_copy(struct vv_top *copy, const struct vv_top *top);
bool vv_top_is_empty(const struct vv_top *top);
void vv_top_hash(const struct vv_top *top, uint8_t hash[VV_HASH_SIZE]); /* hashes what is stale */
uint64_t vv_top_address(const struct vv_top *top);                      /* 0: nothing, or not saved */
varve_status vv_top_save(const struct vv_top *top, vv_node_write_fn put, void *context, uint64_t *address);
void vv_top_unsave(const struct vv_top *top, uint64_t from);
/* Forget every address below `start`, and those of all nodes above such a one: they are to be saved again. Loads what
 * it must. */
varve_status vv_top_forget_below(const struct vv_top *top, const struct vv_node_source *source,
                                 struct vv_node_shape shape, uint64_t start);

/* Let go of the saved nodes that lie `depth` levels below the top, or deeper: they are loaded again by need. The tree's
 * owner alone may; what others hold too stays theirs. */
void vv_top_let_go(struct vv_top *top, unsigned depth);

/* How many keys are below a heap position of a keyed node; when it is one, `slot` is whose. */
enum vv_node_keys { VV_KEYS_NONE, VV_KEYS_ONE, VV_KEYS_MANY };
enum vv_node_keys vv_node_keys_below(const struct vv_node *node, unsigned position, unsigned *slot);

/* The saved form: docs/format.md, page tree node. Decoding believes nothing and hashes what it made. */
void vv_node_encode(const struct vv_node *node, struct vv_bytes *out);
varve_status vv_node_decode(const void *bytes, size_t size, struct vv_node **node);

/* The siblings on a way up, as proofs hold them: a bit for each, lowest first, 1 where it is not zero, in whole
 * bytes; then those that are not zero. docs/format.md, proofs. */
enum { VV_SIBLINGS_MAX = 256 };
void vv_siblings_put(struct vv_bytes *proof, const uint8_t (*siblings)[VV_HASH_SIZE], size_t count);
void vv_siblings_get(struct vv_reader *proof, uint8_t (*siblings)[VV_HASH_SIZE], size_t count);

#endif
