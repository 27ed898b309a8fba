/* host.h - imports that the embedder answers: functions registered with varve_vm_define. */
#ifndef VV_HOST_H
#define VV_HOST_H

#include "vm/guest.h"

/* Answers `import` if a function of that name is registered. REFUSED when its signature is another. */
varve_status vv_host_answer(varve_vm *vm, const struct vv_plan_import *import, struct vv_answer *answer);

#endif
