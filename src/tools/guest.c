/* guest.c - see guest.h. One savepoint around all calls, which are UNGUARDED inside: they cost nothing extra, and a
 * failure anywhere takes the whole invocation back. */
#include "tools/guest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool failed(struct tool *tool, const varve_error *error, const varve_receipt *receipt)
{
    tool->code = cli_fail(&tool->cli, error, receipt);
    return false;
}

bool tool_fail(struct tool *tool, int code, varve_status status, const char *message, const char *trace)
{
    (void)cli_tell(&tool->cli, status, message, trace);
    tool->code = code;
    return false;
}

/* ---- calls ------------------------------------------------------------------------------------ */

bool guest_call_typed(struct tool *tool, const char *function, varve_value *result, size_t count,
                      const int32_t *args)
{
    varve_value values[8];
    varve_call_options options = VARVE_INIT(varve_call_options);
    varve_receipt *receipt = NULL;
    varve_error error;

    for (size_t i = 0; i < count && i < 8; i++)
        values[i] = (varve_value){ .type = VARVE_I32, .of.i32 = args[i] };
    options.flags = VARVE_CALL_UNGUARDED;
    const varve_status status =
        varve_session_call(tool->cli.session, &tool->module, function, values, count, result,
                           result == NULL ? 0 : 1, &options, &receipt, &error);
    const bool done = status == VARVE_OK || failed(tool, &error, receipt);
    varve_receipt_free(receipt);
    return done;
}

bool guest_call(struct tool *tool, const char *function, int32_t *result, size_t count, const int32_t *args)
{
    varve_value value = { .type = VARVE_I32 };

    if (!guest_call_typed(tool, function, result == NULL ? NULL : &value, count, args))
        return false;
    if (result != NULL)
        *result = value.of.i32;
    return true;
}

bool guest_has(struct tool *tool, const char *function)
{
    varve_signature signature = VARVE_INIT(varve_signature);

    return varve_session_signature(tool->cli.session, &tool->module, function, &signature, NULL) == VARVE_OK;
}

bool guest_put(struct tool *tool, const void *data, size_t size, int32_t *address)
{
    varve_error error;

    if (!guest_call(tool, tool->alloc, address, GUEST_ARGS((int32_t)(size == 0 ? 1 : size))))
        return false;
    if (*address == 0)
        return tool_fail(tool, EXIT_GUEST, VARVE_LIMIT, "the guest has no memory left", "");
    if (varve_image_write(tool->image, (uint32_t)*address, data, size, &error) != VARVE_OK)
        return failed(tool, &error, NULL);
    return true;
}

bool guest_put_text(struct tool *tool, const char *text, int32_t *address)
{
    return guest_put(tool, text, strlen(text) + 1, address);
}

bool guest_drop(struct tool *tool, int32_t address)
{
    return guest_call(tool, tool->free, NULL, GUEST_ARGS(address));
}

bool guest_read(struct tool *tool, int32_t address, void *data, size_t size)
{
    varve_error error;

    return varve_image_read(tool->image, (uint32_t)address, data, size, &error) == VARVE_OK ||
           failed(tool, &error, NULL);
}

bool guest_text(struct tool *tool, int32_t address, char **text)
{
    const uint64_t size = varve_image_size(tool->image);
    const uint64_t at = (uint32_t)address;

    *text = NULL;
    if (address == 0)
        return true;
    if (at >= size)
        return tool_fail(tool, EXIT_GUEST, VARVE_TRAP, "the guest gave a pointer outside its memory", "");
    *text = strndup((const char *)varve_image_bytes(tool->image) + at, (size_t)(size - at));
    return *text != NULL || tool_fail(tool, EXIT_FAILED, VARVE_MEMORY, "out of memory", "");
}

/* ---- begin ------------------------------------------------------------------------------------ */

/* Beside this program, in its libexec folder, or where the set-up puts modules. */
static bool find_wasm(const char *name, char path[4096])
{
    const char *cache = getenv("VARVE_CACHE"), *home = getenv("HOME");
    char here[4096] = "";
    const ssize_t length = readlink("/proc/self/exe", here, sizeof here - 1);

    here[length < 0 ? 0 : length] = '\0';
    char *slash = strrchr(here, '/');
    if (slash != NULL)
        *slash = '\0';
    for (int i = 0; i < 4; i++) {
        int written = 0;
        if (i == 0)
            written = snprintf(path, 4096, "%s/%s", here, name);
        else if (i == 1)
            written = snprintf(path, 4096, "%s/%s", VARVE_LIBEXEC_DIR, name);
        else if (i == 2 && cache != NULL)
            written = snprintf(path, 4096, "%s/modules/%s", cache, name);
        else if (i == 3 && home != NULL)
            written = snprintf(path, 4096, "%s/.cache/varve/modules/%s", home, name);
        if (written > 0 && written < 4096 && access(path, R_OK) == 0)
            return true;
    }
    return false;
}

static bool deploy(struct tool *tool, const struct tool_facts *facts, const char *given)
{
    varve_deploy_options options = VARVE_INIT(varve_deploy_options);
    char path[4096];
    uint8_t *code = NULL;
    size_t size = 0;
    varve_receipt *receipt = NULL;
    varve_error error;

    if (given == NULL && !find_wasm(facts->wasm, path)) {
        tool->code =
            cli_error(&tool->cli, VARVE_NOT_FOUND,
                      "%s is not here: `tools/setup.sh modules` fetches it, or pass one with --new FILE.wasm",
                      facts->wasm);
        return false;
    }
    tool->code = cli_read_file(&tool->cli, given != NULL ? given : path, &code, &size);
    if (tool->code != EXIT_DONE)
        return false;
    options.name = tool->module_name;
    options.flags = VARVE_DEPLOY_PLAIN;
    const varve_status status =
        varve_session_deploy(tool->cli.session, code, size, &options, &tool->module, &receipt, &error);
    free(code);
    const bool done = status == VARVE_OK || failed(tool, &error, receipt);
    varve_receipt_free(receipt);
    return done;
}

static bool find_module(struct tool *tool)
{
    varve_module_info info = VARVE_INIT(varve_module_info);

    if (varve_session_module(tool->cli.session, &tool->module, &info, NULL) == VARVE_OK)
        return true;
    tool->code =
        cli_error(&tool->cli, VARVE_NOT_FOUND, "no module %s in this state: begin with `varve %s --new`",
                  tool->module_name, tool->cli.program + strlen("varve-"));
    return false;
}

static bool open_image(struct tool *tool)
{
    varve_error error;

    if (varve_session_savepoint(tool->cli.session, &tool->savepoint, &error) != VARVE_OK ||
        varve_image_open(tool->cli.session, &tool->module, NULL, &tool->image, &error) != VARVE_OK)
        return failed(tool, &error, NULL);
    return true;
}

static bool ends_with(const char *text, const char *end)
{
    return strlen(text) >= strlen(end) && strcmp(text + strlen(text) - strlen(end), end) == 0;
}

bool tool_start(struct tool *tool, const struct tool_facts *facts, int *argc, char **argv)
{
    tool->cli.program = facts->program;
    tool->cli.out = stdout;
    cli_start();
    tool->code = cli_globals(&tool->cli, argc, argv);
    if (tool->code == EXIT_DONE)
        tool->code = cli_vm(&tool->cli);
    return tool->code == EXIT_DONE;
}

bool tool_begin(struct tool *tool, const struct tool_facts *facts, int argc, char **argv, char **text)
{
    struct cli *cli = &tool->cli;
    struct cli_option options[16] = {
        { "--module", 0, "M", "the module's name", .text = &tool->module_name },
        { "--branch", 'b', "BRANCH", "the branch to work on (default main)", .text = &cli->branch },
        { "--at", 0, "REV", "look at this commit; it does not change", .text = &cli->at },
        { "--message", 'm', "TEXT", "the commit's message", .text = &cli->message },
        { "--dry-run", 0, NULL, "all but the commit", .flag = &cli->dry_run },
        { "--file", 'f', "FILE", "read the input from FILE", .text = &tool->file },
        { "--new", 0, NULL, "deploy it first, from FILE.wasm when one is given", .flag = &tool->new_module },
    };
    size_t count = 7;
    const char *wasm = NULL;
    size_t size = 0;

    tool->module_name = facts->default_module;
    tool->alloc = facts->alloc;
    tool->free = facts->free;
    for (const struct cli_option *o = facts->more; o != NULL && o->name != NULL && count < 15; o++)
        options[count++] = *o;
    if (!cli_options(cli, &argc, argv, options, facts->usage, facts->about, 0, 2, &tool->code))
        return false;
    int word = 1;
    if (tool->new_module && argc > word && ends_with(argv[word], ".wasm"))
        wasm = argv[word++];
    if (argc - word > 1 || (argc > word && tool->file != NULL)) {
        tool->code = cli_usage(cli, "too many arguments: usage: %s %s", facts->program, facts->usage);
        return false;
    }
    if (argc > word)
        *text = strdup(argv[word]);
    else if (tool->file != NULL || !tool->new_module)
        tool->code = cli_read_file(cli, tool->file != NULL ? tool->file : "-", (uint8_t **)text, &size);
    if (tool->code != EXIT_DONE)
        return false;
    if (tool->new_module && cli->at != NULL) {
        tool->code = cli_usage(cli, "--new makes a commit and --at looks at one: not both");
        return false;
    }
    if (varve_module_id_of(tool->module_name, &tool->module) != VARVE_OK) {
        tool->code = cli_usage(cli, "--module %s: no name for a module", tool->module_name);
        return false;
    }
    tool->code = cli_begin(cli, cli->at != NULL);
    if (tool->code != EXIT_DONE)
        return false;
    return (tool->new_module ? deploy(tool, facts, wasm) : find_module(tool)) && open_image(tool);
}

int tool_end(struct tool *tool, const char *text, bool keep)
{
    struct cli *cli = &tool->cli;

    if (tool->code == EXIT_DONE && keep && cli->at == NULL)
        tool->code = cli_commit(cli, text, false);
    if (tool->code == EXIT_DONE)
        cli_flush(cli);
    tool->code = cli_close(cli, tool->code);
    if (fflush(stdout) != 0 && tool->code == EXIT_DONE)
        tool->code = cli_error(cli, VARVE_IO, "standard output: %s", strerror(errno));
    return tool->code;
}
