/* binary.h - numbers and names as the binary format of WebAssembly holds them. */
#ifndef VV_WASM_BINARY_H
#define VV_WASM_BINARY_H

#include "base/bytes.h"

/* LEB128 of at most `bits` bits, signed or not: longer forms than needed are legal, up to 5 or 10 bytes. Bad: 0, and
 * `bad`. */
uint64_t vv_wasm_read_long(struct vv_reader *reader, unsigned bits, bool is_signed);

/* Likewise: nearly all numbers are one byte, and no negative one. */
static inline uint64_t vv_wasm_read_leb(struct vv_reader *reader, unsigned bits, bool is_signed)
{
    if (!reader->bad && reader->offset < reader->size &&
        reader->data[reader->offset] < (is_signed ? 0x40 : 0x80))
        return reader->data[reader->offset++];
    return vv_wasm_read_long(reader, bits, is_signed);
}

static inline uint32_t vv_wasm_read_u32(struct vv_reader *reader)
{
    return (uint32_t)vv_wasm_read_leb(reader, 32, false);
}

static inline uint64_t vv_wasm_read_u64(struct vv_reader *reader)
{
    return vv_wasm_read_leb(reader, 64, false);
}

static inline int32_t vv_wasm_read_s32(struct vv_reader *reader)
{
    return (int32_t)vv_wasm_read_leb(reader, 32, true);
}

static inline int64_t vv_wasm_read_s33(struct vv_reader *reader)
{
    return (int64_t)vv_wasm_read_leb(reader, 33, true);
}

static inline int64_t vv_wasm_read_s64(struct vv_reader *reader)
{
    return (int64_t)vv_wasm_read_leb(reader, 64, true);
}

/* The next byte, which stays; 0 at the end. */
static inline uint8_t vv_wasm_peek(const struct vv_reader *reader)
{
    return reader->offset < reader->size ? reader->data[reader->offset] : 0;
}

/* Whether the bytes are UTF-8, as names must be: no longer forms, no surrogates, nothing over U+10FFFF. */
bool vv_wasm_is_utf8(const uint8_t *data, size_t size);

#endif
