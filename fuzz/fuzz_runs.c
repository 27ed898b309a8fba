/* Runs: any bytes are applied or refused, and nothing beside the page is written. What applies can be said again:
 * the runs between the two pages, encoded anew, lead to the same page. */
#include <stdint.h>
#include <string.h>

#include "page/delta.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t base[VV_PAGE_SIZE], room[VV_PAGE_SIZE + 128], again[VV_PAGE_SIZE];
    uint8_t *page = room + 64;
    struct vv_bytes runs = VV_BYTES_NONE;

    for (size_t i = 0; i < VV_PAGE_SIZE; i++)
        base[i] = (uint8_t)(i * 31 >> 3);
    memset(room, 0xa5, sizeof room);
    memcpy(page, base, VV_PAGE_SIZE);
    const varve_status rc = vv_runs_apply(data, size, page);
    VV_ASSERT(rc == VARVE_OK || rc == VARVE_CORRUPT);
    for (size_t i = 0; i < 64; i++)
        VV_ASSERT(room[i] == 0xa5 && page[VV_PAGE_SIZE + i] == 0xa5);
    if (rc == VARVE_OK) {
        VV_ASSERT(vv_runs_encode(base, page, 4 * VV_PAGE_SIZE, &runs) == runs.size && runs.size > 0);
        memcpy(again, base, VV_PAGE_SIZE);
        VV_ASSERT(vv_runs_apply(runs.data, runs.size, again) == VARVE_OK);
        VV_ASSERT(memcmp(again, page, VV_PAGE_SIZE) == 0);
    }
    vv_bytes_release(&runs);
    return 0;
}
