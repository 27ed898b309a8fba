/* wasi.c - see wasi.h. Each function gets its arguments in slots and leaves its errno in slots[0].
 *
 * A bad pointer is answered with EFAULT, as an operating system would; nothing is written then. */
#include "vm/wasi.h"

#include <stdio.h>

enum {
    STDIN = 0,
    STDOUT = 1,
    STDERR = 2,
    CHARACTER_DEVICE = 2,
    RIGHT_READ = 1 << 1,
    RIGHT_WRITE = 1 << 6,
    SUBSCRIPTION_SIZE = 48,
    EVENT_SIZE = 32,
    IOVEC_SIZE = 8
};

static varve_status answer_errno(union vv_slot *slots, enum vv_wasi_errno number)
{
    slots[0].bits[0] = slots[0].bits[1] = 0;
    slots[0].i32 = number;
    return VARVE_OK;
}

/* ---- Arguments and environment -------------------------------------------------------------------- */

static varve_status texts_sizes(varve_guest *guest, char **texts, size_t count, union vv_slot *slots)
{
    uint8_t *count_out = vv_guest_span(guest, slots[0].i32, 4),
            *size_out = vv_guest_span(guest, slots[1].i32, 4);
    size_t size = 0;

    if (count_out == NULL || size_out == NULL)
        return answer_errno(slots, VV_WASI_FAULT);
    for (size_t i = 0; i < count; i++)
        size += strlen(texts[i]) + 1;
    const varve_status rc = vv_guest_pay(guest, size);
    if (rc != VARVE_OK)
        return rc;
    vv_put_u32(count_out, (uint32_t)count);
    vv_put_u32(size_out, (uint32_t)size);
    return answer_errno(slots, VV_WASI_OK);
}

static varve_status texts_get(varve_guest *guest, char **texts, size_t count, union vv_slot *slots)
{
    uint32_t at = slots[1].i32;
    uint8_t *pointers = vv_guest_span(guest, slots[0].i32, 4 * count);

    if (pointers == NULL)
        return answer_errno(slots, VV_WASI_FAULT);
    for (size_t i = 0; i < count; i++) {
        const size_t size = strlen(texts[i]) + 1;
        uint8_t *out = vv_guest_span(guest, at, size);
        if (out == NULL)
            return answer_errno(slots, VV_WASI_FAULT);
        const varve_status rc = vv_guest_pay(guest, size);
        if (rc != VARVE_OK)
            return rc;
        memcpy(out, texts[i], size);
        vv_put_u32(pointers + 4 * i, at);
        at += (uint32_t)size;
    }
    return answer_errno(slots, VV_WASI_OK);
}

static varve_status args_sizes_get(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    varve_guest *guest = vv_guest_of(instance);

    (void)context;
    return texts_sizes(guest, guest->extra.args, guest->extra.arg_count, slots);
}

static varve_status args_get(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    varve_guest *guest = vv_guest_of(instance);

    (void)context;
    return texts_get(guest, guest->extra.args, guest->extra.arg_count, slots);
}

static varve_status environ_sizes_get(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    varve_guest *guest = vv_guest_of(instance);

    (void)context;
    return texts_sizes(guest, guest->extra.env, guest->extra.env_count, slots);
}

static varve_status environ_get(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    varve_guest *guest = vv_guest_of(instance);

    (void)context;
    return texts_get(guest, guest->extra.env, guest->extra.env_count, slots);
}

/* ---- Time and chance ------------------------------------------------------------------------------ */

enum { CLOCKS = 4 /* realtime, monotonic, process, thread */ };

static varve_status clock_res_get(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    uint8_t *out = vv_guest_span(vv_guest_of(instance), slots[1].i32, 8);

    (void)context;
    if (slots[0].i32 >= CLOCKS)
        return answer_errno(slots, VV_WASI_INVAL);
    if (out == NULL)
        return answer_errno(slots, VV_WASI_FAULT);
    vv_put_u64(out, 1);
    return answer_errno(slots, VV_WASI_OK);
}

static varve_status clock_time_get(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    varve_guest *guest = vv_guest_of(instance);
    uint8_t *out = vv_guest_span(guest, slots[2].i32, 8);

    (void)context;
    if (slots[0].i32 >= CLOCKS)
        return answer_errno(slots, VV_WASI_INVAL);
    if (out == NULL)
        return answer_errno(slots, VV_WASI_FAULT);
    vv_put_u64(out, (uint64_t)vv_session_time(guest->guests->session));
    return answer_errno(slots, VV_WASI_OK);
}

static varve_status random_get(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    varve_guest *guest = vv_guest_of(instance);
    uint8_t *out = vv_guest_span(guest, slots[0].i32, slots[1].i32);

    (void)context;
    if (out == NULL)
        return answer_errno(slots, VV_WASI_FAULT);
    const varve_status rc = varve_guest_random(guest, out, slots[1].i32);
    return rc != VARVE_OK ? rc : answer_errno(slots, VV_WASI_OK);
}

/* ---- Descriptors ---------------------------------------------------------------------------------- */

static bool is_standard(uint32_t fd)
{
    return fd <= STDERR;
}

static varve_status fd_write(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    varve_status rc = VARVE_OK;
    varve_guest *guest = vv_guest_of(instance);
    const uint32_t fd = slots[0].i32, count = slots[2].i32;
    const uint8_t *vectors = vv_guest_span(guest, slots[1].i32, (uint64_t)count * IOVEC_SIZE);
    uint8_t *written = vv_guest_span(guest, slots[3].i32, 4);
    uint64_t total = 0;

    (void)context;
    if (fd != STDOUT && fd != STDERR)
        return answer_errno(slots, VV_WASI_BADF);
    if (vectors == NULL || written == NULL)
        return answer_errno(slots, VV_WASI_FAULT);
    TRY(vv_guest_pay(guest, (uint64_t)count * IOVEC_SIZE));
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t size = vv_get_u32(vectors + IOVEC_SIZE * i + 4);
        if (vv_guest_span(guest, vv_get_u32(vectors + IOVEC_SIZE * i), size) == NULL)
            return answer_errno(slots, VV_WASI_FAULT);
        total += size;
    }
    TRY(vv_guest_pay(guest, total));
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t size = vv_get_u32(vectors + IOVEC_SIZE * i + 4);
        if (size > 0)
            TRY(vv_record_print(&guest->guests->record, &guest->id, (int)fd,
                                vv_guest_span(guest, vv_get_u32(vectors + IOVEC_SIZE * i), size), size));
    }
    vv_put_u32(written, (uint32_t)total);
    rc = answer_errno(slots, VV_WASI_OK);
out:
    return rc;
}

static varve_status fd_read(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    uint8_t *got = vv_guest_span(vv_guest_of(instance), slots[3].i32, 4);

    (void)context;
    if (slots[0].i32 != STDIN)
        return answer_errno(slots, VV_WASI_BADF);
    if (got == NULL)
        return answer_errno(slots, VV_WASI_FAULT);
    vv_put_u32(got, 0); /* the end */
    return answer_errno(slots, VV_WASI_OK);
}

static varve_status fd_fdstat_get(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    uint8_t *out = vv_guest_span(vv_guest_of(instance), slots[1].i32, 24);

    (void)context;
    if (!is_standard(slots[0].i32))
        return answer_errno(slots, VV_WASI_BADF);
    if (out == NULL)
        return answer_errno(slots, VV_WASI_FAULT);
    memset(out, 0, 24);
    out[0] = CHARACTER_DEVICE;
    vv_put_u64(out + 8, slots[0].i32 == STDIN ? RIGHT_READ : RIGHT_WRITE);
    return answer_errno(slots, VV_WASI_OK);
}

static varve_status fd_filestat_get(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    uint8_t *out = vv_guest_span(vv_guest_of(instance), slots[1].i32, 64);

    (void)context;
    if (!is_standard(slots[0].i32))
        return answer_errno(slots, VV_WASI_BADF);
    if (out == NULL)
        return answer_errno(slots, VV_WASI_FAULT);
    memset(out, 0, 64);
    out[16] = CHARACTER_DEVICE;
    return answer_errno(slots, VV_WASI_OK);
}

/* Calls that change nothing of a standard stream and fail on every other descriptor. */
static varve_status standard_only(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    (void)context;
    (void)instance;
    return answer_errno(slots, is_standard(slots[0].i32) ? VV_WASI_OK : VV_WASI_BADF);
}

static varve_status fd_seek(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    (void)context;
    (void)instance;
    return answer_errno(slots, is_standard(slots[0].i32) ? VV_WASI_SPIPE : VV_WASI_BADF);
}

static varve_status bad_descriptor(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    (void)context;
    (void)instance;
    return answer_errno(slots, VV_WASI_BADF);
}

/* ---- The rest --------------------------------------------------------------------------------------- */

/* Every subscription has happened: time stands still, so a wait is over at once. */
static varve_status poll_oneoff(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    varve_guest *guest = vv_guest_of(instance);
    const uint32_t count = slots[2].i32;
    const uint8_t *in = vv_guest_span(guest, slots[0].i32, (uint64_t)count * SUBSCRIPTION_SIZE);
    uint8_t *out = vv_guest_span(guest, slots[1].i32, (uint64_t)count * EVENT_SIZE);
    uint8_t *happened = vv_guest_span(guest, slots[3].i32, 4);

    (void)context;
    if (count == 0)
        return answer_errno(slots, VV_WASI_INVAL);
    if (in == NULL || out == NULL || happened == NULL)
        return answer_errno(slots, VV_WASI_FAULT);
    const varve_status rc = vv_guest_pay(guest, (uint64_t)count * EVENT_SIZE);
    if (rc != VARVE_OK)
        return rc;
    for (uint32_t i = 0; i < count; i++) {
        uint8_t event[EVENT_SIZE] = { 0 };
        memcpy(event, in + (size_t)SUBSCRIPTION_SIZE * i, 8); /* the user's data */
        event[10] = in[(size_t)SUBSCRIPTION_SIZE * i + 8];    /* what was waited for */
        memcpy(out + (size_t)EVENT_SIZE * i, event, EVENT_SIZE);
    }
    vv_put_u32(happened, count);
    return answer_errno(slots, VV_WASI_OK);
}

static varve_status do_sched_yield(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    (void)context;
    (void)instance;
    return answer_errno(slots, VV_WASI_OK);
}

static varve_status proc_exit(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    varve_guest *guest = vv_guest_of(instance);

    (void)context;
    guest->exited = true;
    guest->exit_code = (int32_t)slots[0].i32;
    return vv_fail(VARVE_EXITED, "the guest ended itself with code %d", guest->exit_code);
}

static varve_status proc_raise(void *context, struct vv_instance *instance, union vv_slot *slots)
{
    (void)context;
    (void)instance;
    return vv_fail(VARVE_PANIC, "the guest raised signal %u", slots[0].i32);
}

static const struct vv_builtin functions[] = {
    { "args_get", "i32 i32 -> i32", args_get },
    { "args_sizes_get", "i32 i32 -> i32", args_sizes_get },
    { "clock_res_get", "i32 i32 -> i32", clock_res_get },
    { "clock_time_get", "i32 i64 i32 -> i32", clock_time_get },
    { "environ_get", "i32 i32 -> i32", environ_get },
    { "environ_sizes_get", "i32 i32 -> i32", environ_sizes_get },
    { "fd_advise", "i32 i64 i64 i32 -> i32", fd_seek },
    { "fd_allocate", "i32 i64 i64 -> i32", bad_descriptor },
    { "fd_close", "i32 -> i32", standard_only },
    { "fd_datasync", "i32 -> i32", standard_only },
    { "fd_fdstat_get", "i32 i32 -> i32", fd_fdstat_get },
    { "fd_fdstat_set_flags", "i32 i32 -> i32", standard_only },
    { "fd_fdstat_set_rights", "i32 i64 i64 -> i32", standard_only },
    { "fd_filestat_get", "i32 i32 -> i32", fd_filestat_get },
    { "fd_filestat_set_size", "i32 i64 -> i32", bad_descriptor },
    { "fd_filestat_set_times", "i32 i64 i64 i32 -> i32", bad_descriptor },
    { "fd_pread", "i32 i32 i32 i64 i32 -> i32", fd_seek },
    { "fd_prestat_dir_name", "i32 i32 i32 -> i32", bad_descriptor },
    { "fd_prestat_get", "i32 i32 -> i32", bad_descriptor },
    { "fd_pwrite", "i32 i32 i32 i64 i32 -> i32", fd_seek },
    { "fd_read", "i32 i32 i32 i32 -> i32", fd_read },
    { "fd_readdir", "i32 i32 i32 i64 i32 -> i32", bad_descriptor },
    { "fd_renumber", "i32 i32 -> i32", bad_descriptor },
    { "fd_seek", "i32 i64 i32 i32 -> i32", fd_seek },
    { "fd_sync", "i32 -> i32", standard_only },
    { "fd_tell", "i32 i32 -> i32", fd_seek },
    { "fd_write", "i32 i32 i32 i32 -> i32", fd_write },
    { "path_create_directory", "i32 i32 i32 -> i32", bad_descriptor },
    { "path_filestat_get", "i32 i32 i32 i32 i32 -> i32", bad_descriptor },
    { "path_filestat_set_times", "i32 i32 i32 i32 i64 i64 i32 -> i32", bad_descriptor },
    { "path_link", "i32 i32 i32 i32 i32 i32 i32 -> i32", bad_descriptor },
    { "path_open", "i32 i32 i32 i32 i32 i64 i64 i32 i32 -> i32", bad_descriptor },
    { "path_readlink", "i32 i32 i32 i32 i32 i32 -> i32", bad_descriptor },
    { "path_remove_directory", "i32 i32 i32 -> i32", bad_descriptor },
    { "path_rename", "i32 i32 i32 i32 i32 i32 -> i32", bad_descriptor },
    { "path_symlink", "i32 i32 i32 i32 i32 -> i32", bad_descriptor },
    { "path_unlink_file", "i32 i32 i32 -> i32", bad_descriptor },
    { "poll_oneoff", "i32 i32 i32 i32 -> i32", poll_oneoff },
    { "proc_exit", "i32", proc_exit },
    { "proc_raise", "i32 -> i32", proc_raise },
    { "random_get", "i32 i32 -> i32", random_get },
    { "sched_yield", "-> i32", do_sched_yield },
    { "sock_accept", "i32 i32 i32 -> i32", bad_descriptor },
    { "sock_recv", "i32 i32 i32 i32 i32 i32 -> i32", bad_descriptor },
    { "sock_send", "i32 i32 i32 i32 i32 -> i32", bad_descriptor },
    { "sock_shutdown", "i32 i32 -> i32", bad_descriptor },
};

/* ---- Finding ---------------------------------------------------------------------------------------- */

const struct vv_builtin *vv_builtin_find(const struct vv_builtin *list, size_t count,
                                         const struct vv_text *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strlen(list[i].name) == name->size && memcmp(list[i].name, name->data, name->size) == 0)
            return &list[i];
    }
    return NULL;
}

varve_status vv_builtin_check(const struct vv_builtin *builtin, const struct vv_plan_import *import)
{
    varve_type params[VV_HOST_VALUES_MAX], results[VV_HOST_VALUES_MAX];
    const struct vv_signature *given = &import->signature;
    uint32_t param_count = 0, result_count = 0;
    char text[100];

    const varve_status rc =
        vv_signature_parse(builtin->signature, params, &param_count, results, &result_count);
    VV_ASSERT(rc == VARVE_OK);
    if (given->param_count == param_count && given->result_count == result_count &&
        memcmp(given->params, params, param_count * sizeof *params) == 0 &&
        memcmp(given->results, results, result_count * sizeof *results) == 0)
        return VARVE_OK;
    return vv_fail(VARVE_REFUSED, "import %.60s.%.60s is \"%s\" where \"%s\" is answered",
                   import->module.data, import->name.data, vv_signature_format(given, text, sizeof text),
                   builtin->signature);
}

varve_status vv_wasi_answer(const struct vv_plan_import *import, struct vv_answer *answer)
{
    varve_status rc = VARVE_OK;
    static const char module[] = "wasi_snapshot_preview1";

    if (import->module.size != strlen(module) || memcmp(import->module.data, module, strlen(module)) != 0)
        return VARVE_OK;
    const struct vv_builtin *builtin =
        vv_builtin_find(functions, sizeof functions / sizeof *functions, &import->name);
    if (builtin == NULL)
        return VARVE_OK;
    TRY(vv_builtin_check(builtin, import));
    *answer = (struct vv_answer){ .outside = { .call = builtin->call }, .by = "wasi" };
out:
    return rc;
}
