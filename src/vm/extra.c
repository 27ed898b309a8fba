/* extra.c - see extra.h, which gives the bytes. */
#include "vm/extra.h"

#include "base/alloc.h"

enum { FORMAT = 1, TRAP_MISSING = 1 };

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

varve_status vv_extra_encode(bool trap_missing, const char *const *args, const char *const *env,
                             struct vv_bytes *out)
{
    const size_t arg_count = count_texts(args), env_count = count_texts(env);

    if (!trap_missing && arg_count == 0 && env_count == 0)
        return VARVE_OK;
    if (arg_count > VV_EXTRA_TEXTS_MAX || env_count > VV_EXTRA_TEXTS_MAX)
        return vv_fail(VARVE_MISUSE, "%zu arguments and %zu environment variables: at most %d of each",
                       arg_count, env_count, VV_EXTRA_TEXTS_MAX);
    vv_bytes_u8(out, FORMAT);
    vv_bytes_u8(out, trap_missing ? TRAP_MISSING : 0);
    put_texts(out, args);
    put_texts(out, env);
    if (out->size > VV_EXTRA_MAX)
        return vv_fail(VARVE_MISUSE, "arguments and environment of %zu bytes: at most %d", out->size,
                       VV_EXTRA_MAX);
    return vv_bytes_done(out);
}

static varve_status take_texts(struct vv_reader *reader, char ***texts, size_t *count)
{
    varve_status rc = VARVE_OK;
    const uint64_t claimed = vv_reader_varint(reader);

    if (claimed > VV_EXTRA_TEXTS_MAX || claimed > vv_reader_left(reader))
        return vv_fail(VARVE_CORRUPT, "a module's descriptor claims %llu texts", (unsigned long long)claimed);
    TRY(vv_alloc(texts, (size_t)claimed, sizeof(char *)));
    for (; *count < claimed; (*count)++) {
        size_t size = 0;
        const uint8_t *text = vv_reader_blob(reader, VV_EXTRA_MAX, &size);
        if (text == NULL || memchr(text, 0, size) != NULL)
            return vv_fail(VARVE_CORRUPT, "a module's descriptor holds a text that is none");
        TRY(vv_alloc(&(*texts)[*count], size + 1, 1));
        memcpy((*texts)[*count], text, size);
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
    if (size > VV_EXTRA_MAX || format == 0 || flags > TRAP_MISSING)
        return vv_fail(VARVE_CORRUPT, "a module's descriptor is not one");
    extra->trap_missing = flags != 0;
    TRY(take_texts(&reader, &extra->args, &extra->arg_count));
    TRY(take_texts(&reader, &extra->env, &extra->env_count));
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
    *extra = (struct vv_extra){ .args = NULL };
}
