/* wasm.c - what may be asked of a module that was read: see wasm.h. */
#include "vm/wasm/wasm.h"

#include <stdio.h>

#include "base/alloc.h"
#include "vm/wasm/binary.h"

enum { NAME_PARTS_MAX = 64 /* of a name section; a dozen are known */ };

/* ---- names ---- */

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

/* ---- the module ---- */

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

varve_type vv_wasm_class_of_heap(const struct vv_wasm *module, int64_t heap)
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

int vv_text_shown(struct vv_text text)
{
    size_t size = text.size < 100 ? text.size : 100;

    while (size < text.size && size > 0 && ((uint8_t)text.data[size] & 0xc0) == 0x80)
        size--;
    return (int)size;
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
        if (function == index && data != NULL && vv_wasm_is_utf8(data, size))
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
        const uint8_t kind = vv_reader_u8(reader);
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
    if (place->function == VV_WASM_NONE) {
        (void)snprintf(text, capacity, "offset %#zx", place->offset);
        return text;
    }
    const struct vv_text name = vv_wasm_function_name(module, place->function);
    (void)snprintf(text, capacity, "function %u%s%.*s%s, offset %#zx", place->function,
                   name.size > 0 ? " (" : "", vv_text_shown(name), name.data, name.size > 0 ? ")" : "",
                   place->offset);
    return text;
}
