/* binary.c - see binary.h. */
#include "vm/wasm/binary.h"

uint64_t vv_wasm_read_long(struct vv_reader *reader, unsigned bits, bool is_signed)
{
    uint64_t value = 0;
    unsigned shift = 0;
    uint8_t byte = 0;

    do {
        if (shift >= bits || reader->bad || reader->offset >= reader->size) {
            reader->bad = true;
            return 0;
        }
        byte = reader->data[reader->offset++];
        value |= (uint64_t)(byte & 0x7f) << shift;
        shift += 7;
    } while ((byte & 0x80) != 0);
    const bool negative = is_signed && (byte & 0x40) != 0;
    if (negative && shift < 64)
        value |= UINT64_MAX << shift;
    if (shift > bits) {
        /* The last byte holds bits that the number has not: they must repeat its sign, or be zero. */
        const unsigned used = 7 - (shift - bits) - (is_signed ? 1 : 0);
        const uint8_t beyond = (uint8_t)((byte & 0x7f) >> used);
        if (beyond != (negative ? 0x7f >> used : 0)) {
            reader->bad = true;
            return 0;
        }
    }
    return value;
}

bool vv_wasm_is_utf8(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size;) {
        const uint8_t lead = data[i];
        const size_t more = lead < 0x80 ? 0 : lead < 0xc2 ? SIZE_MAX : lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
        if (more == SIZE_MAX || lead > 0xf4 || more > size - i - 1)
            return false;
        for (size_t k = 1; k <= more; k++) {
            if ((data[i + k] & 0xc0) != 0x80)
                return false;
        }
        if ((lead == 0xe0 && data[i + 1] < 0xa0) || (lead == 0xed && data[i + 1] > 0x9f) ||
            (lead == 0xf0 && data[i + 1] < 0x90) || (lead == 0xf4 && data[i + 1] > 0x8f))
            return false;
        i += 1 + more;
    }
    return true;
}
