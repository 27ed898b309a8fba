/* table.h - a hash table from keys of one fixed size to a pointer or a number; keys are copied, values are the
 * caller's. Open addressing, power-of-two, grows at 3/4. Iteration order is not promised: sort what is stored. */
#ifndef VV_TABLE_H
#define VV_TABLE_H

#include "base/error.h"

struct vv_table {
    uint8_t *slots;
    size_t key_size, capacity, count;
};
union vv_value {
    void *pointer;
    uint64_t number;
};

void vv_table_init(struct vv_table *table, size_t key_size);
void vv_table_release(struct vv_table *table);
/* The value's place, lent until the next put or remove; NULL when absent. */
union vv_value *vv_table_get(const struct vv_table *table, const void *key);
varve_status vv_table_put(struct vv_table *table, const void *key, union vv_value value); /* replaces */
/* See that so many more can be put without failing. */
varve_status vv_table_reserve(struct vv_table *table, size_t more);
bool vv_table_remove(struct vv_table *table, const void *key, union vv_value *value); /* value may be NULL */
/* `cursor` starts at 0; false at the end. Nothing may be put or removed meanwhile. */
bool vv_table_next(const struct vv_table *table, size_t *cursor, const void **key, union vv_value **value);

#endif
