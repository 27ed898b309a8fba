/* Stamps of image files, of any bytes. The sum is made right, so that what is behind it is reached; what decodes is
 * encoded to the same bytes, and says nothing that the files' users would trip over. */
#include <string.h>

#include "page/pagetree.h"
#include "store/journal/stamp.h"
#include "store/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_stamp(const uint8_t page[VV_STAMP_PAGE])
{
    struct vv_stamp stamp;
    uint8_t again[VV_STAMP_PAGE];

    if (vv_stamp_decode(page, VV_STAMP_PAGE, &stamp) != VARVE_OK)
        return;
    VV_ASSERT(stamp.state == VV_STAMP_WHOLE || stamp.state == VV_STAMP_REWRITING);
    VV_ASSERT(stamp.to.page_count <= VV_PAGETREE_PAGES_MAX);
    VV_ASSERT(stamp.from.page_count <= VV_PAGETREE_PAGES_MAX);
    vv_stamp_encode(&stamp, again);
    VV_ASSERT(memcmp(page, again, VV_STAMP_USED) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t page[VV_STAMP_PAGE] = { 0 };
    struct vv_stamp stamp;

    (void)vv_stamp_decode(data, size, &stamp);
    memcpy(page, data, size < sizeof page ? size : sizeof page);
    try_stamp(page);
    vv_record_sum(page, VV_STAMP_USED - VV_SUM, page + VV_STAMP_USED - VV_SUM);
    try_stamp(page);
    return 0;
}
