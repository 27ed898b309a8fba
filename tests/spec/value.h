/* value.h - the values of a script: read from JSON, given to the engine, compared with what came back. */
#ifndef SPEC_VALUE_H
#define SPEC_VALUE_H

#include <jansson.h>
#include <wasmtime.h>

#include "base/error.h"

/* Read an argument. False: of a type that this engine has no values of; `why` says which. */
bool value_read(const json_t *json, wasmtime_val_t *value, const char **why);

/* Whether `value` is what `expected` asks for: NaN patterns, lanes and `either` included. */
bool value_matches(const json_t *expected, const wasmtime_val_t *value);

/* Append the bits of `value` to `text` (room of `size` bytes with the NUL): equal values give equal texts. A text
 * that is full ends. */
void value_print(const wasmtime_val_t *value, char *text, size_t size);

#endif
