/* wasm.c - see wasm.h.
 *
 *   wasm_read      headers of all sections, in file order                       [scan_sections]
 *                  the body of each but code, so that all index spaces are known [read_type_section ...]
 *                  the code, one body after the other                           [walk_body]
 * One reader walks the whole module; while it is in a section its `size` is that section's end, so that no
 * field can leave its section. A reader that went bad answers zeros, so every loop that reads also looks at
 * `bad`. */
#include "vm/wasm.h"

#include <stdio.h>

#include "base/alloc.h"

struct parse {
    struct vv_wasm *module;
    struct vv_wasm_limits limits;
    struct vv_reader reader;
    const char *what; /* the section that is being read, for messages */
    uint64_t table_entries;
    uint32_t data_names, element_names; /* segments that instructions name */
};

enum {
    TYPE_VALUES_MAX = 1000000,
    CONSTANT_DEPTH = 64,    /* values on the stack of a constant expression */
    TABLES_MAX = 99,        /* the engine takes 100, and the rewriter may add one */
    MEMORY32_PAGES = 65536, /* 4 GiB */
    TAGS_MAX = 10000,
    SECTIONS_MAX = 1000, /* custom ones included: each takes more of our memory than of the module */
    NAME_PARTS_MAX = 64  /* of a name section; a dozen are known */
};
#define MEMORY64_PAGES (UINT64_C(1) << 48)

/* ---- raising ---- */

static varve_status invalid_at(const struct parse *p, size_t offset, const char *why)
{
    return vv_fail(VARVE_INVALID, "not a valid module: %s, offset %#zx: %s", p->what, offset, why);
}

static varve_status invalid(const struct parse *p, const char *why)
{
    return invalid_at(p, p->reader.offset, why);
}

static varve_status cut_short(const struct parse *p)
{
    return invalid(p, "it ends early, or holds a number that is too long");
}

/* VARVE_OK unless something was read that is not there. */
static varve_status whole_so_far(const struct parse *p)
{
    return p->reader.bad ? cut_short(p) : VARVE_OK;
}

static varve_status over_limit(uint64_t count, const char *what, uint64_t limit)
{
    return vv_fail(VARVE_REFUSED, "%ju %s: the limit is %ju", (uintmax_t)count, what, (uintmax_t)limit);
}

/* ---- numbers ---- */

/* LEB128 of at most `bits` bits, signed or not; what is beyond them must be the sign's extension. */
static inline uint64_t read_leb(struct vv_reader *reader, unsigned bits, bool is_signed)
{
    uint64_t value = 0;
    unsigned shift = 0;
    uint8_t byte = 0;

    if (!reader->bad && reader->offset < reader->size && reader->data[reader->offset] < 0x40)
        return reader->data[reader->offset++]; /* one byte that is no negative number: nearly all of them */
    do {
        if (shift >= bits || reader->bad || reader->offset >= reader->size) {
            reader->bad = true;
            return 0;
        }
        byte = reader->data[reader->offset++];
        value |= (uint64_t)(byte & 0x7f) << shift;
        shift += 7;
    } while ((byte & 0x80) != 0);
    const bool negative = is_signed && (byte & 0x40) != 0;
    if (negative && shift < 64)
        value |= UINT64_MAX << shift;
    if (shift > bits) {
        /* The last byte holds bits that the number has not: they must repeat its sign, or be zero. */
        const unsigned used = 7 - (shift - bits) - (is_signed ? 1 : 0);
        const uint8_t beyond = (uint8_t)((byte & 0x7f) >> used);
        if (beyond != (negative ? 0x7f >> used : 0)) {
            reader->bad = true;
            return 0;
        }
    }
    return value;
}

uint32_t vv_wasm_read_u32(struct vv_reader *reader)
{
    return (uint32_t)read_leb(reader, 32, false);
}

uint64_t vv_wasm_read_u64(struct vv_reader *reader)
{
    return read_leb(reader, 64, false);
}

int64_t vv_wasm_read_s33(struct vv_reader *reader)
{
    return (int64_t)read_leb(reader, 33, true);
}

int64_t vv_wasm_read_s64(struct vv_reader *reader)
{
    return (int64_t)read_leb(reader, 64, true);
}

static inline uint8_t read_u8(struct vv_reader *reader)
{
    if (!reader->bad && reader->offset < reader->size)
        return reader->data[reader->offset++];
    reader->bad = true;
    return 0;
}

static inline uint8_t peek(const struct vv_reader *reader)
{
    return reader->offset < reader->size ? reader->data[reader->offset] : 0;
}

static struct vv_span span_from(const struct parse *p, size_t offset)
{
    return (struct vv_span){ .offset = offset, .size = p->reader.offset - offset };
}

/* A vector's length. Each entry takes a byte at least, so that no count can be larger than what is left. */
static varve_status read_count(struct parse *p, const char *what, uint64_t limit, uint32_t *count)
{
    *count = vv_wasm_read_u32(&p->reader);
    if (p->reader.bad || *count > vv_reader_left(&p->reader))
        return cut_short(p);
    return *count > limit ? over_limit(*count, what, limit) : VARVE_OK;
}

/* One more zeroed element at the end of the array at `array` (the address of the pointer), which holds
 * `*count`. It grows when the count is a power of two, so that no capacity need be kept. */
static varve_status grow_by_one(void *array, uint32_t *count, size_t size)
{
    uint8_t *base = NULL;

    if ((*count & (*count - 1)) == 0) {
        const varve_status rc = vv_resize(array, *count == 0 ? 1 : (size_t)*count * 2, size);
        if (rc != VARVE_OK)
            return rc;
    }
    memcpy(&base, array, sizeof base);
    memset(base + (size_t)*count * size, 0, size);
    ++*count;
    return VARVE_OK;
}
/* A pointer to the new last element. */
#define APPEND(array, count, out)                                                                           \
    (grow_by_one(&(array), &(count), sizeof *(array)) == VARVE_OK ? ((out) = &(array)[(count)-1], VARVE_OK) \
                                                                  : VARVE_MEMORY)

/* ---- texts ---- */

/* Whether the bytes are UTF-8: no longer forms, no surrogates, nothing over U+10FFFF. */
static bool is_utf8(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size;) {
        const uint8_t lead = data[i];
        const size_t more = lead < 0x80 ? 0 : lead < 0xc2 ? SIZE_MAX : lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
        if (more == SIZE_MAX || lead > 0xf4 || more > size - i - 1)
            return false;
        for (size_t k = 1; k <= more; k++) {
            if ((data[i + k] & 0xc0) != 0x80)
                return false;
        }
        if ((lead == 0xe0 && data[i + 1] < 0xa0) || (lead == 0xed && data[i + 1] > 0x9f) ||
            (lead == 0xf0 && data[i + 1] < 0x90) || (lead == 0xf4 && data[i + 1] > 0x8f))
            return false;
        i += 1 + more;
    }
    return true;
}

int vv_text_shown(struct vv_text text)
{
    size_t size = text.size < 100 ? text.size : 100;

    while (size < text.size && size > 0 && ((uint8_t)text.data[size] & 0xc0) == 0x80)
        size--;
    return (int)size;
}

static varve_status read_text(struct parse *p, struct vv_text *text)
{
    const uint32_t size = vv_wasm_read_u32(&p->reader);
    const uint8_t *data = vv_reader_take(&p->reader, size);

    if (data == NULL)
        return cut_short(p);
    if (!is_utf8(data, size))
        return invalid(p, "a name is not UTF-8");
    *text = (struct vv_text){ .data = (const char *)data, .size = size };
    return VARVE_OK;
}

/* ---- types ---- */

static const char *const type_names[] = {
    [VARVE_I32] = "i32",
    [VARVE_I64] = "i64",
    [VARVE_F32] = "f32",
    [VARVE_F64] = "f64",
    [VARVE_V128] = "v128",
    [VV_WASM_FUNCREF] = "funcref",
    [VV_WASM_EXTERNREF] = "externref",
    [VV_WASM_EXNREF] = "exnref",
    [VV_WASM_CONTREF] = "contref",
    [VV_WASM_ANYREF] = "anyref",
};

const char *vv_wasm_type_name(varve_type type)
{
    VV_ASSERT((size_t)type < sizeof type_names / sizeof type_names[0]);
    VV_ASSERT(type_names[type] != NULL);
    return type_names[type];
}

const char *vv_wasm_kind_name(enum vv_wasm_kind kind)
{
    static const char *const names[] = { "function", "table", "memory", "global", "tag" };

    VV_ASSERT((size_t)kind < sizeof names / sizeof names[0]);
    return names[kind];
}

const char *vv_wasm_feature_name(enum vv_wasm_feature feature)
{
    static const char *const names[VV_WASM_FEATURES] = {
        [VV_WASM_SIMD] = "SIMD",
        [VV_WASM_RELAXED_SIMD] = "relaxed SIMD",
        [VV_WASM_BULK_MEMORY] = "bulk memory",
        [VV_WASM_REFERENCES] = "reference types",
        [VV_WASM_TYPED_REFERENCES] = "typed references",
        [VV_WASM_TAIL_CALLS] = "tail calls",
        [VV_WASM_EXCEPTIONS] = "exceptions",
        [VV_WASM_LEGACY_EXCEPTIONS] = "legacy exceptions",
        [VV_WASM_THREADS] = "threads",
        [VV_WASM_GC] = "garbage collection",
        [VV_WASM_WIDE_ARITHMETIC] = "wide arithmetic",
        [VV_WASM_MULTI_MEMORY] = "more than one memory",
        [VV_WASM_MEMORY64] = "memories addressed with 64 bits",
    };

    VV_ASSERT((size_t)feature < VV_WASM_FEATURES);
    return names[feature];
}

/* What kind of thing a heap type stands for; 0: there is no such heap type. */
static varve_type class_of_heap(const struct vv_wasm *module, int64_t heap)
{
    if (heap >= 0) {
        if ((uint64_t)heap >= module->type_count)
            return 0;
        const uint8_t form = module->types[heap].form;
        return form == VV_WASM_FUNCTION_TYPE ? (varve_type)VV_WASM_FUNCREF
               : form == VV_WASM_CONT_TYPE   ? (varve_type)VV_WASM_CONTREF
                                             : (varve_type)VV_WASM_ANYREF;
    }
    if (heap < -64)
        return 0;
    switch (heap & 0x7f) {
    case 0x70: /* func */
    case 0x73: /* nofunc */
        return (varve_type)VV_WASM_FUNCREF;
    case 0x6f: /* extern */
    case 0x72: /* noextern */
        return (varve_type)VV_WASM_EXTERNREF;
    case 0x69: /* exn */
    case 0x74: /* noexn */
        return (varve_type)VV_WASM_EXNREF;
    case 0x68: /* cont */
    case 0x75: /* nocont */
        return (varve_type)VV_WASM_CONTREF;
    case 0x6a: /* array */
    case 0x6b: /* struct */
    case 0x6c: /* i31 */
    case 0x6d: /* eq */
    case 0x6e: /* any */
    case 0x71: /* none */
        return (varve_type)VV_WASM_ANYREF;
    default:
        return 0;
    }
}

struct value_type {
    varve_type type;
    bool nullable;
    bool is_concrete; /* then `type` is only known when all types are: see resolve_types */
    uint32_t concrete;
};

static struct value_type read_value_type_form(struct vv_reader *reader)
{
    static const varve_type numbers[] = { VARVE_V128, VARVE_F64, VARVE_F32, VARVE_I64, VARVE_I32 };
    const uint8_t byte = read_u8(reader);
    struct value_type result = { .nullable = true };
    int64_t heap = (int64_t)byte - 0x80;

    if (byte >= 0x7b && byte <= 0x7f) {
        result.type = numbers[byte - 0x7b];
        return result;
    }
    if (byte == 0x63 || byte == 0x64) {
        result.nullable = byte == 0x63;
        heap = vv_wasm_read_s33(reader);
        if (heap >= 0) {
            result.is_concrete = true;
            result.concrete = (uint32_t)heap;
            return result;
        }
    }
    /* No module is needed for what is not concrete; longer forms of the number are not legal here. */
    result.type = heap < -64 || heap >= 0 ? 0 : class_of_heap(NULL, heap);
    if (result.type == 0)
        reader->bad = true;
    return result;
}

/* A value type of a section after the types. */
static varve_status read_value_type(struct parse *p, struct value_type *result)
{
    *result = read_value_type_form(&p->reader);
    if (result->is_concrete)
        result->type = class_of_heap(p->module, result->concrete);
    return p->reader.bad || result->type == 0 ? invalid(p, "no such value type") : VARVE_OK;
}

static varve_status read_reference_type(struct parse *p, varve_type *type, bool *nullable,
                                        struct vv_span *span)
{
    const size_t start = p->reader.offset;
    struct value_type value = { .type = 0 };
    const varve_status rc = read_value_type(p, &value);

    if (rc != VARVE_OK)
        return rc;
    if (vv_wasm_is_number(value.type))
        return invalid_at(p, start, "a reference type is wanted here");
    *type = value.type;
    *nullable = value.nullable;
    *span = span_from(p, start);
    return VARVE_OK;
}

/* Until all types are known, a reference to type n is kept as CONCRETE + n. */
enum { CONCRETE = 0x10000 };

static varve_status read_type_values(struct parse *p, const char *what, uint32_t *count)
{
    struct vv_wasm *const m = p->module;
    varve_status rc = VARVE_OK;

    TRY(read_count(p, what, p->limits.params, count));
    for (uint32_t i = 0; i < *count; i++) {
        varve_type *value = NULL;
        if (m->value_count >= TYPE_VALUES_MAX)
            return over_limit((uint64_t)m->value_count + 1, "params and results of all types",
                              TYPE_VALUES_MAX);
        TRY(APPEND(m->values, m->value_count, value));
        const struct value_type form = read_value_type_form(&p->reader);
        if (p->reader.bad || (form.is_concrete && form.concrete >= p->limits.types))
            return invalid(p, "no such value type");
        *value = form.is_concrete ? (varve_type)(CONCRETE + form.concrete) : form.type;
    }
out:
    return rc;
}

/* A field of a struct or array: a value type or a packed one, and whether it can change. */
static varve_status skip_field(struct parse *p)
{
    if (peek(&p->reader) == 0x78 || peek(&p->reader) == 0x77)
        (void)read_u8(&p->reader);
    else
        (void)read_value_type_form(&p->reader);
    (void)read_u8(&p->reader);
    return whole_so_far(p);
}

/* Types in groups and subtypes belong to garbage collection, without any of its instructions: an engine without a
 * collector may accept them all the same, and abort the process in an indirect call to one. */
static void note_type_form(struct parse *p, const char *form)
{
    struct vv_wasm_place *const place = &p->module->features[VV_WASM_GC];

    if (place->instruction == NULL)
        *place = (struct vv_wasm_place){ .instruction = form,
                                         .function = VV_WASM_NONE,
                                         .offset = p->reader.offset };
}

static varve_status read_type(struct parse *p, bool in_group)
{
    struct vv_wasm *const m = p->module;
    varve_status rc = VARVE_OK;
    struct vv_wasm_type type = { .plain = !in_group };
    struct vv_wasm_type *place = NULL;
    uint32_t count = 0;

    if (m->type_count >= p->limits.types)
        return over_limit((uint64_t)m->type_count + 1, "types", p->limits.types);
    if (peek(&p->reader) == 0x50 || peek(&p->reader) == 0x4f) { /* a subtype, open or final */
        type.plain = false;
        note_type_form(p, "a subtype");
        (void)read_u8(&p->reader);
        TRY(read_count(p, "supertypes", 1, &count));
        for (; count > 0; count--)
            (void)vv_wasm_read_u32(&p->reader);
    }
    type.form = read_u8(&p->reader);
    switch (type.form) {
    case VV_WASM_FUNCTION_TYPE:
        type.values = m->value_count;
        TRY(read_type_values(p, "params of a function", &type.param_count));
        TRY(read_type_values(p, "results of a function", &type.result_count));
        break;
    case VV_WASM_STRUCT_TYPE:
        note_type_form(p, "a struct type");
        TRY(read_count(p, "fields of a struct", 10000, &count));
        for (; count > 0; count--)
            TRY(skip_field(p));
        break;
    case VV_WASM_ARRAY_TYPE:
        note_type_form(p, "an array type");
        TRY(skip_field(p));
        break;
    case VV_WASM_CONT_TYPE:
        (void)vv_wasm_read_s33(&p->reader);
        break;
    default:
        return invalid(p, "no such form of type");
    }
    TRY(whole_so_far(p));
    TRY(APPEND(m->types, m->type_count, place));
    *place = type;
out:
    return rc;
}

/* Types may refer to later ones of their group: what kind of reference each is, is known only now. */
static varve_status resolve_types(struct parse *p)
{
    struct vv_wasm *const m = p->module;

    for (uint32_t i = 0; i < m->value_count; i++) {
        if ((uint32_t)m->values[i] < CONCRETE)
            continue;
        m->values[i] = class_of_heap(m, (int64_t)((uint32_t)m->values[i] - CONCRETE));
        if (m->values[i] == 0)
            return invalid(p, "a reference to a type that does not exist");
    }
    return VARVE_OK;
}

static varve_status read_type_section(struct parse *p)
{
    varve_status rc = VARVE_OK;
    uint32_t entries = 0;

    TRY(read_count(p, "types", p->limits.types, &entries));
    for (; entries > 0; entries--) {
        uint32_t count = 1;
        const bool in_group = peek(&p->reader) == 0x4e;
        if (in_group) {
            note_type_form(p, "a group of types");
            (void)read_u8(&p->reader);
            TRY(read_count(p, "types", p->limits.types, &count));
        }
        for (; count > 0; count--)
            TRY(read_type(p, in_group));
    }
    TRY(resolve_types(p));
out:
    return rc;
}

static varve_status read_function_type(struct parse *p, uint32_t *type)
{
    *type = vv_wasm_read_u32(&p->reader);
    if (p->reader.bad || *type >= p->module->type_count ||
        p->module->types[*type].form != VV_WASM_FUNCTION_TYPE)
        return invalid(p, "no such function type");
    return VARVE_OK;
}

/* ---- constant expressions ---- */

static bool read_gc_constant(struct vv_reader *reader, uint32_t *opcode)
{
    const uint32_t sub = vv_wasm_read_u32(reader);

    *opcode = 0xfb00 | (sub & 0xff);
    switch (sub) {
    case 0: /* struct.new, struct.new_default, array.new, array.new_default */
    case 1:
    case 6:
    case 7:
        (void)vv_wasm_read_u32(reader);
        return true;
    case 8: /* array.new_fixed */
        (void)vv_wasm_read_u32(reader);
        (void)vv_wasm_read_u32(reader);
        return true;
    case 26: /* any.convert_extern, extern.convert_any, ref.i31 */
    case 27:
    case 28:
        return true;
    default:
        return false;
    }
}

bool vv_wasm_read_constant(struct vv_reader *reader, struct vv_wasm_constant *constant)
{
    const size_t start = reader->offset;
    bool known = true;

    *constant = (struct vv_wasm_constant){ .opcode = read_u8(reader) };
    switch (constant->opcode) {
    case VV_WASM_END:
    case 0x6a: /* add, sub, mul of i32 and i64 */
    case 0x6b:
    case 0x6c:
    case 0x7c:
    case 0x7d:
    case 0x7e:
        break;
    case VV_WASM_GLOBAL_GET:
    case VV_WASM_REF_FUNC:
        constant->index = vv_wasm_read_u32(reader);
        break;
    case VV_WASM_I32_CONST:
        vv_put_u32(constant->bits, (uint32_t)read_leb(reader, 32, true));
        break;
    case VV_WASM_I64_CONST:
        vv_put_u64(constant->bits, read_leb(reader, 64, true));
        break;
    case VV_WASM_F32_CONST:
        vv_reader_copy(reader, constant->bits, 4);
        break;
    case VV_WASM_F64_CONST:
        vv_reader_copy(reader, constant->bits, 8);
        break;
    case VV_WASM_REF_NULL:
        constant->heap = vv_wasm_read_s33(reader);
        break;
    case 0xfd:
        known = vv_wasm_read_u32(reader) == 12;
        constant->opcode = VV_WASM_V128_CONST;
        vv_reader_copy(reader, constant->bits, 16);
        break;
    case 0xfb:
        known = read_gc_constant(reader, &constant->opcode);
        break;
    default:
        known = false;
    }
    constant->raw = (struct vv_span){ .offset = start, .size = reader->offset - start };
    return known && !reader->bad;
}

/* Step over a constant expression, and check that what it names exists. */
static varve_status read_expression(struct parse *p, struct vv_span *span)
{
    struct vv_wasm *const m = p->module;
    const size_t start = p->reader.offset;
    struct vv_wasm_constant constant;

    do {
        if (!vv_wasm_read_constant(&p->reader, &constant))
            return invalid(p, "no constant expression");
        switch (constant.opcode) {
        case VV_WASM_GLOBAL_GET:
            if (constant.index >= m->global_count)
                return invalid(p, "a constant expression names a global that does not exist before it");
            break;
        case VV_WASM_REF_FUNC:
            if (constant.index >= m->function_count)
                return invalid(p, "a constant expression names a function that does not exist");
            m->functions[constant.index].referenced = true;
            break;
        case VV_WASM_REF_NULL:
            if (class_of_heap(m, constant.heap) == 0)
                return invalid(p, "no such reference type");
            break;
        default:
            if (constant.opcode >> 8 == 0xfb && m->gc_constant.instruction == NULL)
                m->gc_constant = (struct vv_wasm_place){ .instruction = "a constant of garbage collection",
                                                         .function = VV_WASM_NONE,
                                                         .offset = constant.raw.offset };
        }
    } while (constant.opcode != VV_WASM_END);
    *span = span_from(p, start);
    return VARVE_OK;
}

/* The result of add, sub, mul on two integers of the same size; false when they are not. */
static bool calculate(uint32_t opcode, const struct vv_wasm_value *left, const struct vv_wasm_value *right,
                      struct vv_wasm_value *result)
{
    const bool wide = opcode >= 0x7c;
    const varve_type wanted = wide ? VARVE_I64 : VARVE_I32;
    const uint64_t a = vv_get_u64(left->bits), b = vv_get_u64(right->bits);
    uint64_t value = 0;

    if (left->type != wanted || right->type != wanted)
        return false;
    switch (opcode - (wide ? 0x7c : 0x6a)) {
    case 0:
        value = a + b;
        break;
    case 1:
        value = a - b;
        break;
    default:
        value = a * b;
    }
    *result = (struct vv_wasm_value){ .type = wanted, .function = VV_WASM_NONE };
    if (wide)
        vv_put_u64(result->bits, value);
    else
        vv_put_u32(result->bits, (uint32_t)value);
    return true;
}

static struct vv_wasm_value value_of_constant(const struct vv_wasm *module,
                                              const struct vv_wasm_constant *constant)
{
    struct vv_wasm_value value = { .function = VV_WASM_NONE };

    memcpy(value.bits, constant->bits, sizeof value.bits);
    switch (constant->opcode) {
    case VV_WASM_I32_CONST:
        value.type = VARVE_I32;
        break;
    case VV_WASM_I64_CONST:
        value.type = VARVE_I64;
        break;
    case VV_WASM_F32_CONST:
        value.type = VARVE_F32;
        break;
    case VV_WASM_F64_CONST:
        value.type = VARVE_F64;
        break;
    case VV_WASM_V128_CONST:
        value.type = VARVE_V128;
        break;
    case VV_WASM_REF_NULL:
        value.type = class_of_heap(module, constant->heap);
        break;
    case VV_WASM_REF_FUNC:
        value.type = (varve_type)VV_WASM_FUNCREF;
        value.function = constant->index;
        break;
    default:
        break;
    }
    return value;
}

varve_status vv_wasm_evaluate(const struct vv_wasm *module, struct vv_span span,
                              const struct vv_wasm_value *globals, uint32_t known,
                              struct vv_wasm_value *value)
{
    struct vv_wasm_value stack[CONSTANT_DEPTH];
    struct vv_reader reader = vv_reader_of(module->bytes, span.offset + span.size);
    size_t depth = 0;

    reader.offset = span.offset;
    for (;;) {
        struct vv_wasm_constant constant;
        struct vv_wasm_value next;
        if (!vv_wasm_read_constant(&reader, &constant))
            break;
        if (constant.opcode == VV_WASM_END) {
            if (depth != 1)
                break;
            *value = stack[0];
            return VARVE_OK;
        }
        if (constant.opcode >> 8 == 0xfb)
            return vv_fail(VARVE_REFUSED, "offset %#zx: a constant expression of garbage collection",
                           constant.raw.offset);
        if (constant.opcode == VV_WASM_GLOBAL_GET) {
            if (constant.index >= known)
                break;
            next = globals[constant.index];
        } else if (constant.opcode < 0x80 && constant.opcode >= 0x6a) {
            if (depth < 2 || !calculate(constant.opcode, &stack[depth - 2], &stack[depth - 1], &next))
                break;
            depth -= 2;
        } else {
            next = value_of_constant(module, &constant);
        }
        if (depth == CONSTANT_DEPTH)
            return vv_fail(VARVE_REFUSED,
                           "offset %#zx: a constant expression with over %d values on its stack",
                           constant.raw.offset, CONSTANT_DEPTH);
        stack[depth++] = next;
    }
    return vv_fail(VARVE_INVALID, "not a valid module: offset %#zx: a constant expression without a value",
                   span.offset);
}

/* ---- sections ---- */

static varve_status read_range(struct parse *p, struct vv_wasm_range *range, bool *custom_page)
{
    const uint32_t flags = vv_wasm_read_u32(&p->reader);

    if (p->reader.bad || flags > (custom_page == NULL ? 7u : 15u))
        return invalid(p, "no such limits");
    *range = (struct vv_wasm_range){
        .has_max = (flags & 1) != 0,
        .shared = (flags & 2) != 0,
        .is64 = (flags & 4) != 0,
    };
    range->min = vv_wasm_read_u64(&p->reader); /* 64 bits in both: see the format's binary grammar */
    if (range->has_max)
        range->max = vv_wasm_read_u64(&p->reader);
    if ((flags & 8) != 0) {
        *custom_page = true;
        (void)vv_wasm_read_u32(&p->reader);
    }
    if (p->reader.bad)
        return cut_short(p);
    return range->has_max && range->max < range->min ? invalid(p, "a maximum below its minimum") : VARVE_OK;
}

static varve_status read_table_type(struct parse *p, struct vv_wasm_table *table)
{
    varve_status rc = VARVE_OK;

    TRY(read_reference_type(p, &table->type, &table->nullable, &table->type_bytes));
    TRY(read_range(p, &table->range, NULL));
    if (!table->range.is64 &&
        (table->range.min > UINT32_MAX || (table->range.has_max && table->range.max > UINT32_MAX)))
        return invalid(p, "a table larger than its indices reach");
    if (table->range.min > p->limits.table_entries - p->table_entries)
        return over_limit(table->range.min, "table entries", p->limits.table_entries);
    p->table_entries += table->range.min;
out:
    return rc;
}

static varve_status read_memory_type(struct parse *p, struct vv_wasm_memory *memory)
{
    varve_status rc = VARVE_OK;

    TRY(read_range(p, &memory->range, &memory->custom_page));
    const uint64_t most = memory->range.is64 ? MEMORY64_PAGES : MEMORY32_PAGES;
    if (!memory->custom_page &&
        (memory->range.min > most || (memory->range.has_max && memory->range.max > most)))
        return invalid(p, "a memory larger than its addresses reach");
    if (memory->range.min == MEMORY64_PAGES) /* valid, but its size in bytes fits no number */
        return over_limit(memory->range.min, "WASM pages of memory", MEMORY64_PAGES - 1);
out:
    return rc;
}

static varve_status read_global_type(struct parse *p, struct vv_wasm_global *global)
{
    const size_t start = p->reader.offset;
    struct value_type value = { .type = 0 };
    varve_status rc = VARVE_OK;

    TRY(read_value_type(p, &value));
    global->type = value.type;
    global->nullable = value.nullable;
    global->type_bytes = span_from(p, start);
    const uint8_t flag = read_u8(&p->reader);
    if (p->reader.bad || flag > 1)
        return invalid(p, "a global is either mutable or not");
    global->is_mutable = flag == 1;
out:
    return rc;
}

static varve_status read_tag_type(struct parse *p, struct vv_wasm_tag *tag)
{
    if (read_u8(&p->reader) != 0)
        return invalid(p, "no such kind of tag");
    return read_function_type(p, &tag->type);
}

static varve_status append_function(struct parse *p, uint32_t import, uint32_t *index)
{
    struct vv_wasm *const m = p->module;
    struct vv_wasm_function *function = NULL;
    varve_status rc = VARVE_OK;

    *index = m->function_count;
    if (m->function_count >= p->limits.functions)
        return over_limit((uint64_t)m->function_count + 1, "functions", p->limits.functions);
    TRY(APPEND(m->functions, m->function_count, function));
    function->import = import;
    TRY(read_function_type(p, &function->type));
out:
    return rc;
}

static varve_status append_table(struct parse *p, uint32_t import, struct vv_wasm_table **table)
{
    struct vv_wasm *const m = p->module;
    const size_t start = p->reader.offset;
    varve_status rc = VARVE_OK;

    if (m->table_count >= TABLES_MAX)
        return over_limit((uint64_t)m->table_count + 1, "tables", TABLES_MAX);
    TRY(APPEND(m->tables, m->table_count, *table));
    (*table)->import = import;
    const bool has_init = import == VV_WASM_NONE && peek(&p->reader) == 0x40;
    if (has_init) {
        (void)read_u8(&p->reader);
        if (read_u8(&p->reader) != 0)
            return invalid(p, "no such form of table");
    }
    TRY(read_table_type(p, *table));
    if (has_init)
        TRY(read_expression(p, &(*table)->init));
    (*table)->whole = span_from(p, start);
out:
    return rc;
}

static varve_status append_memory(struct parse *p, uint32_t import)
{
    struct vv_wasm *const m = p->module;
    struct vv_wasm_memory *memory = NULL;
    varve_status rc = VARVE_OK;

    if (m->memory_count >= TABLES_MAX)
        return over_limit((uint64_t)m->memory_count + 1, "memories", TABLES_MAX);
    TRY(APPEND(m->memories, m->memory_count, memory));
    memory->import = import;
    TRY(read_memory_type(p, memory));
out:
    return rc;
}

/* The count rises only when the initial value was read: a global cannot be made of itself. */
static varve_status append_global(struct parse *p, uint32_t import)
{
    struct vv_wasm *const m = p->module;
    const size_t start = p->reader.offset;
    struct vv_wasm_global read = { .import = import };
    struct vv_wasm_global *global = NULL;
    varve_status rc = VARVE_OK;

    if (m->global_count >= VV_WASM_GLOBALS_MAX)
        return over_limit((uint64_t)m->global_count + 1, "globals", VV_WASM_GLOBALS_MAX);
    TRY(read_global_type(p, &read));
    if (import == VV_WASM_NONE)
        TRY(read_expression(p, &read.init));
    read.whole = span_from(p, start);
    TRY(APPEND(m->globals, m->global_count, global));
    *global = read;
out:
    return rc;
}

static varve_status append_tag(struct parse *p, uint32_t import)
{
    struct vv_wasm *const m = p->module;
    struct vv_wasm_tag *tag = NULL;
    varve_status rc = VARVE_OK;

    if (m->tag_count >= TAGS_MAX)
        return over_limit((uint64_t)m->tag_count + 1, "tags", TAGS_MAX);
    TRY(APPEND(m->tags, m->tag_count, tag));
    tag->import = import;
    TRY(read_tag_type(p, tag));
out:
    return rc;
}

static varve_status read_import(struct parse *p, uint32_t number, struct vv_wasm_import *import)
{
    struct vv_wasm *const m = p->module;
    const size_t start = p->reader.offset;
    struct vv_wasm_table *table = NULL;
    varve_status rc = VARVE_OK;

    TRY(read_text(p, &import->module));
    TRY(read_text(p, &import->name));
    const uint8_t kind = read_u8(&p->reader);
    switch (kind) {
    case VV_WASM_FUNCTION:
        TRY(append_function(p, number, &import->index));
        break;
    case VV_WASM_TABLE:
        import->index = m->table_count;
        TRY(append_table(p, number, &table));
        break;
    case VV_WASM_MEMORY:
        import->index = m->memory_count;
        TRY(append_memory(p, number));
        break;
    case VV_WASM_GLOBAL:
        import->index = m->global_count;
        TRY(append_global(p, number));
        break;
    case VV_WASM_TAG:
        import->index = m->tag_count;
        TRY(append_tag(p, number));
        break;
    default:
        return vv_fail(VARVE_REFUSED, "import %.*s.%.*s, offset %#zx: an unknown kind of import, %u",
                       (int)(import->module.size & 0xff), import->module.data,
                       (int)(import->name.size & 0xff), import->name.data, p->reader.offset - 1, kind);
    }
    import->kind = (enum vv_wasm_kind)kind;
    import->whole = span_from(p, start);
    TRY(whole_so_far(p));
out:
    return rc;
}

static varve_status read_import_section(struct parse *p)
{
    struct vv_wasm *const m = p->module;
    varve_status rc = VARVE_OK;
    uint32_t count = 0;

    TRY(read_count(p, "imports", p->limits.imports, &count));
    for (uint32_t i = 0; i < count; i++) {
        struct vv_wasm_import *import = NULL;
        TRY(APPEND(m->imports, m->import_count, import));
        TRY(read_import(p, i, import));
    }
    m->imported_functions = m->function_count;
out:
    return rc;
}

static varve_status read_function_section(struct parse *p)
{
    varve_status rc = VARVE_OK;
    uint32_t count = 0;

    TRY(read_count(p, "functions", p->limits.functions, &count));
    for (uint32_t index; count > 0; count--)
        TRY(append_function(p, VV_WASM_NONE, &index));
out:
    return rc;
}

static varve_status read_table_section(struct parse *p)
{
    varve_status rc = VARVE_OK;
    uint32_t count = 0;

    TRY(read_count(p, "tables", TABLES_MAX, &count));
    for (struct vv_wasm_table *table; count > 0; count--)
        TRY(append_table(p, VV_WASM_NONE, &table));
out:
    return rc;
}

static varve_status read_memory_section(struct parse *p)
{
    varve_status rc = VARVE_OK;
    uint32_t count = 0;

    TRY(read_count(p, "memories", TABLES_MAX, &count));
    for (; count > 0; count--)
        TRY(append_memory(p, VV_WASM_NONE));
out:
    return rc;
}

static varve_status read_global_section(struct parse *p)
{
    varve_status rc = VARVE_OK;
    uint32_t count = 0;

    TRY(read_count(p, "globals", VV_WASM_GLOBALS_MAX, &count));
    for (; count > 0; count--)
        TRY(append_global(p, VV_WASM_NONE));
out:
    return rc;
}

static varve_status read_tag_section(struct parse *p)
{
    varve_status rc = VARVE_OK;
    uint32_t count = 0;

    TRY(read_count(p, "tags", TAGS_MAX, &count));
    for (; count > 0; count--)
        TRY(append_tag(p, VV_WASM_NONE));
out:
    return rc;
}

static uint32_t count_of_kind(const struct vv_wasm *m, uint8_t kind)
{
    switch (kind) {
    case VV_WASM_FUNCTION:
        return m->function_count;
    case VV_WASM_TABLE:
        return m->table_count;
    case VV_WASM_MEMORY:
        return m->memory_count;
    case VV_WASM_GLOBAL:
        return m->global_count;
    case VV_WASM_TAG:
        return m->tag_count;
    default:
        return 0;
    }
}

static varve_status read_export_section(struct parse *p)
{
    struct vv_wasm *const m = p->module;
    varve_status rc = VARVE_OK;
    uint32_t count = 0;

    TRY(read_count(p, "exports", p->limits.exports, &count));
    for (; count > 0; count--) {
        struct vv_wasm_export *export = NULL;
        TRY(APPEND(m->exports, m->export_count, export));
        TRY(read_text(p, &export->name));
        const uint8_t kind = read_u8(&p->reader);
        export->index = vv_wasm_read_u32(&p->reader);
        if (p->reader.bad || export->index >= count_of_kind(m, kind))
            return invalid(p, "an export of something that does not exist");
        export->kind = (enum vv_wasm_kind)kind;
    }
out:
    return rc;
}

static varve_status read_start_section(struct parse *p)
{
    struct vv_wasm *const m = p->module;

    m->start = vv_wasm_read_u32(&p->reader);
    if (p->reader.bad || m->start >= m->function_count)
        return invalid(p, "the start function does not exist");
    const struct vv_wasm_type *const type = &m->types[m->functions[m->start].type];
    return type->param_count + type->result_count > 0
               ? invalid(p, "the start function takes or gives something")
               : VARVE_OK;
}

static varve_status read_element_entries(struct parse *p, struct vv_wasm_element *element)
{
    struct vv_wasm *const m = p->module;
    varve_status rc = VARVE_OK;
    struct vv_span unused;

    TRY(read_count(p, "entries", UINT32_MAX, &element->count));
    const size_t start = p->reader.offset;
    for (uint32_t i = 0; i < element->count; i++) {
        if ((element->flags & 4) != 0) {
            TRY(read_expression(p, &unused));
            continue;
        }
        const uint32_t function = vv_wasm_read_u32(&p->reader);
        if (p->reader.bad || function >= m->function_count)
            return invalid(p, "an element names a function that does not exist");
        m->functions[function].referenced = true;
    }
    element->entries = span_from(p, start);
out:
    return rc;
}

static varve_status read_element(struct parse *p, struct vv_wasm_element *element)
{
    const size_t start = p->reader.offset;
    varve_status rc = VARVE_OK;
    struct vv_span span;
    bool nullable = true;

    element->inited_table = VV_WASM_NONE;
    element->type = (varve_type)VV_WASM_FUNCREF;
    element->flags = vv_wasm_read_u32(&p->reader);
    if (p->reader.bad || element->flags > 7)
        return invalid(p, "no such kind of element segment");
    element->mode = (element->flags & 1) == 0   ? VV_WASM_ACTIVE
                    : (element->flags & 2) == 0 ? VV_WASM_PASSIVE
                                                : VV_WASM_DECLARED;
    if (element->mode == VV_WASM_ACTIVE) {
        element->table = (element->flags & 2) != 0 ? vv_wasm_read_u32(&p->reader) : 0;
        if (p->reader.bad || element->table >= p->module->table_count)
            return invalid(p, "an element segment for a table that does not exist");
        TRY(read_expression(p, &element->offset));
    }
    if ((element->flags & 3) != 0) {
        if ((element->flags & 4) != 0)
            TRY(read_reference_type(p, &element->type, &nullable, &span));
        else if (read_u8(&p->reader) != 0)
            return invalid(p, "no such kind of element");
    }
    TRY(read_element_entries(p, element));
    element->whole = span_from(p, start);
out:
    return rc;
}

static varve_status read_element_section(struct parse *p)
{
    struct vv_wasm *const m = p->module;
    varve_status rc = VARVE_OK;
    uint32_t count = 0;

    TRY(read_count(p, "element segments", p->limits.segments, &count));
    for (; count > 0; count--) {
        struct vv_wasm_element *element = NULL;
        TRY(APPEND(m->elements, m->element_count, element));
        TRY(read_element(p, element));
    }
out:
    return rc;
}

static varve_status read_data_count_section(struct parse *p)
{
    p->module->has_data_count = true;
    p->module->data_count_claimed = vv_wasm_read_u32(&p->reader);
    return whole_so_far(p);
}

static varve_status read_data_section(struct parse *p)
{
    struct vv_wasm *const m = p->module;
    varve_status rc = VARVE_OK;
    uint32_t count = 0;

    TRY(read_count(p, "data segments", p->limits.segments, &count));
    for (; count > 0; count--) {
        struct vv_wasm_data *data = NULL;
        TRY(APPEND(m->datas, m->data_count, data));
        const uint32_t flags = vv_wasm_read_u32(&p->reader);
        if (p->reader.bad || flags > 2)
            return invalid(p, "no such kind of data segment");
        data->mode = flags == 1 ? VV_WASM_PASSIVE : VV_WASM_ACTIVE;
        data->memory = flags == 2 ? vv_wasm_read_u32(&p->reader) : 0;
        if (data->mode == VV_WASM_ACTIVE) {
            if (p->reader.bad || data->memory >= m->memory_count)
                return invalid(p, "a data segment for a memory that does not exist");
            TRY(read_expression(p, &data->offset));
        }
        const uint32_t size = vv_wasm_read_u32(&p->reader);
        const size_t start = p->reader.offset;
        if (vv_reader_take(&p->reader, size) == NULL)
            return cut_short(p);
        data->bytes = span_from(p, start);
    }
out:
    return rc;
}

/* ---- code ---- */

/* What follows an opcode. */
enum immediate {
    UNKNOWN = 0,
    NOTHING,
    INDEX,
    TWO_INDICES,
    MEMORY_ARGUMENT,
    MEMORY_INDEX,
    I32,
    I64,
    FOUR_BYTES,
    EIGHT_BYTES,
    SIXTEEN_BYTES,
    LANE,
    MEMORY_ARGUMENT_LANE,
    BLOCK_TYPE,   /* opens a block */
    BLOCK_END,    /* closes one */
    DELEGATE,     /* an index, and closes one */
    BRANCH_TABLE, /* br_table */
    SELECT_TYPES, /* select with types */
    CATCHES,      /* try_table; opens a block */
    HEAP_TYPE,
    CAST_BRANCH, /* br_on_cast */
    PREFIX
};

/* The opcodes `first` to `last` of one table: what follows them, and of what they are a part. */
struct opcodes {
    uint16_t first, last;
    uint8_t immediate;
    uint8_t feature;  /* enum vv_wasm_feature + 1; 0: none */
    const char *name; /* given where a message may need it */
};
#define PART_OF(feature) ((uint8_t)(VV_WASM_##feature + 1))

static const struct opcodes plain_opcodes[] = {
    { 0x00, 0x01, NOTHING, 0, NULL },
    { 0x02, 0x04, BLOCK_TYPE, 0, NULL },
    { 0x05, 0x05, NOTHING, 0, NULL },
    { 0x06, 0x06, BLOCK_TYPE, PART_OF(LEGACY_EXCEPTIONS), "try" },
    { 0x07, 0x07, INDEX, PART_OF(LEGACY_EXCEPTIONS), "catch" },
    { 0x08, 0x08, INDEX, PART_OF(EXCEPTIONS), "throw" },
    { 0x09, 0x09, INDEX, PART_OF(LEGACY_EXCEPTIONS), "rethrow" },
    { 0x0a, 0x0a, NOTHING, PART_OF(EXCEPTIONS), "throw_ref" },
    { 0x0b, 0x0b, BLOCK_END, 0, NULL },
    { 0x0c, 0x0d, INDEX, 0, NULL },
    { 0x0e, 0x0e, BRANCH_TABLE, 0, NULL },
    { 0x0f, 0x0f, NOTHING, 0, NULL },
    { 0x10, 0x10, INDEX, 0, NULL },
    { 0x11, 0x11, TWO_INDICES, 0, NULL },
    { 0x12, 0x12, INDEX, PART_OF(TAIL_CALLS), "return_call" },
    { 0x13, 0x13, TWO_INDICES, PART_OF(TAIL_CALLS), "return_call_indirect" },
    { 0x14, 0x14, INDEX, PART_OF(TYPED_REFERENCES), "call_ref" },
    { 0x15, 0x15, INDEX, PART_OF(TYPED_REFERENCES), "return_call_ref" },
    { 0x18, 0x18, DELEGATE, PART_OF(LEGACY_EXCEPTIONS), "delegate" },
    { 0x19, 0x19, NOTHING, PART_OF(LEGACY_EXCEPTIONS), "catch_all" },
    { 0x1a, 0x1b, NOTHING, 0, NULL },
    { 0x1c, 0x1c, SELECT_TYPES, PART_OF(REFERENCES), "select" },
    { 0x1f, 0x1f, CATCHES, PART_OF(EXCEPTIONS), "try_table" },
    { 0x20, 0x24, INDEX, 0, NULL },
    { 0x25, 0x25, INDEX, PART_OF(REFERENCES), "table.get" },
    { 0x26, 0x26, INDEX, PART_OF(REFERENCES), "table.set" },
    { 0x28, 0x3e, MEMORY_ARGUMENT, 0, NULL },
    { 0x3f, 0x40, MEMORY_INDEX, 0, NULL },
    { 0x41, 0x41, I32, 0, NULL },
    { 0x42, 0x42, I64, 0, NULL },
    { 0x43, 0x43, FOUR_BYTES, 0, NULL },
    { 0x44, 0x44, EIGHT_BYTES, 0, NULL },
    { 0x45, 0xc4, NOTHING, 0, NULL },
    { 0xd0, 0xd0, HEAP_TYPE, PART_OF(REFERENCES), "ref.null" },
    { 0xd1, 0xd1, NOTHING, PART_OF(REFERENCES), "ref.is_null" },
    { 0xd2, 0xd2, INDEX, PART_OF(REFERENCES), "ref.func" },
    { 0xd3, 0xd3, NOTHING, PART_OF(GC), "ref.eq" },
    { 0xd4, 0xd4, NOTHING, PART_OF(TYPED_REFERENCES), "ref.as_non_null" },
    { 0xd5, 0xd6, INDEX, PART_OF(TYPED_REFERENCES), "br_on_null" },
    { 0xfb, 0xfe, PREFIX, 0, NULL },
};
static const struct opcodes gc_opcodes[] = {
    { 0, 1, INDEX, PART_OF(GC), "struct.new" },
    { 2, 5, TWO_INDICES, PART_OF(GC), "struct.get" },
    { 6, 7, INDEX, PART_OF(GC), "array.new" },
    { 8, 8, TWO_INDICES, PART_OF(GC), "array.new_fixed" },
    { 9, 9, TWO_INDICES, PART_OF(GC), "array.new_data" },
    { 10, 10, TWO_INDICES, PART_OF(GC), "array.new_elem" },
    { 11, 14, INDEX, PART_OF(GC), "array.get" },
    { 15, 15, NOTHING, PART_OF(GC), "array.len" },
    { 16, 16, INDEX, PART_OF(GC), "array.fill" },
    { 17, 17, TWO_INDICES, PART_OF(GC), "array.copy" },
    { 18, 18, TWO_INDICES, PART_OF(GC), "array.init_data" },
    { 19, 19, TWO_INDICES, PART_OF(GC), "array.init_elem" },
    { 20, 23, HEAP_TYPE, PART_OF(GC), "ref.cast" },
    { 24, 25, CAST_BRANCH, PART_OF(GC), "br_on_cast" },
    { 26, 30, NOTHING, PART_OF(GC), "i31" },
};
static const struct opcodes bulk_opcodes[] = {
    { 0, 7, NOTHING, 0, NULL }, /* saturating conversions */
    { 8, 8, TWO_INDICES, PART_OF(BULK_MEMORY), "memory.init" },
    { 9, 9, INDEX, PART_OF(BULK_MEMORY), "data.drop" },
    { 10, 10, TWO_INDICES, PART_OF(BULK_MEMORY), "memory.copy" },
    { 11, 11, MEMORY_INDEX, PART_OF(BULK_MEMORY), "memory.fill" },
    { 12, 12, TWO_INDICES, PART_OF(BULK_MEMORY), "table.init" },
    { 13, 13, INDEX, PART_OF(BULK_MEMORY), "elem.drop" },
    { 14, 14, TWO_INDICES, PART_OF(BULK_MEMORY), "table.copy" },
    { 15, 15, INDEX, PART_OF(REFERENCES), "table.grow" },
    { 16, 16, INDEX, PART_OF(REFERENCES), "table.size" },
    { 17, 17, INDEX, PART_OF(REFERENCES), "table.fill" },
    { 19, 22, NOTHING, PART_OF(WIDE_ARITHMETIC), "i64.add128" },
};
static const struct opcodes simd_opcodes[] = {
    { 0, 11, MEMORY_ARGUMENT, PART_OF(SIMD), "v128.load" },
    { 12, 13, SIXTEEN_BYTES, PART_OF(SIMD), "v128.const" },
    { 14, 20, NOTHING, PART_OF(SIMD), "i8x16.splat" },
    { 21, 34, LANE, PART_OF(SIMD), "i8x16.extract_lane" },
    { 35, 83, NOTHING, PART_OF(SIMD), "a comparison of vectors" },
    { 84, 91, MEMORY_ARGUMENT_LANE, PART_OF(SIMD), "v128.load_lane" },
    { 92, 93, MEMORY_ARGUMENT, PART_OF(SIMD), "v128.load_zero" },
    { 94, 255, NOTHING, PART_OF(SIMD), "arithmetic of vectors" },
    { 256, 275, NOTHING, PART_OF(RELAXED_SIMD), "a relaxed vector instruction" },
};
static const struct opcodes atomic_opcodes[] = {
    { 0, 0, MEMORY_ARGUMENT, PART_OF(THREADS), "memory.atomic.notify" },
    { 1, 2, MEMORY_ARGUMENT, PART_OF(THREADS), "memory.atomic.wait" },
    { 3, 3, LANE, PART_OF(THREADS), "atomic.fence" },
    { 16, 78, MEMORY_ARGUMENT, PART_OF(THREADS), "an atomic instruction" },
};

struct opcode_set {
    const struct opcodes *list;
    size_t count;
};
#define SET_OF(list)                          \
    {                                         \
        (list), sizeof(list) / sizeof *(list) \
    }
static const struct opcode_set prefixed[] = { SET_OF(gc_opcodes), SET_OF(bulk_opcodes), SET_OF(simd_opcodes),
                                              SET_OF(atomic_opcodes) };

enum { PREFIX_GC = 0xfb, PREFIX_BULK = 0xfc };
enum { /* plain opcodes that are more than their immediates to us */
       OP_CALL_INDIRECT = 0x11,
       OP_RETURN_CALL_INDIRECT = 0x13,
       OP_TABLE_SET = 0x26,
       OP_REF_FUNC = 0xd2
};
enum { /* of PREFIX_BULK */
       OP_MEMORY_INIT = 8,
       OP_DATA_DROP = 9,
       OP_TABLE_INIT = 12,
       OP_ELEM_DROP = 13,
       OP_TABLE_COPY = 14,
       OP_TABLE_GROW = 15,
       OP_TABLE_FILL = 17
};
enum { /* of PREFIX_GC */
       OP_ARRAY_NEW_DATA = 9,
       OP_ARRAY_NEW_ELEM = 10,
       OP_ARRAY_INIT_DATA = 18,
       OP_ARRAY_INIT_ELEM = 19
};

/* The walk over one body. */
struct walk {
    struct parse *p;
    const struct opcodes *plain[256]; /* of each one-byte opcode; NULL: unknown */
    uint32_t function;
    uint32_t depth; /* open blocks, the function itself included */
    uint8_t prefix; /* of the instruction at hand, or 0 */
    uint32_t opcode;
    const struct opcodes *entry;
    size_t at; /* where it starts */
    uint32_t index[2];
};

static void index_plain_opcodes(struct walk *w)
{
    for (size_t i = 0; i < sizeof plain_opcodes / sizeof plain_opcodes[0]; i++) {
        for (unsigned op = plain_opcodes[i].first; op <= plain_opcodes[i].last; op++)
            w->plain[op] = &plain_opcodes[i];
    }
}

static const struct opcodes *find_prefixed(uint8_t prefix, uint32_t opcode)
{
    const struct opcode_set *const set = &prefixed[prefix - PREFIX_GC];

    for (size_t i = 0; i < set->count; i++) {
        if (opcode >= set->list[i].first && opcode <= set->list[i].last)
            return &set->list[i];
    }
    return NULL;
}

static struct vv_wasm_place here(const struct walk *w)
{
    return (struct vv_wasm_place){ .instruction = w->entry->name, .function = w->function, .offset = w->at };
}

static void note_place(struct vv_wasm_place *place, const struct walk *w)
{
    if (place->instruction == NULL)
        *place = here(w);
}

static varve_status invalid_code(const struct walk *w, const char *why)
{
    const struct vv_wasm_place place = { .function = w->function, .offset = w->at };
    char text[256];

    return vv_fail(VARVE_INVALID, "not a valid module: %s: %s",
                   vv_wasm_place_format(w->p->module, &place, text, sizeof text), why);
}

static varve_status refuse_code(const struct walk *w, const char *why, uint64_t number)
{
    const struct vv_wasm_place place = { .function = w->function, .offset = w->at };
    char text[256];

    return vv_fail(VARVE_REFUSED, "%s: %s%#jx", vv_wasm_place_format(w->p->module, &place, text, sizeof text),
                   why, (uintmax_t)number);
}

static varve_status refuse_code_limit(const struct walk *w, uint64_t count, const char *what, uint64_t limit)
{
    return vv_fail_within(over_limit(count, what, limit), "function %u, offset %#zx", w->function, w->at);
}

static varve_status open_block(struct walk *w)
{
    struct vv_wasm *const m = w->p->module;

    if (w->depth > w->p->limits.nesting)
        return refuse_code_limit(w, w->depth, "blocks in one another (nesting)", w->p->limits.nesting);
    w->depth++;
    if (w->depth > m->deepest)
        m->deepest = w->depth;
    return VARVE_OK;
}

static void skip_heap_type(struct vv_reader *reader)
{
    (void)vv_wasm_read_s33(reader);
}

static void skip_block_type(struct vv_reader *reader)
{
    const uint8_t byte = peek(reader);

    if (byte == 0x63 || byte == 0x64) {
        (void)read_u8(reader);
        skip_heap_type(reader);
    } else {
        (void)vv_wasm_read_s33(reader);
    }
}

static varve_status read_memory_argument(struct walk *w)
{
    struct vv_reader *const reader = &w->p->reader;
    const uint32_t align = vv_wasm_read_u32(reader);

    if (align >= 128)
        return invalid_code(w, "no such alignment");
    if ((align & 64) != 0 && vv_wasm_read_u32(reader) != 0)
        w->p->module->features[VV_WASM_MULTI_MEMORY] = (struct vv_wasm_place){
            .instruction = "a memory argument", .function = w->function, .offset = w->at
        };
    (void)vv_wasm_read_u64(reader);
    w->p->module->uses_memory = true;
    return VARVE_OK;
}

static varve_status read_branch_table(struct walk *w)
{
    struct vv_reader *const reader = &w->p->reader;
    const uint32_t count = vv_wasm_read_u32(reader);

    if (reader->bad || count > vv_reader_left(reader))
        return invalid_code(w, "it ends early");
    if (count > w->p->limits.branches)
        return refuse_code_limit(w, count, "targets of one br_table (branches)", w->p->limits.branches);
    for (uint32_t i = 0; i <= count; i++)
        (void)vv_wasm_read_u32(reader);
    return VARVE_OK;
}

static varve_status read_catches(struct walk *w)
{
    struct vv_reader *const reader = &w->p->reader;

    skip_block_type(reader);
    for (uint32_t count = vv_wasm_read_u32(reader); count > 0 && !reader->bad; count--) {
        const uint8_t kind = read_u8(reader);
        if (kind > 3)
            return invalid_code(w, "no such kind of catch");
        if (kind < 2)
            (void)vv_wasm_read_u32(reader);
        (void)vv_wasm_read_u32(reader);
    }
    return open_block(w);
}

static varve_status read_select_types(struct walk *w)
{
    struct vv_reader *const reader = &w->p->reader;

    for (uint32_t count = vv_wasm_read_u32(reader); count > 0 && !reader->bad; count--)
        (void)read_value_type_form(reader);
    return VARVE_OK;
}

/* Step over what follows the opcode, keeping its indices. */
static varve_status read_immediates(struct walk *w)
{
    struct vv_reader *const reader = &w->p->reader;

    switch ((enum immediate)w->entry->immediate) {
    case NOTHING:
        break;
    case TWO_INDICES:
        w->index[0] = vv_wasm_read_u32(reader);
        w->index[1] = vv_wasm_read_u32(reader);
        break;
    case INDEX:
        w->index[0] = vv_wasm_read_u32(reader);
        break;
    case MEMORY_ARGUMENT:
        return read_memory_argument(w);
    case MEMORY_INDEX:
        w->index[0] = vv_wasm_read_u32(reader);
        w->p->module->uses_memory = true;
        break;
    case I32:
        (void)read_leb(reader, 32, true);
        break;
    case I64:
        (void)read_leb(reader, 64, true);
        break;
    case FOUR_BYTES:
        (void)vv_reader_take(reader, 4);
        break;
    case EIGHT_BYTES:
        (void)vv_reader_take(reader, 8);
        break;
    case SIXTEEN_BYTES:
        (void)vv_reader_take(reader, 16);
        break;
    case LANE:
        (void)read_u8(reader);
        break;
    case MEMORY_ARGUMENT_LANE: {
        const varve_status rc = read_memory_argument(w);
        (void)read_u8(reader);
        return rc;
    }
    case BLOCK_TYPE:
        skip_block_type(reader);
        return open_block(w);
    case BLOCK_END:
        w->depth--;
        break;
    case DELEGATE:
        (void)vv_wasm_read_u32(reader);
        w->depth--;
        break;
    case BRANCH_TABLE:
        return read_branch_table(w);
    case SELECT_TYPES:
        return read_select_types(w);
    case CATCHES:
        return read_catches(w);
    case HEAP_TYPE:
        skip_heap_type(reader);
        break;
    case CAST_BRANCH:
        (void)read_u8(reader);
        (void)vv_wasm_read_u32(reader);
        skip_heap_type(reader);
        skip_heap_type(reader);
        break;
    case UNKNOWN:
    case PREFIX:
        VV_ASSERT(false);
    }
    return VARVE_OK;
}

static varve_status note_table_change(struct walk *w, uint32_t table)
{
    if (table >= w->p->module->table_count)
        return invalid_code(w, "a table that does not exist");
    note_place(&w->p->module->tables[table].changed, w);
    return VARVE_OK;
}

static varve_status note_data(struct walk *w, uint32_t index, bool dropped)
{
    struct vv_wasm *const m = w->p->module;

    if (index >= m->data_count || !m->has_data_count)
        return invalid_code(w, "a data segment that does not exist, or without a data count");
    struct vv_wasm_data *const data = &m->datas[index];
    if (data->inited.instruction == NULL && data->dropped.instruction == NULL)
        m->datas_named++;
    note_place(dropped ? &data->dropped : &data->inited, w);
    return VARVE_OK;
}

/* `table`: into which a table.init puts it, else VV_WASM_NONE. */
static varve_status note_element(struct walk *w, uint32_t index, uint32_t table, bool dropped)
{
    struct vv_wasm *const m = w->p->module;

    if (index >= m->element_count)
        return invalid_code(w, "an element segment that does not exist");
    struct vv_wasm_element *const element = &m->elements[index];
    if (element->inited.instruction == NULL && element->dropped.instruction == NULL)
        m->elements_named++;
    note_place(dropped ? &element->dropped : &element->inited, w);
    if (element->inited_table == VV_WASM_NONE)
        element->inited_table = table;
    return VARVE_OK;
}

/* What the instruction does to the state of an instance that is neither memory nor a global. */
static varve_status note_effect(struct walk *w)
{
    struct vv_wasm *const m = w->p->module;
    varve_status rc = VARVE_OK;

    switch ((uint32_t)w->prefix << 16 | w->opcode) {
    case OP_CALL_INDIRECT:
    case OP_RETURN_CALL_INDIRECT:
        m->calls_indirect = true;
        break;
    case OP_TABLE_SET:
        return note_table_change(w, w->index[0]);
    case OP_REF_FUNC:
        if (w->index[0] >= m->function_count)
            return invalid_code(w, "a function that does not exist");
        m->functions[w->index[0]].referenced = true;
        break;
    case PREFIX_BULK << 16 | OP_MEMORY_INIT:
        if (w->index[1] >= m->memory_count)
            return invalid_code(w, "a memory that does not exist");
        m->uses_memory = true;
        return note_data(w, w->index[0], false);
    case PREFIX_BULK << 16 | OP_DATA_DROP:
        return note_data(w, w->index[0], true);
    case PREFIX_BULK << 16 | OP_TABLE_INIT:
        TRY(note_table_change(w, w->index[1]));
        return note_element(w, w->index[0], w->index[1], false);
    case PREFIX_BULK << 16 | OP_ELEM_DROP:
        return note_element(w, w->index[0], VV_WASM_NONE, true);
    case PREFIX_BULK << 16 | OP_TABLE_COPY:
    case PREFIX_BULK << 16 | OP_TABLE_GROW:
    case PREFIX_BULK << 16 | OP_TABLE_FILL:
        return note_table_change(w, w->index[0]);
    case PREFIX_GC << 16 | OP_ARRAY_NEW_DATA:
    case PREFIX_GC << 16 | OP_ARRAY_INIT_DATA:
        return note_data(w, w->index[1], false);
    case PREFIX_GC << 16 | OP_ARRAY_NEW_ELEM:
    case PREFIX_GC << 16 | OP_ARRAY_INIT_ELEM:
        return note_element(w, w->index[1], VV_WASM_NONE, false);
    default:
        break;
    }
out:
    return rc;
}

static varve_status walk_instruction(struct walk *w)
{
    struct vv_reader *const reader = &w->p->reader;
    varve_status rc = VARVE_OK;

    w->at = reader->offset;
    w->prefix = 0;
    w->opcode = read_u8(reader);
    w->entry = w->plain[w->opcode];
    if (w->entry != NULL && w->entry->immediate == PREFIX) {
        w->prefix = (uint8_t)w->opcode;
        w->opcode = vv_wasm_read_u32(reader);
        if (reader->bad)
            return invalid_code(w, "it ends early");
        w->entry = find_prefixed(w->prefix, w->opcode);
    }
    if (w->entry == NULL)
        return w->prefix == 0
                   ? refuse_code(w, "an unknown instruction, ", w->opcode)
                   : refuse_code(w, "an unknown instruction, ", (uint64_t)w->prefix << 16 | w->opcode);
    TRY(read_immediates(w));
    if (reader->bad)
        return invalid_code(w, "it ends early, or holds a number that is too long");
    if (w->entry->feature != 0)
        note_place(&w->p->module->features[w->entry->feature - 1], w);
    TRY(note_effect(w));
out:
    return rc;
}

static varve_status walk_locals(struct walk *w)
{
    struct vv_reader *const reader = &w->p->reader;
    uint64_t total = 0;

    w->at = reader->offset;
    for (uint32_t groups = vv_wasm_read_u32(reader); groups > 0 && !reader->bad; groups--) {
        total += vv_wasm_read_u32(reader);
        (void)read_value_type_form(reader);
        if (!reader->bad && total > w->p->limits.locals)
            return refuse_code_limit(w, total, "locals", w->p->limits.locals);
    }
    return reader->bad ? invalid_code(w, "its locals end early, or one has no such type") : VARVE_OK;
}

/* The reader stands at the body, of `size` bytes, and ends behind it. */
static varve_status walk_body(struct walk *w, uint32_t size)
{
    struct parse *const p = w->p;
    const size_t section_end = p->reader.size, body_end = p->reader.offset + size;
    varve_status rc = VARVE_OK;

    p->module->functions[w->function].body = (struct vv_span){ .offset = p->reader.offset, .size = size };
    p->reader.size = body_end;
    TRY(walk_locals(w));
    w->depth = 1;
    while (w->depth > 0) {
        if (p->reader.offset == body_end)
            return invalid_code(w, "it ends inside a block");
        TRY(walk_instruction(w));
    }
    if (p->reader.offset != body_end)
        return invalid_code(w, "it goes on behind its end");
    p->reader.size = section_end;
out:
    return rc;
}

static varve_status read_code_section(struct parse *p)
{
    struct vv_wasm *const m = p->module;
    struct walk w = { .p = p };
    varve_status rc = VARVE_OK;
    uint32_t count = 0;

    index_plain_opcodes(&w);
    TRY(read_count(p, "functions", p->limits.functions, &count));
    if (count != m->function_count - m->imported_functions)
        return invalid(p, "not as many bodies as functions");
    for (w.function = m->imported_functions; w.function < m->function_count; w.function++) {
        const uint32_t size = vv_wasm_read_u32(&p->reader);
        if (p->reader.bad || size > vv_reader_left(&p->reader))
            return cut_short(p);
        if (size > p->limits.body_bytes)
            return refuse_code_limit(&w, size, "bytes in one function (body_bytes)", p->limits.body_bytes);
        TRY(walk_body(&w, size));
    }
out:
    return rc;
}

/* ---- the whole ---- */

/* The sections in the order in which they must come; code is read last all the same. */
static const struct {
    enum vv_wasm_section_id id;
    const char *name;
    varve_status (*read)(struct parse *p);
} section_order[] = {
    { VV_WASM_TYPE_SECTION, "types", read_type_section },
    { VV_WASM_IMPORT_SECTION, "imports", read_import_section },
    { VV_WASM_FUNCTION_SECTION, "functions", read_function_section },
    { VV_WASM_TABLE_SECTION, "tables", read_table_section },
    { VV_WASM_MEMORY_SECTION, "memory", read_memory_section },
    { VV_WASM_TAG_SECTION, "tags", read_tag_section },
    { VV_WASM_GLOBAL_SECTION, "globals", read_global_section },
    { VV_WASM_EXPORT_SECTION, "exports", read_export_section },
    { VV_WASM_START_SECTION, "start", read_start_section },
    { VV_WASM_ELEMENT_SECTION, "elements", read_element_section },
    { VV_WASM_DATA_COUNT_SECTION, "data count", read_data_count_section },
    { VV_WASM_CODE_SECTION, "code", read_code_section },
    { VV_WASM_DATA_SECTION, "data", read_data_section },
};
enum { SECTION_COUNT = sizeof section_order / sizeof section_order[0] };

/* Where a section has its place, from 1; 0: there is no such section. */
static unsigned rank_of(uint8_t id)
{
    for (unsigned i = 0; i < SECTION_COUNT; i++) {
        if (section_order[i].id == (enum vv_wasm_section_id)id)
            return i + 1;
    }
    return 0;
}

static varve_status scan_custom(struct parse *p, struct vv_span body)
{
    struct parse inside = *p;
    struct vv_text name;

    inside.reader.offset = body.offset;
    inside.reader.size = body.offset + body.size;
    return read_text(&inside, &name);
}

static varve_status scan_sections(struct parse *p)
{
    struct vv_wasm *const m = p->module;
    varve_status rc = VARVE_OK;
    unsigned last = 0;

    while (vv_reader_left(&p->reader) > 0) {
        const size_t start = p->reader.offset;
        struct vv_wasm_section *section = NULL;
        const uint8_t id = read_u8(&p->reader);
        const uint32_t size = vv_wasm_read_u32(&p->reader);
        const size_t body = p->reader.offset;
        if (vv_reader_take(&p->reader, size) == NULL)
            return cut_short(p);
        if (m->section_count == SECTIONS_MAX)
            return over_limit((uint64_t)m->section_count + 1, "sections", SECTIONS_MAX);
        TRY(APPEND(m->sections, m->section_count, section));
        section->id = (enum vv_wasm_section_id)id;
        section->whole = span_from(p, start);
        section->body = (struct vv_span){ .offset = body, .size = size };
        if (id == VV_WASM_CUSTOM_SECTION) {
            TRY(scan_custom(p, section->body));
            continue;
        }
        const unsigned rank = rank_of(id);
        if (rank == 0)
            return invalid_at(p, start, "no such section");
        if (rank <= last)
            return invalid_at(p, start, "a section twice, or out of order");
        last = rank;
    }
out:
    return rc;
}

static varve_status read_section(struct parse *p, unsigned rank)
{
    const struct vv_wasm_section *const section = vv_wasm_find_section(p->module, section_order[rank].id);
    varve_status rc = VARVE_OK;

    if (section == NULL)
        return VARVE_OK;
    p->what = section_order[rank].name;
    p->reader.offset = section->body.offset;
    p->reader.size = section->body.offset + section->body.size;
    TRY(section_order[rank].read(p));
    TRY(whole_so_far(p));
    if (vv_reader_left(&p->reader) > 0)
        return invalid(p, "bytes are left over");
out:
    return rc;
}

static varve_status read_all(struct parse *p)
{
    static const uint8_t head[8] = { 0, 'a', 's', 'm', 1, 0, 0, 0 };
    struct vv_wasm *const m = p->module;
    varve_status rc = VARVE_OK;
    const uint8_t *const found = vv_reader_take(&p->reader, sizeof head);

    if (found == NULL || memcmp(found, head, sizeof head) != 0)
        return invalid_at(p, 0, "it does not begin as a module of version 1 does");
    TRY(scan_sections(p));
    const unsigned code = rank_of(VV_WASM_CODE_SECTION) - 1;
    for (unsigned rank = 0; rank < SECTION_COUNT; rank++) {
        if (rank != code)
            TRY(read_section(p, rank));
    }
    p->what = "data count";
    if (m->has_data_count && m->data_count_claimed != m->data_count)
        return invalid(p, "not as many data segments as it says");
    p->what = "code";
    if (m->function_count > m->imported_functions && vv_wasm_find_section(m, VV_WASM_CODE_SECTION) == NULL)
        return invalid(p, "functions without code");
    TRY(read_section(p, code));
out:
    return rc;
}

struct vv_wasm_limits vv_wasm_limits_of(const varve_limits *limits)
{
    struct vv_wasm_limits result = {
        .code_bytes = UINT64_C(64) << 20,
        .types = 50000,
        .functions = 200000,
        .imports = 10000,
        .exports = 20000,
        .table_entries = 200000,
        .params = 1000,
        .locals = 50000,
        .nesting = 20000,
        .branches = 65520,
        .body_bytes = 7654321,
        .segments = 99999,
    };

    if (limits == NULL)
        return result;
    if (limits->code_bytes != 0)
        result.code_bytes = limits->code_bytes;
    if (limits->functions != 0)
        result.functions = limits->functions;
    if (limits->imports != 0)
        result.imports = limits->imports;
    if (limits->exports != 0)
        result.exports = limits->exports;
    if (limits->table_entries != 0)
        result.table_entries = limits->table_entries;
    if (limits->params != 0)
        result.params = limits->params;
    if (limits->locals != 0)
        result.locals = limits->locals;
    return result;
}

varve_status vv_wasm_read(const void *bytes, size_t size, const struct vv_wasm_limits *limits,
                          struct vv_wasm *module)
{
    struct parse p = {
        .module = module, .limits = *limits, .reader = vv_reader_of(bytes, size), .what = "header"
    };
    varve_status rc = VARVE_OK;

    *module = (struct vv_wasm){ .bytes = bytes, .size = size, .start = VV_WASM_NONE };
    if (size > limits->code_bytes)
        return over_limit(size, "bytes of code (code_bytes)", limits->code_bytes);
    rc = read_all(&p);
    if (rc != VARVE_OK)
        vv_wasm_release(module);
    return rc;
}

void vv_wasm_release(struct vv_wasm *module)
{
    vv_free(module->sections);
    vv_free(module->types);
    vv_free(module->values);
    vv_free(module->imports);
    vv_free(module->functions);
    vv_free(module->tables);
    vv_free(module->memories);
    vv_free(module->globals);
    vv_free(module->tags);
    vv_free(module->exports);
    vv_free(module->elements);
    vv_free(module->datas);
    *module = (struct vv_wasm){ .start = VV_WASM_NONE };
}

/* ---- asking ---- */

const struct vv_wasm_section *vv_wasm_find_section(const struct vv_wasm *module, enum vv_wasm_section_id id)
{
    for (uint32_t i = 0; i < module->section_count; i++) {
        if (module->sections[i].id == id)
            return &module->sections[i];
    }
    return NULL;
}

const struct vv_wasm_export *vv_wasm_find_export(const struct vv_wasm *module, const char *name, size_t size)
{
    for (uint32_t i = 0; i < module->export_count; i++) {
        const struct vv_text *const text = &module->exports[i].name;
        if (text->size == size && memcmp(text->data, name, size) == 0)
            return &module->exports[i];
    }
    return NULL;
}

struct vv_signature vv_wasm_signature(const struct vv_wasm *module, uint32_t index)
{
    VV_ASSERT(index < module->function_count);
    const struct vv_wasm_type *const type = &module->types[module->functions[index].type];
    struct vv_signature signature = { .param_count = type->param_count,
                                      .result_count = type->result_count,
                                      .numbers = true };

    if (module->values != NULL) {
        signature.params = module->values + type->values;
        signature.results = signature.params + type->param_count;
    }
    for (uint32_t i = 0; i < type->param_count + type->result_count; i++)
        signature.numbers = signature.numbers && vv_wasm_is_number(signature.params[i]);
    return signature;
}

/* Append as much as fits, leaving room for the end; returns the new length. */
static size_t append_text(char *text, size_t capacity, size_t length, const char *more)
{
    const size_t left = capacity - length;
    const int wanted = snprintf(text + length, left, "%s", more);

    VV_ASSERT(wanted >= 0);
    return (size_t)wanted < left ? length + (size_t)wanted : capacity - 1;
}

const char *vv_signature_format(const struct vv_signature *signature, char *text, size_t capacity)
{
    size_t length = 0;

    VV_ASSERT(capacity >= 4);
    text[0] = '\0';
    for (uint32_t i = 0; i < signature->param_count && length < capacity - 1; i++) {
        length = append_text(text, capacity, length, i == 0 ? "" : " ");
        length = append_text(text, capacity, length, vv_wasm_type_name(signature->params[i]));
    }
    if (signature->result_count > 0)
        length = append_text(text, capacity, length, length == 0 ? "->" : " ->");
    for (uint32_t i = 0; i < signature->result_count && length < capacity - 1; i++) {
        length = append_text(text, capacity, length, " ");
        length = append_text(text, capacity, length, vv_wasm_type_name(signature->results[i]));
    }
    if (length == capacity - 1)
        memcpy(text + capacity - 4, "...", 4);
    return text;
}

bool vv_wasm_is_contract(const struct vv_wasm *module)
{
    const struct vv_wasm_export *const buffer = vv_wasm_find_export(module, "A", 1);

    if (buffer == NULL || buffer->kind != VV_WASM_GLOBAL || module->globals[buffer->index].is_mutable ||
        module->globals[buffer->index].type != VARVE_I32)
        return false;
    for (uint32_t i = 0; i < module->export_count; i++) {
        if (module->exports[i].kind != VV_WASM_FUNCTION)
            continue;
        const struct vv_signature signature = vv_wasm_signature(module, module->exports[i].index);
        if (signature.param_count != 1 || signature.result_count != 1 || signature.params[0] != VARVE_I32 ||
            signature.results[0] != VARVE_I32)
            return false;
    }
    return true;
}

/* The entry of function `index` in the function names at the reader; empty when there is none. A list longer
 * than there are functions is none: so this takes no more time than the module has functions. */
static struct vv_text find_function_name(const struct vv_wasm *module, struct vv_reader *reader,
                                         uint32_t index)
{
    uint32_t count = vv_wasm_read_u32(reader);

    for (count = count > module->function_count ? 0 : count; count > 0 && !reader->bad; count--) {
        const uint32_t function = vv_wasm_read_u32(reader);
        const uint32_t size = vv_wasm_read_u32(reader);
        const uint8_t *const data = vv_reader_take(reader, size);
        if (function == index && data != NULL && is_utf8(data, size))
            return (struct vv_text){ .data = (const char *)data, .size = size };
    }
    return (struct vv_text){ .data = "" };
}

/* Whether the custom section is the one of names. The reader is left behind its title. */
static bool open_name_section(const struct vv_wasm *module, const struct vv_wasm_section *section,
                              struct vv_reader *reader)
{
    if (section->id != VV_WASM_CUSTOM_SECTION)
        return false;
    *reader = vv_reader_of(module->bytes, section->body.offset + section->body.size);
    reader->offset = section->body.offset;
    const uint32_t size = vv_wasm_read_u32(reader);
    const uint8_t *const title = vv_reader_take(reader, size);
    return title != NULL && size == 4 && memcmp(title, "name", 4) == 0;
}

static struct vv_text find_name_in(const struct vv_wasm *module, struct vv_reader *reader, uint32_t index)
{
    for (int part = 0; part < NAME_PARTS_MAX && !reader->bad && vv_reader_left(reader) > 0; part++) {
        const uint8_t kind = read_u8(reader);
        const uint32_t size = vv_wasm_read_u32(reader);
        const uint8_t *const data = vv_reader_take(reader, size);
        if (kind == 1 && data != NULL) {
            struct vv_reader names = vv_reader_of(data, size);
            return find_function_name(module, &names, index);
        }
    }
    return (struct vv_text){ .data = "" };
}

struct vv_text vv_wasm_function_name(const struct vv_wasm *module, uint32_t index)
{
    struct vv_text name = { .data = "" };
    struct vv_reader reader;

    for (uint32_t i = module->section_count; i > 0; i--) { /* it is among the last, and there is one */
        if (!open_name_section(module, &module->sections[i - 1], &reader))
            continue;
        name = find_name_in(module, &reader, index);
        break;
    }
    if (name.size > 0)
        return name;
    for (uint32_t i = 0; i < module->export_count; i++) {
        if (module->exports[i].kind == VV_WASM_FUNCTION && module->exports[i].index == index)
            return module->exports[i].name;
    }
    if (index < module->imported_functions)
        return module->imports[module->functions[index].import].name;
    return name;
}

const char *vv_wasm_place_format(const struct vv_wasm *module, const struct vv_wasm_place *place, char *text,
                                 size_t capacity)
{
    struct vv_text name = { .data = "" };

    if (place->function != VV_WASM_NONE)
        name = vv_wasm_function_name(module, place->function);
    if (place->function == VV_WASM_NONE)
        (void)snprintf(text, capacity, "offset %#zx", place->offset);
    else
        (void)snprintf(text, capacity, "function %u%s%.*s%s, offset %#zx", place->function,
                       name.size > 0 ? " (" : "", vv_text_shown(name), name.data, name.size > 0 ? ")" : "",
                       place->offset);
    return text;
}
