/* product.c - see product.h. */
#include "product.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <varve.h>

#include "scratch.h"

struct product {
    char path[SCRATCH_PATH];
    varve_store *store;
    varve_session *session;
};

/* One for all scripts: an engine per script would only cost time. */
static varve_vm *vm;

static const char spec_words[] = "spec: %s: %s\n";

static void must(varve_status rc, const varve_error *error, const char *what)
{
    if (rc == VARVE_OK)
        return;
    (void)fprintf(stderr, spec_words, what, error->message);
    exit(2);
}

static varve_status do_nothing(void *context, varve_guest *guest, const varve_value *args,
                               varve_value *results)
{
    (void)context;
    (void)guest;
    (void)args;
    (void)results;
    return VARVE_OK;
}

/* What scripts may import of functions: all of them only print. */
static void make_vm(void)
{
    static const char *const functions[][2] = {
        { "print", "" },
        { "print_i32", "i32" },
        { "print_i64", "i64" },
        { "print_f32", "f32" },
        { "print_f64", "f64" },
        { "print_i32_f32", "i32 f32" },
        { "print_f64_f64", "f64 f64" },
    };
    varve_vm_options options = VARVE_INIT(varve_vm_options);
    varve_error error;

    options.flags = VARVE_VM_NO_CACHE;
    must(varve_vm_new(&options, &vm, &error), &error, "vm");
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        varve_host_function function = VARVE_INIT(varve_host_function);
        function.module = "spectest";
        function.name = functions[i][0];
        function.signature = functions[i][1];
        function.call = do_nothing;
        must(varve_vm_define(vm, &function, &error), &error, "define");
    }
}

static void begin(struct product *product)
{
    varve_store_options store = VARVE_INIT(varve_store_options);
    varve_session_options session = VARVE_INIT(varve_session_options);
    varve_error error;

    store.flags = VARVE_STORE_CREATE;
    store.durability = VARVE_BUFFERED; /* a power loss is not what is tested here */
    must(varve_store_open(product->path, &store, &product->store, &error), &error, "open");
    session.vm = vm;
    must(varve_session_begin(product->store, &session, &product->session, &error), &error, "begin");
}

struct product *product_new(void)
{
    struct product *const product = calloc(1, sizeof *product);

    if (product == NULL)
        abort();
    if (vm == NULL)
        make_vm();
    /* Tens of thousands of commits: in memory where that can be, for what survives a power loss is tested elsewhere. */
    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 0);
    scratch_new(product->path);
    begin(product);
    return product;
}

void product_free(struct product *product)
{
    varve_session_abort(product->session);
    varve_store_close(product->store);
    scratch_remove(product->path);
    free(product);
}

void product_reopen(struct product *product)
{
    varve_error error;

    must(varve_session_commit(product->session, NULL, NULL, &error), &error, "commit");
    varve_store_close(product->store);
    begin(product);
}

/* A trap by its text, as "trap CODE"; what happens in the guest's own names comes later in the words. */
static enum made answer(varve_status rc, const varve_error *error, char *words)
{
    const char *const end = strstr(error->message, " in ");

    if (rc == VARVE_OK)
        return MADE;
    (void)snprintf(words, WORLD_WORDS, "%.*s", WORLD_WORDS - 1, error->message);
    if (rc != VARVE_TRAP)
        return MADE_REFUSED;
    for (unsigned code = 0; code < 64; code++) {
        const char *const text = world_trap_text(code);
        const char *const at = text == NULL ? NULL : strstr(error->message, text);
        if (at == NULL || (end != NULL && at > end))
            continue;
        (void)snprintf(words, WORLD_WORDS, "trap %u", code);
        break;
    }
    return MADE_TRAPPED;
}

enum made product_make(struct product *product, const char *name, const uint8_t *bytes, size_t size,
                       char *words)
{
    varve_deploy_options options = VARVE_INIT(varve_deploy_options);
    varve_error error;

    options.flags = VARVE_DEPLOY_PLAIN;
    options.name = name;
    const varve_status rc = varve_session_deploy(product->session, bytes, size, &options, NULL, NULL, &error);
    if (rc == VARVE_REFUSED && strstr(error.message, "do not fit into a memory") != NULL) {
        (void)snprintf(words, WORLD_WORDS, "trap %d", WASMTIME_TRAP_CODE_MEMORY_OUT_OF_BOUNDS);
        return MADE_TRAPPED;
    }
    return answer(rc, &error, words);
}

enum made product_check(struct product *product, const uint8_t *bytes, size_t size, char *words)
{
    const enum made made = product_make(product, "check", bytes, size, words);

    if (made == MADE)
        product_remove(product, "check");
    return made == MADE_REFUSED ? MADE_INVALID : MADE;
}

static varve_module_id id_of(const char *name)
{
    varve_module_id id;
    varve_error error = { .message = "no name" };

    must(varve_module_id_of(name, &id), &error, "name");
    return id;
}

void product_remove(struct product *product, const char *name)
{
    const varve_module_id id = id_of(name);
    varve_error error;

    must(varve_session_remove(product->session, &id, &error), &error, "remove");
}

static const uint8_t value_sizes[] = {
    [VARVE_I32] = 4, [VARVE_I64] = 8, [VARVE_F32] = 4, [VARVE_F64] = 8, [VARVE_V128] = 16
};
static const varve_type types[] = { [WASMTIME_I32] = VARVE_I32,
                                    [WASMTIME_I64] = VARVE_I64,
                                    [WASMTIME_F32] = VARVE_F32,
                                    [WASMTIME_F64] = VARVE_F64,
                                    [WASMTIME_V128] = VARVE_V128 };
static const wasmtime_valkind_t kinds[] = { [VARVE_I32] = WASMTIME_I32,
                                            [VARVE_I64] = WASMTIME_I64,
                                            [VARVE_F32] = WASMTIME_F32,
                                            [VARVE_F64] = WASMTIME_F64,
                                            [VARVE_V128] = WASMTIME_V128 };

enum made product_call(struct product *product, const char *name, const char *function, size_t function_size,
                       const wasmtime_val_t *args, size_t arg_count, struct results *results, char *words)
{
    const varve_module_id id = id_of(name);
    varve_signature signature = VARVE_INIT(varve_signature);
    varve_error error;
    enum { VALUES = 64 };
    varve_value in[VALUES], out[VALUES];

    if (strlen(function) != function_size || arg_count > VALUES) {
        (void)snprintf(words, WORLD_WORDS, "a name with a zero byte, or too many values");
        return MADE_REFUSED;
    }
    varve_status rc = varve_session_signature(product->session, &id, function, &signature, &error);
    if (rc == VARVE_OK && signature.result_count > VALUES)
        rc = VARVE_LIMIT;
    if (rc != VARVE_OK)
        return answer(rc, &error, words);
    for (size_t i = 0; i < arg_count; i++) {
        in[i] = (varve_value){ .type = args[i].kind <= WASMTIME_V128 ? types[args[i].kind] : 0 };
        if (in[i].type != 0)
            memcpy(&in[i].of, &args[i].of, value_sizes[in[i].type]);
    }
    const size_t count = signature.result_count;
    rc = varve_session_call(product->session, &id, function, in, arg_count, out, count, NULL, NULL, &error);
    if (rc != VARVE_OK)
        return answer(rc, &error, words);
    results->values = calloc(count + 1, sizeof *results->values);
    results->count = count;
    for (size_t i = 0; i < count && results->values != NULL; i++) {
        results->values[i].kind = kinds[out[i].type];
        memcpy(&results->values[i].of, &out[i].of, value_sizes[out[i].type]);
    }
    return MADE;
}
