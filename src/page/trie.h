/* trie.h - a persistent map from 32-byte keys to {hash, locator, payload}: page tree nodes plus a leaf that
 * stands for a whole subtree of one key.
 *
 * The root is a function of the set {(key, hash)} alone: a subtree with one key is that key's leaf, at whatever
 * depth; an empty one is the zero hash; so neither order nor history shows. It serves the state (module id ->
 * leaf hash), and the commit index (id -> record, root -> newest record). */
#ifndef VV_TRIE_H
#define VV_TRIE_H

#include "page/node.h"

struct vv_item {
    uint8_t key[32];
    uint8_t hash[VV_HASH_SIZE]; /* never all zero; must bind the key, as the trie's hashes do not */
    uint64_t locator;           /* what the owner wants to find again; not part of any hash */
};

struct vv_trie {
    struct vv_top top;
    const struct vv_node_source *source;
};

void vv_trie_init(struct vv_trie *trie, const struct vv_node_source *source);
varve_status vv_trie_open(struct vv_trie *trie, uint64_t address, const uint8_t top[VV_HASH_SIZE],
                          const struct vv_node_source *source);
void vv_trie_copy(struct vv_trie *copy, const struct vv_trie *trie);
void vv_trie_release(struct vv_trie *trie);

varve_status vv_trie_get(const struct vv_trie *trie, const uint8_t key[32], struct vv_item *item,
                         bool *present);
/* Add or replace; remove (absent is fine). On failure the trie is as before. */
varve_status vv_trie_set(struct vv_trie *trie, const struct vv_item *item);
varve_status vv_trie_remove(struct vv_trie *trie, const uint8_t key[32]);
varve_status vv_trie_top(struct vv_trie *trie, uint8_t top[VV_HASH_SIZE]);
varve_status vv_trie_count(const struct vv_trie *trie, uint64_t *count);

/* The first item whose key is >= `from`, in key order (NULL: the first of all). `from` may be `item->key`. */
varve_status vv_trie_next(const struct vv_trie *trie, const uint8_t *from, struct vv_item *item,
                          bool *present);
/* Items that differ in hash, in key order; NULL: absent on that side. `from` NULL: the empty trie. */
typedef varve_status (*vv_item_diff_fn)(void *context, const struct vv_item *from, const struct vv_item *to);
varve_status vv_trie_diff(const struct vv_trie *from, const struct vv_trie *to, vv_item_diff_fn each,
                          void *context);

/* As vv_pagetree_save, _unsave, _forget_below, _let_go and _address. */
varve_status vv_trie_save(struct vv_trie *trie, vv_node_write_fn put, void *context, uint64_t *address);
void vv_trie_unsave(struct vv_trie *trie, uint64_t from);
varve_status vv_trie_forget_below(struct vv_trie *trie, uint64_t start);
void vv_trie_let_go(struct vv_trie *trie, unsigned depth);
uint64_t vv_trie_address(const struct vv_trie *trie);

/* Append the way from the place of `key` to the top (docs/format.md, proofs). `item` is what stands in that
 * place: the key's own item, or the only one of the subtree in which the key would lie (then the key is absent,
 * which only that item's own preimage shows to others), or nothing (`present` false: absent too). */
varve_status vv_trie_prove(struct vv_trie *trie, const uint8_t key[32], struct vv_bytes *proof,
                           struct vv_item *item, bool *present);

#endif
