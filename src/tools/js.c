/* js.c - varve js: QuickJS, unmodified, its whole heap durable.
 *
 * What the host gives the guest here: no time zone, no interrupt, no modules, no host functions. All else is WASI.
 * Pending jobs (promises) run to their end before the commit. */
#include "tools/guest.h"

#include <stdlib.h>
#include <string.h>

struct js {
    struct tool tool;
};

/* ---- what QuickJS imports from its host ------------------------------------------------------- */

static varve_status answer_zero(void *context, varve_guest *guest, const varve_value *args,
                                varve_value *results)
{
    (void)context;
    (void)guest;
    (void)args;
    results[0].of.i32 = 0;
    return VARVE_OK;
}

static varve_status answer_nothing(void *context, varve_guest *guest, const varve_value *args,
                                   varve_value *results)
{
    (void)context;
    (void)guest;
    (void)args;
    (void)results;
    return VARVE_OK;
}

static bool define_host(struct js *js)
{
    static const struct {
        const char *name, *signature;
        varve_host_fn call;
    } functions[] = {
        { "host_get_timezone_offset", "i32 i32 -> i32", answer_zero },
        { "host_interrupt", "-> i32", answer_zero },
        { "host_promise_rejection", "i32 i32 i32", answer_nothing },
        { "host_module_normalize", "i32 i32 -> i32", answer_zero },
        { "host_module_load", "i32 i32 -> i32", answer_zero },
        { "host_call", "i32 i32 i32 i32 i32 -> i32", answer_zero },
    };

    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        varve_host_function function = VARVE_INIT(varve_host_function);
        varve_error error;
        function.module = "env";
        function.name = functions[i].name;
        function.signature = functions[i].signature;
        function.call = functions[i].call;
        if (varve_vm_define(js->tool.cli.vm, &function, &error) != VARVE_OK) {
            js->tool.code = cli_fail(&js->tool.cli, &error, NULL);
            return false;
        }
    }
    return true;
}

/* ---- values ----------------------------------------------------------------------------------- */

static bool value_text(struct js *js, int32_t value, char **text)
{
    int32_t address = 0;

    return guest_call(&js->tool, "qjs_get_string", &address, GUEST_ARGS(value)) &&
           guest_text(&js->tool, address, text) &&
           (address == 0 || guest_call(&js->tool, "qjs_free_cstring", NULL, GUEST_ARGS(address)));
}

static bool property_text(struct js *js, int32_t value, const char *name, char **text)
{
    int32_t key = 0, property = 0;

    return guest_put_text(&js->tool, name, &key) &&
           guest_call(&js->tool, "qjs_get_prop_string", &property, GUEST_ARGS(value, key)) &&
           guest_drop(&js->tool, key) && value_text(js, property, text);
}

/* The exception that is pending: its message, and its stack as the trace. */
static bool js_error(struct js *js)
{
    int32_t exception = 0, is_error = 0;
    char *message = NULL, *stack = NULL;

    if (guest_call(&js->tool, "qjs_get_exception", &exception, 0, NULL) &&
        value_text(js, exception, &message) &&
        guest_call(&js->tool, "qjs_is_error", &is_error, GUEST_ARGS(exception)) &&
        (is_error == 0 || property_text(js, exception, "stack", &stack)))
        (void)tool_fail(&js->tool, EXIT_GUEST, VARVE_PANIC, message == NULL ? "thrown" : message,
                        stack == NULL ? "" : stack);
    free(message);
    free(stack);
    return false;
}

static bool run_jobs(struct js *js)
{
    for (int32_t result = 1; result != 0;) {
        if (!guest_call(&js->tool, "qjs_execute_pending_job", &result, 0, NULL))
            return false;
        if (result < 0)
            return js_error(js);
    }
    return true;
}

/* A promise that the code leaves as its value is waited for: its jobs have run by then. */
static bool evaluate(struct js *js, const char *text, char **answer)
{
    struct tool *tool = &js->tool;
    int32_t code = 0, name = 0, value = 0, thrown = 0;

    if (!guest_put_text(tool, text, &code) || !guest_put_text(tool, "varve", &name) ||
        !guest_call(tool, "qjs_eval", &value, GUEST_ARGS(code, (int32_t)strlen(text), name, 0)) ||
        !guest_call(tool, "qjs_is_exception", &thrown, GUEST_ARGS(value)))
        return false;
    if (thrown != 0)
        return js_error(js);
    return run_jobs(js) && value_text(js, value, answer) &&
           guest_call(tool, "qjs_free_value", NULL, GUEST_ARGS(value)) && guest_drop(tool, name) &&
           guest_drop(tool, code);
}

int main(int argc, char **argv)
{
    struct js js = { .tool.code = EXIT_DONE };
    char *text = NULL, *answer = NULL;
    const struct tool_facts facts = {
        .program = "varve js",
        .about = "QuickJS, unmodified: its whole heap is durable. Prints the value of the last expression.",
        .usage = "[--new [FILE.wasm]] [CODE | -f FILE]",
        .default_module = "js",
        .wasm = "quickjs.wasm",
        .alloc = "wasm_malloc",
        .free = "wasm_free",
    };

    bool done = tool_start(&js.tool, &facts, &argc, argv) && define_host(&js) &&
                tool_begin(&js.tool, &facts, argc, argv, &text);
    int32_t ready = 0;
    done = done && (!js.tool.new_module || guest_call(&js.tool, "qjs_init", &ready, 0, NULL));
    done = done && (text == NULL || evaluate(&js, text, &answer));
    if (done && answer != NULL && js.tool.cli.json)
        cli_set(&js.tool.cli, "value", cli_json_text(answer));
    else if (done && answer != NULL)
        (void)fprintf(stdout, "%s\n", answer);
    const int code = tool_end(&js.tool, text == NULL ? "start QuickJS" : text, done);
    free(answer);
    free(text);
    return code;
}
