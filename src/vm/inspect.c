/* inspect.c - see inspect.h. */
#include "vm/inspect.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "vm/linker.h"

enum { SIGNATURE_SHOWN = 256 };

/* ---- JSON ------------------------------------------------------------------------------------------- */

static void put(struct vv_bytes *out, const char *text)
{
    vv_bytes_put(out, text, strlen(text));
}

/* A string with its quotes; the text is UTF-8, which JSON takes as it is. */
static void put_string(struct vv_bytes *out, const char *text, size_t size)
{
    char escape[8];

    put(out, "\"");
    for (size_t i = 0; i < size; i++) {
        const unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\') {
            vv_bytes_u8(out, '\\');
            vv_bytes_u8(out, c);
        } else if (c < 0x20 || c == 0x7f) {
            (void)snprintf(escape, sizeof escape, "\\u%04x", c);
            put(out, escape);
        } else {
            vv_bytes_u8(out, c);
        }
    }
    put(out, "\"");
}

static void put_number(struct vv_bytes *out, uint64_t number)
{
    char text[24];

    (void)snprintf(text, sizeof text, "%" PRIu64, number);
    put(out, text);
}

static void put_types(struct vv_bytes *out, const char *key, const varve_type *types, uint32_t count)
{
    put(out, ",\"");
    put(out, key);
    put(out, "\":[");
    for (uint32_t i = 0; i < count; i++) {
        const char *name = vv_wasm_type_name(types[i]);
        put(out, i > 0 ? "," : "");
        put_string(out, name, strlen(name));
    }
    put(out, "]");
}

/* ---- The parts ---------------------------------------------------------------------------------------- */

static void put_memory(struct vv_bytes *out, const struct vv_wasm *module)
{
    put(out, "\"memory\":");
    if (module->memory_count == 0) {
        put(out, "null");
        return;
    }
    const struct vv_wasm_memory *memory = &module->memories[0];
    put(out, "{\"min\":");
    put_number(out, memory->range.min);
    put(out, ",\"max\":");
    if (memory->range.has_max)
        put_number(out, memory->range.max);
    else
        put(out, "null");
    put(out, memory->import != VV_WASM_NONE ? ",\"imported\":true}" : ",\"imported\":false}");
}

static void put_exports(struct vv_bytes *out, const struct vv_wasm *module)
{
    bool first = true;

    put(out, "\"exports\":[");
    for (uint32_t i = 0; i < module->export_count; i++) {
        const struct vv_wasm_export *export = &module->exports[i];
        if (export->kind != VV_WASM_FUNCTION)
            continue;
        const struct vv_signature signature = vv_wasm_signature(module, export->index);
        put(out, first ? "{\"name\":" : ",{\"name\":");
        put_string(out, export->name.data, export->name.size);
        put_types(out, "params", signature.params, signature.param_count);
        put_types(out, "results", signature.results, signature.result_count);
        put(out, "}");
        first = false;
    }
    put(out, "]");
}

static varve_status put_refusal(struct vv_bytes *out, bool *first, const char *why, uint32_t function,
                                size_t offset)
{
    put(out, *first ? "{\"why\":" : ",{\"why\":");
    put_string(out, why, strlen(why));
    put(out, ",\"function\":");
    if (function != VV_WASM_NONE)
        put_number(out, function);
    else
        put(out, "null");
    put(out, ",\"offset\":");
    put_number(out, offset);
    put(out, "}");
    *first = false;
    return vv_bytes_done(out);
}

/* A copy with a NUL behind it, as answers want it. */
static varve_status copy_text(const struct vv_text *text, struct vv_text *copy)
{
    char *data = NULL;
    const varve_status rc = vv_alloc(&data, text->size + 1, 1);

    if (rc == VARVE_OK)
        memcpy(data, text->data, text->size);
    *copy = (struct vv_text){ .data = data, .size = text->size };
    return rc;
}

/* One function import, and who answers it; a reason to refuse goes to `refused`. */
static varve_status put_import(struct vv_bytes *out, varve_vm *vm, const struct vv_wasm *module,
                               const struct vv_wasm_import *import, struct vv_bytes *refused, bool *first)
{
    varve_status rc = VARVE_OK;
    struct vv_plan_import asked = { .signature = vv_wasm_signature(module, import->index) };
    struct vv_answer answer = { .by = NULL };
    char signature[SIGNATURE_SHOWN], why[SIGNATURE_SHOWN];

    TRY(copy_text(&import->module, &asked.module));
    TRY(copy_text(&import->name, &asked.name));
    const varve_status answered = vv_linker_answer(vm, &asked, &answer);
    if (answered != VARVE_OK)
        TRY(put_refusal(refused, first, vv_words(), VV_WASM_NONE, import->whole.offset));
    else if (answer.outside.call == NULL) {
        (void)snprintf(why, sizeof why, "nobody answers import %.80s.%.80s", asked.module.data,
                       asked.name.data);
        TRY(put_refusal(refused, first, why, VV_WASM_NONE, import->whole.offset));
    }
    put(out, "{\"module\":");
    put_string(out, import->module.data, import->module.size);
    put(out, ",\"name\":");
    put_string(out, import->name.data, import->name.size);
    put(out, ",\"signature\":");
    (void)vv_signature_format(&asked.signature, signature, sizeof signature);
    put_string(out, signature, strlen(signature));
    put(out, ",\"by\":");
    const char *by = answer.outside.call != NULL ? answer.by : "none";
    put_string(out, by, strlen(by));
    put(out, "}");
out:
    vv_free((void *)(uintptr_t)asked.module.data);
    vv_free((void *)(uintptr_t)asked.name.data);
    return rc;
}

static varve_status put_refusals(varve_vm *vm, const struct vv_wasm *module, struct vv_bytes *refused,
                                 bool *first)
{
    varve_status rc = VARVE_OK;
    const struct vv_rewrite_options options = { .values = NULL };
    struct vv_refusals refusals = { .list = NULL };

    TRY(vv_rewrite_refusals(module, &options, &refusals));
    for (size_t i = 0; i < refusals.count; i++)
        TRY(put_refusal(refused, first, refusals.list[i].why, refusals.list[i].function,
                        refusals.list[i].offset));
    if (refusals.count == 0 && vv_engine_validate(vm->engine, module->bytes, module->size) != VARVE_OK)
        TRY(put_refusal(refused, first, vv_words(), VV_WASM_NONE, 0));
out:
    vv_refusals_release(&refusals);
    return rc;
}

static varve_status report(varve_vm *vm, const struct vv_wasm *module, struct vv_bytes *out,
                           struct vv_bytes *refused, bool *first)
{
    varve_status rc = VARVE_OK;
    uint32_t state = 0, shown = 0;

    for (uint32_t i = 0; i < module->global_count; i++)
        state += module->globals[i].is_mutable;
    put(out, "{\"kind\":\"plain\",");
    put_memory(out, module);
    put(out, ",\"globals\":");
    put_number(out, state);
    put(out, ",");
    put_exports(out, module);
    put(out, ",\"imports\":[");
    for (uint32_t i = 0; i < module->import_count; i++) {
        if (module->imports[i].kind != VV_WASM_FUNCTION)
            continue;
        put(out, shown++ > 0 ? "," : "");
        TRY(put_import(out, vm, module, &module->imports[i], refused, first));
    }
    put(out, "]");
    TRY(put_refusals(vm, module, refused, first));
out:
    return rc;
}

varve_status vv_inspect(varve_vm *vm, const void *code, size_t size, char **json)
{
    varve_status rc = VARVE_OK;
    struct vv_wasm module = { .bytes = NULL };
    struct vv_bytes out = VV_BYTES_NONE, refused = VV_BYTES_NONE;
    const struct vv_wasm_limits limits = vv_wasm_limits_of(&vm->limits);
    bool first = true;

    rc = vv_wasm_read(code, size, &limits, &module);
    if (rc == VARVE_REFUSED) {
        put(&out, "{\"kind\":\"plain\",\"memory\":null,\"globals\":0,\"exports\":[],\"imports\":[]");
        rc = put_refusal(&refused, &first, vv_words(), VV_WASM_NONE, 0);
    } else if (rc == VARVE_OK) {
        rc = report(vm, &module, &out, &refused, &first);
    }
    TRY(rc);
    put(&out, ",\"refused\":[");
    vv_bytes_put(&out, refused.data, refused.size);
    put(&out, "]}");
    vv_bytes_u8(&out, 0);
    TRY(vv_bytes_done(&refused));
    TRY(vv_bytes_done(&out));
    *json = (char *)out.data;
    out = VV_BYTES_NONE;
out:
    vv_bytes_release(&out);
    vv_bytes_release(&refused);
    vv_wasm_release(&module);
    return rc;
}
