/* alloc.c - see alloc.h. A void pointer stands for "pointer to any pointer"; memcpy moves its value, because
 * C does not let a void ** alias a T **. */
#include "base/alloc.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local struct {
    unsigned left; /* allocations until the one that fails; 0: disarmed */
    bool failed;
} rehearsal;

static bool rehearse_failure(void)
{
    if (rehearsal.left == 0 || --rehearsal.left != 0)
        return false;
    rehearsal.failed = true;
    return true;
}

static varve_status out_of_memory(size_t count, size_t size)
{
    return vv_fail(VARVE_MEMORY, "out of memory: %zu x %zu bytes", count, size);
}

varve_status vv_alloc(void *pointer, size_t count, size_t size)
{
    void *block = NULL;
    size_t bytes = 0;

    /* calloc looks for the overflow too, but a sanitizer's ends the program over it. */
    if (!__builtin_mul_overflow(count, size, &bytes) && !rehearse_failure())
        block = calloc(count == 0 ? 1 : count, size);
    memcpy(pointer, &block, sizeof block);
    return block == NULL ? out_of_memory(count, size) : VARVE_OK;
}

varve_status vv_resize(void *pointer, size_t count, size_t size)
{
    void *block = NULL;
    size_t bytes = 0;

    memcpy(&block, pointer, sizeof block);
    if (__builtin_mul_overflow(count, size, &bytes) || rehearse_failure())
        return out_of_memory(count, size);
    block = realloc(block, bytes == 0 ? 1 : bytes);
    if (block == NULL)
        return out_of_memory(count, size);
    memcpy(pointer, &block, sizeof block);
    return VARVE_OK;
}

varve_status vv_memdup(void *pointer, const void *data, size_t size)
{
    void *copy = NULL;
    const varve_status rc = vv_alloc(&copy, size, 1);

    if (rc == VARVE_OK && size > 0)
        memcpy(copy, data, size);
    memcpy(pointer, &copy, sizeof copy);
    return rc;
}

varve_status vv_strdup(char **copy, const char *text)
{
    return vv_memdup(copy, text, strlen(text) + 1);
}

varve_status vv_format(char **text, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    const int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    VV_ASSERT(length >= 0);
    const varve_status rc = vv_alloc(text, (size_t)length + 1, 1);
    if (rc != VARVE_OK)
        return rc;
    va_start(args, format);
    (void)vsnprintf(*text, (size_t)length + 1, format, args);
    va_end(args);
    return VARVE_OK;
}

void vv_free(void *pointer)
{
    free(pointer);
}

void vv_alloc_fail_at(unsigned nth)
{
    rehearsal.left = nth;
    rehearsal.failed = false;
}

bool vv_alloc_disarm(void)
{
    rehearsal.left = 0;
    return rehearsal.failed;
}
