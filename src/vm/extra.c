/* extra.c - see extra.h, which gives the bytes. */
#include "vm/extra.h"

#include "base/alloc.h"

enum { FORMAT = 1, TRAP_MISSING = 1, HAS_VALUES = 2 };

static size_t count_texts(const char *const *texts)
{
    size_t count = 0;

    while (texts != NULL && texts[count] != NULL)
        count++;
    return count;
}

static void put_texts(struct vv_bytes *out, const char *const *texts)
{
    const size_t count = count_texts(texts);

    vv_bytes_varint(out, count);
    for (size_t i = 0; i < count; i++)
        vv_bytes_blob(out, texts[i], strlen(texts[i]));
}

static void put_values(struct vv_bytes *out, const struct vv_import_value *values, size_t count)
{
    if (count > 0)
        vv_bytes_varint(out, count);
    for (size_t i = 0; i < count; i++) {
        vv_bytes_blob(out, values[i].module, strlen(values[i].module));
        vv_bytes_blob(out, values[i].name, strlen(values[i].name));
        vv_bytes_u8(out, (uint8_t)values[i].value.type);
        vv_bytes_put(out, values[i].value.bits, sizeof values[i].value.bits);
    }
}

varve_status vv_extra_encode(bool trap_missing, const char *const *args, const char *const *env,
                             const struct vv_import_value *values, size_t value_count, struct vv_bytes *out)
{
    const size_t arg_count = count_texts(args), env_count = count_texts(env);

    if (!trap_missing && arg_count == 0 && env_count == 0 && value_count == 0)
        return VARVE_OK;
    if (arg_count > VV_EXTRA_TEXTS_MAX || env_count > VV_EXTRA_TEXTS_MAX || value_count > VV_EXTRA_TEXTS_MAX)
        return vv_fail(VARVE_MISUSE,
                       "%zu arguments, %zu environment variables, %zu globals: at most %d of each", arg_count,
                       env_count, value_count, VV_EXTRA_TEXTS_MAX);
    vv_bytes_u8(out, FORMAT);
    vv_bytes_u8(out, (uint8_t)((trap_missing ? TRAP_MISSING : 0) | (value_count > 0 ? HAS_VALUES : 0)));
    put_texts(out, args);
    put_texts(out, env);
    put_values(out, values, value_count);
    if (out->size > VV_EXTRA_MAX)
        return vv_fail(VARVE_MISUSE, "arguments, environment and globals of %zu bytes: at most %d", out->size,
                       VV_EXTRA_MAX);
    return vv_bytes_done(out);
}

static varve_status take_text(struct vv_reader *reader, char **text)
{
    varve_status rc = VARVE_OK;
    size_t size = 0;
    const uint8_t *bytes = vv_reader_blob(reader, VV_EXTRA_MAX, &size);

    if (bytes == NULL || memchr(bytes, 0, size) != NULL)
        return vv_fail(VARVE_CORRUPT, "a module's descriptor holds a text that is none");
    TRY(vv_alloc(text, size + 1, 1));
    memcpy(*text, bytes, size);
out:
    return rc;
}

static varve_status take_count(struct vv_reader *reader, size_t *count)
{
    const uint64_t claimed = vv_reader_varint(reader);

    if (claimed > VV_EXTRA_TEXTS_MAX || claimed > vv_reader_left(reader))
        return vv_fail(VARVE_CORRUPT, "a module's descriptor claims %llu entries",
                       (unsigned long long)claimed);
    *count = (size_t)claimed;
    return VARVE_OK;
}

static varve_status take_texts(struct vv_reader *reader, char ***texts, size_t *count)
{
    varve_status rc = VARVE_OK;
    size_t claimed = 0;

    TRY(take_count(reader, &claimed));
    TRY(vv_alloc(texts, claimed, sizeof(char *)));
    for (; *count < claimed; (*count)++)
        TRY(take_text(reader, &(*texts)[*count]));
out:
    return rc;
}

static varve_status take_value(struct vv_reader *reader, struct vv_import_value *value)
{
    static const size_t sizes[] = {
        [VARVE_I32] = 4, [VARVE_I64] = 8, [VARVE_F32] = 4, [VARVE_F64] = 8, [VARVE_V128] = 16
    };
    varve_status rc = VARVE_OK;
    char *module = NULL, *name = NULL;

    rc = take_text(reader, &module);
    value->module = module;
    TRY(rc);
    rc = take_text(reader, &name);
    value->name = name;
    TRY(rc);
    value->value.type = (varve_type)vv_reader_u8(reader);
    value->value.function = VV_WASM_NONE;
    vv_reader_copy(reader, value->value.bits, sizeof value->value.bits);
    if (!vv_wasm_is_number(value->value.type))
        return vv_fail(VARVE_CORRUPT, "a module's descriptor holds a value without a type");
    for (size_t i = sizes[value->value.type]; i < sizeof value->value.bits; i++)
        reader->bad |= value->value.bits[i] != 0;
out:
    return rc;
}

static varve_status take_values(struct vv_reader *reader, struct vv_extra *extra)
{
    varve_status rc = VARVE_OK;
    size_t claimed = 0;

    TRY(take_count(reader, &claimed));
    if (claimed == 0)
        return vv_fail(VARVE_CORRUPT, "a module's descriptor promises values and has none");
    TRY(vv_alloc(&extra->values, claimed, sizeof *extra->values));
    for (size_t i = 0; i < claimed; i++) {
        extra->value_count++; /* so that half a value is released too */
        TRY(take_value(reader, &extra->values[i]));
    }
out:
    return rc;
}

varve_status vv_extra_decode(const void *bytes, size_t size, struct vv_extra *extra)
{
    varve_status rc = VARVE_OK;
    struct vv_reader reader = vv_reader_of(bytes, size);

    *extra = (struct vv_extra){ .args = NULL };
    if (size == 0)
        return VARVE_OK;
    const uint8_t format = vv_reader_u8(&reader), flags = vv_reader_u8(&reader);
    if (format > FORMAT)
        return vv_fail(VARVE_NEWER, "a module's descriptor of format %u: this build knows %d", format,
                       FORMAT);
    if (size > VV_EXTRA_MAX || format == 0 || flags > (TRAP_MISSING | HAS_VALUES))
        return vv_fail(VARVE_CORRUPT, "a module's descriptor is not one");
    extra->trap_missing = (flags & TRAP_MISSING) != 0;
    TRY(take_texts(&reader, &extra->args, &extra->arg_count));
    TRY(take_texts(&reader, &extra->env, &extra->env_count));
    if ((flags & HAS_VALUES) != 0)
        TRY(take_values(&reader, extra));
    TRY(vv_reader_done(&reader, "a module's descriptor"));
    if (flags == 0 && extra->arg_count == 0 && extra->env_count == 0)
        rc = vv_fail(VARVE_CORRUPT, "a module's descriptor says nothing: then it is empty");
out:
    if (rc != VARVE_OK)
        vv_extra_release(extra);
    return rc;
}

static void free_texts(char **texts, size_t count)
{
    for (size_t i = 0; i < count; i++)
        vv_free(texts[i]);
    vv_free(texts);
}

void vv_extra_release(struct vv_extra *extra)
{
    free_texts(extra->args, extra->arg_count);
    free_texts(extra->env, extra->env_count);
    for (size_t i = 0; i < extra->value_count; i++) {
        vv_free((void *)(uintptr_t)extra->values[i].module);
        vv_free((void *)(uintptr_t)extra->values[i].name);
    }
    vv_free(extra->values);
    *extra = (struct vv_extra){ .args = NULL };
}
