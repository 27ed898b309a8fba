/* table.c - see table.h. A slot is {value, key, one byte: taken?}; a chain of probes has no gaps, because a
 * removal moves back what stands behind it, so there are no tombstones to clean up. */
#include "base/table.h"

#include <string.h>

#include "base/alloc.h"

enum { FIRST_CAPACITY = 8 };

static size_t slot_size(const struct vv_table *table)
{
    return (sizeof(union vv_value) + table->key_size + 1 + 7) & ~(size_t)7;
}

static uint8_t *slot_at(const struct vv_table *table, size_t index)
{
    return table->slots + index * slot_size(table);
}

static uint8_t *key_in(uint8_t *slot)
{
    return slot + sizeof(union vv_value);
}

static uint8_t *taken_in(const struct vv_table *table, uint8_t *slot)
{
    return key_in(slot) + table->key_size;
}

static uint64_t mix(uint64_t hash)
{
    hash = (hash ^ hash >> 32) * UINT64_C(0xd6e8feb86659fd93);
    hash = (hash ^ hash >> 29) * UINT64_C(0xa0761d6478bd642f);
    return hash ^ hash >> 32;
}

/* Where the search for `key` begins. Guests choose some keys, so the order also depends on where the heap
 * put the slots: a set of keys that all collide cannot be prepared. */
static size_t home_of(const struct vv_table *table, const uint8_t *key)
{
    uint64_t hash = mix((uint64_t)(uintptr_t)table->slots);

    for (size_t at = 0; at < table->key_size; at += 8) {
        const size_t left = table->key_size - at;
        uint64_t word = 0;
        memcpy(&word, key + at, left < 8 ? left : 8);
        hash = mix(hash ^ word);
    }
    return (size_t)hash & (table->capacity - 1);
}

/* The slot that holds `key`, or the free one where it would go. There is always a free one. */
static uint8_t *find(const struct vv_table *table, const void *key)
{
    for (size_t index = home_of(table, key);; index = (index + 1) & (table->capacity - 1)) {
        uint8_t *slot = slot_at(table, index);
        if (!*taken_in(table, slot) || memcmp(key_in(slot), key, table->key_size) == 0)
            return slot;
    }
}

void vv_table_init(struct vv_table *table, size_t key_size)
{
    VV_ASSERT(key_size > 0);
    *table = (struct vv_table){ .key_size = key_size };
}

void vv_table_release(struct vv_table *table)
{
    vv_free(table->slots);
    *table = (struct vv_table){ .key_size = table->key_size };
}

union vv_value *vv_table_get(const struct vv_table *table, const void *key)
{
    if (table->count == 0)
        return NULL;
    uint8_t *slot = find(table, key);
    return *taken_in(table, slot) ? (union vv_value *)(void *)slot : NULL;
}

static varve_status grow(struct vv_table *table)
{
    struct vv_table larger = { .key_size = table->key_size,
                               .capacity = table->capacity == 0 ? FIRST_CAPACITY : table->capacity * 2,
                               .count = table->count };
    const size_t size = slot_size(table);
    const varve_status rc = vv_alloc(&larger.slots, larger.capacity, size);

    if (rc != VARVE_OK)
        return rc;
    for (size_t index = 0; index < table->capacity; index++) {
        uint8_t *slot = slot_at(table, index);
        if (*taken_in(table, slot))
            memcpy(find(&larger, key_in(slot)), slot, size);
    }
    vv_free(table->slots);
    *table = larger;
    return VARVE_OK;
}

varve_status vv_table_reserve(struct vv_table *table, size_t more)
{
    varve_status rc = VARVE_OK;

    while (rc == VARVE_OK && table->count + more > table->capacity / 4 * 3)
        rc = grow(table);
    return rc;
}

varve_status vv_table_put(struct vv_table *table, const void *key, union vv_value value)
{
    varve_status rc = VARVE_OK;
    union vv_value *present = vv_table_get(table, key);

    if (present != NULL) {
        *present = value;
        return VARVE_OK;
    }
    if (table->count >= table->capacity / 4 * 3)
        TRY(grow(table));
    uint8_t *slot = find(table, key);
    memcpy(slot, &value, sizeof value);
    memcpy(key_in(slot), key, table->key_size);
    *taken_in(table, slot) = 1;
    table->count++;
out:
    return rc;
}

bool vv_table_remove(struct vv_table *table, const void *key, union vv_value *value)
{
    const size_t mask = table->capacity - 1;
    const size_t size = slot_size(table);
    const union vv_value *present = vv_table_get(table, key);

    if (present == NULL)
        return false;
    if (value != NULL)
        *value = *present;
    size_t hole = (size_t)((const uint8_t *)present - table->slots) / size;
    for (size_t index = (hole + 1) & mask;; index = (index + 1) & mask) {
        uint8_t *slot = slot_at(table, index);
        if (!*taken_in(table, slot))
            break;
        /* It may fill the hole unless its search begins behind the hole, and so would no longer pass it. */
        const size_t home = home_of(table, key_in(slot));
        if (((index - home) & mask) >= ((index - hole) & mask)) {
            memcpy(slot_at(table, hole), slot, size);
            hole = index;
        }
    }
    memset(slot_at(table, hole), 0, size);
    table->count--;
    return true;
}

bool vv_table_next(const struct vv_table *table, size_t *cursor, const void **key, union vv_value **value)
{
    while (*cursor < table->capacity) {
        uint8_t *slot = slot_at(table, (*cursor)++);
        if (*taken_in(table, slot)) {
            *key = key_in(slot);
            *value = (union vv_value *)(void *)slot;
            return true;
        }
    }
    return false;
}
