/* root.c - see root.h. */
#include "page/root.h"

#include <string.h>

void vv_module_leaf_hash(const struct vv_module_facts *facts, uint8_t out[VV_HASH_SIZE])
{
    struct vv_hasher hasher;

    vv_hasher_init(&hasher, VV_HASH_MODULE);
    vv_hasher_put(&hasher, facts->id, sizeof facts->id);
    vv_hasher_put(&hasher, facts->code, sizeof facts->code);
    vv_hasher_put(&hasher, facts->owner, sizeof facts->owner);
    vv_hasher_put(&hasher, facts->memory, sizeof facts->memory);
    vv_hasher_put(&hasher, facts->instance, sizeof facts->instance);
    vv_hasher_put(&hasher, facts->descriptor, sizeof facts->descriptor);
    vv_hasher_end(&hasher, out);
}

static void hash_or_zero(enum vv_hash_kind kind, const void *bytes, size_t size, uint8_t out[VV_HASH_SIZE])
{
    if (size == 0)
        memset(out, 0, VV_HASH_SIZE);
    else
        vv_hash(kind, bytes, size, out);
}

void vv_instance_hash(const void *bytes, size_t size, uint8_t out[VV_HASH_SIZE])
{
    hash_or_zero(VV_HASH_INSTANCE, bytes, size, out);
}

void vv_descriptor_hash(const void *bytes, size_t size, uint8_t out[VV_HASH_SIZE])
{
    hash_or_zero(VV_HASH_DESCRIPTOR, bytes, size, out);
}

void vv_meta_hash_begin(struct vv_meta_hasher *meta)
{
    vv_hasher_init(&meta->hasher, VV_HASH_META);
    meta->pairs = 0;
}

void vv_meta_hash_put(struct vv_meta_hasher *meta, const void *key, size_t key_size, const void *value,
                      size_t value_size)
{
    vv_hasher_u64(&meta->hasher, key_size);
    vv_hasher_put(&meta->hasher, key, key_size);
    vv_hasher_u64(&meta->hasher, value_size);
    vv_hasher_put(&meta->hasher, value, value_size);
    meta->pairs++;
}

void vv_meta_hash_end(const struct vv_meta_hasher *meta, uint8_t out[VV_HASH_SIZE])
{
    if (meta->pairs == 0)
        memset(out, 0, VV_HASH_SIZE);
    else
        vv_hasher_end(&meta->hasher, out);
}

void vv_state_root_hash(const uint8_t top[VV_HASH_SIZE], const uint8_t meta[VV_HASH_SIZE],
                        uint8_t out[VV_HASH_SIZE])
{
    struct vv_hasher hasher;

    vv_hasher_init(&hasher, VV_HASH_STATE);
    vv_hasher_put(&hasher, top, VV_HASH_SIZE);
    vv_hasher_put(&hasher, meta, VV_HASH_SIZE);
    vv_hasher_end(&hasher, out);
}

void vv_commit_id_hash(const uint8_t *parent, const uint8_t root[VV_HASH_SIZE], int64_t time_ns,
                       const void *message, size_t message_size, uint8_t out[VV_HASH_SIZE])
{
    struct vv_hasher hasher;

    vv_hasher_init(&hasher, VV_HASH_COMMIT);
    vv_hasher_put(&hasher, parent == NULL ? vv_hash_zero : parent, VV_HASH_SIZE);
    vv_hasher_put(&hasher, root, VV_HASH_SIZE);
    vv_hasher_u64(&hasher, (uint64_t)time_ns);
    vv_hasher_put(&hasher, message, message_size);
    vv_hasher_end(&hasher, out);
}

void vv_code_hash(const void *code, size_t size, uint8_t out[VV_HASH_SIZE])
{
    vv_hash(VV_HASH_CODE, code, size, out);
}

void vv_name_id(const char *name, uint8_t out[32])
{
    vv_hash(VV_HASH_NAME, name, strlen(name), out);
}
