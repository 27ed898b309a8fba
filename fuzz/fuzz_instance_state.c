/* Instance state: what decodes encodes to the same bytes. */
#include <stdint.h>
#include <string.h>

#include "vm/instance_state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vv_instance_state state;
    struct vv_bytes again = VV_BYTES_NONE;
    const varve_status rc = vv_instance_state_decode(data, size, 1000, &state);

    if (rc != VARVE_OK) {
        VV_ASSERT(rc == VARVE_CORRUPT || rc == VARVE_NEWER);
        return 0;
    }
    VV_ASSERT(vv_instance_state_encode(&state, &again) == VARVE_OK);
    VV_ASSERT(again.size == size);
    VV_ASSERT(memcmp(again.data, data, size) == 0);
    vv_bytes_release(&again);
    vv_instance_state_release(&state);
    return 0;
}
