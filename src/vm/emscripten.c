/* emscripten.c - see emscripten.h. */
#include "vm/emscripten.h"

#include <locale.h>
#include <stdio.h>
#include <time.h>

enum { TEXT_SHOWN = 160, ZONE_NAME_SIZE = 17, TM_SIZE = 44 };

static varve_status answer_i32(union vv_slot *slots, int32_t value)
{
    slots[0].bits[0] = slots[0].bits[1] = 0;
    slots[0].i32 = (uint32_t)value;
    return VARVE_OK;
}

static varve_status answer_f64(union vv_slot *slots, double value)
{
    slots[0].bits[0] = slots[0].bits[1] = 0;
    slots[0].f64 = value;
    return VARVE_OK;
}

/* ---- Memory ---------------------------------------------------------------------------------------- */

static varve_status resize_heap(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    varve_guest *guest = vv_guest_of(instance);
    const uint64_t wanted = slots[0].i32, have = vv_image_size(guest->image);
    uint64_t before = 0;

    (void)context;
    const varve_status rc = wanted > have ? vv_instance_grow(instance, wanted - have, &before) : VARVE_OK;
    if (rc != VARVE_OK && rc != VARVE_LIMIT)
        return rc;
    return answer_i32(slots, rc == VARVE_OK);
}

static varve_status heap_max(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    const struct vv_wasm_range *limit = &vv_guest_of(instance)->code->plan.memory;
    const uint64_t most = UINT64_C(0x80000000);
    const uint64_t bytes = limit->has_max ? limit->max * VV_WASM_PAGE_SIZE : most;

    (void)context;
    return answer_i32(slots, (int32_t)(uint32_t)(bytes < most ? bytes : most));
}

static varve_status copy_memory(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    varve_guest *guest = vv_guest_of(instance);
    const uint32_t size = slots[2].i32;
    uint8_t *to = vv_guest_span(guest, slots[0].i32, size);
    const uint8_t *from = vv_guest_span(guest, slots[1].i32, size);

    (void)context;
    if (to == NULL || from == NULL)
        return vv_guest_bad_pointer(to == NULL ? slots[0].i32 : slots[1].i32, size);
    const varve_status rc = vv_guest_pay(guest, size);
    if (rc != VARVE_OK)
        return rc;
    memmove(to, from, size);
    return VARVE_OK; /* the old form gives `to`, which is where the result goes */
}

static varve_status nothing(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    (void)context;
    (void)instance;
    (void)slots;
    return VARVE_OK;
}

static varve_status zero(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    (void)context;
    (void)instance;
    return answer_i32(slots, 0);
}

static varve_status one(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    (void)context;
    (void)instance;
    return answer_i32(slots, 1);
}

static varve_status not_there(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    (void)context;
    (void)instance;
    return answer_i32(slots, -VV_WASI_NOSYS);
}

static varve_status random_bytes(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    varve_guest *guest = vv_guest_of(instance);
    uint8_t *out = vv_guest_span(guest, slots[0].i32, slots[1].i32);

    (void)context;
    if (out == NULL)
        return vv_guest_bad_pointer(slots[0].i32, slots[1].i32);
    const varve_status rc = varve_guest_random(guest, out, slots[1].i32);
    return rc != VARVE_OK ? rc : answer_i32(slots, 0);
}

/* ---- Ends ------------------------------------------------------------------------------------------ */

static varve_status do_abort(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    (void)context;
    (void)instance;
    (void)slots;
    return vv_fail(VARVE_PANIC, "the guest called abort");
}

static varve_status assert_fail(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    const varve_guest *guest = vv_guest_of(instance);
    char condition[TEXT_SHOWN], file[TEXT_SHOWN];

    (void)context;
    (void)vv_guest_text(guest, slots[0].i32, condition, sizeof condition);
    (void)vv_guest_text(guest, slots[1].i32, file, sizeof file);
    return vv_fail(VARVE_PANIC, "assertion failed: %s, at %s:%u", condition, file, slots[2].i32);
}

static varve_status stack_overflow(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    (void)context;
    (void)instance;
    return vv_fail(VARVE_PANIC, "the guest's own stack overflowed, at %u", slots[0].i32);
}

static varve_status do_exit(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    varve_guest *guest = vv_guest_of(instance);

    (void)context;
    guest->exited = true;
    guest->exit_code = (int32_t)slots[0].i32;
    return vv_fail(VARVE_EXITED, "the guest ended itself with code %d", guest->exit_code);
}

/* ---- Time ------------------------------------------------------------------------------------------ */

static varve_status milliseconds(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    (void)context;
    return answer_f64(slots, (double)(vv_session_time(vv_guest_of(instance)->guests->session) / 1000000));
}

/* Fields of a struct tm, as 32-bit numbers in this order; the last one, the zone's name, is left alone. */
static void put_tm(uint8_t *out, const struct tm *tm, bool local)
{
    const int fields[] = { tm->tm_sec, tm->tm_min,  tm->tm_hour, tm->tm_mday,
                           tm->tm_mon, tm->tm_year, tm->tm_wday, tm->tm_yday };

    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        vv_put_u32(out + 4 * i, (uint32_t)fields[i]);
    if (local) {
        vv_put_u32(out + 32, 0); /* no daylight saving */
        vv_put_u32(out + 36, 0); /* no offset: UTC */
    }
}

static varve_status split_time(struct vv_instance *instance, union vv_slot *slots, bool local)
{
    uint8_t *out = vv_guest_span(vv_guest_of(instance), slots[1].i32, TM_SIZE);
    const time_t when = (time_t)slots[0].i64;
    struct tm tm = { .tm_sec = 0 };

    if (out == NULL)
        return vv_guest_bad_pointer(slots[1].i32, TM_SIZE);
    if (gmtime_r(&when, &tm) == NULL)
        memset(&tm, 0, sizeof tm); /* a year beyond what it can say */
    put_tm(out, &tm, local);
    return VARVE_OK;
}

static varve_status gmtime_js(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    (void)context;
    return split_time(instance, slots, false);
}

static varve_status localtime_js(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    (void)context;
    return split_time(instance, slots, true);
}

static void take_tm(const uint8_t *in, struct tm *tm)
{
    int fields[6];

    for (size_t i = 0; i < 6; i++)
        fields[i] = (int)(int32_t)vv_get_u32(in + 4 * i);
    *tm = (struct tm){ .tm_sec = fields[0],
                       .tm_min = fields[1],
                       .tm_hour = fields[2],
                       .tm_mday = fields[3],
                       .tm_mon = fields[4],
                       .tm_year = fields[5] };
}

/* Seconds since 1970 of a broken-down time, which is put in order on the way. */
static varve_status mktime_js(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    uint8_t *at = vv_guest_span(vv_guest_of(instance), slots[0].i32, TM_SIZE);
    struct tm tm;

    (void)context;
    if (at == NULL)
        return vv_guest_bad_pointer(slots[0].i32, TM_SIZE);
    take_tm(at, &tm);
    const int64_t seconds = timegm(&tm);
    put_tm(at, &tm, true);
    slots[0].bits[0] = slots[0].bits[1] = 0;
    slots[0].i64 = (uint64_t)seconds;
    return VARVE_OK;
}

/* The zone is UTC: its offset and daylight flag are 0. Newer builds also give room for two names. */
static varve_status tzset_js(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    const varve_guest *guest = vv_guest_of(instance);
    const struct vv_builtin *builtin = context;
    uint8_t *offset = vv_guest_span(guest, slots[0].i32, 4), *saving = vv_guest_span(guest, slots[1].i32, 4);
    const bool names = strcmp(builtin->signature, "i32 i32 i32 i32") == 0;

    if (offset == NULL || saving == NULL)
        return vv_guest_bad_pointer(slots[0].i32, 4);
    vv_put_u32(offset, 0);
    vv_put_u32(saving, 0);
    for (size_t i = 2; names && i < 4; i++) {
        uint8_t *name = vv_guest_span(guest, slots[i].i32, ZONE_NAME_SIZE);
        if (name == NULL)
            return vv_guest_bad_pointer(slots[i].i32, ZONE_NAME_SIZE);
        memcpy(name, "UTC", 4);
    }
    return VARVE_OK;
}

/* How many bytes the conversion at `format`, which begins with '%', has; its letter goes to `letter`. */
static size_t conversion_size(const char *format, char *letter)
{
    size_t size = 1;

    size += strspn(format + size, "_-0^#+EO123456789");
    *letter = format[size];
    return *letter != '\0' ? size + 1 : size;
}

/* strftime of the C locale and of UTC, whatever those of the process are: one conversion at a time, because the
 * library's %s asks the process's zone. The size, or 0: no room. */
static size_t format_time(const char *format, struct tm *tm, locale_t locale, char *text, size_t room)
{
    char one[TEXT_SHOWN], letter = '\0';
    size_t used = 0;

    while (*format != '\0') {
        const size_t size = *format == '%' ? conversion_size(format, &letter) : strcspn(format, "%");
        size_t made = 0;
        (void)snprintf(one, sizeof one, "%.*s", (int)size, format);
        if (*format == '%' && letter == 's') {
            struct tm copy = *tm;
            made = (size_t)snprintf(text + used, room - used, "%lld", (long long)timegm(&copy));
        } else {
            made = strftime_l(text + used, room - used, one, tm, locale);
            if (made == 0 && (*format != '%' || strchr("pPZ", letter) == NULL))
                return 0;
        }
        if (made >= room - used)
            return 0;
        used += made;
        format += size;
    }
    return used;
}

static varve_status do_strftime(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    varve_guest *guest = vv_guest_of(instance);
    const uint8_t *in = vv_guest_span(guest, slots[3].i32, TM_SIZE);
    char format[TEXT_SHOWN], text[512];
    struct tm tm;
    uint8_t *out = vv_guest_span(guest, slots[0].i32, slots[1].i32);

    (void)context;
    if (in == NULL || out == NULL || !vv_guest_text(guest, slots[2].i32, format, sizeof format))
        return vv_guest_bad_pointer(slots[0].i32, slots[1].i32);
    take_tm(in, &tm);
    tm.tm_wday = (int)(vv_get_u32(in + 24) % 7);
    tm.tm_yday = (int)(vv_get_u32(in + 28) % 366);
    tm.tm_zone = "UTC";
    const varve_status paid = vv_guest_pay(guest, sizeof text);
    if (paid != VARVE_OK)
        return paid;
    locale_t locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (locale == (locale_t)0)
        return vv_fail(VARVE_MEMORY, "out of memory for the C locale");
    const size_t size = format_time(format, &tm, locale, text, sizeof text);
    freelocale(locale);
    if (size >= slots[1].i32)
        return answer_i32(slots, 0);
    memcpy(out, text, size);
    out[size] = '\0';
    return answer_i32(slots, (int32_t)size);
}

/* ---- setjmp and longjmp ------------------------------------------------------------------------------ */

static varve_status throw_longjmp(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    (void)context;
    (void)slots;
    vv_guest_of(instance)->jumping = true;
    return vv_fail(VARVE_TRAP, "longjmp was called and no setjmp waits for it");
}

static const struct vv_lookup *either(varve_guest *guest, const char *name, const char *other)
{
    const struct vv_lookup *found = vv_guest_find(guest, name);

    return found != NULL ? found : vv_guest_find(guest, other);
}

/* Call one of the guest's small helpers: at most two arguments, at most one result. */
static varve_status helper(varve_guest *guest, const char *name, const char *other, union vv_slot slots[2])
{
    const struct vv_lookup *lookup = either(guest, name, other);

    if (lookup == NULL)
        return vv_fail(VARVE_UNSUPPORTED,
                       "the module exports neither %s nor %s, which its invoke_ functions need", name, other);
    const struct vv_function function = lookup->function;
    return vv_run(guest, &function, slots, 2);
}

/* invoke_xyz(index, arguments...): the entry of the table, and a longjmp out of it becomes the threw flag. */
static varve_status invoke(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    varve_status rc = VARVE_OK;
    varve_guest *guest = vv_guest_of(instance);
    const struct vv_plan_import *import = context;
    const struct vv_signature *type = &import->signature;
    union vv_slot values[VV_HOST_VALUES_MAX], sp[2] = { { .bits = { 0 } }, { .bits = { 0 } } };
    struct vv_function function;
    const size_t takes = type->param_count - 1;
    const size_t count = takes > type->result_count ? takes : type->result_count;

    TRY(helper(guest, "stackSave", "emscripten_stack_get_current", sp));
    TRY(vv_guest_table(guest, slots[0].i32, &function));
    if (!vv_function_fits(instance, &function, type->params + 1, takes, type->results, type->result_count))
        TRY(vv_fail(VARVE_TRAP, "%.60s: entry %u of the table is a function of another type",
                    import->name.data, slots[0].i32));
    memcpy(values, slots + 1, takes * sizeof *values);
    guest->jumping = false;
    rc = vv_run(guest, &function, values, count);
    if (rc == VARVE_OK) {
        memcpy(slots, values, type->result_count * sizeof *values);
        return VARVE_OK;
    }
    if (rc != VARVE_TRAP || !guest->jumping)
        goto out;
    guest->jumping = false;
    sp[1].i64 = 0;
    TRY(helper(guest, "stackRestore", "_emscripten_stack_restore", sp));
    union vv_slot threw[2] = { { .i32 = 1 }, { .i32 = 0 } };
    TRY(helper(guest, "setThrew", "_setThrew", threw));
    memset(slots, 0, type->result_count * sizeof *slots);
out:
    return rc;
}

/* ---- System calls ---------------------------------------------------------------------------------- */

/* No file exists and no descriptor is open. The name says which of the two a call would have met first. */
static varve_status system_call(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    static const struct {
        const char *name;
        int number;
    } known[] = {
        { "openat", VV_WASI_NOENT },     { "stat64", VV_WASI_NOENT },     { "lstat64", VV_WASI_NOENT },
        { "newfstatat", VV_WASI_NOENT }, { "faccessat", VV_WASI_NOENT },  { "readlinkat", VV_WASI_NOENT },
        { "unlinkat", VV_WASI_NOENT },   { "rmdir", VV_WASI_NOENT },      { "renameat", VV_WASI_NOENT },
        { "mkdirat", VV_WASI_NOENT },    { "chmod", VV_WASI_NOENT },      { "utimensat", VV_WASI_NOENT },
        { "fcntl64", VV_WASI_BADF },     { "ioctl", VV_WASI_NOTTY },      { "fstat64", VV_WASI_BADF },
        { "fchmod", VV_WASI_BADF },      { "ftruncate64", VV_WASI_BADF }, { "fchown32", VV_WASI_BADF },
        { "dup3", VV_WASI_BADF },        { "getdents64", VV_WASI_BADF },  { "fdatasync", VV_WASI_BADF },
    };
    const char *name = context;

    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(known[i].name, name) == 0)
            return answer_i32(slots, -known[i].number);
    }
    if (strcmp(name, "getcwd") == 0) {
        uint8_t *out = vv_guest_span(vv_guest_of(instance), slots[0].i32, slots[1].i32);
        if (out == NULL || slots[1].i32 < 2)
            return answer_i32(slots, -(out == NULL ? VV_WASI_FAULT : VV_WASI_RANGE));
        memcpy(out, "/", 2);
        return answer_i32(slots, 2);
    }
    return answer_i32(slots, -VV_WASI_NOSYS);
}

/* ---- Finding ---------------------------------------------------------------------------------------- */

static const struct vv_builtin functions[] = {
    { "__assert_fail", "i32 i32 i32 i32", assert_fail },
    { "__handle_stack_overflow", "i32", stack_overflow },
    { "_abort_js", "", do_abort },
    { "_emscripten_get_now_is_monotonic", "-> i32", one },
    { "_emscripten_memcpy_js", "i32 i32 i32", copy_memory },
    { "_emscripten_throw_longjmp", "", throw_longjmp },
    { "_gmtime_js", "i64 i32", gmtime_js },
    { "_localtime_js", "i64 i32", localtime_js },
    { "_mktime_js", "i32 -> i64", mktime_js },
    { "_mmap_js", "i32 i32 i32 i32 i64 i32 i32 -> i32", not_there },
    { "_munmap_js", "i32 i32 i32 i32 i32 i64 -> i32", not_there },
    { "_timegm_js", "i32 -> i64", mktime_js },
    { "_tzset_js", "i32 i32 i32 i32", tzset_js },
    { "_tzset_js", "i32 i32 i32", tzset_js },
    { "abort", "", do_abort },
    { "emscripten_date_now", "-> f64", milliseconds },
    { "emscripten_get_heap_max", "-> i32", heap_max },
    { "emscripten_get_now", "-> f64", milliseconds },
    { "emscripten_memcpy_big", "i32 i32 i32", copy_memory },
    { "emscripten_memcpy_big", "i32 i32 i32 -> i32", copy_memory },
    { "emscripten_memcpy_js", "i32 i32 i32", copy_memory },
    { "emscripten_notify_memory_growth", "i32", nothing },
    { "emscripten_resize_heap", "i32 -> i32", resize_heap },
    { "exit", "i32", do_exit },
    { "getentropy", "i32 i32 -> i32", random_bytes },
    { "strftime", "i32 i32 i32 i32 -> i32", do_strftime },
    { "system", "i32 -> i32", zero },
};

static bool begins(const struct vv_text *name, const char *prefix)
{
    return name->size > strlen(prefix) && memcmp(name->data, prefix, strlen(prefix)) == 0;
}

static bool all_integers(const struct vv_signature *type)
{
    for (uint32_t i = 0; i < type->param_count; i++) {
        if (type->params[i] != VARVE_I32 && type->params[i] != VARVE_I64)
            return false;
    }
    return type->result_count == 1 && type->results[0] == VARVE_I32;
}

static void answer_with(struct vv_answer *answer, vv_outside_fn call, const void *context)
{
    *answer = (struct vv_answer){ .outside = { .call = call, .context = (void *)(uintptr_t)context },
                                  .by = "emscripten" };
}

varve_status vv_emscripten_answer(const struct vv_plan_import *import, struct vv_answer *answer)
{
    static const char syscall_prefix[] = "__syscall_";
    varve_status rc = VARVE_OK;

    if (import->module.size != 3 || memcmp(import->module.data, "env", 3) != 0)
        return VARVE_OK;
    if (begins(&import->name, syscall_prefix) && all_integers(&import->signature)) {
        answer_with(answer, system_call, import->name.data + strlen(syscall_prefix));
        return VARVE_OK;
    }
    if (begins(&import->name, "invoke_") && import->signature.numbers && import->signature.param_count >= 1 &&
        import->signature.params[0] == VARVE_I32 && import->signature.param_count <= VV_HOST_VALUES_MAX &&
        import->signature.result_count <= 1) {
        answer_with(answer, invoke, import);
        return VARVE_OK;
    }
    /* Some had another signature in other years: the first that fits, else the words of the last. */
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        if (vv_builtin_find(&functions[i], 1, &import->name) == NULL)
            continue;
        rc = vv_builtin_check(&functions[i], import);
        if (rc == VARVE_OK) {
            answer_with(answer, functions[i].call, &functions[i]);
            return VARVE_OK;
        }
    }
    return rc;
}
