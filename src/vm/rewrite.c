/* rewrite.c - see rewrite.h for the laws (R1) to (R4).
 *
 *   vv_rewrite   refuse what cannot be resumed                       [collect]
 *                the values of all globals, imported ones included   [find_values]
 *                imports become first definitions                    [move_imports]
 *                what must be saved gets a name                      [export_state]
 *                data leaves, or stays as empty segments             [take_data_out]
 *                probes and droppers of segments                     [watch_segments]
 *                write the sections, customs where they were         [write_module]
 *
 * A section is kept as it is, dropped, or built of three pieces: new entries in front, the old ones as they
 * are (`rest`), new ones behind. Nothing is written before all pieces are known. */
#include "vm/rewrite.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "vm/wasm/binary.h"
#include "vm/wasm/constant.h"

enum { REFUSALS_MAX = 100 };

enum how { KEEP, DROP, BUILD };
struct part {
    enum how how;
    uint32_t count; /* of all entries */
    struct vv_bytes front, back;
    struct vv_span rest;
};

struct rewriter {
    const struct vv_wasm *m;
    const struct vv_rewrite_options *options;
    struct vv_plan *plan;
    struct vv_wasm_value *values; /* of every global at its start */
    uint32_t imported_globals;
    struct part parts[VV_WASM_SECTION_IDS];
    uint32_t void_type; /* () -> (), once a function was appended */
};

bool vv_export_is_reserved(const char *name, size_t size)
{
    const size_t prefix = sizeof VV_RESERVED_PREFIX - 1;

    return size >= prefix && memcmp(name, VV_RESERVED_PREFIX, prefix) == 0;
}

/* ---- what is refused ---- */

/* `place` NULL: nowhere in particular. */
static varve_status refuse(struct vv_refusals *refusals, const struct vv_wasm_place *place,
                           const char *format, ...) __attribute__((format(printf, 3, 4)));
static varve_status refuse(struct vv_refusals *refusals, const struct vv_wasm_place *place,
                           const char *format, ...)
{
    varve_status rc = VARVE_OK;
    char text[512];
    va_list args;

    if (refusals->count == REFUSALS_MAX)
        return VARVE_OK;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    TRY(vv_resize(&refusals->list, refusals->count + 1, sizeof *refusals->list));
    struct vv_refusal *const refusal = &refusals->list[refusals->count];
    *refusal = (struct vv_refusal){ .function = place == NULL ? VV_WASM_NONE : place->function,
                                    .offset = place == NULL ? 0 : place->offset };
    TRY(vv_strdup(&refusal->why, text));
    refusals->count++;
out:
    return rc;
}

void vv_refusals_release(struct vv_refusals *refusals)
{
    for (size_t i = 0; i < refusals->count; i++)
        vv_free(refusals->list[i].why);
    vv_free(refusals->list);
    *refusals = (struct vv_refusals){ .list = NULL };
}

/* Whether values of the type can be read from one instance and given to another. Of host references and
 * exceptions only null can; that is looked at when state is taken. */
static bool can_be_state(varve_type type)
{
    return type <= (varve_type)VV_WASM_EXNREF;
}

/* A reference to any function, or null, as it is written. References that say the function's type, or that are never
 * null, would need accessors of that very type; no language outside garbage collection keeps such state yet. */
static bool is_any_function(const struct vv_wasm *m, struct vv_span type)
{
    enum { FUNCREF = 0x70, NULLABLE = 0x63 };
    const uint8_t *const bytes = m->bytes + type.offset;

    return (type.size == 1 && bytes[0] == FUNCREF) ||
           (type.size == 2 && bytes[0] == NULLABLE && bytes[1] == FUNCREF);
}

static varve_status collect_features(const struct vv_wasm *m, uint32_t allowed, struct vv_refusals *refusals)
{
    varve_status rc = VARVE_OK;
    char text[256];

    for (int i = 0; i < VV_WASM_FEATURES; i++) {
        const struct vv_wasm_place *const place = &m->features[i];
        if (place->instruction == NULL || (allowed & 1u << i) != 0)
            continue;
        TRY(refuse(refusals, place, "%s: %s is not supported (%s)",
                   vv_wasm_place_format(m, place, text, sizeof text), place->instruction,
                   vv_wasm_feature_name((enum vv_wasm_feature)i)));
    }
    if (m->gc_constant.instruction != NULL)
        TRY(refuse(refusals, &m->gc_constant,
                   "offset %#zx: a constant expression makes an object of garbage collection",
                   m->gc_constant.offset));
out:
    return rc;
}

static varve_status collect_shapes(const struct vv_wasm *m, uint32_t allowed, struct vv_refusals *refusals)
{
    varve_status rc = VARVE_OK;

    if (m->memory_count > 1)
        TRY(refuse(refusals, NULL, "%u memories: one is supported", m->memory_count));
    for (uint32_t i = 0; i < m->memory_count; i++) {
        if (m->memories[i].range.shared)
            TRY(refuse(refusals, NULL, "memory %u is shared: threads are not supported", i));
        if (m->memories[i].range.is64 && (allowed & 1u << VV_WASM_MEMORY64) == 0)
            TRY(refuse(refusals, NULL, "memory %u is addressed with 64 bits: that is not supported", i));
        if (m->memories[i].custom_page)
            TRY(refuse(refusals, NULL, "memory %u has a page size of its own", i));
    }
    for (uint32_t i = 0; i < m->export_count; i++) {
        const struct vv_text name = m->exports[i].name;
        if (vv_export_is_reserved(name.data, name.size))
            TRY(refuse(refusals, NULL, "export %.*s: names that begin with %s are reserved",
                       vv_text_shown(name), name.data, VV_RESERVED_PREFIX));
    }
    if (m->datas_named > VV_WASM_SEGMENTS_MAX)
        TRY(refuse(refusals, NULL, "%u data segments are named by instructions: the limit is %d",
                   m->datas_named, VV_WASM_SEGMENTS_MAX));
    if (m->elements_named > VV_WASM_SEGMENTS_MAX)
        TRY(refuse(refusals, NULL, "%u element segments are named by instructions: the limit is %d",
                   m->elements_named, VV_WASM_SEGMENTS_MAX));
out:
    return rc;
}

static varve_status collect_state(const struct vv_wasm *m, struct vv_refusals *refusals)
{
    varve_status rc = VARVE_OK;
    char text[256];

    for (uint32_t i = 0; i < m->global_count; i++) {
        if (m->globals[i].is_mutable && !can_be_state(m->globals[i].type))
            TRY(refuse(refusals, NULL, "global %u is mutable and holds %s: that cannot be saved", i,
                       vv_wasm_type_name(m->globals[i].type)));
        else if (m->globals[i].is_mutable && m->globals[i].type == (varve_type)VV_WASM_FUNCREF &&
                 !is_any_function(m, m->globals[i].type_bytes))
            TRY(refuse(refusals, NULL,
                       "global %u is mutable and holds typed references: that cannot be saved", i));
    }
    for (uint32_t i = 0; i < m->table_count; i++) {
        const struct vv_wasm_table *const table = &m->tables[i];
        if (table->range.shared)
            TRY(refuse(refusals, NULL, "table %u is shared: threads are not supported", i));
        if (table->changed.instruction != NULL && !can_be_state(table->type))
            TRY(refuse(refusals, &table->changed,
                       "%s: %s changes table %u, which holds %s: that cannot be saved",
                       vv_wasm_place_format(m, &table->changed, text, sizeof text),
                       table->changed.instruction, i, vv_wasm_type_name(table->type)));
        else if (table->changed.instruction != NULL && table->type == (varve_type)VV_WASM_FUNCREF &&
                 !is_any_function(m, table->type_bytes))
            TRY(refuse(refusals, &table->changed,
                       "%s: %s changes table %u, which holds typed references: that cannot be saved",
                       vv_wasm_place_format(m, &table->changed, text, sizeof text),
                       table->changed.instruction, i));
    }
    for (uint32_t i = 0; i < m->element_count; i++) {
        const struct vv_wasm_element *const element = &m->elements[i];
        if (element->mode == VV_WASM_PASSIVE && element->dropped.instruction != NULL &&
            element->inited.instruction != NULL && element->inited_table == VV_WASM_NONE)
            TRY(refuse(refusals, &element->dropped, "%s: elem.drop of a segment of arrays cannot be saved",
                       vv_wasm_place_format(m, &element->dropped, text, sizeof text)));
    }
    for (uint32_t i = 0; i < m->data_count && m->memory_count == 0; i++) {
        if (m->datas[i].dropped.instruction != NULL && m->datas[i].inited.instruction != NULL)
            TRY(refuse(refusals, &m->datas[i].dropped, "%s: data.drop without a memory cannot be saved",
                       vv_wasm_place_format(m, &m->datas[i].dropped, text, sizeof text)));
    }
out:
    return rc;
}

static bool is_text(struct vv_text text, const char *wanted)
{
    return strlen(wanted) == text.size && memcmp(wanted, text.data, text.size) == 0;
}

static const struct vv_wasm_value *find_given(const struct vv_rewrite_options *options,
                                              const struct vv_wasm_import *import)
{
    for (size_t i = 0; i < options->value_count; i++) {
        if (is_text(import->module, options->values[i].module) &&
            is_text(import->name, options->values[i].name))
            return &options->values[i].value;
    }
    return NULL;
}

static varve_status collect_import(const struct vv_wasm *m, const struct vv_rewrite_options *options,
                                   const struct vv_wasm_import *import, struct vv_refusals *refusals)
{
    varve_status rc = VARVE_OK;
    char text[256];

    (void)snprintf(text, sizeof text, "import %.*s.%.*s", vv_text_shown(import->module), import->module.data,
                   vv_text_shown(import->name), import->name.data);
    if (import->kind == VV_WASM_TABLE && !m->tables[import->index].nullable)
        TRY(refuse(refusals, NULL, "%s: a table whose entries cannot be null", text));
    if (import->kind != VV_WASM_GLOBAL)
        return VARVE_OK;
    const struct vv_wasm_global *const global = &m->globals[import->index];
    const struct vv_wasm_value *const given = find_given(options, import);
    if (!vv_wasm_is_number(global->type)) {
        if (!global->nullable)
            TRY(refuse(refusals, NULL, "%s: a global that cannot be null", text));
        if (given != NULL)
            TRY(refuse(refusals, NULL, "%s: the global holds %s, for which no value can be given", text,
                       vv_wasm_type_name(global->type)));
    } else if (given == NULL) {
        if (!options->missing_is_zero)
            TRY(refuse(refusals, NULL, "%s: a global (%s) that has no value; give it one", text,
                       vv_wasm_type_name(global->type)));
    } else if (given->type != global->type) {
        TRY(refuse(refusals, NULL, "%s: the value given is not the global's type, %s", text,
                   vv_wasm_type_name(global->type)));
    }
out:
    return rc;
}

static const struct vv_rewrite_options no_options;

varve_status vv_rewrite_refusals(const struct vv_wasm *module, const struct vv_rewrite_options *options,
                                 struct vv_refusals *refusals)
{
    varve_status rc = VARVE_OK;

    *refusals = (struct vv_refusals){ .list = NULL };
    if (options == NULL)
        options = &no_options;
    const uint32_t allowed = options->features == 0 ? VV_REWRITE_FEATURES : options->features;
    TRY(collect_features(module, allowed, refusals));
    TRY(collect_shapes(module, allowed, refusals));
    TRY(collect_state(module, refusals));
    for (uint32_t i = 0; i < module->import_count; i++)
        TRY(collect_import(module, options, &module->imports[i], refusals));
out:
    if (rc != VARVE_OK)
        vv_refusals_release(refusals);
    return rc;
}

/* One failure whose words give as many reasons as a message holds well. */
static varve_status refuse_all(const struct vv_wasm *module, const struct vv_rewrite_options *options)
{
    enum { SHOWN = 3 };
    struct vv_refusals refusals = { .list = NULL };
    varve_status rc = VARVE_OK;

    TRY(vv_rewrite_refusals(module, options, &refusals));
    const size_t count = refusals.count;
    if (count == 0)
        goto out;
    rc = vv_fail(VARVE_REFUSED, "%s%s%s%s%s", refusals.list[0].why, count > 1 ? "; " : "",
                 count > 1 ? refusals.list[1].why : "", count > 2 ? "; " : "",
                 count > 2 ? refusals.list[2].why : "");
    if (count > SHOWN)
        rc = vv_fail_within(rc, "%zu reasons, the first three", count);
out:
    vv_refusals_release(&refusals);
    return rc;
}

/* ---- writing ---- */

static void put_sleb(struct vv_bytes *out, int64_t value)
{
    for (bool more = true; more;) {
        uint8_t byte = (uint8_t)(value & 0x7f);
        value >>= 7;
        more = !((value == 0 && (byte & 0x40) == 0) || (value == -1 && (byte & 0x40) != 0));
        vv_bytes_u8(out, (uint8_t)(byte | (more ? 0x80 : 0)));
    }
}

static void put_span(struct vv_bytes *out, const struct vv_wasm *m, struct vv_span span)
{
    vv_bytes_put(out, m->bytes + span.offset, span.size);
}

static void put_name(struct vv_bytes *out, const char *name)
{
    vv_bytes_blob(out, name, strlen(name));
}

/* The bytes from `from` (inclusive) to `to`. */
static struct vv_span between(size_t from, size_t to)
{
    VV_ASSERT(from <= to);
    return (struct vv_span){ .offset = from, .size = to - from };
}

static size_t end_of(struct vv_span span)
{
    return span.offset + span.size;
}

static void put_range(struct vv_bytes *out, const struct vv_wasm_range *range)
{
    vv_bytes_u8(out, (uint8_t)((range->has_max ? 1 : 0) | (range->is64 ? 4 : 0)));
    vv_bytes_varint(out, range->min);
    if (range->has_max)
        vv_bytes_varint(out, range->max);
}

/* The instruction that yields what global `index` holds at the start: an import's, whose value is known. */
static void put_literal(const struct rewriter *w, struct vv_bytes *out, uint32_t index)
{
    const struct vv_wasm_global *const global = &w->m->globals[index];
    const uint8_t *const bits = w->values[index].bits;

    switch (w->values[index].type) {
    case VARVE_I32:
        vv_bytes_u8(out, VV_WASM_I32_CONST);
        put_sleb(out, (int32_t)vv_get_u32(bits));
        break;
    case VARVE_I64:
        vv_bytes_u8(out, VV_WASM_I64_CONST);
        put_sleb(out, (int64_t)vv_get_u64(bits));
        break;
    case VARVE_F32:
        vv_bytes_u8(out, VV_WASM_F32_CONST);
        vv_bytes_put(out, bits, 4);
        break;
    case VARVE_F64:
        vv_bytes_u8(out, VV_WASM_F64_CONST);
        vv_bytes_put(out, bits, 8);
        break;
    case VARVE_V128:
        vv_bytes_u8(out, VV_WASM_V128_CONST >> 8);
        vv_bytes_varint(out, VV_WASM_V128_CONST & 0xff);
        vv_bytes_put(out, bits, 16);
        break;
    default: { /* null; the heap type follows 0x63, or the short form is one */
        struct vv_span heap = global->type_bytes;
        if (heap.size > 1)
            heap = between(heap.offset + 1, end_of(heap));
        vv_bytes_u8(out, VV_WASM_REF_NULL);
        put_span(out, w->m, heap);
    }
    }
}

/* A constant expression. An immutable import's value is written in, because constant expressions may get only
 * globals that are imported, and it no longer is. */
static void put_expression(const struct rewriter *w, struct vv_bytes *out, struct vv_reader *reader)
{
    struct vv_wasm_constant constant;

    do {
        const bool read = vv_wasm_read_constant(reader, &constant);
        VV_ASSERT(read); /* it was read before */
        if (constant.opcode == VV_WASM_GLOBAL_GET && constant.index < w->imported_globals &&
            !w->m->globals[constant.index].is_mutable)
            put_literal(w, out, constant.index);
        else
            put_span(out, w->m, constant.raw);
    } while (constant.opcode != VV_WASM_END);
}

static void put_expressions(const struct rewriter *w, struct vv_bytes *out, struct vv_span span,
                            uint32_t count)
{
    struct vv_reader reader = vv_reader_of(w->m->bytes, end_of(span));

    reader.offset = span.offset;
    for (uint32_t i = 0; i < count; i++)
        put_expression(w, out, &reader);
}

/* Make the section one that is built, its old entries as `rest`. */
static struct part *build(struct rewriter *w, enum vv_wasm_section_id id)
{
    const struct vv_wasm_section *const section = vv_wasm_find_section(w->m, id);
    struct part *const part = &w->parts[id];

    if (part->how == BUILD)
        return part;
    part->how = BUILD;
    if (section != NULL) {
        struct vv_reader reader = vv_reader_of(w->m->bytes, end_of(section->body));
        reader.offset = section->body.offset;
        part->count = vv_wasm_read_u32(&reader);
        part->rest = between(reader.offset, reader.size);
    }
    return part;
}

/* Likewise, without its old entries. */
static struct part *build_anew(struct rewriter *w, enum vv_wasm_section_id id)
{
    struct part *const part = &w->parts[id];

    VV_ASSERT(part->how == KEEP);
    part->how = BUILD;
    return part;
}

static void add_export(struct rewriter *w, const char *name, enum vv_wasm_kind kind, uint32_t index)
{
    struct part *const part = build(w, VV_WASM_EXPORT_SECTION);

    put_name(&part->back, name);
    vv_bytes_u8(&part->back, (uint8_t)kind);
    vv_bytes_varint(&part->back, index);
    part->count++;
}

/* ---- the steps ---- */

static varve_status find_values(struct rewriter *w)
{
    const struct vv_wasm *const m = w->m;
    varve_status rc = VARVE_OK;

    TRY(vv_alloc(&w->values, m->global_count, sizeof *w->values));
    for (uint32_t i = 0; i < m->global_count; i++) {
        const struct vv_wasm_global *const global = &m->globals[i];
        struct vv_wasm_value *const value = &w->values[i];
        *value = (struct vv_wasm_value){ .type = global->type, .function = VV_WASM_NONE };
        if (global->import == VV_WASM_NONE) {
            TRY(vv_wasm_evaluate(m, global->init, w->values, i, value));
            if (value->type != global->type)
                return vv_fail(VARVE_INVALID, "not a valid module: global %u is made of another type's value",
                               i);
            continue;
        }
        w->imported_globals++;
        const struct vv_wasm_value *const given = find_given(w->options, &m->imports[global->import]);
        if (given != NULL)
            memcpy(value->bits, given->bits, sizeof value->bits);
    }
out:
    return rc;
}

static void move_imported_tables(struct rewriter *w)
{
    const struct vv_wasm *const m = w->m;
    struct part *const part = build_anew(w, VV_WASM_TABLE_SECTION);

    for (uint32_t i = 0; i < m->table_count; i++) {
        const struct vv_wasm_table *const table = &m->tables[i];
        if (table->import != VV_WASM_NONE) {
            put_span(&part->front, m, table->type_bytes);
            put_range(&part->front, &table->range);
        } else if (table->init.size == 0) {
            put_span(&part->front, m, table->whole);
        } else {
            put_span(&part->front, m, between(table->whole.offset, table->init.offset));
            put_expressions(w, &part->front, table->init, 1);
        }
    }
    part->count = m->table_count;
}

static void move_imported_globals(struct rewriter *w)
{
    const struct vv_wasm *const m = w->m;
    struct part *const part = build_anew(w, VV_WASM_GLOBAL_SECTION);

    for (uint32_t i = 0; i < m->global_count; i++) {
        const struct vv_wasm_global *const global = &m->globals[i];
        if (global->import != VV_WASM_NONE) {
            put_span(&part->front, m, global->type_bytes);
            vv_bytes_u8(&part->front, global->is_mutable ? 1 : 0);
            put_literal(w, &part->front, i);
            vv_bytes_u8(&part->front, VV_WASM_END);
        } else {
            put_span(&part->front, m, between(global->whole.offset, global->init.offset));
            put_expressions(w, &part->front, global->init, 1);
        }
    }
    part->count = m->global_count;
}

/* Values of imports written into the constant expressions of elements. */
static void rewrite_elements(struct rewriter *w)
{
    const struct vv_wasm *const m = w->m;
    struct part *const part = build_anew(w, VV_WASM_ELEMENT_SECTION);

    for (uint32_t i = 0; i < m->element_count; i++) {
        const struct vv_wasm_element *const element = &m->elements[i];
        size_t at = element->whole.offset;
        if (element->mode == VV_WASM_ACTIVE) {
            put_span(&part->front, m, between(at, element->offset.offset));
            put_expressions(w, &part->front, element->offset, 1);
            at = end_of(element->offset);
        }
        put_span(&part->front, m, between(at, element->entries.offset));
        if ((element->flags & 4) != 0)
            put_expressions(w, &part->front, element->entries, element->count);
        else
            put_span(&part->front, m, element->entries);
    }
    part->count = m->element_count;
}

/* (R1): all imports but functions go, so the order within each index space holds. */
static void move_imports(struct rewriter *w)
{
    const struct vv_wasm *const m = w->m;
    bool has_tables = false;

    if (m->import_count == m->imported_functions)
        return;
    struct part *const imports = build_anew(w, VV_WASM_IMPORT_SECTION);
    imports->count = m->imported_functions;
    for (uint32_t i = 0; i < m->import_count; i++) {
        const struct vv_wasm_import *const import = &m->imports[i];
        switch (import->kind) {
        case VV_WASM_FUNCTION:
            put_span(&imports->front, m, import->whole);
            break;
        case VV_WASM_TABLE:
            has_tables = true;
            break;
        case VV_WASM_MEMORY: {
            struct part *const part = build(w, VV_WASM_MEMORY_SECTION);
            put_range(&part->front, &m->memories[import->index].range);
            part->count++;
            break;
        }
        case VV_WASM_TAG: {
            struct part *const part = build(w, VV_WASM_TAG_SECTION);
            vv_bytes_u8(&part->front, 0);
            vv_bytes_varint(&part->front, m->tags[import->index].type);
            part->count++;
            break;
        }
        case VV_WASM_GLOBAL:
            break;
        }
    }
    if (w->imported_globals > 0) {
        move_imported_globals(w);
        if (m->element_count > 0)
            rewrite_elements(w);
    }
    if (has_tables || (w->imported_globals > 0 && m->table_count > 0))
        move_imported_tables(w);
}

static varve_status make_directory(struct rewriter *w)
{
    const struct vv_wasm *const m = w->m;
    struct vv_plan *const plan = w->plan;
    varve_status rc = VARVE_OK;

    for (uint32_t i = 0; i < plan->global_count; i++)
        plan->has_refs = plan->has_refs || plan->globals[i].type == (varve_type)VV_WASM_FUNCREF;
    for (uint32_t i = 0; i < plan->table_count; i++)
        plan->has_refs = plan->has_refs || plan->tables[i].type == (varve_type)VV_WASM_FUNCREF;
    if (!plan->has_refs)
        return VARVE_OK;
    TRY(vv_alloc(&plan->refs, m->function_count, sizeof *plan->refs));
    for (uint32_t i = 0; i < m->function_count; i++) {
        if (m->functions[i].referenced)
            plan->refs[plan->ref_count++] = i;
    }

    struct part *const tables = build(w, VV_WASM_TABLE_SECTION);
    vv_bytes_put(&tables->back, "\x70\x01", 2); /* funcref, with a maximum */
    vv_bytes_varint(&tables->back, plan->ref_count);
    vv_bytes_varint(&tables->back, plan->ref_count);
    tables->count++;
    add_export(w, VV_EXPORT_REFS, VV_WASM_TABLE, m->table_count);

    struct part *const elements = build(w, VV_WASM_ELEMENT_SECTION);
    vv_bytes_u8(&elements->back, 2); /* active, table named, functions by index */
    vv_bytes_varint(&elements->back, m->table_count);
    vv_bytes_put(&elements->back, "\x41\x00\x0b\x00", 4); /* at 0; a kind that is always 0 */
    vv_bytes_varint(&elements->back, plan->ref_count);
    for (uint32_t i = 0; i < plan->ref_count; i++)
        vv_bytes_varint(&elements->back, plan->refs[i]);
    elements->count++;
out:
    return rc;
}

static varve_status export_state(struct rewriter *w)
{
    const struct vv_wasm *const m = w->m;
    struct vv_plan *const plan = w->plan;
    varve_status rc = VARVE_OK;

    if (m->memory_count > 0) {
        plan->has_memory = true;
        plan->memory = m->memories[0].range;
        add_export(w, VV_EXPORT_MEMORY, VV_WASM_MEMORY, 0);
    }
    TRY(vv_alloc(&plan->globals, m->global_count, sizeof *plan->globals));
    for (uint32_t i = 0; i < m->global_count; i++) {
        if (!m->globals[i].is_mutable)
            continue;
        struct vv_plan_global *const global = &plan->globals[plan->global_count++];
        *global = (struct vv_plan_global){ .index = i, .type = m->globals[i].type, .initial = w->values[i] };
        (void)snprintf(global->name, sizeof global->name, VV_RESERVED_PREFIX "g%u", i);
        add_export(w, global->name, VV_WASM_GLOBAL, i);
    }
    TRY(vv_alloc(&plan->tables, m->table_count, sizeof *plan->tables));
    for (uint32_t i = 0; i < m->table_count; i++) {
        if (m->tables[i].changed.instruction == NULL)
            continue;
        struct vv_plan_table *const table = &plan->tables[plan->table_count++];
        *table = (struct vv_plan_table){ .index = i,
                                         .type = m->tables[i].type,
                                         .nullable = m->tables[i].nullable,
                                         .range = m->tables[i].range };
        (void)snprintf(table->name, sizeof table->name, VV_RESERVED_PREFIX "t%u", i);
        add_export(w, table->name, VV_WASM_TABLE, i);
    }
    TRY(make_directory(w));
    w->parts[VV_WASM_START_SECTION].how = DROP;
    plan->has_start = m->start != VV_WASM_NONE;
    plan->start = m->start;
    if (plan->has_start)
        add_export(w, VV_EXPORT_START, VV_WASM_FUNCTION, m->start);
out:
    return rc;
}

static varve_status plan_writes(struct rewriter *w)
{
    const struct vv_wasm *const m = w->m;
    struct vv_plan *const plan = w->plan;
    varve_status rc = VARVE_OK;

    TRY(vv_alloc(&plan->writes, m->data_count, sizeof *plan->writes));
    for (uint32_t i = 0; i < m->data_count; i++) {
        struct vv_wasm_value value = { .type = VARVE_I32 };
        if (m->datas[i].mode != VV_WASM_ACTIVE)
            continue;
        TRY(vv_wasm_evaluate(m, m->datas[i].offset, w->values, m->global_count, &value));
        if (value.type != (m->memories[0].range.is64 ? VARVE_I64 : VARVE_I32))
            return vv_fail(VARVE_INVALID, "not a valid module: the offset of data segment %u is no address",
                           i);
        plan->writes[plan->write_count++] =
            (struct vv_plan_write){ .offset = vv_get_u64(value.bits), .bytes = m->datas[i].bytes };
    }
out:
    return rc;
}

/* (R3). A segment that was written at deploy is to the guest what a dropped one is: passive and empty. Where
 * no instruction names any segment, none need be there. */
static varve_status take_data_out(struct rewriter *w)
{
    const struct vv_wasm *const m = w->m;
    varve_status rc = VARVE_OK;

    TRY(plan_writes(w));
    if (m->datas_named == 0) {
        w->parts[VV_WASM_DATA_SECTION].how = DROP;
        w->parts[VV_WASM_DATA_COUNT_SECTION].how = DROP;
        return VARVE_OK;
    }
    if (w->plan->write_count == 0)
        return VARVE_OK;
    struct part *const part = build_anew(w, VV_WASM_DATA_SECTION);
    for (uint32_t i = 0; i < m->data_count; i++) {
        const bool passive = m->datas[i].mode == VV_WASM_PASSIVE;
        vv_bytes_u8(&part->front, 1);
        vv_bytes_varint(&part->front, passive ? m->datas[i].bytes.size : 0);
        if (passive)
            put_span(&part->front, m, m->datas[i].bytes);
    }
    part->count = m->data_count;
out:
    return rc;
}

/* Append a function () -> () that does `code` and export it. */
static void append_function(struct rewriter *w, const struct vv_bytes *code, const char *name)
{
    const struct vv_wasm *const m = w->m;
    struct part *const functions = build(w, VV_WASM_FUNCTION_SECTION);
    struct part *const bodies = build(w, VV_WASM_CODE_SECTION);

    if (w->void_type == VV_WASM_NONE) {
        for (uint32_t i = m->type_count; i > 0; i--) {
            const struct vv_wasm_type *const type = &m->types[i - 1];
            if (type->form == VV_WASM_FUNCTION_TYPE && type->plain &&
                type->param_count + type->result_count == 0)
                w->void_type = i - 1;
        }
    }
    if (w->void_type == VV_WASM_NONE) {
        struct part *const types = build(w, VV_WASM_TYPE_SECTION);
        vv_bytes_put(&types->back, "\x60\x00\x00", 3);
        types->count++;
        w->void_type = m->type_count;
    }
    vv_bytes_varint(&functions->back, w->void_type);
    functions->count++;
    vv_bytes_varint(&bodies->back, code->size + 2);
    vv_bytes_u8(&bodies->back, 0); /* no locals */
    vv_bytes_put(&bodies->back, code->data, code->size);
    vv_bytes_u8(&bodies->back, VV_WASM_END);
    bodies->count++;
    add_export(w, name, VV_WASM_FUNCTION, m->function_count + w->plan->functions_appended++);
}

/* An init of no bytes at the segment's end traps if and only if the segment is empty by now, because it was
 * dropped; at place 0 of the memory or table it fits always. */
static varve_status watch_segment(struct rewriter *w, bool is_element, uint32_t index, uint64_t size,
                                  bool is64, uint32_t table)
{
    struct vv_plan_segment *const segment = &w->plan->segments[w->plan->segment_count++];
    struct vv_bytes probe = VV_BYTES_NONE, drop = VV_BYTES_NONE;
    varve_status rc = VARVE_OK;

    *segment = (struct vv_plan_segment){ .is_element = is_element, .index = index };
    const char kind = is_element ? 'e' : 'd';
    (void)snprintf(segment->probe, sizeof segment->probe, VV_RESERVED_PREFIX "%c%u?", kind, index);
    (void)snprintf(segment->drop, sizeof segment->drop, VV_RESERVED_PREFIX "%c%u!", kind, index);

    vv_bytes_u8(&probe, is64 ? VV_WASM_I64_CONST : VV_WASM_I32_CONST);
    vv_bytes_u8(&probe, 0);
    vv_bytes_u8(&probe, VV_WASM_I32_CONST);
    put_sleb(&probe, (int32_t)(uint32_t)size);
    vv_bytes_u8(&probe, VV_WASM_I32_CONST);
    vv_bytes_u8(&probe, 0);
    vv_bytes_put(&probe, is_element ? "\xfc\x0c" : "\xfc\x08", 2);
    vv_bytes_varint(&probe, index);
    vv_bytes_varint(&probe, table);
    TRY(vv_bytes_done(&probe));
    append_function(w, &probe, segment->probe);

    vv_bytes_put(&drop, is_element ? "\xfc\x0d" : "\xfc\x09", 2);
    vv_bytes_varint(&drop, index);
    TRY(vv_bytes_done(&drop));
    append_function(w, &drop, segment->drop);
out:
    vv_bytes_release(&probe);
    vv_bytes_release(&drop);
    return rc;
}

static varve_status watch_segments(struct rewriter *w)
{
    const struct vv_wasm *const m = w->m;
    varve_status rc = VARVE_OK;

    TRY(vv_alloc(&w->plan->segments, (size_t)m->datas_named + m->elements_named, sizeof *w->plan->segments));
    for (uint32_t i = 0; i < m->data_count; i++) {
        const struct vv_wasm_data *const data = &m->datas[i];
        if (data->mode == VV_WASM_PASSIVE && data->dropped.instruction != NULL &&
            data->inited.instruction != NULL && data->bytes.size > 0)
            TRY(watch_segment(w, false, i, data->bytes.size, m->memories[0].range.is64, 0));
    }
    for (uint32_t i = 0; i < m->element_count; i++) {
        const struct vv_wasm_element *const element = &m->elements[i];
        if (element->mode == VV_WASM_PASSIVE && element->dropped.instruction != NULL &&
            element->inited.instruction != NULL && element->count > 0)
            TRY(watch_segment(w, true, i, element->count, m->tables[element->inited_table].range.is64,
                              element->inited_table));
    }
out:
    return rc;
}

/* ---- what the plan tells of imports and exports ---- */

static struct vv_text keep_text(struct vv_text text, char **room)
{
    const struct vv_text kept = { .data = *room, .size = text.size };

    if (text.size > 0)
        memcpy(*room, text.data, text.size);
    (*room)[text.size] = '\0';
    *room += text.size + 1;
    return kept;
}

/* The signature, lying in the plan's copy of all values. */
static struct vv_signature keep_signature(const struct rewriter *w, uint32_t function)
{
    struct vv_signature signature = vv_wasm_signature(w->m, function);

    if (w->m->values != NULL) {
        signature.params = w->plan->values + (signature.params - w->m->values);
        signature.results = w->plan->values + (signature.results - w->m->values);
    }
    return signature;
}

static int compare_exports(const void *a, const void *b, void *context)
{
    const struct vv_plan_export *const exports = context;
    const struct vv_text x = exports[*(const uint32_t *)a].name, y = exports[*(const uint32_t *)b].name;
    const int order = memcmp(x.data, y.data, x.size < y.size ? x.size : y.size);

    return order != 0 ? order : (x.size > y.size) - (x.size < y.size);
}

static varve_status plan_names(struct rewriter *w)
{
    const struct vv_wasm *const m = w->m;
    struct vv_plan *const plan = w->plan;
    varve_status rc = VARVE_OK;
    size_t size = 0;

    for (uint32_t i = 0; i < m->import_count; i++)
        size += m->imports[i].module.size + m->imports[i].name.size + 2;
    for (uint32_t i = 0; i < m->export_count; i++)
        size += m->exports[i].name.size + 1;
    TRY(vv_alloc(&plan->texts, size, 1));
    TRY(vv_memdup(&plan->values, m->values, m->value_count * sizeof *m->values));
    TRY(vv_alloc(&plan->imports, m->imported_functions, sizeof *plan->imports));
    TRY(vv_alloc(&plan->exports, m->export_count, sizeof *plan->exports));
    TRY(vv_alloc(&plan->exports_by_name, m->export_count, sizeof *plan->exports_by_name));
    char *room = plan->texts;
    for (uint32_t i = 0; i < m->import_count; i++) {
        const struct vv_wasm_import *const import = &m->imports[i];
        if (import->kind != VV_WASM_FUNCTION)
            continue;
        struct vv_plan_import *const kept = &plan->imports[plan->import_count++];
        kept->module = keep_text(import->module, &room);
        kept->name = keep_text(import->name, &room);
        kept->signature = keep_signature(w, import->index);
    }
    for (uint32_t i = 0; i < m->export_count; i++) {
        struct vv_plan_export *const kept = &plan->exports[i];
        kept->name = keep_text(m->exports[i].name, &room);
        kept->kind = m->exports[i].kind;
        kept->index = m->exports[i].index;
        if (kept->kind == VV_WASM_FUNCTION)
            kept->signature = keep_signature(w, kept->index);
        plan->exports_by_name[i] = i;
    }
    plan->export_count = m->export_count;
    qsort_r(plan->exports_by_name, plan->export_count, sizeof *plan->exports_by_name, compare_exports,
            plan->exports);
    plan->is_contract = vv_wasm_is_contract(m);
    if (plan->is_contract)
        plan->argument_buffer = vv_get_u32(w->values[vv_wasm_find_export(m, "A", 1)->index].bits);
out:
    return rc;
}

const struct vv_plan_export *vv_plan_find_export(const struct vv_plan *plan, const char *name, size_t size)
{
    uint32_t low = 0, high = plan->export_count;

    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        const struct vv_plan_export *const export = &plan->exports[plan->exports_by_name[middle]];
        const size_t common = export->name.size < size ? export->name.size : size;
        int order = memcmp(export->name.data, name, common);
        if (order == 0)
            order = (export->name.size > size) - (export->name.size < size);
        if (order == 0)
            return export;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* ---- the module ---- */

static size_t varint_size(uint64_t value)
{
    size_t size = 1;

    for (; value > 0x7f; value >>= 7)
        size++;
    return size;
}

static varve_status put_section(const struct rewriter *w, struct vv_bytes *out,
                                const struct vv_wasm_section *old, enum vv_wasm_section_id id)
{
    const struct part *const part = &w->parts[id];

    if (part->how == DROP || (part->how == KEEP && old == NULL) || (part->how == BUILD && part->count == 0))
        return VARVE_OK;
    if (part->how == KEEP) {
        put_span(out, w->m, old->whole);
        return VARVE_OK;
    }
    if (part->front.failed || part->back.failed)
        return vv_bytes_done(part->front.failed ? &part->front : &part->back);
    const uint64_t size = varint_size(part->count) + part->front.size + part->rest.size + part->back.size;
    if (size > UINT32_MAX)
        return vv_fail(VARVE_REFUSED, "a section of %ju bytes: the format has no room for that",
                       (uintmax_t)size);
    vv_bytes_u8(out, (uint8_t)id);
    vv_bytes_varint(out, size);
    vv_bytes_varint(out, part->count);
    vv_bytes_put(out, part->front.data, part->front.size);
    put_span(out, w->m, part->rest);
    vv_bytes_put(out, part->back.data, part->back.size);
    return VARVE_OK;
}

/* Custom sections stay behind the section that they followed, whether that is still there or not. */
static uint32_t put_customs(const struct rewriter *w, struct vv_bytes *out, uint32_t next)
{
    for (; next < w->m->section_count && w->m->sections[next].id == VV_WASM_CUSTOM_SECTION; next++)
        put_span(out, w->m, w->m->sections[next].whole);
    return next;
}

static varve_status write_module(struct rewriter *w)
{
    static const enum vv_wasm_section_id order[] = {
        VV_WASM_TYPE_SECTION,   VV_WASM_IMPORT_SECTION,  VV_WASM_FUNCTION_SECTION,   VV_WASM_TABLE_SECTION,
        VV_WASM_MEMORY_SECTION, VV_WASM_TAG_SECTION,     VV_WASM_GLOBAL_SECTION,     VV_WASM_EXPORT_SECTION,
        VV_WASM_START_SECTION,  VV_WASM_ELEMENT_SECTION, VV_WASM_DATA_COUNT_SECTION, VV_WASM_CODE_SECTION,
        VV_WASM_DATA_SECTION
    };
    const struct vv_wasm *const m = w->m;
    struct vv_bytes *const out = &w->plan->code;
    varve_status rc = VARVE_OK;
    uint32_t next = 0;

    (void)vv_bytes_extend(out, m->size + 4096); /* room at once: large modules are not moved about */
    if (out->failed)
        return vv_bytes_done(out);
    vv_bytes_clear(out);
    vv_bytes_put(out, m->bytes, 8);
    next = put_customs(w, out, next);
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        const bool was = next < m->section_count && m->sections[next].id == order[i];
        TRY(put_section(w, out, was ? &m->sections[next] : NULL, order[i]));
        if (was)
            next = put_customs(w, out, next + 1);
    }
    VV_ASSERT(next == m->section_count);
    TRY(vv_bytes_done(out));
out:
    return rc;
}

static void release_rewriter(struct rewriter *w)
{
    for (int i = 0; i < VV_WASM_SECTION_IDS; i++) {
        vv_bytes_release(&w->parts[i].front);
        vv_bytes_release(&w->parts[i].back);
    }
    vv_free(w->values);
}

varve_status vv_rewrite(const struct vv_wasm *module, const struct vv_rewrite_options *options,
                        struct vv_plan *plan)
{
    struct rewriter w = { .m = module,
                          .options = options == NULL ? &no_options : options,
                          .plan = plan,
                          .void_type = VV_WASM_NONE };
    varve_status rc = VARVE_OK;

    *plan = (struct vv_plan){ .code = VV_BYTES_NONE };
    TRY(refuse_all(module, w.options));
    TRY(find_values(&w));
    move_imports(&w);
    TRY(export_state(&w));
    TRY(take_data_out(&w));
    TRY(watch_segments(&w));
    TRY(plan_names(&w));
    TRY(write_module(&w));
out:
    release_rewriter(&w);
    if (rc != VARVE_OK)
        vv_plan_release(plan);
    return rc;
}

void vv_plan_release(struct vv_plan *plan)
{
    vv_bytes_release(&plan->code);
    vv_free(plan->imports);
    vv_free(plan->exports);
    vv_free(plan->globals);
    vv_free(plan->tables);
    vv_free(plan->segments);
    vv_free(plan->writes);
    vv_free(plan->refs);
    vv_free(plan->exports_by_name);
    vv_free(plan->texts);
    vv_free(plan->values);
    *plan = (struct vv_plan){ .code = VV_BYTES_NONE };
}
