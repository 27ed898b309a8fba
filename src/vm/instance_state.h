/* instance_state.h - what an instance holds besides its memory, as one canonical string of bytes.
 *
 * Mutable globals (bits), tables that code can change (function indices or null), and which passive segments
 * are dropped, all keyed by the *original* indices of the module, so that a later rewriter reads what an
 * earlier one wrote. The same values give the same bytes: they are hashed into the module's leaf.
 *
 *   u8 1             the format
 *   varint globals   then each: varint index, u8 type, value: 4, 8 or 16 bytes, or a reference
 *   varint tables    then each: varint index, u8 type, varint length, that many references
 *   varint segments  then each: u8 0 data, 1 element; varint index; u8 0 or 1 = dropped
 * A reference is a varint: 0 for null, else 1 + function.
 * Indices ascend within each list (data before elements); a decoder refuses anything else. */
#ifndef VV_INSTANCE_STATE_H
#define VV_INSTANCE_STATE_H

#include "vm/rewrite.h"

struct vv_state_global {
    uint32_t index;
    struct vv_wasm_value value;
};

struct vv_state_table {
    uint32_t index;
    varve_type type;
    uint32_t *entries; /* function index, or VV_WASM_NONE for null; owned */
    uint32_t length;
};

struct vv_state_segment {
    bool is_element, dropped;
    uint32_t index;
};

struct vv_instance_state {
    struct vv_state_global *globals;
    struct vv_state_table *tables;
    struct vv_state_segment *segments;
    uint32_t global_count, table_count, segment_count;
};

/* A state with a place for everything that `plan` names, in its order: globals at their initial values,
 * tables empty (vv_instance_state_resize gives them entries), segments not dropped. */
varve_status vv_instance_state_new(const struct vv_plan *plan, struct vv_instance_state *state);
void vv_instance_state_release(struct vv_instance_state *state); /* a zeroed one is fine */

/* Make `table` hold `length` entries; new ones are null. */
varve_status vv_instance_state_resize(struct vv_state_table *table, uint32_t length);

/* Append the bytes of `state` to `bytes`; VARVE_MEMORY when they do not fit. */
varve_status vv_instance_state_encode(const struct vv_instance_state *state, struct vv_bytes *bytes);

/* Read them again. `entries_max`: of all tables together, before anything is allocated.
 *
 * VARVE_CORRUPT: not the canonical bytes of any state. VARVE_NEWER: of a later format. */
varve_status vv_instance_state_decode(const void *bytes, size_t size, uint32_t entries_max,
                                      struct vv_instance_state *state);

/* Whether `state` can be given to an instance of `plan`: everything it names exists there, with the same
 * type, tables within their limits, references to functions of the directory. VARVE_CORRUPT names what does
 * not. What the plan names and the state does not stays as it was instantiated. */
varve_status vv_instance_state_check(const struct vv_instance_state *state, const struct vv_plan *plan);

#endif
