/* type.c - value types, and the section of types. */
#include "vm/wasm/parse.h"

#include "vm/wasm/binary.h"

enum {
    TYPE_VALUES_MAX = 1000000,
    STRUCT_FIELDS_MAX = 10000,
    CONCRETE = 0x10000 /* until all types are known, a reference to type n is kept as CONCRETE + n */
};

struct vv_value_type vv_parse_type_form(struct vv_reader *reader)
{
    static const varve_type numbers[] = { VARVE_V128, VARVE_F64, VARVE_F32, VARVE_I64, VARVE_I32 };
    const uint8_t byte = vv_reader_u8(reader);
    struct vv_value_type result = { .nullable = true };
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
    result.type = heap < -64 || heap >= 0 ? 0 : vv_wasm_class_of_heap(NULL, heap);
    if (result.type == 0)
        reader->bad = true;
    return result;
}

varve_status vv_parse_value_type(struct vv_parse *p, struct vv_value_type *result)
{
    *result = vv_parse_type_form(&p->reader);
    if (result->is_concrete)
        result->type = vv_wasm_class_of_heap(p->module, result->concrete);
    return p->reader.bad || result->type == 0 ? vv_parse_invalid(p, "no such value type") : VARVE_OK;
}

varve_status vv_parse_reference_type(struct vv_parse *p, varve_type *type, bool *nullable,
                                     struct vv_span *span)
{
    const size_t start = p->reader.offset;
    struct vv_value_type value = { .type = 0 };
    const varve_status rc = vv_parse_value_type(p, &value);

    if (rc != VARVE_OK)
        return rc;
    if (vv_wasm_is_number(value.type))
        return vv_parse_invalid_at(p, start, "a reference type is wanted here");
    *type = value.type;
    *nullable = value.nullable;
    *span = vv_parse_span(p, start);
    return VARVE_OK;
}

static varve_status read_type_values(struct vv_parse *p, const char *what, uint32_t *count)
{
    struct vv_wasm *const m = p->module;
    varve_status rc = VARVE_OK;

    TRY(vv_parse_count(p, what, p->limits.params, count));
    for (uint32_t i = 0; i < *count; i++) {
        varve_type *value = NULL;
        TRY(vv_parse_room(m->value_count, "params and results of all types", TYPE_VALUES_MAX));
        TRY(VV_PARSE_APPEND(m->values, m->value_count, value));
        const struct vv_value_type form = vv_parse_type_form(&p->reader);
        if (p->reader.bad || (form.is_concrete && form.concrete >= p->limits.types))
            return vv_parse_invalid(p, "no such value type");
        *value = form.is_concrete ? (varve_type)(CONCRETE + form.concrete) : form.type;
    }
out:
    return rc;
}

/* A field of a struct or array: a value type or a packed one, and whether it can change. */
static varve_status skip_field(struct vv_parse *p)
{
    if (vv_wasm_peek(&p->reader) == 0x78 || vv_wasm_peek(&p->reader) == 0x77)
        (void)vv_reader_u8(&p->reader);
    else
        (void)vv_parse_type_form(&p->reader);
    (void)vv_reader_u8(&p->reader);
    return vv_parse_whole(p);
}

/* Types in groups and subtypes belong to garbage collection, without any of its instructions: an engine without a
 * collector may accept them all the same, and abort the process in an indirect call to one. */
static void note_type_form(struct vv_parse *p, const char *form)
{
    struct vv_wasm_place *const place = &p->module->features[VV_WASM_GC];

    if (place->instruction == NULL)
        *place = (struct vv_wasm_place){ .instruction = form,
                                         .function = VV_WASM_NONE,
                                         .offset = p->reader.offset };
}

static varve_status read_type(struct vv_parse *p, bool in_group)
{
    struct vv_wasm *const m = p->module;
    varve_status rc = VARVE_OK;
    struct vv_wasm_type type = { .plain = !in_group };
    struct vv_wasm_type *place = NULL;
    uint32_t count = 0;

    TRY(vv_parse_room(m->type_count, "types", p->limits.types));
    if (vv_wasm_peek(&p->reader) == 0x50 || vv_wasm_peek(&p->reader) == 0x4f) { /* a subtype, open or final */
        type.plain = false;
        note_type_form(p, "a subtype");
        (void)vv_reader_u8(&p->reader);
        TRY(vv_parse_count(p, "supertypes", 1, &count));
        for (; count > 0; count--)
            (void)vv_wasm_read_u32(&p->reader);
    }
    type.form = vv_reader_u8(&p->reader);
    switch (type.form) {
    case VV_WASM_FUNCTION_TYPE:
        type.values = m->value_count;
        TRY(read_type_values(p, "params of a function", &type.param_count));
        TRY(read_type_values(p, "results of a function", &type.result_count));
        break;
    case VV_WASM_STRUCT_TYPE:
        note_type_form(p, "a struct type");
        TRY(vv_parse_each(p, "fields of a struct", STRUCT_FIELDS_MAX, skip_field));
        break;
    case VV_WASM_ARRAY_TYPE:
        note_type_form(p, "an array type");
        TRY(skip_field(p));
        break;
    case VV_WASM_CONT_TYPE:
        (void)vv_wasm_read_s33(&p->reader);
        break;
    default:
        return vv_parse_invalid(p, "no such form of type");
    }
    TRY(vv_parse_whole(p));
    TRY(VV_PARSE_APPEND(m->types, m->type_count, place));
    *place = type;
out:
    return rc;
}

/* Types may refer to later ones of their group: what kind of reference each is, is known only now. */
static varve_status resolve_types(struct vv_parse *p)
{
    struct vv_wasm *const m = p->module;

    for (uint32_t i = 0; i < m->value_count; i++) {
        if ((uint32_t)m->values[i] < CONCRETE)
            continue;
        m->values[i] = vv_wasm_class_of_heap(m, (int64_t)((uint32_t)m->values[i] - CONCRETE));
        if (m->values[i] == 0)
            return vv_parse_invalid(p, "a reference to a type that does not exist");
    }
    return VARVE_OK;
}

static varve_status read_grouped_type(struct vv_parse *p)
{
    return read_type(p, true);
}

static varve_status read_type_or_group(struct vv_parse *p)
{
    if (vv_wasm_peek(&p->reader) != 0x4e)
        return read_type(p, false);
    note_type_form(p, "a group of types");
    (void)vv_reader_u8(&p->reader);
    return vv_parse_each(p, "types", p->limits.types, read_grouped_type);
}

varve_status vv_parse_type_section(struct vv_parse *p)
{
    const varve_status rc = vv_parse_each(p, "types", p->limits.types, read_type_or_group);

    return rc == VARVE_OK ? resolve_types(p) : rc;
}

varve_status vv_parse_function_type(struct vv_parse *p, uint32_t *type)
{
    *type = vv_wasm_read_u32(&p->reader);
    if (p->reader.bad || *type >= p->module->type_count ||
        p->module->types[*type].form != VV_WASM_FUNCTION_TYPE)
        return vv_parse_invalid(p, "no such function type");
    return VARVE_OK;
}
