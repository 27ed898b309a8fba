/* value.c - see value.h. Numbers stand in scripts as decimal texts of their bits, some of them signed. */
#include "value.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

static const char *text_of(const json_t *json, const char *key)
{
    const char *text = json_string_value(json_object_get(json, key));

    return text == NULL ? "" : text;
}

static uint64_t bits_of(const char *text)
{
    return text[0] == '-' ? (uint64_t)strtoll(text, NULL, 10) : strtoull(text, NULL, 10);
}

/* How many bytes a lane of this type has: "i8" to "f64". */
static size_t lane_size(const char *type)
{
    return type[1] == '8' ? 1 : type[1] == '1' ? 2 : type[1] == '3' ? 4 : 8;
}

static uint64_t lane_get(const uint8_t *bytes, size_t size)
{
    uint64_t bits = 0;

    memcpy(&bits, bytes, size);
    return bits;
}

bool value_read(const json_t *json, wasmtime_val_t *value, const char **why)
{
    const char *const type = text_of(json, "type");
    const uint64_t bits = bits_of(text_of(json, "value"));

    memset(value, 0, sizeof *value);
    if (strcmp(type, "i32") == 0 || strcmp(type, "f32") == 0) {
        value->kind = type[0] == 'i' ? WASMTIME_I32 : WASMTIME_F32;
        memcpy(&value->of, &(uint32_t){ (uint32_t)bits },
               4); /* never through a float: NaNs keep their bits */
    } else if (strcmp(type, "i64") == 0 || strcmp(type, "f64") == 0) {
        value->kind = type[0] == 'i' ? WASMTIME_I64 : WASMTIME_F64;
        memcpy(&value->of, &bits, 8);
    } else if (strcmp(type, "v128") == 0) {
        const json_t *const lanes = json_object_get(json, "value");
        const size_t size = lane_size(text_of(json, "lane_type"));
        value->kind = WASMTIME_V128;
        for (size_t i = 0; i < json_array_size(lanes) && i * size < 16; i++) {
            const uint64_t lane = bits_of(json_string_value(json_array_get(lanes, i)));
            memcpy(value->of.v128 + i * size, &lane, size);
        }
    } else if (strcmp(type, "funcref") == 0 || strcmp(type, "nullfuncref") == 0) {
        value->kind = WASMTIME_FUNCREF;
    } else {
        *why = type;
        return false;
    }
    return true;
}

/* `wanted`: decimal bits, nan:canonical or nan:arithmetic. */
static bool number_matches(const char *wanted, uint64_t bits, size_t size)
{
    const uint64_t exponent = size == 4 ? UINT64_C(0x7f800000) : UINT64_C(0x7ff) << 52;
    const uint64_t quiet = exponent | (size == 4 ? UINT64_C(1) << 22 : UINT64_C(1) << 51);
    const uint64_t all = size == 8 ? UINT64_MAX : (UINT64_C(1) << (8 * size)) - 1;

    if (strcmp(wanted, "nan:canonical") == 0)
        return (bits & (all >> 1)) == quiet;
    if (strcmp(wanted, "nan:arithmetic") == 0)
        return (bits & quiet) == quiet;
    return (bits_of(wanted) & all) == bits;
}

static bool vector_matches(const json_t *expected, const uint8_t *bytes)
{
    const json_t *const lanes = json_object_get(expected, "value");
    const size_t size = lane_size(text_of(expected, "lane_type"));

    if (json_array_size(lanes) * size != 16)
        return false;
    for (size_t i = 0; i * size < 16; i++) {
        if (!number_matches(json_string_value(json_array_get(lanes, i)), lane_get(bytes + i * size, size),
                            size))
            return false;
    }
    return true;
}

bool value_matches(const json_t *expected, const wasmtime_val_t *value)
{
    const char *const type = text_of(expected, "type");
    const bool is_null = value->kind == WASMTIME_FUNCREF && wasmtime_funcref_is_null(&value->of.funcref);
    const uint8_t *const bits = (const uint8_t *)&value->of;

    if (strcmp(type, "either") == 0) {
        const json_t *const choices = json_object_get(expected, "values");
        for (size_t i = 0; i < json_array_size(choices); i++) {
            if (value_matches(json_array_get(choices, i), value))
                return true;
        }
        return false;
    }
    switch (value->kind) {
    case WASMTIME_I32:
    case WASMTIME_F32:
        return strcmp(type, value->kind == WASMTIME_I32 ? "i32" : "f32") == 0 &&
               number_matches(text_of(expected, "value"), lane_get(bits, 4), 4);
    case WASMTIME_I64:
    case WASMTIME_F64:
        return strcmp(type, value->kind == WASMTIME_I64 ? "i64" : "f64") == 0 &&
               number_matches(text_of(expected, "value"), lane_get(bits, 8), 8);
    case WASMTIME_V128:
        return strcmp(type, "v128") == 0 && vector_matches(expected, value->of.v128);
    default:
        if (strcmp(type, "refnull") == 0 || strcmp(type, "nullfuncref") == 0)
            return is_null;
        return strcmp(type, "funcref") == 0 && is_null == (strcmp(text_of(expected, "value"), "null") == 0);
    }
}

void value_print(const wasmtime_val_t *value, char *text, size_t size)
{
    static const char *const names[] = { "i32", "i64", "f32", "f64", "v128" };
    static const uint8_t sizes[] = { 4, 8, 4, 8, 16 };
    const uint8_t *const bits = (const uint8_t *)&value->of;
    const size_t used = strlen(text);

    text += used;
    size -= used;
    if (value->kind > WASMTIME_V128) {
        (void)snprintf(text, size, " %s", wasmtime_funcref_is_null(&value->of.funcref) ? "null" : "function");
    } else if (value->kind == WASMTIME_V128) {
        (void)snprintf(text, size, " v128:%016jx%016jx", (uintmax_t)vv_get_u64(bits + 8),
                       (uintmax_t)vv_get_u64(bits));
    } else {
        (void)snprintf(text, size, " %s:%jx", names[value->kind],
                       (uintmax_t)lane_get(bits, sizes[value->kind]));
    }
}
