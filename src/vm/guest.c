/* guest.c - see guest.h and section 8 of varve.h. */
#include "vm/guest.h"

#include <stdio.h>

uint8_t *vv_guest_span(const varve_guest *guest, uint64_t offset, uint64_t size)
{
    const uint64_t length = vv_image_size(guest->image);

    if (offset > length || size > length - offset)
        return NULL;
    return vv_image_bytes(guest->image) + offset;
}

bool vv_guest_text(const varve_guest *guest, uint64_t offset, char *text, size_t size)
{
    const uint64_t length = vv_image_size(guest->image);
    const char *bytes = (const char *)vv_image_bytes(guest->image);
    size_t used = 0;

    text[0] = '\0';
    if (offset >= length)
        return false;
    for (; used + 1 < size && offset + used < length && bytes[offset + used] != '\0'; used++)
        text[used] = bytes[offset + used];
    text[used] = '\0';
    return true;
}

varve_status vv_guest_bad_pointer(uint64_t offset, uint64_t size)
{
    return vv_fail(VARVE_TRAP,
                   "a host function was given %llu bytes at %llu, which are not inside the memory",
                   (unsigned long long)size, (unsigned long long)offset);
}

varve_status vv_guest_pay(varve_guest *guest, uint64_t gas)
{
    const uint64_t fuel = vv_instance_fuel(guest->instance);

    if (fuel < gas) {
        vv_instance_set_fuel(guest->instance, 0);
        return vv_fail(VARVE_OUT_OF_GAS, "all gas was used, by a host function that costs %llu",
                       (unsigned long long)gas);
    }
    vv_instance_set_fuel(guest->instance, fuel - gas);
    return VARVE_OK;
}

/* ---- Tables ---------------------------------------------------------------------------------------- */

static const char *first_table(const struct vv_plan *plan)
{
    for (uint32_t i = 0; i < plan->export_count; i++) {
        if (plan->exports[i].kind == VV_WASM_TABLE && plan->exports[i].index == 0)
            return plan->exports[i].name.data;
    }
    return plan->table_count > 0 && plan->tables[0].index == 0 ? plan->tables[0].name : NULL;
}

varve_status vv_guest_table(varve_guest *guest, uint32_t index, struct vv_function *function)
{
    varve_status rc = VARVE_OK;
    const char *name = first_table(&guest->code->plan);
    bool found = false;

    if (!guest->has_first_table) {
        if (name == NULL || !vv_instance_table(guest->instance, name, &guest->first_table))
            return vv_fail(VARVE_UNSUPPORTED, "the module exports no table to call through");
        guest->has_first_table = true;
    }
    TRY(vv_table_function(guest->instance, &guest->first_table, index, function, &found));
    if (!found)
        rc = vv_fail(VARVE_TRAP, "entry %u of the table holds no function", index);
out:
    return rc;
}

/* ---- varve_guest_* ---------------------------------------------------------------------------------- */

const varve_guest_info *varve_guest_get(varve_guest *guest)
{
    guest->info.depth = guest->guests->depth;
    guest->info.gas_left = vv_instance_fuel(guest->instance);
    return &guest->info;
}

varve_status varve_guest_read(varve_guest *guest, uint64_t offset, void *data, size_t size)
{
    const uint8_t *bytes = vv_guest_span(guest, offset, size);

    if (bytes == NULL)
        return vv_guest_bad_pointer(offset, size);
    if (size > 0)
        memcpy(data, bytes, size);
    return VARVE_OK;
}

varve_status varve_guest_write(varve_guest *guest, uint64_t offset, const void *data, size_t size)
{
    uint8_t *bytes = vv_guest_span(guest, offset, size);

    if (bytes == NULL)
        return vv_guest_bad_pointer(offset, size);
    if (size > 0)
        memcpy(bytes, data, size);
    return VARVE_OK;
}

void *varve_guest_memory(varve_guest *guest, uint64_t *size)
{
    if (size != NULL)
        *size = vv_image_size(guest->image);
    return vv_image_bytes(guest->image);
}

varve_status varve_guest_grow(varve_guest *guest, uint64_t bytes, uint64_t *before)
{
    uint64_t was = 0;
    const varve_status rc = vv_instance_grow(guest->instance, bytes, &was);

    if (rc == VARVE_OK && before != NULL)
        *before = was;
    return rc;
}

static varve_status call_back(varve_guest *guest, const char *name, const struct vv_function *function,
                              const struct vv_signature *signature, const varve_value *args, size_t arg_count,
                              varve_value *results, size_t result_count, uint32_t flags)
{
    varve_status rc = VARVE_OK;
    union vv_slot slots[VV_HOST_VALUES_MAX];
    size_t count = 0;

    if ((flags & ~(uint32_t)VARVE_CALL_UNGUARDED) != 0)
        return vv_fail(VARVE_MISUSE, "a call back takes no flag but VARVE_CALL_UNGUARDED");
    if (signature->param_count > VV_HOST_VALUES_MAX || signature->result_count > VV_HOST_VALUES_MAX)
        return vv_fail(VARVE_LIMIT, "%.80s: at most %d values can be passed in a call back", name,
                       VV_HOST_VALUES_MAX);
    TRY(vv_slots_of(name, signature, args, arg_count, result_count, slots, &count));
    TRY(vv_run_inner(guest, function, slots, count, (flags & VARVE_CALL_UNGUARDED) == 0));
    vv_values_of(signature, slots, results);
out:
    return rc;
}

varve_status varve_guest_call(varve_guest *guest, const char *function, const varve_value *args,
                              size_t arg_count, varve_value *results, size_t result_count, uint32_t flags)
{
    varve_status rc = VARVE_OK;
    const struct vv_lookup *lookup = NULL;

    TRY(vv_guest_export(guest, function, &lookup));
    const struct vv_lookup found = *lookup; /* its place may be taken while it runs */
    TRY(call_back(guest, function, &found.function, &found.export->signature, args, arg_count, results,
                  result_count, flags));
out:
    return rc;
}

varve_status varve_guest_call_table(varve_guest *guest, uint32_t index, const varve_value *args,
                                    size_t arg_count, varve_value *results, size_t result_count,
                                    uint32_t flags)
{
    varve_status rc = VARVE_OK;
    struct vv_function function;
    varve_type params[VV_HOST_VALUES_MAX], types[VV_HOST_VALUES_MAX];

    if (arg_count > VV_HOST_VALUES_MAX || result_count > VV_HOST_VALUES_MAX)
        return vv_fail(VARVE_LIMIT, "at most %d values can be passed", VV_HOST_VALUES_MAX);
    for (size_t i = 0; i < arg_count; i++)
        params[i] = args[i].type;
    /* What the caller expects is said by the types that it left in the results. */
    for (size_t i = 0; i < result_count; i++)
        types[i] = results[i].type;
    const struct vv_signature signature = { .params = params,
                                            .results = types,
                                            .param_count = (uint32_t)arg_count,
                                            .result_count = (uint32_t)result_count,
                                            .numbers = true };
    for (size_t i = 0; i < arg_count + result_count; i++) {
        const varve_type type = i < arg_count ? params[i] : types[i - arg_count];
        if (type < VARVE_I32 || type > VARVE_V128)
            return vv_fail(VARVE_MISUSE, "every argument, and every result beforehand, needs its type");
    }
    TRY(vv_guest_table(guest, index, &function));
    if (!vv_function_fits(guest->instance, &function, params, arg_count, types, result_count))
        return vv_fail(VARVE_TRAP, "entry %u of the table is a function of another type", index);
    TRY(call_back(guest, "a table entry", &function, &signature, args, arg_count, results, result_count,
                  flags));
out:
    return rc;
}

varve_status varve_guest_charge(varve_guest *guest, uint64_t gas)
{
    return vv_guest_pay(guest, gas);
}

varve_status varve_guest_emit(varve_guest *guest, const char *topic, const void *data, size_t size)
{
    return vv_record_emit(&guest->guests->record, &guest->guests->limits, &guest->id, topic, data, size);
}

varve_status varve_guest_input(varve_guest *guest, const char *name, const void **data, size_t *size)
{
    const struct vv_guests *guests = guest->guests;

    for (size_t i = 0; i < guests->input_count; i++) {
        if (strcmp(guests->inputs[i].name, name) == 0) {
            *data = guests->inputs[i].data;
            *size = guests->inputs[i].data_size;
            return VARVE_OK;
        }
    }
    return vv_fail(VARVE_NOT_FOUND, "the session has no input named %.80s", name);
}

varve_status varve_guest_random(varve_guest *guest, void *data, size_t size)
{
    const varve_status rc = vv_guest_pay(guest, size);

    return rc != VARVE_OK ? rc : vv_session_random(guest->guests->session, data, size);
}

varve_status varve_guest_on_outcome(varve_guest *guest, void (*done)(void *context, bool kept), void *context)
{
    return vv_guests_on_outcome(guest->guests, done, context);
}

varve_status varve_guest_fail(varve_guest *guest, varve_status status, const char *message)
{
    (void)guest;
    if (status != VARVE_PANIC && status != VARVE_TRAP && status != VARVE_VETOED)
        status = VARVE_TRAP;
    return vv_fail(status, "%.*s", VV_MESSAGE_MAX, message != NULL ? message : "");
}
