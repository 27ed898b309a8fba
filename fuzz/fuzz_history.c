/* The history of flat, chain and tree as bytes: records of any content, put into one history after the other. The sums
 * are made right, so that what is behind them is reached. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "store/plain/plain.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vv_plain plain;
    struct vv_bytes again = VV_BYTES_NONE;
    struct vv_state state;
    uint64_t sequence = 0;

    vv_plain_init(&plain);
    for (size_t at = 0; at + 3 <= size;) { /* kind, size, payload */
        const size_t wanted = data[at + 1] | (size_t)data[at + 2] << 8, left = size - at - 3;
        const size_t taken = wanted < left ? wanted : left;
        uint8_t *payload = malloc(taken + 1); /* of its own, so that a step outside shows */
        memcpy(payload, data + at + 3, taken);
        (void)vv_plain_apply(&plain, data[at] % 5, vv_reader_of(payload, taken), NULL);
        if (vv_state_init(&state, NULL, NULL) == VARVE_OK) {
            struct vv_reader reader = vv_reader_of(payload, taken);
            (void)vv_plain_decode_meta(&reader, &state);
            vv_state_release(&state);
        }
        free(payload);
        at += 3 + taken;
    }
    struct vv_reader reader = vv_reader_of(data, size), payload;
    uint32_t kind = 0;
    (void)vv_plain_unframe(&reader, 0, &kind, &payload);
    /* What was taken reads back as itself. */
    vv_plain_encode_all(&plain, &sequence, &again);
    VV_ASSERT(sequence == plain.commit_count + plain.move_count);
    for (size_t i = 0; i < plain.ref_count; i++)
        VV_ASSERT(plain.refs[i].newest > 0 && plain.refs[i].newest <= plain.move_count);
    vv_bytes_release(&again);
    vv_plain_release(&plain);
    return 0;
}
