/* Proofs: a root and any bytes. They prove something or nothing, and of what is not proved nothing is told. */
#include <stdint.h>
#include <string.h>

#include "page/proof.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    varve_claim claim = { .size = sizeof claim };

    if (size < VV_HASH_SIZE)
        return 0;
    const varve_status rc = vv_proof_check(data + VV_HASH_SIZE, size - VV_HASH_SIZE, data, &claim);
    if (rc != VARVE_OK) {
        VV_ASSERT(rc == VARVE_INVALID || rc == VARVE_NEWER);
        VV_ASSERT(claim.page == 0 && claim.memory_size == 0);
        return 0;
    }
    VV_ASSERT(!claim.present || claim.page < claim.memory_size / VV_PAGE_SIZE);
    VV_ASSERT(memcmp(claim.module.bytes, data + VV_HASH_SIZE + 6, 32) == 0);
    return 0;
}
