/* root.h - what every id and root is the hash of: one function each, so that no two files spell a preimage.
 *
 * Layouts of the preimages and test vectors: docs/format.md, hashes and roots. The memory root of a page tree
 * is in pagetree.h. */
#ifndef VV_ROOT_H
#define VV_ROOT_H

#include "page/hash.h"

/* What a module's leaf in the state trie binds. */
struct vv_module_facts {
    uint8_t id[32], code[VV_HASH_SIZE], owner[32], memory[VV_HASH_SIZE]; /* memory: its root */
    uint8_t instance[VV_HASH_SIZE], descriptor[VV_HASH_SIZE];            /* by vv_instance_hash ... */
};
void vv_module_leaf_hash(const struct vv_module_facts *facts, uint8_t out[VV_HASH_SIZE]);

/* Nothing (size 0) has the zero hash. */
void vv_instance_hash(const void *bytes, size_t size, uint8_t out[VV_HASH_SIZE]);
void vv_descriptor_hash(const void *bytes, size_t size, uint8_t out[VV_HASH_SIZE]);

/* The named values: put each pair, in ascending order of key bytes. No pair at all: the zero hash. */
struct vv_meta_hasher {
    struct vv_hasher hasher;
    uint64_t pairs;
};
void vv_meta_hash_begin(struct vv_meta_hasher *meta);
void vv_meta_hash_put(struct vv_meta_hasher *meta, const void *key, size_t key_size, const void *value,
                      size_t value_size);
void vv_meta_hash_end(const struct vv_meta_hasher *meta, uint8_t out[VV_HASH_SIZE]);

/* The root of a state whose trie has this top. */
void vv_state_root_hash(const uint8_t top[VV_HASH_SIZE], const uint8_t meta[VV_HASH_SIZE],
                        uint8_t out[VV_HASH_SIZE]);
/* `parent` NULL: none, as 32 zeros. */
void vv_commit_id_hash(const uint8_t *parent, const uint8_t root[VV_HASH_SIZE], int64_t time_ns,
                       const void *message, size_t message_size, uint8_t out[VV_HASH_SIZE]);
void vv_code_hash(const void *code, size_t size, uint8_t out[VV_HASH_SIZE]);
void vv_name_id(const char *name, uint8_t out[32]); /* the module id that a name (UTF-8) stands for */

#endif
