/* instance_state.c - see instance_state.h, which gives the bytes. */
#include "vm/instance_state.h"

#include "base/alloc.h"

enum { FORMAT = 1 };

varve_status vv_instance_state_new(const struct vv_plan *plan, struct vv_instance_state *state)
{
    varve_status rc = VARVE_OK;

    *state = (struct vv_instance_state){ .globals = NULL };
    TRY(vv_alloc(&state->globals, plan->global_count, sizeof *state->globals));
    TRY(vv_alloc(&state->tables, plan->table_count, sizeof *state->tables));
    TRY(vv_alloc(&state->segments, plan->segment_count, sizeof *state->segments));
    for (uint32_t i = 0; i < plan->global_count; i++)
        state->globals[i] =
            (struct vv_state_global){ .index = plan->globals[i].index, .value = plan->globals[i].initial };
    for (uint32_t i = 0; i < plan->table_count; i++)
        state->tables[i] =
            (struct vv_state_table){ .index = plan->tables[i].index, .type = plan->tables[i].type };
    for (uint32_t i = 0; i < plan->segment_count; i++)
        state->segments[i] = (struct vv_state_segment){ .index = plan->segments[i].index,
                                                        .is_element = plan->segments[i].is_element };
    state->global_count = plan->global_count;
    state->table_count = plan->table_count;
    state->segment_count = plan->segment_count;
out:
    if (rc != VARVE_OK)
        vv_instance_state_release(state);
    return rc;
}

void vv_instance_state_release(struct vv_instance_state *state)
{
    for (uint32_t i = 0; i < state->table_count; i++)
        vv_free(state->tables[i].entries);
    vv_free(state->globals);
    vv_free(state->tables);
    vv_free(state->segments);
    *state = (struct vv_instance_state){ .globals = NULL };
}

varve_status vv_instance_state_resize(struct vv_state_table *table, uint32_t length)
{
    const varve_status rc = vv_resize(&table->entries, length, sizeof *table->entries);

    if (rc != VARVE_OK)
        return rc;
    for (uint32_t i = table->length; i < length; i++)
        table->entries[i] = VV_WASM_NONE;
    table->length = length;
    return VARVE_OK;
}

/* How many bytes a number of this type has. */
static size_t number_size(varve_type type)
{
    return type == VARVE_I32 || type == VARVE_F32 ? 4 : type == VARVE_V128 ? 16 : 8;
}

/* References as one more than the function, so that null is the smallest number. */
static void put_function(struct vv_bytes *bytes, uint32_t function)
{
    vv_bytes_varint(bytes, function == VV_WASM_NONE ? 0 : (uint64_t)function + 1);
}

static uint32_t read_function(struct vv_reader *reader)
{
    const uint64_t number = vv_reader_varint(reader);

    if (number > UINT32_MAX) /* so the largest function is one less than VV_WASM_NONE */
        reader->bad = true;
    return number == 0 || reader->bad ? VV_WASM_NONE : (uint32_t)(number - 1);
}

varve_status vv_instance_state_encode(const struct vv_instance_state *state, struct vv_bytes *bytes)
{
    vv_bytes_u8(bytes, FORMAT);
    vv_bytes_varint(bytes, state->global_count);
    for (uint32_t i = 0; i < state->global_count; i++) {
        const struct vv_wasm_value *const value = &state->globals[i].value;
        vv_bytes_varint(bytes, state->globals[i].index);
        vv_bytes_u8(bytes, (uint8_t)value->type);
        if (vv_wasm_is_number(value->type))
            vv_bytes_put(bytes, value->bits, number_size(value->type));
        else
            put_function(bytes, value->function);
    }
    vv_bytes_varint(bytes, state->table_count);
    for (uint32_t i = 0; i < state->table_count; i++) {
        const struct vv_state_table *const table = &state->tables[i];
        vv_bytes_varint(bytes, table->index);
        vv_bytes_u8(bytes, (uint8_t)table->type);
        vv_bytes_varint(bytes, table->length);
        for (uint32_t k = 0; k < table->length; k++)
            put_function(bytes, table->entries[k]);
    }
    vv_bytes_varint(bytes, state->segment_count);
    for (uint32_t i = 0; i < state->segment_count; i++) {
        vv_bytes_u8(bytes, state->segments[i].is_element ? 1 : 0);
        vv_bytes_varint(bytes, state->segments[i].index);
        vv_bytes_u8(bytes, state->segments[i].dropped ? 1 : 0);
    }
    return vv_bytes_done(bytes);
}

/* ---- decoding: nothing is allocated before the bytes left could hold it ---- */

/* A list's length: each entry takes `least` bytes. */
static uint32_t read_length(struct vv_reader *reader, size_t least, uint32_t limit)
{
    const uint64_t count = vv_reader_varint(reader);

    if (count > limit || count > vv_reader_left(reader) / least)
        reader->bad = true;
    return reader->bad ? 0 : (uint32_t)count;
}

/* An index that must be larger than the one before it in the list, `next` or more. */
static uint32_t read_index(struct vv_reader *reader, uint64_t *next)
{
    const uint64_t index = vv_reader_varint(reader);

    if (index < *next || index >= VV_WASM_NONE)
        reader->bad = true;
    *next = index + 1;
    return reader->bad ? VV_WASM_NONE : (uint32_t)index;
}

static varve_type read_type(struct vv_reader *reader)
{
    const uint8_t type = vv_reader_u8(reader);

    if (type < VARVE_I32 || type > VV_WASM_EXNREF)
        reader->bad = true;
    return reader->bad ? VARVE_I32 : (varve_type)type;
}

static varve_status decode_globals(struct vv_reader *reader, struct vv_instance_state *state)
{
    const uint32_t count = read_length(reader, 3, VV_WASM_GLOBALS_MAX);
    const varve_status rc = vv_alloc(&state->globals, count, sizeof *state->globals);
    uint64_t next = 0;

    if (rc != VARVE_OK)
        return rc;
    for (; state->global_count < count && !reader->bad; state->global_count++) {
        struct vv_state_global *const global = &state->globals[state->global_count];
        global->index = read_index(reader, &next);
        global->value = (struct vv_wasm_value){ .type = read_type(reader), .function = VV_WASM_NONE };
        if (vv_wasm_is_number(global->value.type))
            vv_reader_copy(reader, global->value.bits, number_size(global->value.type));
        else
            global->value.function = read_function(reader);
        if (global->value.function != VV_WASM_NONE && global->value.type != (varve_type)VV_WASM_FUNCREF)
            reader->bad = true;
    }
    return VARVE_OK;
}

static varve_status decode_table(struct vv_reader *reader, uint64_t *next, uint32_t *entries_left,
                                 struct vv_state_table *table)
{
    table->index = read_index(reader, next);
    table->type = read_type(reader);
    const uint32_t length = read_length(reader, 1, *entries_left);
    const varve_status rc = vv_instance_state_resize(table, length);

    if (rc != VARVE_OK)
        return rc;
    *entries_left -= length;
    for (uint32_t i = 0; i < length && !reader->bad; i++) {
        table->entries[i] = read_function(reader);
        if (table->entries[i] != VV_WASM_NONE && table->type != (varve_type)VV_WASM_FUNCREF)
            reader->bad = true;
    }
    if (vv_wasm_is_number(table->type))
        reader->bad = true;
    return VARVE_OK;
}

static varve_status decode_tables(struct vv_reader *reader, uint32_t entries_max,
                                  struct vv_instance_state *state)
{
    const uint32_t count = read_length(reader, 3, UINT32_MAX);
    varve_status rc = vv_alloc(&state->tables, count, sizeof *state->tables);
    uint64_t next = 0;

    while (rc == VARVE_OK && state->table_count < count && !reader->bad)
        rc = decode_table(reader, &next, &entries_max, &state->tables[state->table_count++]);
    return rc;
}

static varve_status decode_segments(struct vv_reader *reader, struct vv_instance_state *state)
{
    const uint32_t count = read_length(reader, 3, UINT32_MAX);
    const varve_status rc = vv_alloc(&state->segments, count, sizeof *state->segments);
    uint64_t next = 0;
    uint8_t last_kind = 0;

    if (rc != VARVE_OK)
        return rc;
    for (; state->segment_count < count && !reader->bad; state->segment_count++) {
        struct vv_state_segment *const segment = &state->segments[state->segment_count];
        const uint8_t kind = vv_reader_u8(reader);
        if (kind != last_kind)
            next = 0;
        segment->is_element = kind == 1;
        segment->index = read_index(reader, &next);
        const uint8_t dropped = vv_reader_u8(reader);
        segment->dropped = dropped == 1;
        if (kind > 1 || kind < last_kind || dropped > 1)
            reader->bad = true;
        last_kind = kind;
    }
    return VARVE_OK;
}

varve_status vv_instance_state_decode(const void *bytes, size_t size, uint32_t entries_max,
                                      struct vv_instance_state *state)
{
    struct vv_reader reader = vv_reader_of(bytes, size);
    varve_status rc = VARVE_OK;

    *state = (struct vv_instance_state){ .globals = NULL };
    const uint8_t format = vv_reader_u8(&reader);
    if (!reader.bad && format > FORMAT)
        return vv_fail(VARVE_NEWER, "instance state: format %u, and this library knows %d", format, FORMAT);
    if (format != FORMAT)
        reader.bad = true;
    TRY(decode_globals(&reader, state));
    TRY(decode_tables(&reader, entries_max, state));
    TRY(decode_segments(&reader, state));
    TRY(vv_reader_done(&reader, "instance state"));
out:
    if (rc != VARVE_OK)
        vv_instance_state_release(state);
    return rc;
}

/* ---- does it fit the module? ---- */

static bool holds_function(const struct vv_plan *plan, uint32_t function)
{
    uint32_t low = 0, high = plan->ref_count;

    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (plan->refs[middle] == function)
            return true;
        if (plan->refs[middle] < function)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

static varve_status foreign(const char *what, uint32_t index)
{
    return vv_fail(VARVE_CORRUPT, "instance state: %s %u is not what the module has", what, index);
}

static varve_status check_tables(const struct vv_instance_state *state, const struct vv_plan *plan)
{
    uint32_t at = 0;

    for (uint32_t i = 0; i < state->table_count; i++) {
        const struct vv_state_table *const table = &state->tables[i];
        while (at < plan->table_count && plan->tables[at].index < table->index)
            at++;
        if (at == plan->table_count || plan->tables[at].index != table->index ||
            plan->tables[at].type != table->type)
            return foreign("table", table->index);
        const struct vv_wasm_range *const range = &plan->tables[at].range;
        if (table->length < range->min || (range->has_max && table->length > range->max))
            return foreign("the length of table", table->index);
        for (uint32_t k = 0; k < table->length; k++) {
            if (table->entries[k] == VV_WASM_NONE ? !plan->tables[at].nullable
                                                  : !holds_function(plan, table->entries[k]))
                return foreign("an entry of table", table->index);
        }
    }
    return VARVE_OK;
}

static varve_status check_globals(const struct vv_instance_state *state, const struct vv_plan *plan)
{
    uint32_t at = 0;

    for (uint32_t i = 0; i < state->global_count; i++) {
        const struct vv_state_global *const global = &state->globals[i];
        while (at < plan->global_count && plan->globals[at].index < global->index)
            at++;
        if (at == plan->global_count || plan->globals[at].index != global->index ||
            plan->globals[at].type != global->value.type)
            return foreign("global", global->index);
        if (global->value.function != VV_WASM_NONE && !holds_function(plan, global->value.function))
            return foreign("the reference in global", global->index);
    }
    return VARVE_OK;
}

varve_status vv_instance_state_check(const struct vv_instance_state *state, const struct vv_plan *plan)
{
    varve_status rc = VARVE_OK;
    uint32_t at = 0;

    TRY(check_globals(state, plan));
    TRY(check_tables(state, plan));
    for (uint32_t i = 0; i < state->segment_count; i++) {
        const struct vv_state_segment *const segment = &state->segments[i];
        while (at < plan->segment_count && (plan->segments[at].is_element < segment->is_element ||
                                            (plan->segments[at].is_element == segment->is_element &&
                                             plan->segments[at].index < segment->index)))
            at++;
        if (at == plan->segment_count || plan->segments[at].is_element != segment->is_element ||
            plan->segments[at].index != segment->index)
            return foreign(segment->is_element ? "element segment" : "data segment", segment->index);
    }
out:
    return rc;
}
