/* First light: QuickJS, unmodified, evaluates in a session's image. */
#include "vm_world.h"

#include <stdlib.h>

static varve_status answer_zero(void *context, varve_guest *guest, const varve_value *args,
                                varve_value *results)
{
    (void)context;
    (void)guest;
    (void)args;
    results[0].of.i32 = 0;
    return VARVE_OK;
}

static void eval(struct world *w, const char *source, char *out, size_t room)
{
    const int size = (int)strlen(source);
    const int32_t text = (int32_t)world_i32(w, "js", "wasm_malloc", 1, size + 1);
    const int32_t file = (int32_t)world_i32(w, "js", "wasm_malloc", 1, 8);

    world_poke(w, "js", (uint32_t)text, source, (size_t)size + 1);
    world_poke(w, "js", (uint32_t)file, "m.js", 5);
    const int32_t value = (int32_t)world_i32(w, "js", "qjs_eval", 4, text, size, file, 0);
    const int32_t string = (int32_t)world_i32(w, "js", "qjs_get_string", 1, value);
    world_peek(w, "js", (uint32_t)string, out, room);
}

static void quickjs_evaluates_one_plus_one(void **state)
{
    static const char *const names[] = { "host_get_timezone_offset", "host_interrupt",
                                         "host_promise_rejection",   "host_module_normalize",
                                         "host_module_load",         "host_call" };
    static const char *const types[] = { "i32 i32 -> i32", "-> i32",         "i32 i32 i32",
                                         "i32 i32 -> i32", "i32 i32 -> i32", "i32 i32 i32 i32 i32 -> i32" };
    struct world w;
    size_t size = 0;
    uint8_t *code = world_module("quickjs", &size);
    char out[8] = "";

    (void)state;
    if (code == NULL)
        skip();
    world_new(&w);
    for (size_t i = 0; i < 6; i++) {
        varve_host_function f = VARVE_INIT(varve_host_function);
        f.module = "env";
        f.name = names[i];
        f.signature = types[i];
        f.call = answer_zero;
        assert_ok(&w, varve_vm_define(w.vm, &f, &w.error));
    }
    world_begin(&w);
    assert_ok(&w, world_deploy_bytes(&w, "js", code, size, NULL));
    (void)world_i32(&w, "js", "qjs_init", 0);
    eval(&w, "1+1", out, 2);
    assert_string_equal(out, "2");
    world_reopen(&w);
    eval(&w, "40+2", out, 3);
    assert_string_equal(out, "42");
    world_free(&w);
    free(code);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quickjs_evaluates_one_plus_one),
    };

    return cmocka_run_group_tests_name("vm first", tests, NULL, NULL);
}
