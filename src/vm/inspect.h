/* inspect.h - say in JSON what a module is and whether it could be deployed, without deploying it. */
#ifndef VV_INSPECT_H
#define VV_INSPECT_H

#include "vm/machine.h"

/* As varve_vm_inspect: {"kind", "memory", "globals", "exports", "imports", "refused"}. The caller frees `json`. */
varve_status vv_inspect(varve_vm *vm, const void *code, size_t size, char **json);

#endif
