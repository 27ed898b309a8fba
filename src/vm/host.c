/* host.c - see host.h. */
#include "vm/host.h"

#include <stdio.h>

static varve_status call_defined(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    varve_status rc = VARVE_OK;
    const struct vv_defined *defined = context;
    varve_guest *guest = vv_guest_of(instance);
    varve_value args[VV_HOST_VALUES_MAX], results[VV_HOST_VALUES_MAX];
    const struct vv_signature takes = { .results = defined->params, .result_count = defined->param_count };

    if (defined->gas > 0)
        TRY(vv_guest_pay(guest, defined->gas));
    vv_values_of(&takes, slots, args);
    memset(results, 0, defined->result_count * sizeof *results);
    for (uint32_t i = 0; i < defined->result_count; i++)
        results[i].type = defined->results[i];
    TRY(defined->call(defined->context, guest, args, results));
    guest->jumping = false; /* a longjmp out of a call back ended here */
    for (uint32_t i = 0; i < defined->result_count; i++) {
        if (results[i].type != defined->results[i])
            return vv_fail(VARVE_MISUSE, "host function %.60s.%.60s gave result %u another type than it has",
                           defined->module, defined->name, i + 1);
        memset(&slots[i], 0, sizeof slots[i]);
        switch (results[i].type) {
        case VARVE_I32:
        case VARVE_F32:
            memcpy(&slots[i], &results[i].of, 4);
            break;
        case VARVE_I64:
        case VARVE_F64:
            memcpy(&slots[i], &results[i].of, 8);
            break;
        default:
            memcpy(&slots[i], &results[i].of, 16);
            break;
        }
    }
out:
    return rc;
}

static bool same_types(const varve_type *a, uint32_t a_count, const varve_type *b, uint32_t b_count)
{
    if (a_count != b_count)
        return false;
    for (uint32_t i = 0; i < a_count; i++) {
        if (a[i] != b[i])
            return false;
    }
    return true;
}

varve_status vv_host_answer(varve_vm *vm, const struct vv_plan_import *import, struct vv_answer *answer)
{
    const struct vv_defined *defined = vv_machine_find(vm, &import->module, &import->name);
    const struct vv_signature *wanted = &import->signature;
    char want[100], have[100];

    if (defined == NULL)
        return VARVE_OK;
    if (!same_types(defined->params, defined->param_count, wanted->params, wanted->param_count) ||
        !same_types(defined->results, defined->result_count, wanted->results, wanted->result_count)) {
        const struct vv_signature given = { .params = defined->params,
                                            .results = defined->results,
                                            .param_count = defined->param_count,
                                            .result_count = defined->result_count };
        return vv_fail(VARVE_REFUSED, "import %.60s.%.60s is \"%s\", the host function is \"%s\"",
                       import->module.data, import->name.data, vv_signature_format(wanted, want, sizeof want),
                       vv_signature_format(&given, have, sizeof have));
    }
    *answer = (struct vv_answer){ .outside = { .call = call_defined, .context = (void *)(uintptr_t)defined },
                                  .by = "host" };
    return VARVE_OK;
}
