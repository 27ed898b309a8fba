/* Modules: any bytes are read or refused, and what is read is rewritten to what reads again, with nothing
 * shifted. */
#include <stdint.h>
#include <string.h>

#include "vm/instance_state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Everything that may be asked of a module. */
static void ask(const struct vv_wasm *module)
{
    char text[200];

    for (uint32_t i = 0; i < module->function_count && i < 50; i++) {
        const struct vv_signature signature = vv_wasm_signature(module, i);
        const struct vv_wasm_place place = { .instruction = "nop", .function = i, .offset = i };
        (void)vv_signature_format(&signature, text, sizeof text);
        (void)vv_wasm_place_format(module, &place, text, sizeof text);
    }
    (void)vv_wasm_is_contract(module);
    (void)vv_wasm_find_export(module, "A", 1);
}

static void check_rewritten(const struct vv_wasm *before, const struct vv_plan *plan)
{
    struct vv_wasm_limits limits = vv_wasm_limits_of(NULL);
    struct vv_wasm after;

    limits.functions = limits.exports = limits.table_entries = UINT32_MAX;
    VV_ASSERT(vv_wasm_read(plan->code.data, plan->code.size, &limits, &after) == VARVE_OK);
    VV_ASSERT(after.start == VV_WASM_NONE);
    VV_ASSERT(after.import_count == before->imported_functions);
    VV_ASSERT(after.global_count == before->global_count);
    for (uint32_t i = 0; i < after.data_count; i++)
        VV_ASSERT(after.datas[i].mode == VV_WASM_PASSIVE);
    for (uint32_t i = 0; i < before->function_count; i++) {
        const struct vv_span a = before->functions[i].body, b = after.functions[i].body;
        VV_ASSERT(a.size == b.size);
        VV_ASSERT(a.size == 0 || memcmp(before->bytes + a.offset, after.bytes + b.offset, a.size) == 0);
    }
    for (uint32_t i = 0; i < before->export_count; i++) {
        const struct vv_text name = before->exports[i].name;
        VV_ASSERT(vv_plan_find_export(plan, name.data, name.size) != NULL);
        VV_ASSERT(after.exports[i].index == before->exports[i].index);
    }
    for (uint32_t i = 0; i < plan->write_count; i++)
        VV_ASSERT(plan->writes[i].bytes.size <= before->size - plan->writes[i].bytes.offset);
    vv_wasm_release(&after);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct vv_rewrite_options options = { .missing_is_zero = true, .features = UINT32_MAX };
    struct vv_wasm_limits limits = vv_wasm_limits_of(NULL);
    struct vv_instance_state state;
    struct vv_wasm module;
    struct vv_plan plan;

    limits.table_entries = 1000;
    varve_status rc = vv_wasm_read(data, size, &limits, &module);
    if (rc != VARVE_OK) {
        VV_ASSERT(rc == VARVE_INVALID || rc == VARVE_REFUSED);
        return 0;
    }
    ask(&module);
    rc = vv_rewrite(&module, &options, &plan);
    if (rc == VARVE_OK) {
        check_rewritten(&module, &plan);
        VV_ASSERT(vv_instance_state_new(&plan, &state) == VARVE_OK);
        vv_instance_state_release(&state);
        vv_plan_release(&plan);
    } else {
        VV_ASSERT(rc == VARVE_INVALID || rc == VARVE_REFUSED);
    }
    vv_wasm_release(&module);
    return 0;
}
