/* limits.c - see limits.h. */
#include "vm/limits.h"

static const varve_limits defaults = {
    .size = sizeof(varve_limits),
    .code_bytes = UINT64_C(64) << 20,
    .memory_bytes = UINT64_C(4) << 30,
    .table_entries = 200000,
    .call_depth = 256, /* with 2 KiB of native stack for each, a quarter of what a guest has */
    .events = 65536,
    .event_bytes = 1u << 20,
    .instances = 16384,
};

static uint64_t first_of(uint64_t a, uint64_t b, uint64_t c)
{
    if (a != 0)
        return a;
    return b != 0 ? b : c;
}

varve_limits vv_limits_of(const varve_limits *over, const varve_limits *under)
{
    static const varve_limits none = { .size = sizeof none };
    const varve_limits *a = over != NULL ? over : &none, *b = under != NULL ? under : &none;
    varve_limits l = defaults;

    l.code_bytes = first_of(a->code_bytes, b->code_bytes, defaults.code_bytes);
    l.memory_bytes = first_of(a->memory_bytes, b->memory_bytes, defaults.memory_bytes);
    l.functions = (uint32_t)first_of(a->functions, b->functions, defaults.functions);
    l.imports = (uint32_t)first_of(a->imports, b->imports, defaults.imports);
    l.exports = (uint32_t)first_of(a->exports, b->exports, defaults.exports);
    l.table_entries = (uint32_t)first_of(a->table_entries, b->table_entries, defaults.table_entries);
    l.params = (uint32_t)first_of(a->params, b->params, defaults.params);
    l.locals = (uint32_t)first_of(a->locals, b->locals, defaults.locals);
    l.call_depth = (uint32_t)first_of(a->call_depth, b->call_depth, defaults.call_depth);
    l.events = (uint32_t)first_of(a->events, b->events, defaults.events);
    l.event_bytes = (uint32_t)first_of(a->event_bytes, b->event_bytes, defaults.event_bytes);
    l.instances = (uint32_t)first_of(a->instances, b->instances, defaults.instances);
    return l;
}
