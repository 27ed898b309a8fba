/* alloc.h - memory from the heap, so that running out is a status like any other and can be rehearsed. */
#ifndef VV_ALLOC_H
#define VV_ALLOC_H

#include "base/error.h"

/* Put a zeroed array of `count` elements of `size` bytes each into the pointer that `pointer` points at
 * (pass the address of your pointer, of any type). On VARVE_MEMORY it is set to NULL. A count of 0 gives a
 * pointer that may be freed. The caller frees with vv_free. */
varve_status vv_alloc(void *pointer, size_t count, size_t size);

/* Make that array `count` elements long, keeping what it holds; new elements are not zeroed. On
 * VARVE_MEMORY the array is as before. */
varve_status vv_resize(void *pointer, size_t count, size_t size);

/* A copy of `size` bytes; of a text. */
varve_status vv_memdup(void *pointer, const void *data, size_t size);
varve_status vv_strdup(char **copy, const char *text);

/* A text made as printf would. */
varve_status vv_format(char **text, const char *format, ...) __attribute__((format(printf, 2, 3)));

void vv_free(void *pointer);

/* Tests: let the nth allocation of this thread from now on fail, once (0: none). Disarm tells whether it
 * came to that. */
void vv_alloc_fail_at(unsigned nth);
bool vv_alloc_disarm(void);

#endif
