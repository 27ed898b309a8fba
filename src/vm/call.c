/* call.c - see call.h. */
#include "vm/call.h"

#include <stdatomic.h>
#include <stdio.h>

enum { WORDS_SIZE = sizeof((varve_error *)0)->message, GAS_OF_FAILURE = 10000 };

/* ---- Values --------------------------------------------------------------------------------------- */

size_t vv_size_of_type(varve_type type)
{
    switch (type) {
    case VARVE_I32:
    case VARVE_F32:
        return 4;
    case VARVE_I64:
    case VARVE_F64:
        return 8;
    default:
        return 16;
    }
}

static varve_status wrong_arguments(const char *function, const struct vv_signature *signature,
                                    const char *what)
{
    char text[160];

    return vv_fail(VARVE_MISUSE, "%.80s is (%s): %s", function,
                   vv_signature_format(signature, text, sizeof text), what);
}

varve_status vv_slots_of(const char *function, const struct vv_signature *signature, const varve_value *args,
                         size_t arg_count, size_t result_count, union vv_slot *slots, size_t *count)
{
    char what[80];

    if (!signature->numbers)
        return wrong_arguments(function, signature, "a reference cannot be passed from outside");
    if (signature->param_count > VV_CALL_VALUES_MAX || signature->result_count > VV_CALL_VALUES_MAX)
        return vv_fail(VARVE_LIMIT, "%.80s takes %u values and gives %u: at most %d can be passed", function,
                       signature->param_count, signature->result_count, VV_CALL_VALUES_MAX);
    if (arg_count != signature->param_count || result_count != signature->result_count) {
        (void)snprintf(what, sizeof what, "%zu arguments and room for %zu results were given", arg_count,
                       result_count);
        return wrong_arguments(function, signature, what);
    }
    for (size_t i = 0; i < arg_count; i++) {
        if (args[i].type != signature->params[i]) {
            (void)snprintf(what, sizeof what, "argument %zu is an %s", i + 1,
                           args[i].type >= VARVE_I32 && args[i].type <= VARVE_V128
                               ? vv_wasm_type_name(args[i].type)
                               : "unknown type");
            return wrong_arguments(function, signature, what);
        }
        slots[i].bits[0] = slots[i].bits[1] = 0;
        memcpy(&slots[i], &args[i].of, vv_size_of_type(args[i].type));
    }
    *count = arg_count > result_count ? arg_count : result_count;
    return VARVE_OK;
}

void vv_values_of(const struct vv_signature *signature, const union vv_slot *slots, varve_value *results)
{
    for (uint32_t i = 0; i < signature->result_count; i++) {
        memset(&results[i], 0, sizeof results[i]);
        results[i].type = signature->results[i];
        memcpy(&results[i].of, &slots[i], vv_size_of_type(signature->results[i]));
    }
}

/* ---- One call ------------------------------------------------------------------------------------- */

struct errand {
    struct varve_guest *guest;
    const struct vv_function *function;
    union vv_slot *slots;
    size_t count;
    varve_status rc;
};

static void go(void *context)
{
    struct errand *errand = context;

    errand->rc = vv_instance_call(errand->guest->instance, errand->function, errand->slots, errand->count);
    if (vv_instance_faulted(errand->guest->instance)) /* what is mapped there now is not what was */
        vv_session_give_up_file(errand->guest->guests->session, &errand->guest->id, VARVE_IO);
}

/* A failure costs, whoever takes it: the engine walks the whole stack for it, so that failures deep down which a host
 * function swallows would cost the host far more than the guest. One price, for it must be the same everywhere. */
static void pay_for_failure(const struct varve_guest *guest)
{
    const uint64_t fuel = vv_instance_fuel(guest->instance);

    vv_instance_set_fuel(guest->instance, fuel < GAS_OF_FAILURE ? 0 : fuel - GAS_OF_FAILURE);
}

varve_status vv_run(struct varve_guest *guest, const struct vv_function *function, union vv_slot *slots,
                    size_t count)
{
    struct vv_guests *guests = guest->guests;
    struct errand errand = { guest, function, slots, count, VARVE_OK };

    if (guests->depth >= guests->limits.call_depth)
        return vv_fail(VARVE_LIMIT, "calls in one another: more than %u (limit: call_depth)",
                       guests->limits.call_depth);
    guest->changed = true;
    guest->running++;
    if (guests->depth > 0) {
        guests->depth++;
        go(&errand);
        guests->depth--;
        guest->running--;
        if (errand.rc != VARVE_OK)
            pay_for_failure(guest);
        return errand.rc;
    }
    if (guests->stack == NULL) {
        errand.rc = vv_stack_take(&guests->vm->stacks, &guests->stack);
        if (errand.rc != VARVE_OK) {
            guest->running--;
            return errand.rc;
        }
    }
    guest->exited = guest->jumping = guests->doomed = false;
    guests->depth = 1;
    atomic_store_explicit(&guests->running, VV_RUNNING, memory_order_release);
    vv_stack_run(&guests->vm->stacks, guests->stack, go, &errand);
    atomic_store_explicit(&guests->running, VV_IDLE, memory_order_release);
    guests->depth = 0;
    guest->running--;
    if (errand.rc == VARVE_EXITED && guest->exited) {
        memset(slots, 0, count * sizeof *slots);
        if (guest->exit_code == 0)
            errand.rc = VARVE_OK;
        else
            errand.rc = vv_fail_number(VARVE_EXITED, guest->exit_code, "the guest ended itself with code %d",
                                       guest->exit_code);
    }
    if (errand.rc == VARVE_OK && guests->doomed)
        errand.rc =
            vv_fail(VARVE_TRAP, "an inner call failed and could not be undone alone: its module changes "
                                "tables or drops segments");
    return errand.rc;
}

varve_status vv_run_inner(struct varve_guest *guest, const struct vv_function *function, union vv_slot *slots,
                          size_t count, bool guarded)
{
    varve_status rc = VARVE_OK;
    struct vv_guests *guests = guest->guests;
    varve_session *session = guests->session;
    char words[WORDS_SIZE];
    uint32_t depth = 0;

    if (!guarded)
        return vv_run(guest, function, slots, count);
    const struct vv_record_mark mark = vv_record_mark(&guests->record);
    TRY(vv_session_savepoint(session, &depth));
    varve_status done = vv_session_enter(session, guest->working);
    if (done == VARVE_OK)
        done = vv_run(guest, function, slots, count);
    if (done != VARVE_OK) {
        (void)snprintf(words, sizeof words, "%s", vv_words());
        vv_record_revert(&guests->record, mark);
        TRY(vv_session_rollback(session, depth));
    }
    TRY(vv_session_release(session, depth));
    if (guest->stale && vv_guest_restore_running(guest) != VARVE_OK)
        guests->doomed = true;
    if (done != VARVE_OK)
        rc = vv_fail(done, "%s", words);
out:
    return rc;
}

/* ---- Work: what every call from outside has around it ---------------------------------------------- */

void vv_work_use(struct vv_work *work, struct varve_guest *guest)
{
    guest->info.caller = work->caller != NULL ? *work->caller : (varve_module_id){ .bytes = { 0 } };
    guest->info.has_caller = work->caller != NULL;
    guest->info.time_ns = vv_session_time(work->guests->session);
    vv_instance_set_fuel(guest->instance, work->fuel);
    work->guest = guest;
}

void vv_work_used(struct vv_work *work, struct varve_guest *guest)
{
    work->fuel = vv_instance_fuel(guest->instance);
}

/* Keep or undo what the work did. */
static varve_status settle(const struct vv_work *work, varve_status rc, uint32_t depth)
{
    varve_status done = VARVE_OK;
    varve_session *session = work->guests->session;

    if (!work->guarded) {
        if (rc != VARVE_OK)
            vv_session_taint(session);
        return VARVE_OK;
    }
    if (rc != VARVE_OK || work->query)
        done = vv_session_rollback(session, depth);
    if (done == VARVE_OK)
        done = vv_session_release(session, depth);
    return done;
}

static varve_status make_receipt(const struct vv_work *work, varve_status rc, const char *words,
                                 uint64_t pages_changed, varve_receipt **receipt)
{
    const uint64_t limit = work->gas == 0 ? VV_FUEL_PLENTY : work->gas;
    const struct vv_receipt_facts facts = {
        .status = rc,
        .message = rc == VARVE_OK ? "" : words,
        .trace = rc == VARVE_OK || work->guest == NULL ? "" : vv_instance_trace(work->guest->instance),
        .gas_used = limit - work->fuel,
        .gas_limit = work->gas,
        .pages_changed = pages_changed,
        .module = *work->module,
        .function = work->function,
    };

    return vv_receipt_new(&facts, &work->guests->record, receipt);
}

/* What the work came to, with its receipt. A success that cannot be told is none: it is undone. */
static varve_status conclude(struct vv_work *work, varve_status rc, uint32_t depth, varve_receipt **receipt)
{
    const struct vv_record_mark start = { .events = 0 };
    char words[WORDS_SIZE] = "";
    uint64_t pages = 0;
    varve_status told = VARVE_OK;
    int number = 0;

    if (rc != VARVE_OK) {
        number = vv_words_errno();
        (void)snprintf(words, sizeof words, "%s", vv_words());
        vv_record_revert(&work->guests->record, start);
    }
    if (receipt != NULL && (rc == VARVE_OK || work->guest != NULL)) {
        if (work->guarded)
            told = vv_session_pages_changed(work->guests->session, depth, &pages);
        if (told == VARVE_OK)
            told = make_receipt(work, rc, words, pages, receipt);
    }
    if (rc == VARVE_OK && told != VARVE_OK) {
        rc = told;
        (void)snprintf(words, sizeof words, "%s", vv_words());
        vv_record_revert(&work->guests->record, start);
    }
    const varve_status settled = settle(work, rc, depth);
    return rc != VARVE_OK ? vv_fail_number(rc, number, "%s", words) : settled;
}

varve_status vv_work_run(struct vv_work *work, varve_receipt **receipt)
{
    varve_status rc = VARVE_OK;
    struct vv_guests *guests = work->guests;
    uint32_t depth = 0;

    vv_record_clear(&guests->record);
    work->fuel = work->gas == 0 ? VV_FUEL_PLENTY : work->gas;
    if (work->guarded)
        TRY(vv_session_savepoint(guests->session, &depth));
    rc = conclude(work, work->run(work->context, work), depth, receipt);
    vv_record_deliver(&guests->record, guests->output, guests->context);
out:
    return rc;
}

/* ---- A call by name --------------------------------------------------------------------------------- */

struct named_call {
    struct vv_working *working;
    const struct vv_lookup *lookup;
    struct varve_guest *guest;
    union vv_slot *slots;
    size_t count;
};

static varve_status run_named(void *context, struct vv_work *work)
{
    varve_status rc = VARVE_OK;
    struct named_call *call = context;

    TRY(vv_session_enter(work->guests->session, call->working));
    vv_work_use(work, call->guest);
    rc = vv_run(call->guest, &call->lookup->function, call->slots, call->count);
    vv_work_used(work, call->guest);
out:
    return rc;
}

varve_status vv_call(struct vv_guests *guests, const varve_module_id *id, const char *function,
                     const varve_value *args, size_t arg_count, varve_value *results, size_t result_count,
                     const varve_call_options *options, varve_receipt **receipt)
{
    varve_status rc = VARVE_OK;
    union vv_slot slots[VV_CALL_VALUES_MAX];
    varve_type types[VV_CALL_VALUES_MAX];
    struct named_call call = { .slots = slots };
    struct vv_work work = { .guests = guests,
                            .module = id,
                            .function = function,
                            .guarded = true,
                            .run = run_named,
                            .context = &call };

    if (options != NULL) {
        work.gas = options->gas;
        work.query = (options->flags & VARVE_CALL_QUERY) != 0;
        work.guarded = work.query || (options->flags & VARVE_CALL_UNGUARDED) == 0;
        work.caller = options->caller;
    }
    TRY(vv_session_usable(guests->session));
    TRY(vv_session_working(guests->session, id, &call.working));
    TRY(vv_guest_get(guests, call.working, &call.guest));
    TRY(vv_guest_export(call.guest, function, &call.lookup));
    TRY(vv_slots_of(function, &call.lookup->export->signature, args, arg_count, result_count, slots,
                    &call.count));
    /* An undo may end the guest, and with it code that nobody else holds: what is needed later is copied. */
    struct vv_signature signature = call.lookup->export->signature;
    for (size_t i = 0; i < result_count; i++)
        types[i] = signature.results[i];
    signature.results = types;
    TRY(vv_work_run(&work, receipt));
    vv_values_of(&signature, slots, results);
out:
    return rc;
}
