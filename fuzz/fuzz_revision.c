/* Revisions: any text is parsed or refused; a name that is taken is one that the rule for refs takes, or an id. */
#include <stdint.h>
#include <string.h>

#include "store/revision.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[512];
    struct vv_revision revision;

    if (size >= sizeof text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    (void)vv_module_name_check(text);
    (void)vv_ref_name_check(text);
    const varve_status rc = vv_revision_parse(text, &revision);
    if (rc != VARVE_OK) {
        VV_ASSERT(rc == VARVE_INVALID);
        return 0;
    }
    VV_ASSERT(revision.digits <= 64);
    if (revision.kind == VV_BASE_NAME)
        VV_ASSERT(revision.digits == 64 || vv_ref_name_check(revision.name) == VARVE_OK);
    return 0;
}
