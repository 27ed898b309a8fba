/* Frames: any bytes are opened or refused. The checksum is put right first, or nothing would get past it. What
 * opens has every page, and slots that agree with it. */
#include <stdint.h>
#include <string.h>

#include "page/delta.h"
#include "page/hash.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void mend_checksum(uint8_t *frame, size_t size)
{
    struct vv_hasher hasher;
    uint8_t hash[VV_HASH_SIZE];

    vv_hasher_init(&hasher, VV_HASH_RECORD);
    vv_hasher_put(&hasher, frame, 16);
    vv_hasher_put(&hasher, frame + VV_FRAME_HEADER, size - VV_FRAME_HEADER);
    vv_hasher_end(&hasher, hash);
    memcpy(frame + 16, hash, 16);
}

static void use(const uint8_t *data, size_t size)
{
    struct vv_frame frame, slots;
    uint8_t page[VV_PAGE_SIZE];
    size_t said = 0;

    if (vv_frame_peek(data, size, &slots,
                      &said)) /* unchecked: whatever it says stays within what frames can be */
        for (size_t i = 0; i < slots.count; i++)
            VV_ASSERT(slots.sizes[i] <= VV_PAGE_SIZE &&
                      said + slots.offsets[i] + slots.sizes[i] <= vv_frame_bound(64));
    const varve_status rc = vv_frame_open(data, size, &frame);
    if (rc != VARVE_OK) {
        VV_ASSERT(rc == VARVE_CORRUPT || rc == VARVE_NEWER);
        VV_ASSERT(frame.payload == NULL);
        return;
    }
    VV_ASSERT(vv_frame_size(data, size, &said) == VARVE_OK && said == size);
    VV_ASSERT(vv_frame_slots(data, size, &slots) == VARVE_OK && slots.count == frame.count);
    for (size_t i = 0; i < frame.count; i++) {
        memset(page, 0x5a, sizeof page);
        const varve_status one = vv_frame_page(&frame, i, page);
        VV_ASSERT(one == VARVE_OK || (one == VARVE_CORRUPT && frame.slots[i].form == VV_FORM_RUNS));
        VV_ASSERT(slots.slots[i].form == frame.slots[i].form);
        VV_ASSERT((frame.slots[i].form == VV_FORM_RUNS) == (frame.slots[i].base_locator != 0));
    }
    VV_ASSERT(vv_frame_page(&frame, frame.count, page) == VARVE_CORRUPT);
    vv_frame_release(&frame);
    vv_frame_release(&slots);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t mended[1 << 19];

    use(data, size);
    if (size >= VV_FRAME_HEADER && size <= sizeof mended) {
        memcpy(mended, data, size);
        mend_checksum(mended, size);
        use(mended, size);
    }
    return 0;
}
