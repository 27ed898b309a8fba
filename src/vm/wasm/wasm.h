/* wasm.h - read a WebAssembly module, believing nothing.
 *
 * One pass over the sections, then one over the code, which knows the immediates of every instruction of
 * WebAssembly 3.0 (and of threads and legacy exceptions, so that they can be refused by name). It checks what
 * the rewriter relies on: bounds, order, counts, that every index it keeps names something. It does not check
 * types: that is the engine's validation, which must have passed before rewritten code is compiled.
 *
 * Nothing is copied but facts: texts and spans lie in the caller's bytes, which must outlive the module.
 *
 * Statuses: VARVE_INVALID, the bytes are no module. VARVE_REFUSED, they may be one, but a limit is exceeded
 * or an instruction is unknown; the words name the limit, or function and offset. Offsets count from the
 * start of the module. No recursion; every size is checked against a limit and against the bytes left before
 * it is used. */
#ifndef VV_WASM_H
#define VV_WASM_H

#include "base/bytes.h"

enum {
    VV_WASM_PAGE = 65536,
    VV_WASM_GLOBALS_MAX = 32768, /* the engine aborts the process beyond: no option raises these two */
    VV_WASM_SEGMENTS_MAX = 32768 /* that instructions name */
};

#define VV_WASM_NONE UINT32_MAX /* no index: nothing imported, a null reference */

/* Every limit has its name in the words of the refusal. 0 in varve_limits: the default here. Nothing that the
 * engine would refuse for its size alone gets past them, so that the words are ours; (e) marks its own
 * numbers. Besides: 1 000 sections, 99 tables, 10 000 tags, 32 768 globals. */
struct vv_wasm_limits {
    uint64_t code_bytes;    /* 64 MiB */
    uint32_t types;         /* 50 000; params and results of all of them together: 1 000 000 */
    uint32_t functions;     /* 200 000, imported ones included */
    uint32_t imports;       /* 10 000 */
    uint32_t exports;       /* 20 000 */
    uint32_t table_entries; /* 200 000 at the start, of all tables together */
    uint32_t params;        /* 1 000 of one function; as many results (e) */
    uint32_t locals;        /* 50 000 of one function, its params not included (e) */
    uint32_t nesting;       /* 20 000 blocks in one another */
    uint32_t branches;      /* 65 520 in one br_table (e) */
    uint32_t body_bytes;    /* 7 654 321 of one function (e) */
    uint32_t segments;      /* 99 999 of data; as many of elements (e, and one more for the rewriter) */
};

/* The defaults, with every non-zero field of `limits` (NULL: none) put in its place. */
struct vv_wasm_limits vv_wasm_limits_of(const varve_limits *limits);

/* Bytes of the module. */
struct vv_span {
    size_t offset, size;
};

/* UTF-8 (checked), lent. Where a struct says so, a NUL follows it; a NUL may also be inside. */
struct vv_text {
    const char *data;
    size_t size;
};

/* Value types are varve_type, continued: a reference's type is the kind of thing it refers to. */
enum vv_wasm_reference {
    VV_WASM_FUNCREF = VARVE_V128 + 1, /* any function type */
    VV_WASM_EXTERNREF,
    VV_WASM_EXNREF,
    VV_WASM_CONTREF,
    VV_WASM_ANYREF /* objects of the GC proposal */
};
static inline bool vv_wasm_is_number(varve_type type)
{
    return type >= VARVE_I32 && type <= VARVE_V128;
}
/* "i32", "funcref"... */
const char *vv_wasm_type_name(varve_type type);

struct vv_signature {
    const varve_type *params, *results; /* lent */
    uint32_t param_count, result_count;
    bool numbers; /* no reference among them: varve_value can hold all */
};

/* A value: of a global, of a constant expression. */
struct vv_wasm_value {
    varve_type type;
    uint32_t function; /* of a funcref: its index, or VV_WASM_NONE for null. Other references are null */
    uint8_t bits[16];  /* of a number: little-endian, the rest zero */
};

enum vv_wasm_kind {
    VV_WASM_FUNCTION = 0,
    VV_WASM_TABLE = 1,
    VV_WASM_MEMORY = 2,
    VV_WASM_GLOBAL = 3,
    VV_WASM_TAG = 4
};

enum vv_wasm_section_id {
    VV_WASM_CUSTOM_SECTION = 0,
    VV_WASM_TYPE_SECTION = 1,
    VV_WASM_IMPORT_SECTION = 2,
    VV_WASM_FUNCTION_SECTION = 3,
    VV_WASM_TABLE_SECTION = 4,
    VV_WASM_MEMORY_SECTION = 5,
    VV_WASM_GLOBAL_SECTION = 6,
    VV_WASM_EXPORT_SECTION = 7,
    VV_WASM_START_SECTION = 8,
    VV_WASM_ELEMENT_SECTION = 9,
    VV_WASM_CODE_SECTION = 10,
    VV_WASM_DATA_SECTION = 11,
    VV_WASM_DATA_COUNT_SECTION = 12,
    VV_WASM_TAG_SECTION = 13,
    VV_WASM_SECTION_IDS = 14
};
struct vv_wasm_section {
    enum vv_wasm_section_id id;
    struct vv_span whole, body; /* with and without id and size */
};

/* Where in the code something was first seen. */
struct vv_wasm_place {
    const char *instruction; /* "table.set"; NULL: nowhere */
    uint32_t function;
    size_t offset;
};

/* What a module uses beyond WebAssembly 1.0, each with the first place. */
enum vv_wasm_feature {
    VV_WASM_SIMD,
    VV_WASM_RELAXED_SIMD,
    VV_WASM_BULK_MEMORY, /* memory.init, copy, fill, data.drop and the table ones */
    VV_WASM_REFERENCES,  /* table.get, set, size, grow, fill; ref.null, is_null, func */
    VV_WASM_TYPED_REFERENCES,
    VV_WASM_TAIL_CALLS,
    VV_WASM_EXCEPTIONS,        /* try_table, throw, throw_ref */
    VV_WASM_LEGACY_EXCEPTIONS, /* try, catch, rethrow, delegate, catch_all */
    VV_WASM_THREADS,           /* atomic instructions */
    VV_WASM_GC,
    VV_WASM_WIDE_ARITHMETIC,
    VV_WASM_MULTI_MEMORY, /* a memory argument that names another memory than 0 */
    VV_WASM_MEMORY64,     /* has no place: the memory's own range tells */
    VV_WASM_FEATURES
};
const char *vv_wasm_feature_name(enum vv_wasm_feature feature);

enum {
    VV_WASM_FUNCTION_TYPE = 0x60,
    VV_WASM_STRUCT_TYPE = 0x5f,
    VV_WASM_ARRAY_TYPE = 0x5e,
    VV_WASM_CONT_TYPE = 0x5d
};
struct vv_wasm_type {
    uint8_t form;    /* VV_WASM_FUNCTION_TYPE or another's */
    bool plain;      /* no supertype, no group: equal to any that looks like it */
    uint32_t values; /* params, then results, in struct vv_wasm.values */
    uint32_t param_count, result_count;
};

struct vv_wasm_import {
    struct vv_text module, name;
    enum vv_wasm_kind kind;
    uint32_t index; /* in the index space of its kind */
    struct vv_span whole;
};

struct vv_wasm_function {
    uint32_t type;
    uint32_t import;     /* index among the imports, or VV_WASM_NONE; likewise below */
    struct vv_span body; /* locals and instructions; empty for an import */
    bool referenced;     /* an element, a constant or a ref.func names it: a reference to it can exist */
};

/* What the format calls limits; ours bear that name. */
struct vv_wasm_range {
    uint64_t min, max; /* max: valid if has_max */
    bool has_max, is64, shared;
};

struct vv_wasm_table {
    varve_type type;
    bool nullable;
    struct vv_wasm_range range;
    uint32_t import;
    struct vv_span whole;
    struct vv_span type_bytes;    /* the reference type, as it is written */
    struct vv_span init;          /* constant expression; size 0: none */
    struct vv_wasm_place changed; /* the first instruction that can change it */
};

struct vv_wasm_memory {
    struct vv_wasm_range range; /* in WASM pages */
    bool custom_page;           /* a page size of its own */
    uint32_t import;
};

struct vv_wasm_global {
    varve_type type;
    bool nullable, is_mutable;
    uint32_t import;
    struct vv_span whole;
    struct vv_span type_bytes;
    struct vv_span init; /* constant expression; size 0: imported */
};

struct vv_wasm_tag {
    uint32_t type, import;
};

struct vv_wasm_export {
    struct vv_text name;
    enum vv_wasm_kind kind;
    uint32_t index;
};

enum vv_wasm_mode { VV_WASM_ACTIVE, VV_WASM_PASSIVE, VV_WASM_DECLARED };

struct vv_wasm_element {
    enum vv_wasm_mode mode;
    uint32_t flags; /* as written: 0 to 7; bit 2: entries are constant expressions */
    varve_type type;
    uint32_t table; /* of an active one */
    uint32_t count;
    struct vv_span whole;
    struct vv_span offset;                /* constant expression; size 0 unless active */
    struct vv_span entries;               /* function indices, or constant expressions one after the other */
    struct vv_wasm_place inited, dropped; /* table.init, array.init_elem...; elem.drop */
    uint32_t inited_table; /* a table that a table.init puts it into; VV_WASM_NONE: only arrays */
};

struct vv_wasm_data {
    enum vv_wasm_mode mode;
    uint32_t memory;
    struct vv_span offset; /* constant expression; size 0 if passive */
    struct vv_span bytes;
    struct vv_wasm_place inited, dropped; /* memory.init, array.new_data...; data.drop */
};

struct vv_wasm {
    const uint8_t *bytes; /* the caller's */
    size_t size;
    struct vv_wasm_section *sections; /* in file order, custom ones too */
    struct vv_wasm_type *types;
    varve_type *values; /* of all types */
    struct vv_wasm_import *imports;
    /* Index spaces: imports first. */
    struct vv_wasm_function *functions;
    struct vv_wasm_table *tables;
    struct vv_wasm_memory *memories;
    struct vv_wasm_global *globals;
    struct vv_wasm_tag *tags;
    struct vv_wasm_export *exports;
    struct vv_wasm_element *elements;
    struct vv_wasm_data *datas;
    uint32_t section_count, type_count, value_count, import_count, function_count, table_count, memory_count,
        global_count, tag_count, export_count, element_count, data_count;
    uint32_t imported_functions;
    uint32_t start; /* function, or VV_WASM_NONE */
    bool has_data_count;
    uint32_t data_count_claimed;
    uint32_t datas_named, elements_named; /* segments that instructions name */
    bool uses_memory, calls_indirect;
    uint32_t deepest;                 /* nesting of blocks */
    struct vv_wasm_place gc_constant; /* the first constant expression that makes an object; no function */
    struct vv_wasm_place features[VV_WASM_FEATURES];
};

/* Read the module in `bytes`, which must outlive it.
 *
 * On VARVE_OK the caller ends it with vv_wasm_release. VARVE_INVALID, VARVE_REFUSED: see above. */
varve_status vv_wasm_read(const void *bytes, size_t size, const struct vv_wasm_limits *limits,
                          struct vv_wasm *module);
void vv_wasm_release(struct vv_wasm *module); /* a zeroed one is fine */

/* ---- asking ---- */

/* The section of this id (not CUSTOM), or NULL. */
const struct vv_wasm_section *vv_wasm_find_section(const struct vv_wasm *module, enum vv_wasm_section_id id);

/* The export of this name, or NULL. */
const struct vv_wasm_export *vv_wasm_find_export(const struct vv_wasm *module, const char *name, size_t size);

/* The type of a reference to heap type `heap` (a type index, or negative as it is written); 0: there is none.
 * `module` may be NULL for a negative one. */
varve_type vv_wasm_class_of_heap(const struct vv_wasm *module, int64_t heap);

/* The signature of function `index` (an index that module holds), lent by the module. */
struct vv_signature vv_wasm_signature(const struct vv_wasm *module, uint32_t index);

/* "i32 i64 -> i32": the form of varve_host_function. At most `capacity` bytes with the NUL; an end that did
 * not fit is "...". Returns `text`. */
const char *vv_signature_format(const struct vv_signature *signature, char *text, size_t capacity);

/* Whether it speaks the contract convention: exports an immutable i32 global `A`, and every function that it
 * exports is (i32) -> i32. */
bool vv_wasm_is_contract(const struct vv_wasm *module);

/* The name of function `index`, from the name section, else from an import or export; empty when it has none.
 * Walks the name section: for messages. */
struct vv_text vv_wasm_function_name(const struct vv_wasm *module, uint32_t index);

/* How many bytes of a text to show in a message: not over 100, and no half character. */
int vv_text_shown(struct vv_text text);

/* "function 12 (malloc), offset 0x1a2b", for messages. Returns `text`. */
const char *vv_wasm_place_format(const struct vv_wasm *module, const struct vv_wasm_place *place, char *text,
                                 size_t capacity);

#endif
