/* linker.c - see linker.h. */
#include "vm/linker.h"

#include "vm/emscripten.h"
#include "vm/host.h"
#include "vm/wasi.h"

varve_status vv_linker_answer(void *context, const struct vv_plan_import *import, struct vv_answer *answer)
{
    varve_status rc = VARVE_OK;

    TRY(vv_host_answer(context, import, answer));
    if (answer->outside.call == NULL)
        TRY(vv_wasi_answer(import, answer));
    if (answer->outside.call == NULL)
        TRY(vv_emscripten_answer(import, answer));
out:
    return rc;
}
