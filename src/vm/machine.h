/* machine.h - a VM: engine, compiled code, stacks, limits, and the functions that its embedder adds. */
#ifndef VV_MACHINE_H
#define VV_MACHINE_H

#include "vm/limits.h"
#include "vm/module.h"
#include "vm/stack.h"

/* A function that the embedder registered; its texts are copies. */
struct vv_defined {
    char *module, *name;
    varve_type params[VV_HOST_VALUES_MAX], results[VV_HOST_VALUES_MAX];
    uint32_t param_count, result_count;
    varve_host_fn call;
    void *context;
    void (*release)(void *context);
    uint64_t gas;
};

struct varve_vm {
    struct vv_engine *engine;
    struct vv_code_pool pool;
    struct vv_stack_pool stacks;
    varve_limits limits;
    struct vv_defined **defined;
    size_t defined_count;
    bool _Atomic used; /* a session began: no function is added any more */
};

/* `answer` gets the VM as its context. */
varve_status vv_machine_new(const varve_vm_options *options, vv_answer_fn answer, varve_vm **vm);
void vv_machine_free(varve_vm *vm); /* NULL is fine */
/* EXISTS when the name is taken; MISUSE after the first session began or when the signature cannot be read. */
varve_status vv_machine_define(varve_vm *vm, const varve_host_function *function);
const struct vv_defined *vv_machine_find(const varve_vm *vm, const struct vv_text *module,
                                         const struct vv_text *name); /* NULL: none */

/* Read "i32 i64 -> f32": at most VV_HOST_VALUES_MAX on each side. MISUSE, saying what is wrong. */
varve_status vv_signature_parse(const char *text, varve_type params[VV_HOST_VALUES_MAX],
                                uint32_t *param_count, varve_type results[VV_HOST_VALUES_MAX],
                                uint32_t *result_count);

#endif
