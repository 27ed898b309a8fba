/* read.c - the sections of a module, in their order: vv_wasm_read.
 *
 *   scan_sections   headers of all sections, in file order
 *   read_section    the body of each but code, so that all index spaces are known; then the code
 * What the sections hold is appended to the module's index spaces: imports first, then what it defines. */
#include "vm/wasm/parse.h"

#include "vm/wasm/binary.h"
#include "vm/wasm/constant.h"

enum {
    TABLES_MAX = 99,        /* the engine takes 100, and the rewriter may add one */
    MEMORY32_PAGES = 65536, /* 4 GiB */
    TAGS_MAX = 10000,
    SECTIONS_MAX = 1000 /* custom ones included: each takes more of our memory than of the module */
};
#define MEMORY64_PAGES (UINT64_C(1) << 48)

/* ---- what index spaces hold ---- */

/* Step over a constant expression, and check that what it names exists. */
static varve_status read_expression(struct vv_parse *p, struct vv_span *span)
{
    struct vv_wasm *const m = p->module;
    const size_t start = p->reader.offset;
    struct vv_wasm_constant constant;

    do {
        if (!vv_wasm_read_constant(&p->reader, &constant))
            return vv_parse_invalid(p, "no constant expression");
        switch (constant.opcode) {
        case VV_WASM_GLOBAL_GET:
            if (constant.index >= m->global_count)
                return vv_parse_invalid(p,
                                        "a constant expression names a global that does not exist before it");
            break;
        case VV_WASM_REF_FUNC:
            if (constant.index >= m->function_count)
                return vv_parse_invalid(p, "a constant expression names a function that does not exist");
            m->functions[constant.index].referenced = true;
            break;
        case VV_WASM_REF_NULL:
            if (vv_wasm_class_of_heap(m, constant.heap) == 0)
                return vv_parse_invalid(p, "no such reference type");
            break;
        default:
            if (constant.opcode >> 8 == 0xfb && m->gc_constant.instruction == NULL)
                m->gc_constant = (struct vv_wasm_place){ .instruction = "a constant of garbage collection",
                                                         .function = VV_WASM_NONE,
                                                         .offset = constant.raw.offset };
        }
    } while (constant.opcode != VV_WASM_END);
    *span = vv_parse_span(p, start);
    return VARVE_OK;
}

static varve_status read_range(struct vv_parse *p, struct vv_wasm_range *range, bool *custom_page)
{
    const uint32_t flags = vv_wasm_read_u32(&p->reader);

    if (p->reader.bad || flags > (custom_page == NULL ? 7u : 15u))
        return vv_parse_invalid(p, "no such limits");
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
        return vv_parse_cut_short(p);
    return range->has_max && range->max < range->min ? vv_parse_invalid(p, "a maximum below its minimum")
                                                     : VARVE_OK;
}

static varve_status read_table_type(struct vv_parse *p, struct vv_wasm_table *table)
{
    varve_status rc = VARVE_OK;

    TRY(vv_parse_reference_type(p, &table->type, &table->nullable, &table->type_bytes));
    TRY(read_range(p, &table->range, NULL));
    if (!table->range.is64 &&
        (table->range.min > UINT32_MAX || (table->range.has_max && table->range.max > UINT32_MAX)))
        return vv_parse_invalid(p, "a table larger than its indices reach");
    if (table->range.min > p->limits.table_entries - p->table_entries)
        return vv_parse_over_limit(table->range.min, "table entries", p->limits.table_entries);
    p->table_entries += table->range.min;
out:
    return rc;
}

static varve_status read_memory_type(struct vv_parse *p, struct vv_wasm_memory *memory)
{
    varve_status rc = VARVE_OK;

    TRY(read_range(p, &memory->range, &memory->custom_page));
    const uint64_t most = memory->range.is64 ? MEMORY64_PAGES : MEMORY32_PAGES;
    if (!memory->custom_page &&
        (memory->range.min > most || (memory->range.has_max && memory->range.max > most)))
        return vv_parse_invalid(p, "a memory larger than its addresses reach");
    if (memory->range.min == MEMORY64_PAGES) /* valid, but its size in bytes fits no number */
        return vv_parse_over_limit(memory->range.min, "WASM pages of memory", MEMORY64_PAGES - 1);
out:
    return rc;
}

static varve_status read_global_type(struct vv_parse *p, struct vv_wasm_global *global)
{
    const size_t start = p->reader.offset;
    struct vv_value_type value = { .type = 0 };
    varve_status rc = VARVE_OK;

    TRY(vv_parse_value_type(p, &value));
    global->type = value.type;
    global->nullable = value.nullable;
    global->type_bytes = vv_parse_span(p, start);
    const uint8_t flag = vv_reader_u8(&p->reader);
    if (p->reader.bad || flag > 1)
        return vv_parse_invalid(p, "a global is either mutable or not");
    global->is_mutable = flag == 1;
out:
    return rc;
}

static varve_status append_function(struct vv_parse *p)
{
    struct vv_wasm *const m = p->module;
    struct vv_wasm_function *function = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_parse_room(m->function_count, "functions", p->limits.functions));
    TRY(VV_PARSE_APPEND(m->functions, m->function_count, function));
    function->import = p->import;
    TRY(vv_parse_function_type(p, &function->type));
out:
    return rc;
}

static varve_status append_table(struct vv_parse *p)
{
    struct vv_wasm *const m = p->module;
    const size_t start = p->reader.offset;
    struct vv_wasm_table *table = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_parse_room(m->table_count, "tables", TABLES_MAX));
    TRY(VV_PARSE_APPEND(m->tables, m->table_count, table));
    table->import = p->import;
    const bool has_init = p->import == VV_WASM_NONE && vv_wasm_peek(&p->reader) == 0x40;
    if (has_init) {
        (void)vv_reader_u8(&p->reader);
        if (vv_reader_u8(&p->reader) != 0)
            return vv_parse_invalid(p, "no such form of table");
    }
    TRY(read_table_type(p, table));
    if (has_init)
        TRY(read_expression(p, &table->init));
    table->whole = vv_parse_span(p, start);
out:
    return rc;
}

static varve_status append_memory(struct vv_parse *p)
{
    struct vv_wasm *const m = p->module;
    struct vv_wasm_memory *memory = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_parse_room(m->memory_count, "memories", TABLES_MAX));
    TRY(VV_PARSE_APPEND(m->memories, m->memory_count, memory));
    memory->import = p->import;
    TRY(read_memory_type(p, memory));
out:
    return rc;
}

/* The count rises only when the initial value was read: a global cannot be made of itself. */
static varve_status append_global(struct vv_parse *p)
{
    struct vv_wasm *const m = p->module;
    const size_t start = p->reader.offset;
    struct vv_wasm_global read = { .import = p->import };
    struct vv_wasm_global *global = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_parse_room(m->global_count, "globals", VV_WASM_GLOBALS_MAX));
    TRY(read_global_type(p, &read));
    if (p->import == VV_WASM_NONE)
        TRY(read_expression(p, &read.init));
    read.whole = vv_parse_span(p, start);
    TRY(VV_PARSE_APPEND(m->globals, m->global_count, global));
    *global = read;
out:
    return rc;
}

static varve_status append_tag(struct vv_parse *p)
{
    struct vv_wasm *const m = p->module;
    struct vv_wasm_tag *tag = NULL;
    varve_status rc = VARVE_OK;

    TRY(vv_parse_room(m->tag_count, "tags", TAGS_MAX));
    TRY(VV_PARSE_APPEND(m->tags, m->tag_count, tag));
    tag->import = p->import;
    if (vv_reader_u8(&p->reader) != 0)
        return vv_parse_invalid(p, "no such kind of tag");
    TRY(vv_parse_function_type(p, &tag->type));
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

/* ---- the bodies of sections ---- */

static varve_status read_import(struct vv_parse *p)
{
    static varve_status (*const append[])(struct vv_parse *) = {
        [VV_WASM_FUNCTION] = append_function, [VV_WASM_TABLE] = append_table,
        [VV_WASM_MEMORY] = append_memory,     [VV_WASM_GLOBAL] = append_global,
        [VV_WASM_TAG] = append_tag,
    };
    struct vv_wasm *const m = p->module;
    const size_t start = p->reader.offset;
    struct vv_wasm_import *import = NULL;
    varve_status rc = VARVE_OK;

    p->import = m->import_count;
    TRY(VV_PARSE_APPEND(m->imports, m->import_count, import));
    TRY(vv_parse_text(p, &import->module));
    TRY(vv_parse_text(p, &import->name));
    const uint8_t kind = vv_reader_u8(&p->reader);
    if (kind >= sizeof append / sizeof append[0])
        return vv_fail(VARVE_REFUSED, "import %.*s.%.*s, offset %#zx: an unknown kind of import, %u",
                       vv_text_shown(import->module), import->module.data, vv_text_shown(import->name),
                       import->name.data, p->reader.offset - 1, kind);
    import->kind = (enum vv_wasm_kind)kind;
    import->index = count_of_kind(m, kind);
    TRY(append[kind](p));
    import->whole = vv_parse_span(p, start);
    TRY(vv_parse_whole(p));
out:
    return rc;
}

static varve_status read_import_section(struct vv_parse *p)
{
    const varve_status rc = vv_parse_each(p, "imports", p->limits.imports, read_import);

    p->import = VV_WASM_NONE;
    p->module->imported_functions = p->module->function_count;
    return rc;
}

static varve_status read_function_section(struct vv_parse *p)
{
    return vv_parse_each(p, "functions", p->limits.functions, append_function);
}

static varve_status read_table_section(struct vv_parse *p)
{
    return vv_parse_each(p, "tables", TABLES_MAX, append_table);
}

static varve_status read_memory_section(struct vv_parse *p)
{
    return vv_parse_each(p, "memories", TABLES_MAX, append_memory);
}

static varve_status read_tag_section(struct vv_parse *p)
{
    return vv_parse_each(p, "tags", TAGS_MAX, append_tag);
}

static varve_status read_global_section(struct vv_parse *p)
{
    return vv_parse_each(p, "globals", VV_WASM_GLOBALS_MAX, append_global);
}

static varve_status read_export(struct vv_parse *p)
{
    struct vv_wasm *const m = p->module;
    struct vv_wasm_export *export = NULL;
    varve_status rc = VARVE_OK;

    TRY(VV_PARSE_APPEND(m->exports, m->export_count, export));
    TRY(vv_parse_text(p, &export->name));
    const uint8_t kind = vv_reader_u8(&p->reader);
    export->index = vv_wasm_read_u32(&p->reader);
    if (p->reader.bad || export->index >= count_of_kind(m, kind))
        return vv_parse_invalid(p, "an export of something that does not exist");
    export->kind = (enum vv_wasm_kind)kind;
out:
    return rc;
}

static varve_status read_export_section(struct vv_parse *p)
{
    return vv_parse_each(p, "exports", p->limits.exports, read_export);
}

static varve_status read_start_section(struct vv_parse *p)
{
    struct vv_wasm *const m = p->module;

    m->start = vv_wasm_read_u32(&p->reader);
    if (p->reader.bad || m->start >= m->function_count)
        return vv_parse_invalid(p, "the start function does not exist");
    const struct vv_wasm_type *const type = &m->types[m->functions[m->start].type];
    return type->param_count + type->result_count > 0
               ? vv_parse_invalid(p, "the start function takes or gives something")
               : VARVE_OK;
}

static varve_status read_element_entries(struct vv_parse *p, struct vv_wasm_element *element)
{
    struct vv_wasm *const m = p->module;
    varve_status rc = VARVE_OK;
    struct vv_span unused;

    TRY(vv_parse_count(p, "entries", UINT32_MAX, &element->count));
    const size_t start = p->reader.offset;
    for (uint32_t i = 0; i < element->count; i++) {
        if ((element->flags & 4) != 0) {
            TRY(read_expression(p, &unused));
            continue;
        }
        const uint32_t function = vv_wasm_read_u32(&p->reader);
        if (p->reader.bad || function >= m->function_count)
            return vv_parse_invalid(p, "an element names a function that does not exist");
        m->functions[function].referenced = true;
    }
    element->entries = vv_parse_span(p, start);
out:
    return rc;
}

static varve_status read_element(struct vv_parse *p)
{
    struct vv_wasm *const m = p->module;
    const size_t start = p->reader.offset;
    struct vv_wasm_element *element = NULL;
    varve_status rc = VARVE_OK;
    struct vv_span span;
    bool nullable = true;

    TRY(VV_PARSE_APPEND(m->elements, m->element_count, element));
    element->inited_table = VV_WASM_NONE;
    element->type = (varve_type)VV_WASM_FUNCREF;
    element->flags = vv_wasm_read_u32(&p->reader);
    if (p->reader.bad || element->flags > 7)
        return vv_parse_invalid(p, "no such kind of element segment");
    element->mode = (element->flags & 1) == 0   ? VV_WASM_ACTIVE
                    : (element->flags & 2) == 0 ? VV_WASM_PASSIVE
                                                : VV_WASM_DECLARED;
    if (element->mode == VV_WASM_ACTIVE) {
        element->table = (element->flags & 2) != 0 ? vv_wasm_read_u32(&p->reader) : 0;
        if (p->reader.bad || element->table >= m->table_count)
            return vv_parse_invalid(p, "an element segment for a table that does not exist");
        TRY(read_expression(p, &element->offset));
    }
    if ((element->flags & 3) != 0) {
        if ((element->flags & 4) != 0)
            TRY(vv_parse_reference_type(p, &element->type, &nullable, &span));
        else if (vv_reader_u8(&p->reader) != 0)
            return vv_parse_invalid(p, "no such kind of element");
    }
    TRY(read_element_entries(p, element));
    element->whole = vv_parse_span(p, start);
out:
    return rc;
}

static varve_status read_element_section(struct vv_parse *p)
{
    return vv_parse_each(p, "element segments", p->limits.segments, read_element);
}

static varve_status read_data_count_section(struct vv_parse *p)
{
    p->module->has_data_count = true;
    p->module->data_count_claimed = vv_wasm_read_u32(&p->reader);
    return vv_parse_whole(p);
}

static varve_status read_data(struct vv_parse *p)
{
    struct vv_wasm *const m = p->module;
    struct vv_wasm_data *data = NULL;
    varve_status rc = VARVE_OK;

    TRY(VV_PARSE_APPEND(m->datas, m->data_count, data));
    const uint32_t flags = vv_wasm_read_u32(&p->reader);
    if (p->reader.bad || flags > 2)
        return vv_parse_invalid(p, "no such kind of data segment");
    data->mode = flags == 1 ? VV_WASM_PASSIVE : VV_WASM_ACTIVE;
    data->memory = flags == 2 ? vv_wasm_read_u32(&p->reader) : 0;
    if (data->mode == VV_WASM_ACTIVE) {
        if (p->reader.bad || data->memory >= m->memory_count)
            return vv_parse_invalid(p, "a data segment for a memory that does not exist");
        TRY(read_expression(p, &data->offset));
    }
    const uint32_t size = vv_wasm_read_u32(&p->reader);
    const size_t start = p->reader.offset;
    if (vv_reader_take(&p->reader, size) == NULL)
        return vv_parse_cut_short(p);
    data->bytes = vv_parse_span(p, start);
out:
    return rc;
}

static varve_status read_data_section(struct vv_parse *p)
{
    return vv_parse_each(p, "data segments", p->limits.segments, read_data);
}

/* ---- the whole ---- */

/* The sections in the order in which they must come; code is read last all the same. */
static const struct {
    enum vv_wasm_section_id id;
    const char *name;
    varve_status (*read)(struct vv_parse *p);
} section_order[] = {
    { VV_WASM_TYPE_SECTION, "types", vv_parse_type_section },
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
    { VV_WASM_CODE_SECTION, "code", vv_parse_code_section },
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

static varve_status scan_custom(struct vv_parse *p, struct vv_span body)
{
    struct vv_parse inside = *p;
    struct vv_text name;

    inside.reader.offset = body.offset;
    inside.reader.size = body.offset + body.size;
    return vv_parse_text(&inside, &name);
}

static varve_status scan_sections(struct vv_parse *p)
{
    struct vv_wasm *const m = p->module;
    varve_status rc = VARVE_OK;
    unsigned last = 0;

    while (vv_reader_left(&p->reader) > 0) {
        const size_t start = p->reader.offset;
        struct vv_wasm_section *section = NULL;
        const uint8_t id = vv_reader_u8(&p->reader);
        const uint32_t size = vv_wasm_read_u32(&p->reader);
        const size_t body = p->reader.offset;
        if (vv_reader_take(&p->reader, size) == NULL)
            return vv_parse_cut_short(p);
        TRY(vv_parse_room(m->section_count, "sections", SECTIONS_MAX));
        TRY(VV_PARSE_APPEND(m->sections, m->section_count, section));
        section->id = (enum vv_wasm_section_id)id;
        section->whole = vv_parse_span(p, start);
        section->body = (struct vv_span){ .offset = body, .size = size };
        if (id == VV_WASM_CUSTOM_SECTION) {
            TRY(scan_custom(p, section->body));
            continue;
        }
        const unsigned rank = rank_of(id);
        if (rank == 0)
            return vv_parse_invalid_at(p, start, "no such section");
        if (rank <= last)
            return vv_parse_invalid_at(p, start, "a section twice, or out of order");
        last = rank;
    }
out:
    return rc;
}

static varve_status read_section(struct vv_parse *p, unsigned rank)
{
    const struct vv_wasm_section *const section = vv_wasm_find_section(p->module, section_order[rank].id);
    varve_status rc = VARVE_OK;

    if (section == NULL)
        return VARVE_OK;
    p->what = section_order[rank].name;
    p->reader.offset = section->body.offset;
    p->reader.size = section->body.offset + section->body.size;
    TRY(section_order[rank].read(p));
    TRY(vv_parse_whole(p));
    if (vv_reader_left(&p->reader) > 0)
        return vv_parse_invalid(p, "bytes are left over");
out:
    return rc;
}

static varve_status read_all(struct vv_parse *p)
{
    static const uint8_t head[8] = { 0, 'a', 's', 'm', 1, 0, 0, 0 };
    struct vv_wasm *const m = p->module;
    varve_status rc = VARVE_OK;
    const uint8_t *const found = vv_reader_take(&p->reader, sizeof head);

    if (found == NULL || memcmp(found, head, sizeof head) != 0)
        return vv_parse_invalid_at(p, 0, "it does not begin as a module of version 1 does");
    TRY(scan_sections(p));
    const unsigned code = rank_of(VV_WASM_CODE_SECTION) - 1;
    for (unsigned rank = 0; rank < SECTION_COUNT; rank++) {
        if (rank != code)
            TRY(read_section(p, rank));
    }
    p->what = "data count";
    if (m->has_data_count && m->data_count_claimed != m->data_count)
        return vv_parse_invalid(p, "not as many data segments as it says");
    p->what = "code";
    if (m->function_count > m->imported_functions && vv_wasm_find_section(m, VV_WASM_CODE_SECTION) == NULL)
        return vv_parse_invalid(p, "functions without code");
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
    struct vv_parse p = { .module = module,
                          .limits = *limits,
                          .reader = vv_reader_of(bytes, size),
                          .import = VV_WASM_NONE,
                          .what = "header" };
    varve_status rc = VARVE_OK;

    *module = (struct vv_wasm){ .bytes = bytes, .size = size, .start = VV_WASM_NONE };
    if (size > limits->code_bytes)
        return vv_parse_over_limit(size, "bytes of code (code_bytes)", limits->code_bytes);
    rc = read_all(&p);
    if (rc != VARVE_OK)
        vv_wasm_release(module);
    return rc;
}
