/* varve_novm.c - the door, sections 6 to 8 of varve.h, in a build without an engine: there is no VM to be had, so
 * nothing else of these sections can be reached. */
#include "door.h"

static varve_status unsupported(varve_error *error)
{
    return vv_error_deliver(error,
                            vv_fail(VARVE_UNSUPPORTED, "this library was built without an engine: it holds "
                                                       "images, but runs no modules"));
}

varve_status vv_door_attach(varve_session *session, const varve_session_options *options)
{
    (void)session;
    (void)options;
    return unsupported(NULL);
}

varve_status varve_vm_new(const varve_vm_options *options, varve_vm **vm, varve_error *error)
{
    (void)options;
    if (vm != NULL)
        *vm = NULL;
    return unsupported(error);
}

void varve_vm_free(varve_vm *vm)
{
    (void)vm;
}

varve_status varve_vm_define(varve_vm *vm, const varve_host_function *function, varve_error *error)
{
    (void)vm;
    (void)function;
    return unsupported(error);
}

varve_status varve_vm_inspect(varve_vm *vm, const void *code, size_t code_size, char **json,
                              varve_error *error)
{
    (void)vm;
    (void)code;
    (void)code_size;
    if (json != NULL)
        *json = NULL;
    return unsupported(error);
}

varve_status varve_session_deploy(varve_session *session, const void *code, size_t code_size,
                                  const varve_deploy_options *options, varve_module_id *id,
                                  varve_receipt **receipt, varve_error *error)
{
    (void)session;
    (void)code;
    (void)code_size;
    (void)options;
    (void)id;
    if (receipt != NULL)
        *receipt = NULL;
    return unsupported(error);
}

varve_status varve_session_migrate(varve_session *session, const varve_module_id *id, const void *code,
                                   size_t code_size, const varve_deploy_options *options,
                                   varve_migrate_fn move, void *context, varve_receipt **receipt,
                                   varve_error *error)
{
    (void)session;
    (void)id;
    (void)code;
    (void)code_size;
    (void)options;
    (void)move;
    (void)context;
    if (receipt != NULL)
        *receipt = NULL;
    return unsupported(error);
}

varve_status varve_session_signature(varve_session *session, const varve_module_id *id, const char *function,
                                     varve_signature *signature, varve_error *error)
{
    (void)session;
    (void)id;
    (void)function;
    (void)signature;
    return unsupported(error);
}

varve_status varve_session_call(varve_session *session, const varve_module_id *id, const char *function,
                                const varve_value *args, size_t arg_count, varve_value *results,
                                size_t result_count, const varve_call_options *options,
                                varve_receipt **receipt, varve_error *error)
{
    (void)session;
    (void)id;
    (void)function;
    (void)args;
    (void)arg_count;
    (void)results;
    (void)result_count;
    (void)options;
    if (receipt != NULL)
        *receipt = NULL;
    return unsupported(error);
}

void varve_session_interrupt(varve_session *session)
{
    (void)session;
}

const varve_receipt_info *varve_receipt_get(const varve_receipt *receipt)
{
    (void)receipt;
    return NULL;
}

varve_status varve_receipt_event(const varve_receipt *receipt, size_t index, varve_event *event)
{
    (void)receipt;
    (void)index;
    (void)event;
    return unsupported(NULL);
}

varve_status varve_receipt_frame(const varve_receipt *receipt, size_t index, varve_frame *frame)
{
    (void)receipt;
    (void)index;
    (void)frame;
    return unsupported(NULL);
}

void varve_receipt_free(varve_receipt *receipt)
{
    (void)receipt;
}

/* No guest ever runs, so nobody holds a varve_guest to call these with; they are here for programs that link them. */

const varve_guest_info *varve_guest_get(varve_guest *guest)
{
    (void)guest;
    return NULL;
}

varve_status varve_guest_read(varve_guest *guest, uint64_t offset, void *data, size_t size)
{
    (void)guest;
    (void)offset;
    (void)data;
    (void)size;
    return unsupported(NULL);
}

varve_status varve_guest_write(varve_guest *guest, uint64_t offset, const void *data, size_t size)
{
    (void)guest;
    (void)offset;
    (void)data;
    (void)size;
    return unsupported(NULL);
}

void *varve_guest_memory(varve_guest *guest, uint64_t *size)
{
    (void)guest;
    (void)size;
    return NULL;
}

varve_status varve_guest_grow(varve_guest *guest, uint64_t bytes, uint64_t *before)
{
    (void)guest;
    (void)bytes;
    (void)before;
    return unsupported(NULL);
}

varve_status varve_guest_call(varve_guest *guest, const char *function, const varve_value *args,
                              size_t arg_count, varve_value *results, size_t result_count, uint32_t flags)
{
    (void)guest;
    (void)function;
    (void)args;
    (void)arg_count;
    (void)results;
    (void)result_count;
    (void)flags;
    return unsupported(NULL);
}

varve_status varve_guest_call_table(varve_guest *guest, uint32_t index, const varve_value *args,
                                    size_t arg_count, varve_value *results, size_t result_count,
                                    uint32_t flags)
{
    (void)guest;
    (void)index;
    (void)args;
    (void)arg_count;
    (void)results;
    (void)result_count;
    (void)flags;
    return unsupported(NULL);
}

varve_status varve_guest_charge(varve_guest *guest, uint64_t gas)
{
    (void)guest;
    (void)gas;
    return unsupported(NULL);
}

varve_status varve_guest_emit(varve_guest *guest, const char *topic, const void *data, size_t size)
{
    (void)guest;
    (void)topic;
    (void)data;
    (void)size;
    return unsupported(NULL);
}

varve_status varve_guest_input(varve_guest *guest, const char *name, const void **data, size_t *size)
{
    (void)guest;
    (void)name;
    (void)data;
    (void)size;
    return unsupported(NULL);
}

varve_status varve_guest_random(varve_guest *guest, void *data, size_t size)
{
    (void)guest;
    (void)data;
    (void)size;
    return unsupported(NULL);
}

varve_status varve_guest_on_outcome(varve_guest *guest, void (*done)(void *context, bool kept), void *context)
{
    (void)guest;
    (void)done;
    (void)context;
    return unsupported(NULL);
}

varve_status varve_guest_fail(varve_guest *guest, varve_status status, const char *message)
{
    (void)guest;
    (void)status;
    (void)message;
    return unsupported(NULL);
}
