/* The VM's part of a module's descriptor: what decodes encodes to the same bytes. */
#include <stdint.h>
#include <string.h>

#include "base/alloc.h"
#include "vm/extra.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The texts as a list that ends with NULL. */
static const char **list(char **texts, size_t count)
{
    const char **copy = NULL;

    VV_ASSERT(vv_alloc(&copy, count + 1, sizeof(char *)) == VARVE_OK);
    for (size_t i = 0; i < count; i++)
        copy[i] = texts[i];
    return copy;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vv_extra extra;
    struct vv_bytes again = VV_BYTES_NONE;
    const varve_status rc = vv_extra_decode(data, size, &extra);

    if (rc != VARVE_OK) {
        VV_ASSERT(rc == VARVE_CORRUPT || rc == VARVE_NEWER);
        return 0;
    }
    const char **args = list(extra.args, extra.arg_count), **env = list(extra.env, extra.env_count);
    VV_ASSERT(vv_extra_encode(extra.trap_missing, args, env, extra.values, extra.value_count, &again) ==
              VARVE_OK);
    VV_ASSERT(again.size == size);
    VV_ASSERT(size == 0 || memcmp(again.data, data, size) == 0);
    vv_free(args);
    vv_free(env);
    vv_bytes_release(&again);
    vv_extra_release(&extra);
    return 0;
}
