/* vm_world.c - see vm_world.h. */
#include "vm_world.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "fake_layout.h"
#include "store/session.h"

const int64_t world_time = INT64_C(1700000000123456789);

static void output(void *context, const varve_module_id *module, int stream, const void *data, size_t size,
                   bool reverted)
{
    struct world *w = context;

    (void)module;
    (void)stream;
    if (reverted)
        w->output_reverted += size;
    if (w->output_size + size < sizeof w->output) {
        memcpy(w->output + w->output_size, data, size);
        w->output_size += size;
        w->output[w->output_size] = '\0';
    }
}

void assert_status_at(struct world *w, varve_status got, varve_status expected, const char *file, int line)
{
    if (got == expected)
        return;
    print_error("%s:%d: %s, not %s: %s\n", file, line, varve_status_name(got), varve_status_name(expected),
                got == VARVE_OK ? "" : w->error.message);
    if (w->receipt != NULL)
        print_error("%s\n", varve_receipt_get(w->receipt)->trace);
    fail();
}

void assert_words(const struct world *w, const char *part)
{
    if (strstr(w->error.message, part) == NULL) {
        print_error("\"%s\" does not say \"%s\"\n", w->error.message, part);
        fail();
    }
}

/* cmocka takes the signals of a trap for its own before each test and fixture; the engine asked for them once, with
 * its first VM. Called before guests run: gives them back to it. */
void world_signals(void)
{
    static const int numbers[] = { SIGSEGV, SIGILL, SIGFPE, SIGBUS };
    static struct sigaction actions[4];
    static bool known;

    for (size_t i = 0; i < 4; i++)
        assert_int_equal(sigaction(numbers[i], known ? &actions[i] : NULL, known ? NULL : &actions[i]), 0);
    known = true;
}

static void open_store(struct world *w)
{
    assert_int_equal(vv_store_new(&fake_layout, w->place, &w->store), VARVE_OK);
}

void world_new(struct world *w)
{
    *w = (struct world){ .vm = NULL };
    assert_ok(w, varve_vm_new(NULL, &w->vm, &w->error));
    world_signals();
    w->place = fake_place_new();
    open_store(w);
}

void world_free(struct world *w)
{
    varve_receipt_free(w->receipt);
    varve_session_abort(w->session);
    varve_store_close(w->store);
    fake_place_free(w->place);
    varve_vm_free(w->vm);
}

void world_begin(struct world *w)
{
    static const uint8_t seed[32] = "tests draw from this seed......";
    varve_session_options options = VARVE_INIT(varve_session_options);

    assert_null(w->session);
    options.vm = w->vm;
    options.time_ns = world_time;
    options.seed = seed;
    options.output = output;
    options.context = w;
    assert_ok(w, varve_session_begin(w->store, &options, &w->session, &w->error));
}

varve_root world_commit(struct world *w)
{
    varve_commit_options options = VARVE_INIT(varve_commit_options);
    varve_commit *commit = NULL;

    options.time_ns = world_time;
    assert_ok(w, varve_session_commit(w->session, &options, &commit, &w->error));
    w->session = NULL;
    const varve_root root = varve_commit_get(commit)->root;
    varve_commit_close(commit);
    return root;
}

void world_abort(struct world *w)
{
    varve_session_abort(w->session);
    w->session = NULL;
}

void world_reopen(struct world *w)
{
    (void)world_commit(w);
    varve_store_close(w->store);
    open_store(w);
    world_begin(w);
}

uint8_t *world_module(const char *name, size_t *size)
{
    const char *cache = getenv("VARVE_TEST_MODULES");
    char path[1024];
    FILE *file = NULL;

    (void)snprintf(path, sizeof path, "%s/%s.wasm", WASM_DIR, name);
    file = fopen(path, "rb");
    if (file == NULL && cache != NULL) {
        (void)snprintf(path, sizeof path, "%s/%s.wasm", cache, name);
        file = fopen(path, "rb");
    }
    if (file == NULL)
        return NULL;
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    *size = (size_t)ftell(file);
    rewind(file);
    uint8_t *bytes = malloc(*size + 1);
    assert_int_equal(fread(bytes, 1, *size, file), *size);
    (void)fclose(file);
    return bytes;
}

static varve_module_id id_of(const char *name)
{
    varve_module_id id;

    assert_int_equal(varve_module_id_of(name, &id), VARVE_OK);
    return id;
}

varve_status world_deploy_bytes(struct world *w, const char *name, const void *code, size_t size,
                                const varve_deploy_options *given)
{
    varve_deploy_options options = VARVE_INIT(varve_deploy_options);

    world_signals();
    if (given != NULL)
        options = *given;
    options.name = name;
    varve_receipt_free(w->receipt);
    w->receipt = NULL;
    return varve_session_deploy(w->session, code, size, &options, NULL, &w->receipt, &w->error);
}

varve_status world_deploy(struct world *w, const char *name, const char *file,
                          const varve_deploy_options *options)
{
    size_t size = 0;
    uint8_t *code = world_module(file, &size);

    assert_non_null(code);
    const varve_status rc = world_deploy_bytes(w, name, code, size, options);
    free(code);
    return rc;
}

static varve_status call(struct world *w, const char *module, const char *function, uint64_t *result,
                         const varve_value *args, size_t count)
{
    varve_call_options options = VARVE_INIT(varve_call_options);
    varve_signature signature = VARVE_INIT(varve_signature);
    const varve_module_id id = id_of(module);
    varve_value results[16];

    world_signals();
    options.gas = w->gas;
    options.flags = w->flags;
    varve_receipt_free(w->receipt);
    w->receipt = NULL;
    varve_status rc = varve_session_signature(w->session, &id, function, &signature, &w->error);
    if (rc != VARVE_OK)
        return rc;
    rc = varve_session_call(w->session, &id, function, args, count, results, signature.result_count, &options,
                            &w->receipt, &w->error);
    if (rc == VARVE_OK && result != NULL) {
        *result = 0;
        if (signature.result_count > 0)
            memcpy(result, &results[0].of,
                   results[0].type == VARVE_I32 || results[0].type == VARVE_F32 ? 4 : 8);
    }
    return rc;
}

varve_status world_call(struct world *w, const char *module, const char *function, uint64_t *result,
                        const char *types, ...)
{
    varve_value args[16];
    size_t count = 0;
    va_list list;

    va_start(list, types);
    for (const char *p = types; *p != '\0'; p += strcspn(p, " ")) {
        p += *p == ' ';
        varve_value *value = &args[count++];
        *value = (varve_value){ .type = VARVE_I32 };
        if (strncmp(p, "i32", 3) == 0)
            value->of.i32 = va_arg(list, int32_t);
        else if (strncmp(p, "f64", 3) == 0)
            *value = (varve_value){ .type = VARVE_F64, .of.f64 = va_arg(list, double) };
        else
            *value = (varve_value){ .type = VARVE_I64, .of.i64 = va_arg(list, int64_t) };
    }
    va_end(list);
    return call(w, module, function, result, args, count);
}

uint64_t world_i32(struct world *w, const char *module, const char *function, int count, ...)
{
    varve_value args[16];
    uint64_t result = 0;
    va_list list;

    va_start(list, count);
    for (int i = 0; i < count; i++)
        args[i] = (varve_value){ .type = VARVE_I32, .of.i32 = va_arg(list, int32_t) };
    va_end(list);
    const varve_status rc = call(w, module, function, &result, args, (size_t)count);
    if (rc != VARVE_OK)
        print_error("%s.%s: ", module, function);
    assert_ok(w, rc);
    return result;
}

static varve_image *image_of(struct world *w, const char *module)
{
    const varve_module_id id = id_of(module);
    varve_image *image = NULL;

    assert_ok(w, varve_image_open(w->session, &id, NULL, &image, &w->error));
    return image;
}

void world_peek(struct world *w, const char *module, uint64_t offset, void *data, size_t size)
{
    assert_ok(w, varve_image_read(image_of(w, module), offset, data, size, &w->error));
}

void world_poke(struct world *w, const char *module, uint64_t offset, const void *data, size_t size)
{
    assert_ok(w, varve_image_write(image_of(w, module), offset, data, size, &w->error));
}

uint64_t world_memory(struct world *w, const char *module)
{
    return varve_image_size(image_of(w, module));
}

varve_root world_root(struct world *w)
{
    varve_root root;

    assert_ok(w, varve_session_root(w->session, &root, &w->error));
    return root;
}
