/* state.h - what one commit holds: modules by id as a trie that gives the root, and the named values.
 *
 * A state is persistent as its trees are: a copy costs nothing and shares all that neither changes. Modules are
 * immutable and counted; those of a stored commit are loaded when first asked for, by the layout that knows
 * where their entries lie. Root: H(STATE, trie top | meta hash), docs/format.md.
 *
 * Threads: a state is one thread's; states that share modules and nodes may live on different threads. */
#ifndef VV_STATE_H
#define VV_STATE_H

#include "base/table.h"
#include "page/pagetree.h"
#include "page/trie.h"

enum { VV_NAME_MAX = 127, VV_META_KEY_MAX = 255, VV_META_VALUE_MAX = 4096 };

/* Keys that begin so are varve's own: not listed, not settable from outside, but part of the state. */
#define VV_META_HIDDEN "varve:"

/* A module or image as a state holds it. Immutable once a state has it. */
struct vv_module {
    unsigned _Atomic holders;
    varve_module_id id;
    varve_kind kind;
    char name[VV_NAME_MAX + 1]; /* "" when it was given an id instead */
    uint8_t code[VV_HASH_SIZE]; /* zeros: an image */
    uint8_t owner[32];
    uint64_t code_size; /* for people; not hashed */
    uint64_t globals;   /* mutable globals; for people; not hashed */
    /* The VM's part of the descriptor: args, env, values of imported globals, what answers imports. */
    uint8_t *extra;
    size_t extra_size;
    /* Instance state in canonical form (vm/rewrite.h); empty for an image. */
    uint8_t *instance;
    size_t instance_size;
    struct vv_pagetree memory; /* page_count * 4096 is the length */
};

varve_status vv_module_new(struct vv_module **module); /* one holder, all zero */
/* A copy to be changed: same fields, own bytes, shared tree. */
varve_status vv_module_clone(const struct vv_module *module, struct vv_module **clone);
void vv_module_hold(struct vv_module *module);
void vv_module_drop(struct vv_module *module);                                     /* NULL is fine */
varve_status vv_module_leaf(struct vv_module *module, uint8_t leaf[VV_HASH_SIZE]); /* its leaf in the trie */

/* The entry of a module in records and checkpoints: everything but the page tree's content. `top_address` is
 * where its top node was saved (0: not saved, the directory that follows tells). docs/format.md, entries. */
varve_status vv_module_encode(struct vv_module *module, uint64_t top_address, struct vv_bytes *out);
/* Believes nothing; the tree is opened at the address inside, over `nodes`, or left empty when it is 0. */
varve_status vv_module_decode(struct vv_reader *reader, const struct vv_node_source *nodes,
                              struct vv_module **module, uint64_t *top_address);

/* Loads the module whose entry the layout placed at `locator`. */
struct vv_module_source {
    varve_status (*load)(void *context, const varve_module_id *id, uint64_t locator,
                         struct vv_module **module);
    void *context;
};

/* Named values, sorted by key bytes; few by design, so an array. Immutable pairs are shared by holders. */
struct vv_meta_pair {
    unsigned _Atomic holders;
    uint16_t key_size, value_size;
    uint8_t *value;
    char key[VV_META_KEY_MAX + 1];
};

/* Modules in memory, by id; holds each. What several states share does not change. */
struct vv_known {
    unsigned _Atomic holders;
    struct vv_table table;
};

struct vv_state {
    struct vv_trie trie;    /* key: module id; hash: module leaf; locator: of the entry, 0: only in memory */
    struct vv_known *fresh; /* modules loaded or set here lately; copied when it is shared and must change */
    struct vv_known *older; /* those of before, behind `fresh`; never changes; NULL: none */
    struct vv_meta_pair **meta;
    size_t meta_count;
    const struct vv_module_source *source;
};

varve_status vv_state_init(struct vv_state *state, const struct vv_node_source *nodes,
                           const struct vv_module_source *source); /* the empty state */
varve_status vv_state_copy(struct vv_state *copy, const struct vv_state *state);
void vv_state_release(struct vv_state *state);

/* The module, lent until the state is changed or released; NULL when there is none. */
varve_status vv_state_get(struct vv_state *state, const varve_module_id *id, struct vv_module **module);
/* Add or replace; the state takes a hold. */
varve_status vv_state_set(struct vv_state *state, struct vv_module *module);
varve_status vv_state_remove(struct vv_state *state, const varve_module_id *id);
/* The first module whose id is > after (NULL: the first of all); NULL at the end. */
varve_status vv_state_next(struct vv_state *state, const varve_module_id *after, struct vv_module **module);
varve_status vv_state_count(struct vv_state *state, uint64_t *modules);

const struct vv_meta_pair *vv_state_meta(const struct vv_state *state, const char *key); /* NULL: absent */
varve_status vv_state_set_meta(struct vv_state *state, const char *key, const void *value,
                               size_t size); /* 0: removes */
const struct vv_meta_pair *vv_state_next_meta(const struct vv_state *state, const char *after);

varve_status vv_state_root(struct vv_state *state, varve_root *root);
/* A proof (page/proof.h) of one page of one module, or of the module's absence. */
varve_status vv_state_prove(struct vv_state *state, const varve_module_id *id, uint64_t page,
                            const uint8_t bytes[VV_PAGE_SIZE], struct vv_bytes *proof);

#endif
