/* bytes.h - every number that goes to or comes from a disk, a guest or a module is placed here.
 *
 * All numbers are little-endian. A writer grows; a reader never leaves its bytes. Both remember the first
 * thing that went wrong, so that a format reads as a list of fields and is checked once, at its end. */
#ifndef VV_BYTES_H
#define VV_BYTES_H

#include <string.h>

#include "base/error.h"

static inline uint16_t vv_get_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t vv_get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t vv_get_u64(const uint8_t *p)
{
    return vv_get_u32(p) | (uint64_t)vv_get_u32(p + 4) << 32;
}

static inline void vv_put_u16(uint8_t *p, uint16_t value)
{
    p[0] = (uint8_t)value;
    p[1] = (uint8_t)(value >> 8);
}

static inline void vv_put_u32(uint8_t *p, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(value >> (8 * i));
}

static inline void vv_put_u64(uint8_t *p, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        p[i] = (uint8_t)(value >> (8 * i));
}

/* A difference of two numbers, so that small ones of either sign become small varints; and back. */
static inline uint64_t vv_zigzag(uint64_t difference)
{
    return difference << 1 ^ (0 - (difference >> 63));
}

static inline uint64_t vv_unzigzag(uint64_t value)
{
    return value >> 1 ^ (0 - (value & 1));
}

/* Bytes that grow. Start with VV_BYTES_NONE; end with vv_bytes_release. */
struct vv_bytes {
    uint8_t *data;
    size_t size, capacity;
    bool failed; /* memory ran out: what was put since is missing */
};
#define VV_BYTES_NONE ((struct vv_bytes){ .data = NULL })

void vv_bytes_release(struct vv_bytes *bytes);
void vv_bytes_clear(struct vv_bytes *bytes);            /* keeps the capacity */
void vv_bytes_cut(struct vv_bytes *bytes, size_t size); /* as it was with so many, whatever failed since */

void vv_bytes_put(struct vv_bytes *bytes, const void *data, size_t size);
void vv_bytes_zero(struct vv_bytes *bytes, size_t size);
void vv_bytes_u8(struct vv_bytes *bytes, uint8_t value);
void vv_bytes_u16(struct vv_bytes *bytes, uint16_t value);
void vv_bytes_u32(struct vv_bytes *bytes, uint32_t value);
void vv_bytes_u64(struct vv_bytes *bytes, uint64_t value);
void vv_bytes_varint(struct vv_bytes *bytes, uint64_t value); /* LEB128, unsigned, shortest form */
/* A varint length, then the bytes. */
void vv_bytes_blob(struct vv_bytes *bytes, const void *data, size_t size);

/* Room for `size` more bytes, to be filled by the caller; NULL when memory ran out. */
uint8_t *vv_bytes_extend(struct vv_bytes *bytes, size_t size);

/* VARVE_MEMORY when any of the above failed, else VARVE_OK. */
varve_status vv_bytes_done(const struct vv_bytes *bytes);

/* Bytes to be read, believed in nothing. Lent: whoever made it keeps them alive. */
struct vv_reader {
    const uint8_t *data;
    size_t size, offset;
    bool bad; /* something was asked for that is not there: all answers since are zeros */
};

static inline struct vv_reader vv_reader_of(const void *data, size_t size)
{
    return (struct vv_reader){ .data = data, .size = size };
}

static inline size_t vv_reader_left(const struct vv_reader *reader)
{
    return reader->size - reader->offset;
}

static inline uint8_t vv_reader_u8(struct vv_reader *reader)
{
    if (!reader->bad && reader->offset < reader->size)
        return reader->data[reader->offset++];
    reader->bad = true;
    return 0;
}

/* The next `size` bytes in place, or NULL (and `bad`) when there are not as many. */
static inline const uint8_t *vv_reader_take(struct vv_reader *reader, size_t size)
{
    if (reader->bad || size > vv_reader_left(reader)) {
        reader->bad = true;
        return NULL;
    }
    const uint8_t *at = reader->data + reader->offset;
    reader->offset += size;
    return at;
}

uint16_t vv_reader_u16(struct vv_reader *reader);
uint32_t vv_reader_u32(struct vv_reader *reader);
uint64_t vv_reader_u64(struct vv_reader *reader);
uint64_t vv_reader_long_varint(struct vv_reader *reader);

/* A varint: bad when longer than it need be or over 64 bits. Most are one byte. */
static inline uint64_t vv_reader_varint(struct vv_reader *reader)
{
    if (!reader->bad && reader->offset < reader->size && reader->data[reader->offset] <= 0x7f)
        return reader->data[reader->offset++];
    return vv_reader_long_varint(reader);
}

/* A varint length of at most `limit`, then the bytes, in place. */
const uint8_t *vv_reader_blob(struct vv_reader *reader, size_t limit, size_t *size);
void vv_reader_copy(struct vv_reader *reader, void *out, size_t size); /* zeros when bad */

/* VARVE_CORRUPT, naming `what`, when bad or when bytes are left over; else VARVE_OK. */
varve_status vv_reader_done(const struct vv_reader *reader, const char *what);

/* 32 bytes as 64 upper-case hexadecimal characters and a NUL; and back, either case: VARVE_INVALID unless the
 * text is 64 of them and nothing else. */
void vv_hex_format(const uint8_t bytes[32], char text[65]);
varve_status vv_hex_parse(const char *text, uint8_t bytes[32]);
int vv_hex_digit(char c); /* its value, or a negative number */

#endif
