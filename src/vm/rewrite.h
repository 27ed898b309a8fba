/* rewrite.h - make a module resumable by a stock engine, and say how.
 *
 * A fresh instance of the rewritten module, given a memory image and the instance state that the plan names,
 * is exactly the instance from which those were taken. Laws:
 *   (R1) No index space shifts: imported memories, tables, globals and tags become the first definitions of
 *        their space; all that is added is appended.
 *   (R2) The bodies of functions are copied byte for byte, and custom sections with them.
 *   (R3) Instantiation runs no code of the guest and writes no byte of memory. The host writes the plan's
 *        `writes` and calls its `start`, once, at deploy.
 *   (R4) Every name added begins with "varve:", and a module that exports such a name is refused.
 *
 * The plan is a function of the original bytes and the options alone: it is never stored, but computed again.
 * Cache keys of compiled code must cover VV_REWRITE_VERSION and the values given for imported globals.
 *
 * Order at deploy: vv_wasm_read (limits) - vv_rewrite_refusals for all that is refused, or leave it to
 * vv_rewrite - let the engine validate the *original* bytes - vv_rewrite - compile `plan.code` - instantiate
 * with ample fuel over the image - write `writes` in order (the first out of bounds traps: offset and size
 * are u64, never wrapped) - call `start`.
 * Order at resume: instantiate with ample fuel over the image - set globals, then tables (grow, set), then
 * call the droppers of dropped segments - set the call's fuel. */
#ifndef VV_REWRITE_H
#define VV_REWRITE_H

#include "vm/wasm/wasm.h"

enum {
    VV_REWRITE_VERSION = 1, /* raised whenever the output for some module changes */
    VV_PLAN_NAME_SIZE = 24
};
#define VV_RESERVED_PREFIX "varve:"
/* Names that are always the same; those of globals, tables and segments are in the plan. */
#define VV_EXPORT_MEMORY "varve:m"    /* memory 0 */
#define VV_EXPORT_REFS "varve:refs"   /* table: the directory of functions */
#define VV_EXPORT_START "varve:start" /* () -> () */

/* Whether users may neither see nor call the export of this name. */
bool vv_export_is_reserved(const char *name, size_t size);

struct vv_import_value {
    const char *module, *name;
    struct vv_wasm_value value; /* a number of the global's type */
};

/* What the engine is configured for; others are refused by name, with the place. */
#define VV_REWRITE_FEATURES                                                                                 \
    (1u << VV_WASM_SIMD | 1u << VV_WASM_BULK_MEMORY | 1u << VV_WASM_REFERENCES | 1u << VV_WASM_TAIL_CALLS | \
     1u << VV_WASM_TYPED_REFERENCES)

struct vv_rewrite_options {
    const struct vv_import_value *values; /* for imported globals */
    size_t value_count;
    bool missing_is_zero; /* an imported number that has no value is 0; else it is refused by name */
    uint32_t features;    /* bits 1 << enum vv_wasm_feature; 0: VV_REWRITE_FEATURES */
};

/* Why a module cannot be deployed. */
struct vv_refusal {
    char *why;         /* a sentence without an end; owned */
    uint32_t function; /* VV_WASM_NONE: not in a function */
    size_t offset;     /* in the module; 0: nowhere in particular */
};
struct vv_refusals {
    struct vv_refusal *list;
    size_t count;
};
void vv_refusals_release(struct vv_refusals *refusals);

/* What vv_rewrite would refuse, the first hundred. VARVE_OK also when there is some. */
varve_status vv_rewrite_refusals(const struct vv_wasm *module, const struct vv_rewrite_options *options,
                                 struct vv_refusals *refusals);

/* A function that the rewritten module still imports. In the order of the engine's import list. */
struct vv_plan_import {
    struct vv_text module, name; /* a NUL follows */
    struct vv_signature signature;
};

/* An export of the original module, in its order. The index is the same in the rewritten one (R1). */
struct vv_plan_export {
    struct vv_text name; /* a NUL follows */
    enum vv_wasm_kind kind;
    uint32_t index;
    struct vv_signature signature; /* of a function; else empty */
};

/* A mutable global: state. */
struct vv_plan_global {
    uint32_t index;  /* original, and the same in the rewritten module */
    varve_type type; /* a number or VV_WASM_FUNCREF; of other references only null can be saved */
    struct vv_wasm_value initial;
    char name[VV_PLAN_NAME_SIZE]; /* exported as */
};

/* A table that code can change: state. */
struct vv_plan_table {
    uint32_t index;
    varve_type type;
    bool nullable;
    struct vv_wasm_range range;
    char name[VV_PLAN_NAME_SIZE];
};

/* A passive segment whose drop can be seen: state. Calling `probe`, () -> (), traps if and only if it was
 * dropped (and changes nothing); calling `drop` drops it. */
struct vv_plan_segment {
    bool is_element; /* else data */
    uint32_t index;
    char probe[VV_PLAN_NAME_SIZE], drop[VV_PLAN_NAME_SIZE];
};

/* An active data segment, to be written at deploy: `bytes` of the *original* module to `offset` in memory.
 * One of size 0 still has to fit. */
struct vv_plan_write {
    uint64_t offset;
    struct vv_span bytes;
};

struct vv_plan {
    struct vv_bytes code; /* the rewritten module; vv_bytes_release it when it is compiled, if you like */

    bool has_memory;             /* then exported as VV_EXPORT_MEMORY */
    struct vv_wasm_range memory; /* in WASM pages, as declared: max is ours to check */

    struct vv_plan_import *imports;
    struct vv_plan_export *exports;
    struct vv_plan_global *globals; /* by index, ascending; likewise all below */
    struct vv_plan_table *tables;
    struct vv_plan_segment *segments; /* data before elements */
    struct vv_plan_write *writes;     /* in the order of writing */
    /* The directory: entry i of the table VV_EXPORT_REFS is function refs[i]; ascending. A funcref in a
     * global or table that is not among them is no state of this module. Empty, and no such table, when
     * neither funcref globals nor changed tables exist. */
    uint32_t *refs;
    uint32_t import_count, export_count, global_count, table_count, segment_count, write_count, ref_count;
    bool has_refs;

    bool has_start;              /* then exported as VV_EXPORT_START */
    uint32_t start;              /* its original index */
    bool is_contract;            /* see vv_wasm_is_contract */
    uint64_t argument_buffer;    /* the value of `A`, if it is one */
    uint32_t functions_appended; /* probes and droppers */

    uint32_t *exports_by_name;
    char *texts; /* what the texts and signatures above lie in */
    varve_type *values;
};

/* Rewrite `module` and make the plan. The plan is self-contained: module and bytes may go, but `writes` are
 * spans of the bytes.
 *
 * On VARVE_OK the caller ends it with vv_plan_release. VARVE_REFUSED: the words give the first reasons.
 * VARVE_INVALID: what only validation would have noticed. */
varve_status vv_rewrite(const struct vv_wasm *module, const struct vv_rewrite_options *options,
                        struct vv_plan *plan);
void vv_plan_release(struct vv_plan *plan); /* a zeroed one is fine */

/* The export of the original module with this name, or NULL. */
const struct vv_plan_export *vv_plan_find_export(const struct vv_plan *plan, const char *name, size_t size);

#endif
