/* vm.c - a WebAssembly program whose variables survive: run it again and again, its counter goes on.
 *
 *   cc vm.c $(pkg-config --cflags --libs varve) -o vm && ./vm counter.wasm && ./vm counter.wasm */
#include <stdio.h>
#include <varve.h>

int main(int argc, char **argv)
{
    static unsigned char code[65536];
    FILE *file = argc > 1 ? fopen(argv[1], "rb") : NULL;
    const size_t size = file != NULL ? fread(code, 1, sizeof code, file) : 0;
    const varve_store_options create = { .size = sizeof create, .flags = VARVE_STORE_CREATE };
    const varve_deploy_options named = { .size = sizeof named, .name = "counter" };
    varve_session_options options = { .size = sizeof options };
    varve_store *store = NULL;
    varve_session *session = NULL;
    varve_module_id id;
    varve_value by = { .type = VARVE_I32, .of.i32 = 5 }, total;
    varve_error error = { .message = "usage: vm COUNTER.wasm [STORE]" };

    if (size == 0 || varve_module_id_of(named.name, &id) != VARVE_OK ||
        varve_vm_new(NULL, &options.vm, &error) != VARVE_OK ||
        varve_store_open(argc > 2 ? argv[2] : "counter.varve", &create, &store, &error) != VARVE_OK ||
        varve_session_begin(store, &options, &session, &error) != VARVE_OK)
        goto failed;
    varve_status rc = varve_session_deploy(session, code, size, &named, NULL, NULL, &error);
    if (rc != VARVE_OK && rc != VARVE_EXISTS) /* it is there since the first run */
        goto failed;
    if (varve_session_call(session, &id, "add", &by, 1, &total, 1, NULL, NULL, &error) != VARVE_OK)
        goto failed; /* a trap would have left no trace */
    printf("the counter stands at %d\n", total.of.i32);
    if (varve_session_commit(session, NULL, NULL, &error) != VARVE_OK)
        goto failed;
    varve_store_close(store);
    varve_vm_free(options.vm);
    return 0;
failed:
    fprintf(stderr, "%s\n", error.message);
    varve_session_abort(session);
    varve_store_close(store);
    varve_vm_free(options.vm);
    return 1;
}
