/* varve_vm.c - the door, sections 6 to 8 of varve.h: checks every argument, then calls down to floor 3.
 *
 * Functions on receipts are in vm/receipt.c, those for host functions in vm/guest.c. */
#include "door.h"
#include "vm/call.h"
#include "vm/deploy.h"
#include "vm/inspect.h"
#include "vm/linker.h"

/* ---- 6. The VM ------------------------------------------------------------------------------------- */

varve_status varve_vm_new(const varve_vm_options *given, varve_vm **vm, varve_error *error)
{
    varve_status rc = VARVE_OK;
    varve_vm_options options = { 0 };
    varve_limits limits = { 0 };

    TRY(vv_door_need(vm, "vm"));
    *vm = NULL;
    TRY(vv_door_options(&options, sizeof options, given, "varve_vm_options"));
    TRY(vv_door_flags(options.flags, VARVE_VM_NO_CACHE, "varve_vm_options"));
    TRY(vv_door_options(&limits, sizeof limits, options.limits, "varve_limits"));
    options.limits = &limits;
    TRY(vv_machine_new(&options, vv_linker_answer, vm));
out:
    return vv_error_deliver(error, rc);
}

void varve_vm_free(varve_vm *vm)
{
    vv_machine_free(vm);
}

varve_status varve_vm_define(varve_vm *vm, const varve_host_function *given, varve_error *error)
{
    varve_status rc = VARVE_OK;
    varve_host_function function = { 0 };

    TRY(vv_door_need(vm, "vm"));
    TRY(vv_door_need(given, "function"));
    TRY(vv_door_options(&function, sizeof function, given, "varve_host_function"));
    TRY(vv_door_need(function.module, "a host function's module"));
    TRY(vv_door_need(function.name, "a host function's name"));
    TRY(vv_door_need(function.signature, "a host function's signature"));
    if (function.call == NULL)
        TRY(vv_fail(VARVE_MISUSE, "host function %.80s.%.80s has nothing to call", function.module,
                    function.name));
    TRY(vv_machine_define(vm, &function));
out:
    return vv_error_deliver(error, rc);
}

varve_status varve_vm_inspect(varve_vm *vm, const void *code, size_t code_size, char **json,
                              varve_error *error)
{
    varve_status rc = VARVE_OK;

    TRY(vv_door_need(json, "json"));
    *json = NULL;
    TRY(vv_door_need(vm, "vm"));
    TRY(vv_door_need(code, "code"));
    TRY(vv_inspect(vm, code, code_size, json));
out:
    return vv_error_deliver(error, rc);
}

/* ---- 7. Deploying and calling ------------------------------------------------------------------------ */

varve_status vv_door_attach(varve_session *session, const varve_session_options *options)
{
    varve_status rc = VARVE_OK;
    varve_session_options own = *options;
    varve_limits limits = { 0 };

    TRY(vv_door_options(&limits, sizeof limits, options->limits, "varve_limits"));
    own.limits = &limits;
    for (size_t i = 0; i < options->input_count; i++) {
        TRY(vv_door_need(options->inputs, "inputs"));
        TRY(vv_door_need(options->inputs[i].name, "an input's name"));
        if (options->inputs[i].data_size > 0)
            TRY(vv_door_need(options->inputs[i].data, "an input's data"));
    }
    TRY(vv_guests_attach(session, options->vm, &own));
out:
    return rc;
}

/* The VM's part of a session. */
static varve_status guests_of(varve_session *session, struct vv_guests **guests)
{
    *guests = vv_session_guest_context(session);
    if (*guests == NULL)
        return vv_fail(VARVE_MISUSE, "the session was begun without a VM: modules cannot be called in it");
    return VARVE_OK;
}

static varve_status take_deploy_options(varve_deploy_options *ours, const varve_deploy_options *given)
{
    varve_status rc = VARVE_OK;

    TRY(vv_door_options(ours, sizeof *ours, given, "varve_deploy_options"));
    TRY(vv_door_flags(ours->flags, VARVE_DEPLOY_PLAIN | VARVE_DEPLOY_TRAP_MISSING, "varve_deploy_options"));
    if (ours->global_count > 0)
        TRY(vv_door_need(ours->globals, "globals"));
    for (size_t i = 0; i < ours->global_count; i++) {
        TRY(vv_door_need(ours->globals[i].module, "a global's module"));
        TRY(vv_door_need(ours->globals[i].name, "a global's name"));
        if (!vv_wasm_is_number(ours->globals[i].value.type))
            TRY(vv_fail(VARVE_MISUSE, "the value of global %.80s.%.80s has no type", ours->globals[i].module,
                        ours->globals[i].name));
    }
out:
    return rc;
}

varve_status varve_session_deploy(varve_session *session, const void *code, size_t code_size,
                                  const varve_deploy_options *given, varve_module_id *id,
                                  varve_receipt **receipt, varve_error *error)
{
    varve_status rc = VARVE_OK;
    varve_deploy_options options = { 0 };
    struct vv_guests *guests = NULL;
    bool inside = false;

    if (receipt != NULL)
        *receipt = NULL;
    TRY(vv_door_enter(session, &inside));
    TRY(guests_of(session, &guests));
    TRY(vv_door_need(code, "code"));
    TRY(take_deploy_options(&options, given));
    TRY(vv_deploy(guests, code, code_size, &options, id, receipt));
    vv_session_show(session);
out:
    return vv_door_leave(session, inside, error, rc);
}

varve_status varve_session_migrate(varve_session *session, const varve_module_id *id, const void *code,
                                   size_t code_size, const varve_deploy_options *given, varve_migrate_fn move,
                                   void *context, varve_receipt **receipt, varve_error *error)
{
    varve_status rc = VARVE_OK;
    varve_deploy_options options = { 0 };
    struct vv_guests *guests = NULL;
    bool inside = false;

    (void)context;
    if (receipt != NULL)
        *receipt = NULL;
    TRY(vv_door_enter(session, &inside));
    TRY(guests_of(session, &guests));
    TRY(vv_door_need(id, "id"));
    TRY(vv_door_need(code, "code"));
    TRY(take_deploy_options(&options, given));
    if (move != NULL)
        TRY(vv_fail(VARVE_UNSUPPORTED, "this build migrates only with `move` NULL: memory and globals stay"));
    TRY(vv_migrate(guests, id, code, code_size, &options, receipt));
    vv_session_show(session);
out:
    return vv_door_leave(session, inside, error, rc);
}

varve_status varve_session_signature(varve_session *session, const varve_module_id *id, const char *function,
                                     varve_signature *signature, varve_error *error)
{
    varve_status rc = VARVE_OK;
    struct vv_guests *guests = NULL;
    struct vv_working *working = NULL;
    struct varve_guest *guest = NULL;
    const struct vv_lookup *lookup = NULL;
    bool inside = false;

    TRY(vv_door_enter(session, &inside));
    TRY(guests_of(session, &guests));
    TRY(vv_door_need(id, "id"));
    TRY(vv_door_need(function, "function"));
    TRY(vv_door_need(signature, "signature"));
    if (signature->size != sizeof *signature)
        TRY(vv_fail(VARVE_MISUSE, "varve_signature: its size is %zu: set it with VARVE_INIT",
                    signature->size));
    TRY(vv_session_working(session, id, &working));
    TRY(vv_guest_get(guests, working, &guest));
    TRY(vv_guest_export(guest, function, &lookup));
    const struct vv_signature *types = &lookup->export->signature;
    if (!types->numbers)
        TRY(vv_fail(VARVE_UNSUPPORTED, "%.80s takes or gives references", function));
    TRY(vv_guests_lend(guests, guest->code));
    *signature = (varve_signature){ .size = sizeof *signature,
                                    .params = types->params,
                                    .results = types->results,
                                    .param_count = types->param_count,
                                    .result_count = types->result_count };
out:
    return vv_door_leave(session, inside, error, rc);
}

varve_status varve_session_call(varve_session *session, const varve_module_id *id, const char *function,
                                const varve_value *args, size_t arg_count, varve_value *results,
                                size_t result_count, const varve_call_options *given, varve_receipt **receipt,
                                varve_error *error)
{
    varve_status rc = VARVE_OK;
    varve_call_options options = { 0 };
    struct vv_guests *guests = NULL;
    bool inside = false;

    if (receipt != NULL)
        *receipt = NULL;
    TRY(vv_door_enter(session, &inside));
    TRY(guests_of(session, &guests));
    TRY(vv_door_need(id, "id"));
    TRY(vv_door_need(function, "function"));
    if (arg_count > 0)
        TRY(vv_door_need(args, "args"));
    if (result_count > 0)
        TRY(vv_door_need(results, "results"));
    TRY(vv_door_options(&options, sizeof options, given, "varve_call_options"));
    TRY(vv_door_flags(options.flags, VARVE_CALL_QUERY | VARVE_CALL_UNGUARDED, "varve_call_options"));
    TRY(vv_call(guests, id, function, args, arg_count, results, result_count, &options, receipt));
    if ((options.flags & VARVE_CALL_QUERY) == 0)
        vv_session_show(session);
out:
    return vv_door_leave(session, inside, error, rc);
}

void varve_session_interrupt(varve_session *session)
{
    struct vv_guests *guests = session != NULL ? vv_session_guest_context(session) : NULL;

    if (guests != NULL)
        vv_guests_interrupt(guests);
}
