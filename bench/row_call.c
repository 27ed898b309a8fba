/* row_call.c - what a call costs that can be taken back, one that cannot, and one that only computes. */
#include "disk.h"
#include "guest.h"
#include "memory.h"
#include "product.h"
#include "raw.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

enum { WASM_PAGE = 65536, TEXT = 2048 };

struct calls {
    struct product p;
    struct raw_code code;
    struct raw_guest raw;
    struct tracked tracked;
    uint8_t *shadow; /* as large as the memory */
    varve_module_id id;
    varve_call_options options;
    const char *function;
    wasmtime_func_t raw_function;
    unsigned times; /* calls in one run */
    uint32_t touched, at, stride;
    size_t size;
    int32_t turns;
};

static varve_vm *new_vm(void)
{
    varve_vm_options options = VARVE_INIT(varve_vm_options);
    varve_vm *vm = NULL;
    varve_error error = { 0 };

    options.flags = VARVE_VM_NO_CACHE;
    must(varve_vm_new(&options, &vm, &error), &error, "make a VM");
    return vm;
}

static void deploy(struct product *p, const struct raw_code *code, const char *name, varve_module_id *id)
{
    varve_deploy_options options = VARVE_INIT(varve_deploy_options);
    varve_error error = { 0 };

    options.name = name;
    must(varve_session_deploy(p->session, code->wasm.data, code->wasm.size, &options, id, NULL, &error),
         &error, "deploy");
}

static void call(struct calls *c, const varve_value *args, size_t arg_count, varve_value *results,
                 size_t result_count)
{
    varve_error error = { 0 };

    must(varve_session_call(c->p.session, &c->id, c->function, args, arg_count, results, result_count,
                            &c->options, NULL, &error),
         &error, c->function);
}

static void touch(struct calls *c, uint32_t at, uint32_t stride, uint32_t count)
{
    const varve_value args[3] = { { .type = VARVE_I32, .of.i32 = (int32_t)at },
                                  { .type = VARVE_I32, .of.i32 = (int32_t)stride },
                                  { .type = VARVE_I32, .of.i32 = (int32_t)count } };

    call(c, args, 3, NULL, 0);
}

static const char *calls_text(char text[TEXT], size_t size)
{
    snprintf(text, TEXT, GUEST_CALLS, (unsigned)(size / WASM_PAGE));
    return text;
}

/* A store with one module and a session on it, and the same module in Wasmtime alone; both memories resident. */
static void calls_open(struct calls *c, struct bench *b, const char *text, size_t size)
{
    *c = (struct calls){ .size = size, .options = VARVE_INIT(varve_call_options) };
    raw_code_new(&c->code, text);
    uint8_t *bytes = raw_reserve();
    if (mprotect(bytes, c->size, PROT_READ | PROT_WRITE) != 0)
        bench_die("no memory");
    product_fill(bytes, c->size);
    raw_guest_new(&c->raw, &c->code, bytes, c->size);

    c->p.vm = new_vm();
    product_create(&c->p, b, "store");
    product_begin(&c->p, NULL);
    deploy(&c->p, &c->code, "guest", &c->id);
    c->function = "touch"; /* not through the image: one that a C program holds is scanned at every call */
    touch(c, 0, BENCH_PAGE, (uint32_t)(size / BENCH_PAGE));
    product_commit(&c->p, VARVE_DURABLE, NULL);
}

static void calls_close(struct calls *c)
{
    product_close(&c->p);
    varve_vm_free(c->p.vm);
    raw_guest_free(&c->raw);
    raw_unreserve(c->raw.bytes);
}

/* ---- Nothing written ---------------------------------------------------------------------------- */

static double raw_nop(void *context)
{
    struct calls *c = context;
    wasmtime_val_raw_t none[1];
    const double start = bench_now();

    for (unsigned i = 0; i < c->times; i++)
        raw_call(&c->raw, &c->raw_function, none, 0);
    return (bench_now() - start) / 1e3 / c->times;
}

static double raw_nop_asked(void *context)
{
    struct calls *c = context;
    wasmtime_val_raw_t none[1];
    struct rusage usage;
    const double start = bench_now();

    for (unsigned i = 0; i < c->times; i++) {
        raw_call(&c->raw, &c->raw_function, none, 0);
        getrusage(RUSAGE_THREAD, &usage);
    }
    return (bench_now() - start) / 1e3 / c->times;
}

static double product_nop(void *context)
{
    struct calls *c = context;
    const double start = bench_now();

    for (unsigned i = 0; i < c->times; i++)
        call(c, NULL, 0, NULL, 0);
    return (bench_now() - start) / 1e3 / c->times;
}

void bench_empty_call(struct bench *b)
{
    struct calls c;
    char text[TEXT];

    calls_open(&c, b, calls_text(text, 64 * MIB), 64 * MIB);
    c.function = "nop";
    c.raw_function = raw_function(&c.raw, "nop");
    c.times = 2000;
    product_nop(&c);
    bench_measure(b, &(struct bench_case){ .name = "64 MiB resident",
                                           .unit = "us",
                                           .goal = { 1, 0.5, "<= +0.5 us" },
                                           .runs = 150,
                                           .floor = raw_nop_asked,
                                           .product = product_nop,
                                           .context = &c });
    calls_close(&c);
}

void bench_unguarded_call(struct bench *b)
{
    struct calls c;
    char text[TEXT];
    uint32_t savepoint;
    varve_error error = { 0 };

    calls_open(&c, b, calls_text(text, MIB), MIB);
    c.function = "nop";
    c.raw_function = raw_function(&c.raw, "nop");
    c.times = 5000;
    c.options.flags = VARVE_CALL_UNGUARDED;
    must(varve_session_savepoint(c.p.session, &savepoint, &error), &error, "savepoint");
    product_nop(&c);
    bench_measure(b, &(struct bench_case){ .name = "an empty function",
                                           .unit = "us",
                                           .goal = { 1, 0.1, "<= +100 ns" },
                                           .runs = 150,
                                           .floor = raw_nop,
                                           .product = product_nop,
                                           .context = &c });
    calls_close(&c);
}

/* ---- Pages written ------------------------------------------------------------------------------ */

/* The pages of the next call: as far apart as the memory allows, others than the last call's. */
static uint32_t next_at(struct calls *c)
{
    c->at = (c->at + 3 * BENCH_PAGE) % (uint32_t)c->size;
    return c->at;
}

static double floor_touch(void *context)
{
    struct calls *c = context;
    double spent = 0;

    for (unsigned i = 0; i < c->times; i++) {
        uint32_t at = next_at(c);
        tracked_protect(&c->tracked); /* not timed: whose job it is the goal does not say */
        const double start = bench_now();
        for (uint32_t k = 0; k < c->touched; k++, at = (at + c->stride) % (uint32_t)c->size) {
            const size_t page = at / BENCH_PAGE * BENCH_PAGE;
            memcpy(c->shadow + page, c->tracked.bytes + page, BENCH_PAGE);
            *(volatile uint32_t *)(c->tracked.bytes + at) += 1;
        }
        spent += bench_now() - start;
    }
    return spent / 1e3 / c->times;
}

static double product_touch(void *context)
{
    struct calls *c = context;
    const double start = bench_now();

    for (unsigned i = 0; i < c->times; i++)
        touch(c, next_at(c), c->stride, c->touched);
    return (bench_now() - start) / 1e3 / c->times;
}

void bench_writing_call(struct bench *b)
{
    static const uint32_t counts[] = { 1, 7, 100 };
    const double scan = 0.35 * 16;
    struct calls c;
    struct tracked tracked;
    char name[32], words[32], text[TEXT];

    if (!tracked_new(&tracked, 16 * MIB)) {
        bench_note("left out: no userfaultfd with WP_ASYNC here, so there is no floor");
        return;
    }
    calls_open(&c, b, calls_text(text, 16 * MIB), 16 * MIB);
    c.tracked = tracked;
    c.shadow = memory_new(c.size);
    c.function = "touch";
    for (unsigned i = 0; i < sizeof counts / sizeof *counts; i++) {
        c.touched = counts[i];
        c.stride = (uint32_t)(c.size / BENCH_PAGE / counts[i]) * BENCH_PAGE;
        c.times = counts[i] == 100 ? 20 : 100;
        snprintf(name, sizeof name, "%u page%s of 16 MiB", counts[i], counts[i] == 1 ? "" : "s");
        snprintf(words, sizeof words, "<= 2x +%.1f us", scan);
        product_touch(&c);
        bench_measure(b, &(struct bench_case){ .name = name,
                                               .unit = "us",
                                               .goal = { 2, scan, words },
                                               .runs = 60,
                                               .floor = floor_touch,
                                               .product = product_touch,
                                               .context = &c });
    }
    calls_close(&c);
    memory_free(c.shadow, c.size);
    tracked_free(&c.tracked);
}

/* ---- Computing ---------------------------------------------------------------------------------- */

static double raw_loop(void *context)
{
    struct calls *c = context;
    wasmtime_val_raw_t value[1] = { { .i32 = c->turns } };
    const double start = bench_now();

    raw_call(&c->raw, &c->raw_function, value, 1);
    return (bench_now() - start) / 1e6;
}

static double product_loop(void *context)
{
    struct calls *c = context;
    varve_value arg = { .type = VARVE_I32, .of.i32 = c->turns }, result;
    const double start = bench_now();

    call(c, &arg, 1, &result, 1);
    return (bench_now() - start) / 1e6;
}

void bench_compute(struct bench *b)
{
    static const struct {
        const char *function;
        int32_t turns;
    } loops[] = { { "lcg", 10000000 }, { "sieve", 24 }, { "f64", 4000000 } };
    struct calls c;

    calls_open(&c, b, GUEST_LOOPS, MIB);
    for (unsigned i = 0; i < sizeof loops / sizeof *loops; i++) {
        c.function = loops[i].function;
        c.raw_function = raw_function(&c.raw, loops[i].function);
        c.turns = loops[i].turns;
        bench_measure(b, &(struct bench_case){ .name = loops[i].function,
                                               .unit = "ms",
                                               .goal = { 1.02, 0, "<= 1.02x" },
                                               .runs = 60,
                                               .floor = raw_loop,
                                               .product = product_loop,
                                               .context = &c });
    }
    calls_close(&c);
}

/* ---- Beginning ---------------------------------------------------------------------------------- */

struct beginnings {
    struct product one, many, *p;
    struct raw_code code;
    varve_module_id one_id, many_id;
    uint8_t *reserved;
    int file;
};

enum { GUEST_SIZE = 16 * 1048576 };

static double raw_begin_once(struct beginnings *c)
{
    struct raw_guest guest;
    wasmtime_val_raw_t value[1];
    const double start = bench_now();

    if (mmap(c->reserved, GUEST_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE,
             c->file, 0) == MAP_FAILED)
        bench_die("cannot map");
    raw_guest_new(&guest, &c->code, c->reserved, GUEST_SIZE);
    const wasmtime_func_t get = raw_function(&guest, "get");
    raw_call(&guest, &get, value, 1);
    raw_guest_free(&guest);
    const double spent = (bench_now() - start) / 1e3;
    /* Not counted: a pool would keep the mapping. */
    if (mmap(c->reserved, GUEST_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
             0) == MAP_FAILED)
        bench_die("cannot unmap");
    return spent;
}

static double first_call_once(struct product *p, const varve_module_id *id)
{
    varve_value result;
    varve_error error = { 0 };
    const double start = bench_now();

    product_begin(p, NULL);
    must(varve_session_call(p->session, id, "get", NULL, 0, &result, 1, NULL, NULL, &error), &error,
         "the first call");
    varve_session_abort(p->session);
    p->session = NULL;
    return (bench_now() - start) / 1e3;
}

enum { TURNS = 20 }; /* in one run: what stands in caches is then one's own, on either side */

static double raw_begin(void *context)
{
    double spent = 0;

    for (int i = 0; i < TURNS; i++)
        spent += raw_begin_once(context);
    return spent / TURNS;
}

static double product_first_call(struct product *p, const varve_module_id *id)
{
    double spent = 0;

    for (int i = 0; i < TURNS; i++)
        spent += first_call_once(p, id);
    return spent / TURNS;
}

static double begin_one(void *context)
{
    struct beginnings *c = context;

    return product_first_call(&c->one, &c->one_id);
}

static double begin_many(void *context)
{
    struct beginnings *c = context;

    return product_first_call(&c->many, &c->many_id);
}

static void modules(struct product *p, struct bench *b, const struct raw_code *code, const char *store,
                    unsigned count, varve_module_id *middle)
{
    product_create(p, b, store);
    product_begin(p, NULL);
    for (unsigned i = 0; i < count; i++) {
        varve_module_id id;
        char name[32];
        snprintf(name, sizeof name, "guest%u", i);
        deploy(p, code, name, &id);
        if (i == count / 2)
            *middle = id;
    }
    product_commit(p, VARVE_DURABLE, NULL);
    varve_session_abort(p->session);
    p->session = NULL;
}

void bench_begin(struct bench *b)
{
    struct beginnings c = { .file = -1 };
    struct bench_case pair = {
        .unit = "us", .goal = { 2, 0, "<= 2x" }, .runs = 300, .context = &c, .floor = raw_begin
    };
    char text[TEXT];

    raw_code_new(&c.code, calls_text(text, GUEST_SIZE));
    c.reserved = raw_reserve();
    c.file = disk_file(b, "base", GUEST_SIZE);
    c.one.vm = c.many.vm = new_vm();
    modules(&c.one, b, &c.code, "one", 1, &c.one_id);
    modules(&c.many, b, &c.code, "many", 1000, &c.many_id);
    begin_one(&c);
    begin_many(&c);
    pair.name = "1 module";
    pair.product = begin_one;
    bench_measure(b, &pair);
    pair.name = "1000 modules";
    pair.product = begin_many;
    bench_measure(b, &pair);
    pair.name = "1000 modules against 1";
    pair.floor = begin_one;
    pair.goal = (struct bench_goal){ 1.2, 0, "<= 1.2x" };
    bench_measure(b, &pair);
    product_close(&c.one);
    product_close(&c.many);
    varve_vm_free(c.one.vm);
    raw_unreserve(c.reserved);
    close(c.file);
}
