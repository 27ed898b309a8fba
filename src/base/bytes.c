/* bytes.c - see bytes.h. */
#include "base/bytes.h"

#include "base/alloc.h"

void vv_bytes_release(struct vv_bytes *bytes)
{
    vv_free(bytes->data);
    *bytes = VV_BYTES_NONE;
}

void vv_bytes_clear(struct vv_bytes *bytes)
{
    bytes->size = 0;
    bytes->failed = false;
}

void vv_bytes_cut(struct vv_bytes *bytes, size_t size)
{
    VV_ASSERT(size <= bytes->size);
    bytes->size = size;
    bytes->failed = false;
}

uint8_t *vv_bytes_extend(struct vv_bytes *bytes, size_t size)
{
    size_t need = 0;

    if (bytes->failed || __builtin_add_overflow(bytes->size, size, &need)) {
        bytes->failed = true;
        return NULL;
    }
    if (need > bytes->capacity) {
        size_t capacity = bytes->capacity < 64 ? 64 : bytes->capacity;
        while (capacity < need)
            capacity = capacity > SIZE_MAX / 2 ? need : capacity * 2;
        if (vv_resize(&bytes->data, capacity, 1) != VARVE_OK) {
            bytes->failed = true;
            return NULL;
        }
        bytes->capacity = capacity;
    }
    uint8_t *room = bytes->data + bytes->size;
    bytes->size = need;
    return room;
}

void vv_bytes_put(struct vv_bytes *bytes, const void *data, size_t size)
{
    if (size == 0)
        return;
    uint8_t *room = vv_bytes_extend(bytes, size);
    if (room != NULL)
        memcpy(room, data, size);
}

void vv_bytes_zero(struct vv_bytes *bytes, size_t size)
{
    uint8_t *room = size == 0 ? NULL : vv_bytes_extend(bytes, size);
    if (room != NULL)
        memset(room, 0, size);
}

void vv_bytes_u8(struct vv_bytes *bytes, uint8_t value)
{
    vv_bytes_put(bytes, &value, 1);
}

void vv_bytes_u16(struct vv_bytes *bytes, uint16_t value)
{
    uint8_t raw[2];
    vv_put_u16(raw, value);
    vv_bytes_put(bytes, raw, sizeof raw);
}

void vv_bytes_u32(struct vv_bytes *bytes, uint32_t value)
{
    uint8_t raw[4];
    vv_put_u32(raw, value);
    vv_bytes_put(bytes, raw, sizeof raw);
}

void vv_bytes_u64(struct vv_bytes *bytes, uint64_t value)
{
    uint8_t raw[8];
    vv_put_u64(raw, value);
    vv_bytes_put(bytes, raw, sizeof raw);
}

void vv_bytes_varint(struct vv_bytes *bytes, uint64_t value)
{
    uint8_t raw[10];
    size_t size = 0;

    do {
        raw[size++] = (uint8_t)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
        value >>= 7;
    } while (value != 0);
    vv_bytes_put(bytes, raw, size);
}

void vv_bytes_blob(struct vv_bytes *bytes, const void *data, size_t size)
{
    vv_bytes_varint(bytes, size);
    vv_bytes_put(bytes, data, size);
}

varve_status vv_bytes_done(const struct vv_bytes *bytes)
{
    return bytes->failed ? vv_fail(VARVE_MEMORY, "out of memory: %zu bytes and more", bytes->capacity)
                         : VARVE_OK;
}

uint16_t vv_reader_u16(struct vv_reader *reader)
{
    const uint8_t *at = vv_reader_take(reader, 2);
    return at == NULL ? 0 : vv_get_u16(at);
}

uint32_t vv_reader_u32(struct vv_reader *reader)
{
    const uint8_t *at = vv_reader_take(reader, 4);
    return at == NULL ? 0 : vv_get_u32(at);
}

uint64_t vv_reader_u64(struct vv_reader *reader)
{
    const uint8_t *at = vv_reader_take(reader, 8);
    return at == NULL ? 0 : vv_get_u64(at);
}

uint64_t vv_reader_long_varint(struct vv_reader *reader)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 64; shift += 7) {
        const uint8_t byte = vv_reader_u8(reader);
        if (reader->bad || (shift == 63 && byte > 1) || (shift > 0 && byte == 0))
            break; /* missing, over 64 bits, or a longer form than needed */
        value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0)
            return value;
    }
    reader->bad = true;
    return 0;
}

const uint8_t *vv_reader_blob(struct vv_reader *reader, size_t limit, size_t *size)
{
    const uint64_t length = vv_reader_varint(reader);

    *size = 0;
    if (length > limit)
        reader->bad = true;
    const uint8_t *at = reader->bad ? NULL : vv_reader_take(reader, (size_t)length);
    if (at != NULL)
        *size = (size_t)length;
    return at;
}

void vv_reader_copy(struct vv_reader *reader, void *out, size_t size)
{
    const uint8_t *at = vv_reader_take(reader, size);

    if (at == NULL)
        memset(out, 0, size);
    else if (size > 0)
        memcpy(out, at, size);
}

varve_status vv_reader_done(const struct vv_reader *reader, const char *what)
{
    if (reader->bad)
        return vv_fail(VARVE_CORRUPT, "%s: ends early or holds a number that cannot be (at byte %zu of %zu)",
                       what, reader->offset, reader->size);
    if (vv_reader_left(reader) != 0)
        return vv_fail(VARVE_CORRUPT, "%s: %zu bytes are left over", what, vv_reader_left(reader));
    return VARVE_OK;
}

void vv_hex_format(const uint8_t bytes[32], char text[65])
{
    static const char digits[] = "0123456789ABCDEF";

    for (size_t i = 0; i < 32; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    text[64] = '\0';
}

int vv_hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

varve_status vv_hex_parse(const char *text, uint8_t bytes[32])
{
    uint8_t parsed[32];

    if (strlen(text) != 64)
        goto bad;
    for (size_t i = 0; i < 32; i++) {
        const int high = vv_hex_digit(text[2 * i]);
        const int low = vv_hex_digit(text[2 * i + 1]);
        if (high < 0 || low < 0)
            goto bad;
        parsed[i] = (uint8_t)(high << 4 | low);
    }
    memcpy(bytes, parsed, sizeof parsed);
    return VARVE_OK;
bad:
    return vv_fail(VARVE_INVALID, "\"%.70s\" is not 64 hexadecimal digits", text);
}
