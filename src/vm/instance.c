/* instance.c - see instance.h.
 *
 *   all      every guest: live ones hang on their working's `guest`; parked ones have lost it to an undo
 *   parked   kept because their store and instance are good: only values differ. A guest is used again only for
 *            the same code over the same image at the same place, after its state was put back
 * Moves:  GET      use, or unpark and restore, or instantiate and restore            [vv_guest_get]
 *         CAPTURE  read globals, tables, drops; hand over when they differ           [capture]
 *         DISCARD  park when values are all that can differ, else drop               [discard] */
#include "vm/instance.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/alloc.h"

enum { PARKED_MAX = 16 };

/* ---- References to functions --------------------------------------------------------------------- */

static int by_identity(const void *a, const void *b)
{
    const struct vv_identity *x = a, *y = b;

    return x->identity < y->identity ? -1 : x->identity > y->identity;
}

static varve_status make_identities(struct varve_guest *guest)
{
    varve_status rc = VARVE_OK;
    const struct vv_plan *plan = &guest->code->plan;
    struct vv_identity *identities = NULL;
    struct vv_function function;
    bool found = false;

    if (guest->identities != NULL)
        return VARVE_OK;
    TRY(vv_alloc(&identities, plan->ref_count, sizeof *identities));
    for (uint32_t i = 0; i < plan->ref_count; i++) {
        TRY(vv_table_function(guest->instance, &guest->refs, i, &function, &found));
        VV_ASSERT(found);
        identities[i] = (struct vv_identity){ .identity = vv_function_identity(guest->instance, &function),
                                              .index = plan->refs[i] };
    }
    qsort(identities, plan->ref_count, sizeof *identities, by_identity);
    guest->identities = identities;
    identities = NULL;
out:
    vv_free(identities);
    return rc;
}

/* The index of the function with this identity; null is VV_WASM_NONE. */
static varve_status index_of(struct varve_guest *guest, void *identity, uint32_t *index)
{
    const struct vv_identity key = { .identity = identity };
    const struct vv_identity *found = NULL;

    *index = VV_WASM_NONE;
    if (identity == NULL)
        return VARVE_OK;
    const varve_status rc = make_identities(guest);
    if (rc != VARVE_OK)
        return rc;
    found = bsearch(&key, guest->identities, guest->code->plan.ref_count, sizeof key, by_identity);
    if (found == NULL)
        return vv_fail(VARVE_TRAP,
                       "the module holds a reference to a function that is not its own: that cannot "
                       "be saved");
    *index = found->index;
    return VARVE_OK;
}

static int by_index(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

static varve_status function_of(struct varve_guest *guest, uint32_t index, struct vv_function *function)
{
    varve_status rc = VARVE_OK;
    const struct vv_plan *plan = &guest->code->plan;
    const uint32_t *place = bsearch(&index, plan->refs, plan->ref_count, sizeof index, by_index);
    bool found = false;

    VV_ASSERT(place != NULL); /* vv_instance_state_check has found it in the directory */
    TRY(vv_table_function(guest->instance, &guest->refs, (uint64_t)(place - plan->refs), function, &found));
    VV_ASSERT(found);
out:
    return rc;
}

/* Whether values are all that an undo can change: lengths of tables and drops cannot go back in place. */
static bool goes_back_in_place(const struct varve_guest *guest)
{
    return guest->code->plan.table_count == 0 && guest->code->plan.segment_count == 0;
}

/* ---- Capture -------------------------------------------------------------------------------------- */

static varve_status capture_tables(struct varve_guest *guest)
{
    varve_status rc = VARVE_OK;

    for (uint32_t i = 0; i < guest->state.table_count; i++) {
        struct vv_state_table *table = &guest->state.tables[i];
        const uint64_t length = vv_table_size(guest->instance, &guest->tables[i]);
        TRY(vv_instance_state_resize(table, (uint32_t)length));
        for (uint32_t k = 0; k < length; k++) {
            struct vv_function function;
            void *identity = NULL;
            bool found = false;
            TRY(vv_table_function(guest->instance, &guest->tables[i], k, &function, &found));
            if (found)
                identity = vv_function_identity(guest->instance, &function);
            TRY(index_of(guest, identity, &table->entries[k]));
        }
    }
out:
    return rc;
}

/* A segment once dropped stays so in this instance: only the others are asked. */
static void capture_segments(struct varve_guest *guest)
{
    const struct vv_plan *plan = &guest->code->plan;
    const uint64_t fuel = vv_instance_fuel(guest->instance);

    vv_instance_set_fuel(guest->instance, VV_FUEL_PLENTY);
    for (uint32_t i = 0; i < plan->segment_count; i++) {
        struct vv_function probe;
        union vv_slot none = { .i64 = 0 };
        if (guest->state.segments[i].dropped)
            continue;
        VV_ASSERT(vv_instance_function(guest->instance, plan->segments[i].probe, &probe));
        guest->state.segments[i].dropped = vv_instance_call(guest->instance, &probe, &none, 1) != VARVE_OK;
    }
    vv_instance_set_fuel(guest->instance, fuel);
}

/* Read the globals; tells whether one of them differs from what was known. */
static varve_status capture_globals(struct varve_guest *guest, bool *differs)
{
    varve_status rc = VARVE_OK;

    for (uint32_t i = 0; i < guest->state.global_count; i++) {
        struct vv_wasm_value *value = &guest->state.globals[i].value;
        union vv_slot slot;
        uint32_t function = value->function;
        if (vv_wasm_is_number(value->type)) {
            vv_global_get(guest->instance, &guest->globals[i], &slot);
            *differs |= memcmp(value->bits, &slot, sizeof value->bits) != 0;
            memcpy(value->bits, &slot, sizeof value->bits);
        } else {
            void *identity = NULL;
            TRY(vv_global_get_function(guest->instance, &guest->globals[i], &identity));
            TRY(index_of(guest, identity, &function));
            *differs |= value->function != function;
            value->function = function;
        }
    }
out:
    return rc;
}

/* Bring what the instance holds besides memory into the session, if it differs from what is there. */
static varve_status capture(void *context, struct vv_working *working)
{
    varve_status rc = VARVE_OK;
    struct vv_guests *guests = context;
    struct varve_guest *guest = working->guest;

    if (guest == NULL || !guest->changed || guest->stale)
        return VARVE_OK;
    bool differs = !guest->known || !goes_back_in_place(guest);
    guest->known = false; /* until the session has it */
    TRY(capture_globals(guest, &differs));
    if (differs) {
        TRY(capture_tables(guest));
        if (guest->state.segment_count > 0)
            capture_segments(guest);
        vv_bytes_clear(&guest->scratch);
        TRY(vv_instance_state_encode(&guest->state, &guest->scratch));
        if (guest->scratch.size != working->fields->instance_size ||
            memcmp(guest->scratch.data, working->fields->instance, guest->scratch.size) != 0)
            TRY(vv_session_set_instance(guests->session, working, guest->scratch.data, guest->scratch.size));
    }
    guest->known = true;
    guest->changed = guest->running > 0;
out:
    return rc;
}

/* ---- Restore -------------------------------------------------------------------------------------- */

static varve_status restore_table(struct varve_guest *guest, uint32_t place,
                                  const struct vv_state_table *table)
{
    varve_status rc = VARVE_OK;
    const uint64_t length = vv_table_size(guest->instance, &guest->tables[place]);

    if (length > table->length)
        return vv_fail(VARVE_CORRUPT, "table %u was saved with %u entries and begins with %llu", table->index,
                       table->length, (unsigned long long)length);
    if (length < table->length)
        TRY(vv_table_grow(guest->instance, &guest->tables[place], table->length - length));
    for (uint32_t k = 0; k < table->length; k++) {
        struct vv_function function;
        if (table->entries[k] == VV_WASM_NONE) {
            TRY(vv_table_set(guest->instance, &guest->tables[place], k, NULL));
        } else {
            TRY(function_of(guest, table->entries[k], &function));
            TRY(vv_table_set(guest->instance, &guest->tables[place], k, &function));
        }
    }
out:
    return rc;
}

static varve_status drop_segment(struct varve_guest *guest, uint32_t place)
{
    struct vv_function drop;
    union vv_slot none = { .i64 = 0 };

    VV_ASSERT(vv_instance_function(guest->instance, guest->code->plan.segments[place].drop, &drop));
    guest->state.segments[place].dropped = true;
    return vv_instance_call(guest->instance, &drop, &none, 1);
}

static varve_status restore_global(struct varve_guest *guest, uint32_t place,
                                   const struct vv_wasm_value *value)
{
    varve_status rc = VARVE_OK;
    union vv_slot slot;
    struct vv_function function;

    guest->state.globals[place].value = *value;
    if (vv_wasm_is_number(value->type)) {
        memcpy(&slot, value->bits, sizeof slot);
        vv_global_set(guest->instance, &guest->globals[place], value->type, &slot);
    } else if (value->function == VV_WASM_NONE) {
        TRY(vv_global_set_function(guest->instance, &guest->globals[place], NULL));
    } else {
        TRY(function_of(guest, value->function, &function));
        TRY(vv_global_set_function(guest->instance, &guest->globals[place], &function));
    }
out:
    return rc;
}

/* Give the instance the state that the session holds. What the plan has and the state has not stays as it was
 * instantiated; both lists ascend, so one walk pairs them. */
static varve_status restore(struct varve_guest *guest, const struct vv_module *fields)
{
    varve_status rc = VARVE_OK;
    const struct vv_plan *plan = &guest->code->plan;
    struct vv_instance_state state = { .globals = NULL };
    uint32_t at = 0;

    TRY(vv_instance_state_decode(fields->instance, fields->instance_size, UINT32_MAX, &state));
    TRY(vv_instance_state_check(&state, plan));
    guest->known = false;
    for (uint32_t i = 0; i < state.global_count; i++) {
        while (plan->globals[at].index != state.globals[i].index)
            at++;
        TRY(restore_global(guest, at, &state.globals[i].value));
    }
    at = 0;
    for (uint32_t i = 0; i < state.table_count; i++) {
        while (plan->tables[at].index != state.tables[i].index)
            at++;
        TRY(restore_table(guest, at, &state.tables[i]));
    }
    at = 0;
    for (uint32_t i = 0; i < state.segment_count; i++) {
        while (plan->segments[at].index != state.segments[i].index ||
               plan->segments[at].is_element != state.segments[i].is_element)
            at++;
        if (state.segments[i].dropped)
            TRY(drop_segment(guest, at));
    }
    guest->known = state.global_count == plan->global_count;
out:
    vv_instance_state_release(&state);
    return rc;
}

varve_status vv_guest_restore_running(struct varve_guest *guest)
{
    varve_status rc = VARVE_OK;

    guest->stale = false;
    TRY(vv_instance_reread(guest->instance));
    if (!goes_back_in_place(guest))
        TRY(vv_fail(VARVE_UNSUPPORTED,
                    "an inner call was undone in a module that changes tables or drops segments"));
    TRY(restore(guest, guest->working->fields));
out:
    return rc;
}

/* ---- Instances ------------------------------------------------------------------------------------ */

static varve_status grow(void *context, uint64_t size)
{
    struct varve_guest *guest = context;

    if (size > guest->guests->limits.memory_bytes)
        return vv_fail(VARVE_LIMIT, "the memory would have %llu bytes (limit: memory_bytes)",
                       (unsigned long long)size);
    const varve_status rc = vv_image_grow(guest->image, size);
    if (rc != VARVE_OK && rc != VARVE_LIMIT)
        vv_session_poison(guest->guests->session, rc);
    return rc;
}

static varve_status tick(void *context)
{
    struct varve_guest *guest = context;

    if (atomic_load(&guest->guests->running) == VV_INTERRUPTED)
        return vv_fail(VARVE_CANCELLED, "the call was interrupted");
    return VARVE_OK;
}

static void find_handles(struct varve_guest *guest)
{
    const struct vv_plan *plan = &guest->code->plan;

    for (uint32_t i = 0; i < plan->global_count; i++)
        VV_ASSERT((vv_wasm_is_number(plan->globals[i].type) ? vv_instance_global : vv_instance_reference)(
            guest->instance, plan->globals[i].name, &guest->globals[i]));
    for (uint32_t i = 0; i < plan->table_count; i++)
        VV_ASSERT(vv_instance_table(guest->instance, plan->tables[i].name, &guest->tables[i]));
    if (plan->has_refs)
        VV_ASSERT(vv_instance_table(guest->instance, VV_EXPORT_REFS, &guest->refs));
}

static varve_status get_code(struct vv_guests *guests, struct vv_working *working,
                             const struct vv_extra *extra, struct vv_code **code)
{
    varve_status rc = VARVE_OK;
    struct vv_code_request request = { .hash = working->fields->code,
                                       .limits = &guests->limits,
                                       .trap_missing = extra->trap_missing,
                                       .values = extra->values,
                                       .value_count = extra->value_count };
    const uint8_t *bytes = NULL;

    *code = vv_code_find(&guests->vm->pool, &request);
    if (*code != NULL)
        return VARVE_OK;
    TRY(vv_session_code(guests->session, working, &bytes, &request.size));
    request.bytes = bytes;
    TRY(vv_code_get(&guests->vm->pool, &request, code));
out:
    return rc;
}

static void free_guest(struct varve_guest *guest)
{
    vv_instance_free(guest->instance);
    vv_instance_state_release(&guest->state);
    vv_code_drop(guest->code);
    vv_extra_release(&guest->extra);
    vv_module_drop(guest->fields);
    vv_free(guest->globals);
    vv_free(guest->tables);
    vv_free(guest->identities);
    vv_bytes_release(&guest->scratch);
    vv_free(guest);
}

void vv_guest_drop(struct varve_guest *guest)
{
    struct vv_guests *guests = guest->guests;
    struct varve_guest **link = &guests->all;

    VV_ASSERT(guest->running == 0);
    while (*link != guest)
        link = &(*link)->next;
    *link = guest->next;
    guests->count--;
    if (guest->working != NULL)
        guest->working->guest = NULL;
    free_guest(guest);
}

/* Make the instance itself, over the module's image. */
static varve_status instantiate(struct varve_guest *guest)
{
    const struct vv_plan *plan = &guest->code->plan;
    const struct vv_instance_config config = { .image = plan->has_memory ? guest->image : NULL,
                                               .memory = plan->has_memory ? VV_EXPORT_MEMORY : NULL,
                                               .table_entries = guest->guests->limits.table_entries,
                                               .grow = grow,
                                               .tick = tick,
                                               .context = guest };

    return vv_instance_new(guest->guests->vm->engine, guest->code->program, &config, &guest->instance);
}

static varve_status new_guest(struct vv_guests *guests, struct vv_working *working, struct vv_image *image,
                              struct varve_guest **out)
{
    varve_status rc = VARVE_OK;
    struct varve_guest *guest = NULL;

    if (guests->count >= guests->limits.instances)
        return vv_fail(VARVE_LIMIT, "more than %u modules in use in one session (limit: instances)",
                       guests->limits.instances);
    TRY(vv_alloc(&guest, 1, sizeof *guest));
    guest->guests = guests;
    guest->id = working->id;
    guest->image = image;
    guest->bytes = vv_image_bytes(image);
    guest->reserve = vv_image_reserve(image);
    vv_module_hold(working->fields);
    guest->fields = working->fields;
    TRY(vv_extra_decode(working->fields->extra, working->fields->extra_size, &guest->extra));
    TRY(get_code(guests, working, &guest->extra, &guest->code));
    TRY(vv_instance_state_new(&guest->code->plan, &guest->state));
    TRY(vv_alloc(&guest->globals, guest->code->plan.global_count, sizeof *guest->globals));
    TRY(vv_alloc(&guest->tables, guest->code->plan.table_count, sizeof *guest->tables));
    TRY(instantiate(guest));
    find_handles(guest);
    if (working->fields->instance_size > 0)
        TRY(restore(guest, working->fields));
    else
        guest->changed = true; /* never captured: its first values are state too */
    guest->info.self = working->id;
out:
    if (rc != VARVE_OK && guest != NULL)
        free_guest(guest);
    else
        *out = guest;
    return rc;
}

/* Whether the guest was made for a module deployed with the same code and in the same way. */
static bool same_deployment(const struct varve_guest *guest, const struct vv_module *fields)
{
    const struct vv_module *mine = guest->fields;

    return vv_hash_equal(guest->code->hash, fields->code) && mine->extra_size == fields->extra_size &&
           (mine->extra_size == 0 || memcmp(mine->extra, fields->extra, mine->extra_size) == 0);
}

/* A parked instance of this very module over this very image, with its state put back; else NULL. */
static struct varve_guest *unpark(struct vv_guests *guests, struct vv_working *working,
                                  struct vv_image *image)
{
    for (struct varve_guest *guest = guests->all; guest != NULL; guest = guest->next) {
        if (guest->working != NULL || memcmp(&guest->id, &working->id, sizeof guest->id) != 0)
            continue;
        if (guest->image == image && guest->bytes == vv_image_bytes(image) &&
            vv_image_reserve(image) == guest->reserve && working->fields->instance_size > 0 &&
            same_deployment(guest, working->fields) && vv_instance_reread(guest->instance) == VARVE_OK &&
            restore(guest, working->fields) == VARVE_OK)
            return guest;
        vv_guest_drop(guest);
        return NULL; /* one at most is parked for a module */
    }
    return NULL;
}

varve_status vv_guest_get(struct vv_guests *guests, struct vv_working *working, struct varve_guest **out)
{
    varve_status rc = VARVE_OK;
    struct vv_image *image = NULL;
    struct varve_guest *guest = working->guest;

    if (guest != NULL && !guest->stale) {
        *out = guest;
        return VARVE_OK;
    }
    if (vv_hash_is_zero(working->fields->code))
        return vv_fail(VARVE_NOT_FOUND, "%s is an image: it has no code to call",
                       working->fields->name[0] != '\0' ? working->fields->name : "this");
    TRY(vv_session_image(guests->session, working, guests->limits.memory_bytes, &image));
    guest = unpark(guests, working, image);
    if (guest == NULL) {
        TRY(new_guest(guests, working, image, &guest));
        guest->next = guests->all;
        guests->all = guest;
        guests->count++;
    }
    guest->working = working;
    working->guest = guest;
    *out = guest;
out:
    return rc;
}

/* ---- Exports -------------------------------------------------------------------------------------- */

static uint32_t slot_of(const char *name)
{
    uint32_t hash = 2166136261u; /* FNV-1a: names are short */

    for (const char *p = name; *p != '\0'; p++)
        hash = (hash ^ (uint8_t)*p) * 16777619u;
    return (hash ^ hash >> 16) % VV_LOOKUPS;
}

const struct vv_lookup *vv_guest_find(struct varve_guest *guest, const char *name)
{
    struct vv_lookup *lookup = &guest->lookups[slot_of(name)];

    if (lookup->export != NULL && strcmp(lookup->export->name.data, name) == 0)
        return lookup;
    const size_t size = strlen(name);
    const struct vv_plan_export *export = vv_plan_find_export(&guest->code->plan, name, size);
    struct vv_function function;
    if (export == NULL || export->kind != VV_WASM_FUNCTION || vv_export_is_reserved(name, size) ||
        !vv_instance_function(guest->instance, name, &function))
        return NULL;
    *lookup = (struct vv_lookup){ .export = export, .function = function };
    return lookup;
}

/* The exported function whose name begins and ends most like `name`; NULL: none is near. */
static const char *near_export(const struct vv_plan *plan, const char *name)
{
    const char *best = NULL;
    size_t most = 0;
    const size_t size = strlen(name);

    for (uint32_t i = 0; i < plan->export_count; i++) {
        const struct vv_text *each = &plan->exports[i].name;
        const size_t least = size < each->size ? size : each->size;
        const size_t longest = size < each->size ? each->size : size;
        size_t front = 0, back = 0;
        while (front < least && name[front] == each->data[front])
            front++;
        while (back < least - front && name[size - 1 - back] == each->data[each->size - 1 - back])
            back++;
        if (plan->exports[i].kind != VV_WASM_FUNCTION || vv_export_is_reserved(each->data, each->size) ||
            longest - front - back > 2 || front + back <= most)
            continue;
        best = each->data;
        most = front + back;
    }
    return best;
}

varve_status vv_guest_export(struct varve_guest *guest, const char *name, const struct vv_lookup **lookup)
{
    *lookup = vv_guest_find(guest, name);
    if (*lookup != NULL)
        return VARVE_OK;
    if (vv_export_is_reserved(name, strlen(name)))
        return vv_fail(VARVE_NOT_FOUND, "%.80s: names that begin with " VV_RESERVED_PREFIX " are varve's own",
                       name);
    const char *near = near_export(&guest->code->plan, name);
    return vv_fail(VARVE_NOT_FOUND, "the module exports no function %.80s%s%.80s%s", name,
                   near == NULL ? "" : " (did you mean ", near == NULL ? "" : near, near == NULL ? "" : "?)");
}

/* ---- Hooks ---------------------------------------------------------------------------------------- */

static size_t parked_count(const struct vv_guests *guests)
{
    size_t count = 0;

    for (const struct varve_guest *guest = guests->all; guest != NULL; guest = guest->next)
        count += guest->working == NULL;
    return count;
}

static void discard(void *context, struct vv_working *working)
{
    struct vv_guests *guests = context;
    struct varve_guest *guest = working->guest;

    if (guest == NULL)
        return;
    if (guest->running > 0) {
        guest->stale = true;
        return;
    }
    if (!goes_back_in_place(guest) || parked_count(guests) >= PARKED_MAX) {
        vv_guest_drop(guest);
        return;
    }
    guest->changed = guest->stale = false;
    guest->working->guest = NULL;
    guest->working = NULL;
}

static void on_savepoint(void *context, uint32_t depth)
{
    struct vv_guests *guests = context;

    if (depth >= guests->mark_count) {
        if (guests->effect_count == 0)
            return; /* a mark that is not there counts as 0 */
        if (vv_resize(&guests->marks, depth + 1, sizeof *guests->marks) != VARVE_OK) {
            vv_session_poison(guests->session, VARVE_MEMORY);
            return;
        }
        for (size_t i = guests->mark_count; i <= depth; i++)
            guests->marks[i] = 0;
        guests->mark_count = depth + 1;
    }
    guests->marks[depth] = guests->effect_count;
}

/* End the effects from `first` on, the last first when they are undone. */
static void end_effects(struct vv_guests *guests, size_t first, bool kept)
{
    const size_t count = guests->effect_count;

    guests->effect_count = first;
    for (size_t i = first; i < count; i++) {
        const struct vv_effect *effect = &guests->effects[kept ? i : count - 1 - (i - first)];
        effect->done(effect->context, kept);
    }
}

static void on_rollback(void *context, uint32_t depth)
{
    struct vv_guests *guests = context;
    const size_t mark = depth < guests->mark_count ? guests->marks[depth] : 0;

    if (mark < guests->effect_count)
        end_effects(guests, mark, false);
}

static void on_release(void *context, uint32_t depth)
{
    struct vv_guests *guests = context;

    for (size_t i = depth; i < guests->mark_count; i++)
        guests->marks[i] = 0;
}

static void on_outcome(void *context, bool kept)
{
    struct vv_guests *guests = context;

    on_release(guests, 0);
    end_effects(guests, 0, kept);
}

static void on_end(void *context)
{
    struct vv_guests *guests = context;

    end_effects(guests, 0, false);
    while (guests->all != NULL)
        vv_guest_drop(guests->all);
    vv_stack_give(&guests->vm->stacks, guests->stack);
    vv_record_release(&guests->record);
    for (size_t i = 0; i < guests->input_count; i++) {
        vv_free((void *)(uintptr_t)guests->inputs[i].name);
        vv_free((void *)(uintptr_t)guests->inputs[i].data);
    }
    for (size_t i = 0; i < guests->lent_count; i++)
        vv_code_drop(guests->lent[i]);
    vv_free(guests->lent);
    vv_free(guests->inputs);
    vv_free(guests->effects);
    vv_free(guests->marks);
    vv_free(guests);
}

varve_status vv_guests_lend(struct vv_guests *guests, struct vv_code *code)
{
    varve_status rc = VARVE_OK;

    for (size_t i = 0; i < guests->lent_count; i++) {
        if (guests->lent[i] == code)
            return VARVE_OK;
    }
    TRY(vv_resize(&guests->lent, guests->lent_count + 1, sizeof *guests->lent));
    atomic_fetch_add(&code->holders, 1);
    guests->lent[guests->lent_count++] = code;
out:
    return rc;
}

static varve_status copy_inputs(struct vv_guests *guests, const varve_input *inputs, size_t count)
{
    varve_status rc = VARVE_OK;

    TRY(vv_alloc(&guests->inputs, count, sizeof *guests->inputs));
    for (size_t i = 0; i < count; i++) {
        char *name = NULL;
        void *data = NULL;
        TRY(vv_strdup(&name, inputs[i].name));
        guests->inputs[guests->input_count++] = (varve_input){ .name = name };
        TRY(vv_memdup(&data, inputs[i].data, inputs[i].data_size));
        guests->inputs[i].data = data;
        guests->inputs[i].data_size = inputs[i].data_size;
    }
out:
    return rc;
}

varve_status vv_guests_attach(varve_session *session, varve_vm *vm, const varve_session_options *options)
{
    varve_status rc = VARVE_OK;
    struct vv_guests *guests = NULL;

    TRY(vv_alloc(&guests, 1, sizeof *guests));
    guests->session = session;
    guests->vm = vm;
    guests->limits = vv_limits_of(options->limits, &vm->limits);
    guests->output = options->output;
    guests->context = options->context;
    if (options->input_count > 0)
        TRY(copy_inputs(guests, options->inputs, options->input_count));
    atomic_store(&vm->used, true);
    const struct vv_guest_hooks hooks = { .context = guests,
                                          .capture = capture,
                                          .discard = discard,
                                          .savepoint = on_savepoint,
                                          .rollback = on_rollback,
                                          .release = on_release,
                                          .outcome = on_outcome,
                                          .end = on_end };
    vv_session_set_hooks(session, &hooks);
    vv_session_set_engine(session, vv_engine_version());
out:
    if (rc != VARVE_OK && guests != NULL)
        on_end(guests);
    return rc;
}

void vv_guests_interrupt(struct vv_guests *guests)
{
    int running = VV_RUNNING;

    if (atomic_compare_exchange_strong(&guests->running, &running, VV_INTERRUPTED))
        vv_engine_tick(guests->vm->engine);
}

varve_status vv_guests_on_outcome(struct vv_guests *guests, void (*done)(void *, bool), void *context)
{
    varve_status rc = VARVE_OK;

    if (guests->effect_count == guests->effect_capacity) {
        const size_t wanted = guests->effect_capacity == 0 ? 16 : 2 * guests->effect_capacity;
        TRY(vv_resize(&guests->effects, wanted, sizeof *guests->effects));
        guests->effect_capacity = wanted;
    }
    guests->effects[guests->effect_count++] = (struct vv_effect){ .done = done, .context = context };
out:
    return rc;
}
