/* code.c - the bodies of functions, one instruction after the other: what they use, and what they do to the state of an
 * instance. A body must end where it says, its blocks closed. Of indices only those are checked that are kept. */
#include "vm/wasm/parse.h"

#include "vm/wasm/binary.h"
#include "vm/wasm/constant.h"
#include "vm/wasm/opcode.h"

enum { /* plain opcodes that are more than their immediates to us */
       OP_CALL_INDIRECT = 0x11,
       OP_RETURN_CALL_INDIRECT = 0x13,
       OP_TABLE_SET = 0x26
};
enum { /* of VV_PREFIX_BULK */
       OP_MEMORY_INIT = 8,
       OP_DATA_DROP = 9,
       OP_TABLE_INIT = 12,
       OP_ELEM_DROP = 13,
       OP_TABLE_COPY = 14,
       OP_TABLE_GROW = 15,
       OP_TABLE_FILL = 17
};
enum { /* of VV_PREFIX_GC */
       OP_ARRAY_NEW_DATA = 9,
       OP_ARRAY_NEW_ELEM = 10,
       OP_ARRAY_INIT_DATA = 18,
       OP_ARRAY_INIT_ELEM = 19
};

/* The walk over one body. */
struct walk {
    struct vv_parse *p;
    const struct vv_opcodes *plain[256]; /* of each one-byte opcode; NULL: unknown */
    uint32_t function;
    uint32_t depth; /* open blocks, the function itself included */
    uint8_t prefix; /* of the instruction at hand, or 0 */
    uint32_t opcode;
    const struct vv_opcodes *entry;
    size_t at; /* where it starts */
    uint32_t index[2];
};

/* Keep the first place. */
static void note_named(struct vv_wasm_place *place, const struct walk *w, const char *name)
{
    if (place->instruction == NULL)
        *place = (struct vv_wasm_place){ .instruction = name, .function = w->function, .offset = w->at };
}

static void note_place(struct vv_wasm_place *place, const struct walk *w)
{
    note_named(place, w, w->entry->name);
}

/* "function 12 (malloc), offset 0x1a2b" of the instruction at hand. */
static const char *format_here(const struct walk *w, char *text, size_t capacity)
{
    const struct vv_wasm_place place = { .function = w->function, .offset = w->at };

    return vv_wasm_place_format(w->p->module, &place, text, capacity);
}

static varve_status invalid_code(const struct walk *w, const char *why)
{
    char text[256];

    return vv_fail(VARVE_INVALID, "not a valid module: %s: %s", format_here(w, text, sizeof text), why);
}

static varve_status refuse_unknown(const struct walk *w)
{
    char text[256];

    return vv_fail(VARVE_REFUSED, "%s: an unknown instruction, %#jx", format_here(w, text, sizeof text),
                   (uintmax_t)w->prefix << 16 | w->opcode);
}

static varve_status refuse_code_limit(const struct walk *w, uint64_t count, const char *what, uint64_t limit)
{
    return vv_fail_within(vv_parse_over_limit(count, what, limit), "function %u, offset %#zx", w->function,
                          w->at);
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
    const uint8_t byte = vv_wasm_peek(reader);

    if (byte == 0x63 || byte == 0x64) {
        (void)vv_reader_u8(reader);
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
        note_named(&w->p->module->features[VV_WASM_MULTI_MEMORY], w, "a memory argument");
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
        const uint8_t kind = vv_reader_u8(reader);
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
        (void)vv_parse_type_form(reader);
    return VARVE_OK;
}

/* Step over what follows the opcode, keeping its indices. */
static varve_status read_immediates(struct walk *w)
{
    struct vv_reader *const reader = &w->p->reader;

    switch ((enum vv_opcode_takes)w->entry->takes) {
    case VV_TAKES_NOTHING:
        break;
    case VV_TAKES_TWO_INDICES:
        w->index[0] = vv_wasm_read_u32(reader);
        w->index[1] = vv_wasm_read_u32(reader);
        break;
    case VV_TAKES_INDEX:
        w->index[0] = vv_wasm_read_u32(reader);
        break;
    case VV_TAKES_MEMORY_ARGUMENT:
        return read_memory_argument(w);
    case VV_TAKES_MEMORY_INDEX:
        w->index[0] = vv_wasm_read_u32(reader);
        w->p->module->uses_memory = true;
        break;
    case VV_TAKES_I32:
        (void)vv_wasm_read_s32(reader);
        break;
    case VV_TAKES_I64:
        (void)vv_wasm_read_s64(reader);
        break;
    case VV_TAKES_FOUR_BYTES:
        (void)vv_reader_take(reader, 4);
        break;
    case VV_TAKES_EIGHT_BYTES:
        (void)vv_reader_take(reader, 8);
        break;
    case VV_TAKES_SIXTEEN_BYTES:
        (void)vv_reader_take(reader, 16);
        break;
    case VV_TAKES_LANE:
        (void)vv_reader_u8(reader);
        break;
    case VV_TAKES_MEMORY_ARGUMENT_LANE: {
        const varve_status rc = read_memory_argument(w);
        (void)vv_reader_u8(reader);
        return rc;
    }
    case VV_TAKES_BLOCK_TYPE:
        skip_block_type(reader);
        return open_block(w);
    case VV_TAKES_BLOCK_END:
        w->depth--;
        break;
    case VV_TAKES_DELEGATE:
        (void)vv_wasm_read_u32(reader);
        w->depth--;
        break;
    case VV_TAKES_BRANCH_TABLE:
        return read_branch_table(w);
    case VV_TAKES_SELECT_TYPES:
        return read_select_types(w);
    case VV_TAKES_CATCHES:
        return read_catches(w);
    case VV_TAKES_HEAP_TYPE:
        skip_heap_type(reader);
        break;
    case VV_TAKES_CAST_BRANCH:
        (void)vv_reader_u8(reader);
        (void)vv_wasm_read_u32(reader);
        skip_heap_type(reader);
        skip_heap_type(reader);
        break;
    case VV_TAKES_OPCODE:
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

/* A segment is named, to be used or to be dropped. */
static void note_segment(struct walk *w, struct vv_wasm_place *inited, struct vv_wasm_place *dropped,
                         bool drop, uint32_t *named)
{
    if (inited->instruction == NULL && dropped->instruction == NULL)
        ++*named;
    note_place(drop ? dropped : inited, w);
}

static varve_status note_data(struct walk *w, uint32_t index, bool dropped)
{
    struct vv_wasm *const m = w->p->module;

    if (index >= m->data_count || !m->has_data_count)
        return invalid_code(w, "a data segment that does not exist, or without a data count");
    struct vv_wasm_data *const data = &m->datas[index];
    note_segment(w, &data->inited, &data->dropped, dropped, &m->datas_named);
    return VARVE_OK;
}

/* `table`: into which a table.init puts it, else VV_WASM_NONE. */
static varve_status note_element(struct walk *w, uint32_t index, uint32_t table, bool dropped)
{
    struct vv_wasm *const m = w->p->module;

    if (index >= m->element_count)
        return invalid_code(w, "an element segment that does not exist");
    struct vv_wasm_element *const element = &m->elements[index];
    note_segment(w, &element->inited, &element->dropped, dropped, &m->elements_named);
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
    case VV_WASM_REF_FUNC:
        if (w->index[0] >= m->function_count)
            return invalid_code(w, "a function that does not exist");
        m->functions[w->index[0]].referenced = true;
        break;
    case VV_PREFIX_BULK << 16 | OP_MEMORY_INIT:
        if (w->index[1] >= m->memory_count)
            return invalid_code(w, "a memory that does not exist");
        m->uses_memory = true;
        return note_data(w, w->index[0], false);
    case VV_PREFIX_BULK << 16 | OP_DATA_DROP:
        return note_data(w, w->index[0], true);
    case VV_PREFIX_BULK << 16 | OP_TABLE_INIT:
        TRY(note_table_change(w, w->index[1]));
        return note_element(w, w->index[0], w->index[1], false);
    case VV_PREFIX_BULK << 16 | OP_ELEM_DROP:
        return note_element(w, w->index[0], VV_WASM_NONE, true);
    case VV_PREFIX_BULK << 16 | OP_TABLE_COPY:
    case VV_PREFIX_BULK << 16 | OP_TABLE_GROW:
    case VV_PREFIX_BULK << 16 | OP_TABLE_FILL:
        return note_table_change(w, w->index[0]);
    case VV_PREFIX_GC << 16 | OP_ARRAY_NEW_DATA:
    case VV_PREFIX_GC << 16 | OP_ARRAY_INIT_DATA:
        return note_data(w, w->index[1], false);
    case VV_PREFIX_GC << 16 | OP_ARRAY_NEW_ELEM:
    case VV_PREFIX_GC << 16 | OP_ARRAY_INIT_ELEM:
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
    w->opcode = vv_reader_u8(reader);
    w->entry = w->plain[w->opcode];
    if (w->entry != NULL && w->entry->takes == VV_TAKES_OPCODE) {
        w->prefix = (uint8_t)w->opcode;
        w->opcode = vv_wasm_read_u32(reader);
        if (reader->bad)
            return invalid_code(w, "it ends early");
        w->entry = vv_opcodes_find(w->prefix, w->opcode);
    }
    if (w->entry == NULL)
        return refuse_unknown(w);
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
        (void)vv_parse_type_form(reader);
        if (!reader->bad && total > w->p->limits.locals)
            return refuse_code_limit(w, total, "locals", w->p->limits.locals);
    }
    return reader->bad ? invalid_code(w, "its locals end early, or one has no such type") : VARVE_OK;
}

/* The reader stands at the body, of `size` bytes, and ends behind it. */
static varve_status walk_body(struct walk *w, uint32_t size)
{
    struct vv_parse *const p = w->p;
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

varve_status vv_parse_code_section(struct vv_parse *p)
{
    struct vv_wasm *const m = p->module;
    struct walk w = { .p = p };
    varve_status rc = VARVE_OK;
    uint32_t count = 0;

    vv_opcodes_index(w.plain);
    TRY(vv_parse_count(p, "functions", p->limits.functions, &count));
    if (count != m->function_count - m->imported_functions)
        return vv_parse_invalid(p, "not as many bodies as functions");
    for (w.function = m->imported_functions; w.function < m->function_count; w.function++) {
        const uint32_t size = vv_wasm_read_u32(&p->reader);
        if (p->reader.bad || size > vv_reader_left(&p->reader))
            return vv_parse_cut_short(p);
        if (size > p->limits.body_bytes)
            return refuse_code_limit(&w, size, "bytes in one function (body_bytes)", p->limits.body_bytes);
        TRY(walk_body(&w, size));
    }
out:
    return rc;
}
