/* linker.h - who answers an import: the embedder first, then WASI, then Emscripten's names. */
#ifndef VV_LINKER_H
#define VV_LINKER_H

#include "vm/module.h"

/* A vv_answer_fn; `context` is the VM. */
varve_status vv_linker_answer(void *context, const struct vv_plan_import *import, struct vv_answer *answer);

#endif
