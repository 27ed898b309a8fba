/* parse.h - a module while it is being read, as the files of this folder share it.
 *
 *   binary    numbers and names as they are written
 *   wasm      the description of a module, and what may be asked of it
 *   constant  constant expressions
 *   parse     words of what is wrong; vectors and names
 *   type      value types, and the section of types
 *   opcode    which instructions there are, and what follows each
 *   code      the bodies of functions, one instruction after the other
 *   read      the sections, in their order                             [vv_wasm_read]
 * One reader walks the whole module; while it is in a section its `size` is that section's end, so that no field can
 * leave its section. A reader that went bad answers zeros, so every loop that reads also looks at `bad`. */
#ifndef VV_WASM_PARSE_H
#define VV_WASM_PARSE_H

#include "vm/wasm/wasm.h"

struct vv_parse {
    struct vv_wasm *module;
    struct vv_wasm_limits limits;
    struct vv_reader reader;
    const char *what;       /* the section that is being read, for messages */
    uint32_t import;        /* whose thing is being read, or VV_WASM_NONE: one that the module defines */
    uint64_t table_entries; /* of all tables so far */
};

/* ---- raising (parse.c) ---- */

varve_status vv_parse_invalid(const struct vv_parse *p, const char *why); /* where the reader stands */
varve_status vv_parse_invalid_at(const struct vv_parse *p, size_t offset, const char *why);
varve_status vv_parse_cut_short(const struct vv_parse *p);
varve_status vv_parse_whole(const struct vv_parse *p); /* VARVE_OK unless it was cut short */
varve_status vv_parse_over_limit(uint64_t count, const char *what, uint64_t limit);

/* ---- vectors and names (parse.c) ---- */

/* A vector's length. Each entry takes a byte at least, so that no count can be larger than what is left. */
varve_status vv_parse_count(struct vv_parse *p, const char *what, uint64_t limit, uint32_t *count);

/* A vector: its length, then `read_entry` for each. */
varve_status vv_parse_each(struct vv_parse *p, const char *what, uint64_t limit,
                           varve_status (*read_entry)(struct vv_parse *p));

/* See that one more fits below the limit. */
varve_status vv_parse_room(uint32_t count, const char *what, uint64_t limit);

/* One more zeroed element at the end of the array at `array` (the address of the pointer), which holds `*count`. */
varve_status vv_parse_grow(void *array, uint32_t *count, size_t size);
/* Likewise; `out` points to it. */
#define VV_PARSE_APPEND(array, count, out)                          \
    (vv_parse_grow(&(array), &(count), sizeof *(array)) == VARVE_OK \
         ? ((out) = &(array)[(count)-1], VARVE_OK)                  \
         : VARVE_MEMORY)

varve_status vv_parse_text(struct vv_parse *p, struct vv_text *text);

/* The bytes from `offset` to where the reader stands. */
static inline struct vv_span vv_parse_span(const struct vv_parse *p, size_t offset)
{
    return (struct vv_span){ .offset = offset, .size = p->reader.offset - offset };
}

/* ---- types (type.c) ---- */

struct vv_value_type {
    varve_type type;
    bool nullable;
    bool is_concrete; /* a reference to type `concrete` */
    uint32_t concrete;
};

/* A value type as it is written; of a concrete one `type` is not known yet. None: `bad`. */
struct vv_value_type vv_parse_type_form(struct vv_reader *reader);

/* Types of a section after the types. */
varve_status vv_parse_value_type(struct vv_parse *p, struct vv_value_type *type);
varve_status vv_parse_reference_type(struct vv_parse *p, varve_type *type, bool *nullable,
                                     struct vv_span *span);
varve_status vv_parse_function_type(struct vv_parse *p, uint32_t *type);

varve_status vv_parse_type_section(struct vv_parse *p);

/* ---- code (code.c) ---- */

varve_status vv_parse_code_section(struct vv_parse *p);

#endif
