/* deploy.c - see deploy.h.
 *
 * Order: check and compile; then, inside a savepoint and under gas: add the module with zeroed memory of its declared
 * size, write its active data in order, call its start function, call `_initialize` if it has one. */
#include "vm/deploy.h"

#include <stdio.h>

#include "base/alloc.h"
#include "page/root.h"
#include "store/revision.h"

struct deployment {
    const varve_deploy_options *options;
    const uint8_t *bytes;
    size_t size;
    struct vv_module *fields; /* until the session has taken it */
    struct vv_code *code;
    struct vv_import_value *values; /* the options' globals; their texts are the caller's */
    varve_module_id id;
};

/* ---- Fields ----------------------------------------------------------------------------------------- */

/* The id that the module gets: of its name, or given, or the hash of its bytes. */
static varve_status choose_id(const varve_deploy_options *options, const uint8_t hash[VV_HASH_SIZE],
                              varve_module_id *id)
{
    if (options->name != NULL && options->id != NULL)
        return vv_fail(VARVE_MISUSE, "a module is deployed under a name or under an id, not both");
    if (options->name != NULL) {
        const varve_status rc = vv_module_name_check(options->name);
        if (rc == VARVE_OK)
            vv_name_id(options->name, id->bytes);
        return rc;
    }
    if (options->id != NULL)
        *id = *options->id;
    else
        memcpy(id->bytes, hash, sizeof id->bytes);
    return VARVE_OK;
}

static varve_status make_fields(struct deployment *d, const uint8_t hash[VV_HASH_SIZE])
{
    varve_status rc = VARVE_OK;
    struct vv_bytes extra = VV_BYTES_NONE;
    const varve_deploy_options *o = d->options;

    TRY(choose_id(o, hash, &d->id));
    TRY(vv_module_new(&d->fields));
    d->fields->id = d->id;
    d->fields->kind = VARVE_KIND_MODULE;
    if (o->name != NULL)
        (void)snprintf(d->fields->name, sizeof d->fields->name, "%s", o->name);
    memcpy(d->fields->code, hash, VV_HASH_SIZE);
    if (o->owner != NULL)
        memcpy(d->fields->owner, o->owner, sizeof d->fields->owner);
    d->fields->code_size = d->size;
    d->fields->globals = d->code->plan.global_count;
    TRY(vv_extra_encode((o->flags & VARVE_DEPLOY_TRAP_MISSING) != 0, o->args, o->env, d->values,
                        o->global_count, &extra));
    if (extra.size > 0) {
        TRY(vv_memdup(&d->fields->extra, extra.data, extra.size));
        d->fields->extra_size = extra.size;
    }
out:
    vv_bytes_release(&extra);
    return rc;
}

static varve_status check_size(const struct vv_guests *guests, size_t size)
{
    if (size <= guests->limits.code_bytes)
        return VARVE_OK;
    return vv_fail(VARVE_REFUSED, "the module has %zu bytes, the limit is %llu (limit: code_bytes)", size,
                   (unsigned long long)guests->limits.code_bytes);
}

/* The limits on what it declares that are ours to keep. */
static varve_status check_memory(const struct vv_guests *guests, const struct vv_plan *plan)
{
    if (!plan->has_memory || plan->memory.min <= guests->limits.memory_bytes / VV_WASM_PAGE_SIZE)
        return VARVE_OK;
    return vv_fail(VARVE_REFUSED,
                   "the module's memory begins with %llu pages of 64 KiB, the limit is %llu bytes (limit: "
                   "memory_bytes)",
                   (unsigned long long)plan->memory.min, (unsigned long long)guests->limits.memory_bytes);
}

static varve_status take_globals(struct deployment *d)
{
    varve_status rc = VARVE_OK;
    const varve_deploy_options *o = d->options;

    TRY(vv_alloc(&d->values, o->global_count, sizeof *d->values));
    for (size_t i = 0; i < o->global_count; i++) {
        const varve_value *given = &o->globals[i].value;
        struct vv_import_value *value = &d->values[i];
        *value = (struct vv_import_value){ .module = o->globals[i].module,
                                           .name = o->globals[i].name,
                                           .value = { .type = given->type, .function = VV_WASM_NONE } };
        memcpy(value->value.bits, &given->of, vv_size_of_type(given->type));
    }
out:
    return rc;
}

static varve_status prepare(struct vv_guests *guests, struct deployment *d)
{
    varve_status rc = VARVE_OK;
    uint8_t hash[VV_HASH_SIZE];

    TRY(check_size(guests, d->size));
    vv_code_hash(d->bytes, d->size, hash);
    TRY(take_globals(d));
    const struct vv_code_request request = { .hash = hash,
                                             .bytes = d->bytes,
                                             .size = d->size,
                                             .limits = &guests->limits,
                                             .trap_missing =
                                                 (d->options->flags & VARVE_DEPLOY_TRAP_MISSING) != 0,
                                             .values = d->values,
                                             .value_count = d->options->global_count };
    TRY(vv_code_get(&guests->vm->pool, &request, &d->code));
    TRY(check_memory(guests, &d->code->plan));
    TRY(make_fields(d, hash));
out:
    return rc;
}

/* ---- First steps -------------------------------------------------------------------------------------- */

static varve_status pay(struct vv_work *work, uint64_t gas)
{
    if (work->fuel < gas) {
        work->fuel = 0;
        return vv_fail(VARVE_OUT_OF_GAS, "all gas was used while the data segments were written");
    }
    work->fuel -= gas;
    return VARVE_OK;
}

/* Write the active data segments, the first that does not fit ends it: 1 gas for each and for each byte. */
static varve_status write_data(struct vv_work *work, const struct deployment *d, struct vv_image *image)
{
    const uint64_t length = vv_image_size(image);
    const struct vv_plan *plan = &d->code->plan;

    for (uint32_t i = 0; i < plan->write_count; i++) {
        const struct vv_plan_write *write = &plan->writes[i];
        if (write->offset > length || write->bytes.size > length - write->offset)
            return vv_fail(VARVE_REFUSED,
                           "data segment %u: %zu bytes at %llu do not fit into a memory of %llu", i,
                           write->bytes.size, (unsigned long long)write->offset, (unsigned long long)length);
        const varve_status rc = pay(work, 1 + write->bytes.size);
        if (rc != VARVE_OK)
            return rc;
        memcpy(vv_image_bytes(image) + write->offset, d->bytes + write->bytes.offset, write->bytes.size);
    }
    return VARVE_OK;
}

static varve_status run_once(struct vv_work *work, struct varve_guest *guest,
                             const struct vv_function *function)
{
    union vv_slot none[1] = { { .i64 = 0 } };

    vv_work_use(work, guest);
    const varve_status rc = vv_run(guest, function, none, 1);
    vv_work_used(work, guest);
    return rc;
}

static varve_status first_steps(void *context, struct vv_work *work)
{
    varve_status rc = VARVE_OK;
    struct deployment *d = context;
    const struct vv_plan *plan = &d->code->plan;
    varve_session *session = work->guests->session;
    struct vv_working *working = NULL;
    struct vv_image *image = NULL;
    struct varve_guest *guest = NULL;
    struct vv_function start;
    struct vv_module *fields = d->fields;

    d->fields = NULL;
    TRY(vv_session_add(session, fields, d->bytes, d->size,
                       plan->has_memory ? plan->memory.min * VV_WASM_PAGE_SIZE : 0,
                       work->guests->limits.memory_bytes, &working));
    TRY(vv_session_image(session, working, work->guests->limits.memory_bytes, &image));
    TRY(vv_session_enter(session, working));
    TRY(write_data(work, d, image));
    TRY(vv_guest_get(work->guests, working, &guest));
    work->guest = guest;
    if (plan->has_start) {
        VV_ASSERT(vv_instance_function(guest->instance, VV_EXPORT_START, &start));
        TRY(run_once(work, guest, &start));
    }
    const struct vv_lookup *initialize = vv_guest_find(guest, "_initialize");
    if (initialize != NULL && initialize->export->signature.param_count == 0 &&
        initialize->export->signature.result_count == 0) {
        const struct vv_function function = initialize->function;
        TRY(run_once(work, guest, &function));
    }
out:
    return rc;
}

varve_status vv_deploy(struct vv_guests *guests, const void *code, size_t code_size,
                       const varve_deploy_options *options, varve_module_id *id, varve_receipt **receipt)
{
    varve_status rc = VARVE_OK;
    struct deployment d = { .options = options, .bytes = code, .size = code_size };
    struct vv_work work = { .guests = guests,
                            .module = &d.id,
                            .function = "deploy",
                            .gas = options->gas,
                            .guarded = true,
                            .run = first_steps,
                            .context = &d };

    TRY(vv_session_usable(guests->session));
    TRY(prepare(guests, &d));
    TRY(vv_work_run(&work, receipt));
    if (id != NULL)
        *id = d.id;
out:
    vv_module_drop(d.fields);
    vv_code_drop(d.code);
    vv_free(d.values);
    return rc;
}

/* ---- Migrate ------------------------------------------------------------------------------------------ */

struct migration {
    struct deployment deployment;
    struct vv_working *working;
};

/* The old values must mean the same to the new code: the same mutable globals, and a memory that it may have. */
static varve_status check_fits(const struct vv_plan *plan, const struct vv_module *old, uint64_t length)
{
    varve_status rc = VARVE_OK;
    struct vv_instance_state state = { .globals = NULL };

    if (!plan->has_memory ? length != 0
                          : length / VV_WASM_PAGE_SIZE < plan->memory.min ||
                                (plan->memory.has_max && length / VV_WASM_PAGE_SIZE > plan->memory.max))
        return vv_fail(VARVE_REFUSED,
                       "the new module declares a memory that the old one, of %llu bytes, does not fit",
                       (unsigned long long)length);
    TRY(vv_instance_state_decode(old->instance, old->instance_size, UINT32_MAX, &state));
    if (state.global_count != plan->global_count || state.table_count != plan->table_count ||
        state.segment_count != plan->segment_count || vv_instance_state_check(&state, plan) != VARVE_OK)
        rc = vv_fail(VARVE_REFUSED,
                     "the new module has other mutable globals, tables or segments than the old one: "
                     "its state cannot be kept as it is");
out:
    vv_instance_state_release(&state);
    return rc;
}

static varve_status replace_code(void *context, struct vv_work *work)
{
    varve_status rc = VARVE_OK;
    struct migration *m = context;
    varve_session *session = work->guests->session;
    struct vv_image *image = NULL;
    struct vv_module *fields = m->deployment.fields;
    struct varve_guest *guest = NULL;

    TRY(vv_session_image(session, m->working, work->guests->limits.memory_bytes, &image));
    TRY(vv_session_enter(session, m->working));
    const struct vv_module *old = m->working->fields;
    TRY(check_fits(&m->deployment.code->plan, old, vv_image_size(image)));
    memcpy(fields->name, old->name, sizeof fields->name);
    if (m->deployment.options->owner == NULL)
        memcpy(fields->owner, old->owner, sizeof fields->owner);
    TRY(vv_memdup(&fields->instance, old->instance, old->instance_size));
    fields->instance_size = old->instance_size;
    m->deployment.fields = NULL;
    TRY(vv_session_replace(session, m->working, fields, m->deployment.bytes, m->deployment.size));
    TRY(vv_guest_get(work->guests, m->working, &guest)); /* it can be started */
    work->guest = guest;
out:
    return rc;
}

varve_status vv_migrate(struct vv_guests *guests, const varve_module_id *id, const void *code,
                        size_t code_size, const varve_deploy_options *options, varve_receipt **receipt)
{
    varve_status rc = VARVE_OK;
    varve_deploy_options own = *options;
    struct migration m = { .deployment = { .options = &own, .bytes = code, .size = code_size } };
    struct vv_work work = { .guests = guests,
                            .module = id,
                            .function = "migrate",
                            .gas = options->gas,
                            .guarded = true,
                            .run = replace_code,
                            .context = &m };

    TRY(vv_session_usable(guests->session));
    if (options->name != NULL || options->id != NULL)
        TRY(vv_fail(VARVE_MISUSE, "a migrated module keeps its id: give neither a name nor an id"));
    TRY(vv_session_working(guests->session, id, &m.working));
    if (vv_hash_is_zero(m.working->fields->code))
        TRY(vv_fail(VARVE_NOT_FOUND, "it is an image: it has no code to replace"));
    own.id = id;
    TRY(prepare(guests, &m.deployment));
    TRY(vv_work_run(&work, receipt));
out:
    vv_module_drop(m.deployment.fields);
    vv_code_drop(m.deployment.code);
    vv_free(m.deployment.values);
    return rc;
}
