/* machine.c - see machine.h. */
#include "vm/machine.h"

#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"

/* The engine lets a guest use 2 MiB of native stack; what functions outside use comes on top. */
enum { STACK_SIZE = 4 * 1024 * 1024 };

/* ${VARVE_CACHE}, else ${XDG_CACHE_HOME}/varve, else ${HOME}/.cache/varve; false: none of them is set. */
static bool user_cache(char path[PATH_MAX])
{
    const char *own = getenv("VARVE_CACHE"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int size = 0;

    if (own != NULL && own[0] == '/')
        size = snprintf(path, PATH_MAX, "%s", own);
    else if (xdg != NULL && xdg[0] == '/')
        size = snprintf(path, PATH_MAX, "%s/varve", xdg);
    else if (home != NULL && home[0] == '/')
        size = snprintf(path, PATH_MAX, "%s/.cache/varve", home);
    return size > 0 && size < PATH_MAX;
}

varve_status vv_machine_new(const varve_vm_options *options, vv_answer_fn answer, varve_vm **out)
{
    varve_status rc = VARVE_OK;
    varve_vm *vm = NULL;
    char path[PATH_MAX];
    const char *cache = NULL;
    static const varve_vm_options none = { .size = sizeof none };
    const varve_vm_options *o = options != NULL ? options : &none;

    if ((o->flags & VARVE_VM_NO_CACHE) == 0)
        cache = o->cache != NULL ? o->cache : (user_cache(path) ? path : NULL);
    TRY(vv_alloc(&vm, 1, sizeof *vm));
    vm->limits = vv_limits_of(o->limits, NULL);
    vv_stack_pool_init(&vm->stacks, STACK_SIZE);
    TRY(vv_code_pool_init(&vm->pool, NULL, cache, answer, vm));
    TRY(vv_engine_new(&vm->engine));
    vm->pool.engine = vm->engine;
out:
    if (rc != VARVE_OK)
        vv_machine_free(vm);
    else
        *out = vm;
    return rc;
}

void vv_machine_free(varve_vm *vm)
{
    if (vm == NULL)
        return;
    vv_code_pool_release(&vm->pool);
    vv_stack_pool_release(&vm->stacks);
    vv_engine_free(vm->engine);
    for (size_t i = 0; i < vm->defined_count; i++) {
        if (vm->defined[i]->release != NULL)
            vm->defined[i]->release(vm->defined[i]->context);
        vv_free(vm->defined[i]->module);
        vv_free(vm->defined[i]->name);
        vv_free(vm->defined[i]);
    }
    vv_free(vm->defined);
    vv_free(vm);
}

/* ---- Signatures --------------------------------------------------------------------------------- */

static bool read_type(const char *word, size_t size, varve_type *type)
{
    static const struct {
        const char *name;
        varve_type type;
    } names[] = {
        { "i32", VARVE_I32 }, { "i64", VARVE_I64 },   { "f32", VARVE_F32 },
        { "f64", VARVE_F64 }, { "v128", VARVE_V128 },
    };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strlen(names[i].name) == size && memcmp(names[i].name, word, size) == 0) {
            *type = names[i].type;
            return true;
        }
    }
    return false;
}

varve_status vv_signature_parse(const char *text, varve_type params[VV_HOST_VALUES_MAX],
                                uint32_t *param_count, varve_type results[VV_HOST_VALUES_MAX],
                                uint32_t *result_count)
{
    bool after_arrow = false;

    *param_count = *result_count = 0;
    for (const char *p = text; *p != '\0';) {
        const size_t size = strcspn(p, " ");
        varve_type type = VARVE_I32;
        if (size == 0) {
            p++;
            continue;
        }
        if (size == 2 && memcmp(p, "->", 2) == 0 && !after_arrow) {
            after_arrow = true;
        } else if (!read_type(p, size, &type)) {
            return vv_fail(VARVE_MISUSE,
                           "signature \"%.100s\": \"%.*s\" is no type; write \"i32 i64 -> f32\"", text,
                           (int)(size > 20 ? 20 : size), p);
        } else {
            uint32_t *count = after_arrow ? result_count : param_count;
            if (*count == VV_HOST_VALUES_MAX)
                return vv_fail(VARVE_MISUSE, "signature \"%.100s...\": more than %d values", text,
                               VV_HOST_VALUES_MAX);
            (after_arrow ? results : params)[(*count)++] = type;
        }
        p += size;
    }
    return VARVE_OK;
}

/* ---- Functions of the embedder -------------------------------------------------------------------- */

static bool same_text(const struct vv_text *a, const char *b)
{
    return a->size == strlen(b) && memcmp(a->data, b, a->size) == 0;
}

const struct vv_defined *vv_machine_find(const varve_vm *vm, const struct vv_text *module,
                                         const struct vv_text *name)
{
    for (size_t i = 0; i < vm->defined_count; i++) {
        if (same_text(name, vm->defined[i]->name) && same_text(module, vm->defined[i]->module))
            return vm->defined[i];
    }
    return NULL;
}

varve_status vv_machine_define(varve_vm *vm, const varve_host_function *function)
{
    varve_status rc = VARVE_OK;
    struct vv_defined *defined = NULL;
    const struct vv_text module = { function->module, strlen(function->module) };
    const struct vv_text name = { function->name, strlen(function->name) };

    if (atomic_load(&vm->used))
        return vv_fail(VARVE_MISUSE,
                       "host function %.100s.%.100s: define it before the VM's first session begins",
                       function->module, function->name);
    if (vv_machine_find(vm, &module, &name) != NULL)
        return vv_fail(VARVE_EXISTS, "host function %.100s.%.100s is defined already", function->module,
                       function->name);
    TRY(vv_alloc(&defined, 1, sizeof *defined));
    TRY(vv_signature_parse(function->signature, defined->params, &defined->param_count, defined->results,
                           &defined->result_count));
    TRY(vv_strdup(&defined->module, function->module));
    TRY(vv_strdup(&defined->name, function->name));
    TRY(vv_resize(&vm->defined, vm->defined_count + 1, sizeof(struct vv_defined *)));
    defined->call = function->call;
    defined->context = function->context;
    defined->release = function->release;
    defined->gas = function->gas;
    vm->defined[vm->defined_count++] = defined;
out:
    if (rc != VARVE_OK && defined != NULL) {
        vv_free(defined->module);
        vv_free(defined->name);
        vv_free(defined);
    }
    return rc;
}
