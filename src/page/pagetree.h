/* pagetree.h - the persistent tree of one memory: for every page its hash and where its bytes are.
 *
 * Radix 16. A version shares all nodes that it does not change with the version it came from; an all-zero
 * subtree is absent. One structure gives the memory's root, finds a page's bytes, finds the difference of two
 * versions in O(differences), and carries proofs. Nodes come from memory or, by need, from where
 * they were saved (`source`).
 *
 * A node is four levels of a binary Merkle tree. The number of radix levels follows from the page count alone
 * (least h >= 1 with 16^h >= pages), so a root is a function of the bytes and the length.
 *
 * Threads: a tree is changed by one thread; trees that share nodes may live on different threads (nodes are
 * immutable once shared, counted and loaded atomically). Once it was hashed (vv_pagetree_top or _root) and while
 * nobody changes it, a tree may be read by several threads at once. */
#ifndef VV_PAGETREE_H
#define VV_PAGETREE_H

#include "page/node.h"

struct vv_leaf {
    uint8_t hash[VV_HASH_SIZE]; /* of the page; never all zero */
    uint64_t locator;           /* where its bytes are; 0: not stored yet. Not part of any hash */
};

struct vv_pagetree {
    struct vv_top top;
    uint64_t page_count; /* indices are below this; at most VV_PAGETREE_PAGES_MAX */
    const struct vv_node_source *source;
};
enum { VV_PAGETREE_LEVELS = 13 };
#define VV_PAGETREE_PAGES_MAX ((UINT64_C(1) << 52) - 1) /* so that its size in bytes is a u64 */

/* An empty (all zero) tree of `page_count` pages. */
void vv_pagetree_init(struct vv_pagetree *tree, uint64_t page_count, const struct vv_node_source *source);
/* The tree whose top node was saved at `address` (0: all zero) and has the hash `top`. Reads nothing yet.
 * VARVE_CORRUPT when the three cannot belong together (as far as that shows without reading). */
varve_status vv_pagetree_open(struct vv_pagetree *tree, uint64_t page_count, uint64_t address,
                              const uint8_t top[VV_HASH_SIZE], const struct vv_node_source *source);
/* A second tree of the same content, in O(1) and what hashing the first still takes. */
void vv_pagetree_copy(struct vv_pagetree *copy, const struct vv_pagetree *tree);
void vv_pagetree_release(struct vv_pagetree *tree);

/* `leaf` and true; or false for a zero page. VARVE_MISUSE when index >= page_count. */
varve_status vv_pagetree_get(const struct vv_pagetree *tree, uint64_t index, struct vv_leaf *leaf,
                             bool *present);
/* Put a leaf, or make the page zero (NULL). On failure the tree is as before. */
varve_status vv_pagetree_set(struct vv_pagetree *tree, uint64_t index, const struct vv_leaf *leaf);
/* Say where a leaf's bytes are now; no hash changes. The leaf must be present. */
varve_status vv_pagetree_locate(struct vv_pagetree *tree, uint64_t index, uint64_t locator);
/* A way into a tree that is kept from one leaf to the next, for many leaves that lie near each other: those that are
 * named in order share most of it. While it is used nothing else is done with the tree. Start with vv_pagetree_way;
 * there is nothing to release. */
struct vv_pagetree_way {
    struct vv_pagetree *tree;
    uint64_t index;                           /* the leaf that it leads to */
    unsigned top, bottom;                     /* levels of the top, and of the lowest node; above top: none */
    struct vv_node *node[VV_PAGETREE_LEVELS]; /* by level; all are the tree's own */
};
static inline struct vv_pagetree_way vv_pagetree_way(struct vv_pagetree *tree)
{
    return (struct vv_pagetree_way){ .tree = tree, .bottom = 1 };
}
/* vv_pagetree_set and vv_pagetree_locate on such a way. `old` is the leaf that was there, all zero when there was
 * none. On failure the tree is as before, and the way may be gone on with. */
varve_status vv_pagetree_replace(struct vv_pagetree_way *way, uint64_t index, const struct vv_leaf *leaf,
                                 struct vv_leaf *old);
varve_status vv_pagetree_relocate(struct vv_pagetree_way *way, uint64_t index, uint64_t locator);
/* Change the length; pages beyond the new one go. On failure the tree is as before. */
varve_status vv_pagetree_resize(struct vv_pagetree *tree, uint64_t page_count);

/* Hash of the top node (zero hash when all zero), hashing what changed since it was last asked; and the memory
 * root: H(MEMORY, u64 bytes, top). */
varve_status vv_pagetree_top(struct vv_pagetree *tree, uint8_t top[VV_HASH_SIZE]);
varve_status vv_pagetree_root(struct vv_pagetree *tree, uint8_t root[VV_HASH_SIZE]);
/* The memory root of `page_count` pages whose tree has this top. */
void vv_memory_root(uint64_t page_count, const uint8_t top[VV_HASH_SIZE], uint8_t root[VV_HASH_SIZE]);

/* Walk present leaves in order from `first`. A status other than VARVE_OK from `each` stops and is returned. */
typedef varve_status (*vv_leaf_fn)(void *context, uint64_t index, const struct vv_leaf *leaf);
varve_status vv_pagetree_each(const struct vv_pagetree *tree, uint64_t first, vv_leaf_fn each, void *context);

/* Walk pages that differ, in order; NULL stands for a zero page (or one beyond the end). Equal subtrees are
 * skipped by pointer, address or hash without being loaded. `from` NULL: an all-zero tree. */
typedef varve_status (*vv_leaf_diff_fn)(void *context, uint64_t index, const struct vv_leaf *from,
                                        const struct vv_leaf *to);
varve_status vv_pagetree_diff(const struct vv_pagetree *from, const struct vv_pagetree *to,
                              vv_leaf_diff_fn each, void *context);
/* How many leaves are present; O(nodes). */
varve_status vv_pagetree_count(const struct vv_pagetree *tree, uint64_t *count);

/* Write every node that was never saved, children first; `put` stores the bytes and answers their address
 * (never 0). `address` is the top's (0: all zero). Shared nodes remember their address: a second save of an
 * unchanged tree writes nothing. All leaves must have locators. When `put` fails, or what it took in is dropped
 * later, nodes remember addresses that hold nothing: then call vv_pagetree_unsave. */
varve_status vv_pagetree_save(struct vv_pagetree *tree, vv_node_write_fn put, void *context,
                              uint64_t *address);

/* Forget every saved address >= `from`: what was written there never came to be. Addresses rise, so this undoes
 * one save exactly. It reaches the nodes of every tree that shares them. */
void vv_pagetree_unsave(struct vv_pagetree *tree, uint64_t from);
/* Forget every saved address below `start`: what lies there is to be saved again, with all that leads to it. */
varve_status vv_pagetree_forget_below(struct vv_pagetree *tree, uint64_t start);
/* Keep in memory no more of what was saved than `depth` levels. For the owner of a tree that nobody else reads now. */
void vv_pagetree_let_go(struct vv_pagetree *tree, unsigned depth);
/* Where the top was saved; 0: all zero, or changed since. */
uint64_t vv_pagetree_address(const struct vv_pagetree *tree);
/* How many radix levels `page_count` pages need: the least h >= 1 with 16^h >= pages. */
unsigned vv_pagetree_levels(uint64_t page_count);

/* Append the sibling hashes that lead from page `index` (present or zero) to the top: docs/format.md, proofs. */
varve_status vv_pagetree_prove(struct vv_pagetree *tree, uint64_t index, struct vv_bytes *proof);

#endif
