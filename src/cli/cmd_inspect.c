/* cmd_inspect.c - varve inspect: what a module is, and whether it could be deployed; needs no store. */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text == NULL ? "" : text;
}

static void print_types(FILE *out, const json_t *types)
{
    size_t index = 0;
    json_t *type = NULL;

    json_array_foreach((json_t *)types, index, type)(void)
        fprintf(out, "%s%s", index == 0 ? "" : " ", json_string_value(type));
}

/* Its least and most in pages of 64 KiB. */
static void print_memory(FILE *out, const json_t *memory)
{
    const json_t *most = json_object_get(memory, "max");

    if (!json_is_object(memory)) {
        (void)fputs("memory   none\n", out);
        return;
    }
    (void)fprintf(out, "memory   %lld x 64 KiB",
                  (long long)json_integer_value(json_object_get(memory, "min")));
    if (json_is_integer(most))
        (void)fprintf(out, ", at most %lld", (long long)json_integer_value(most));
    (void)fprintf(out, "%s\n", json_is_true(json_object_get(memory, "imported")) ? ", imported" : "");
}

static void print_report(FILE *out, const json_t *report)
{
    size_t index = 0;
    json_t *item = NULL;

    (void)fprintf(out, "kind     %s\n", text_of(report, "kind"));
    print_memory(out, json_object_get(report, "memory"));
    (void)fprintf(out, "globals  %d\n", (int)json_integer_value(json_object_get(report, "globals")));
    json_array_foreach(json_object_get(report, "exports"), index, item)
    {
        (void)fprintf(out, "export   %s (", text_of(item, "name"));
        print_types(out, json_object_get(item, "params"));
        (void)fputs(") -> (", out);
        print_types(out, json_object_get(item, "results"));
        (void)fputs(")\n", out);
    }
    json_array_foreach(json_object_get(report, "imports"), index, item)(void)
        fprintf(out, "import   %s.%s %s: %s\n", text_of(item, "module"), text_of(item, "name"),
                text_of(item, "signature"), text_of(item, "by"));
    json_array_foreach(json_object_get(report, "refused"), index, item)(void)
        fprintf(out, "refused  %s\n", text_of(item, "why"));
}

int cmd_inspect(struct cli *cli, int argc, char **argv)
{
    const struct cli_option options[] = { { .name = NULL } };
    uint8_t *data = NULL;
    size_t size = 0;
    char *text = NULL;
    varve_error error;
    int code = EXIT_DONE;

    if (!cli_options(cli, &argc, argv, options, "FILE.wasm",
                     "Read a module without deploying it; exit 1 if deploy would refuse.", 1, 1, &code))
        return code;
    code = cli_vm(cli);
    if (code == EXIT_DONE)
        code = cli_read_file(cli, argv[1], &data, &size);
    if (code != EXIT_DONE)
        return code;
    const varve_status status = varve_vm_inspect(cli->vm, data, size, &text, &error);
    free(data);
    if (status == VARVE_INVALID)
        return cli_error(cli, VARVE_REFUSED, "%s: %s", argv[1], error.message);
    if (status != VARVE_OK)
        return cli_fail(cli, &error, NULL);
    json_t *report = json_loads(text, 0, NULL);
    varve_free(text);
    if (report == NULL)
        return cli_error(cli, VARVE_INVALID, "%s: the report is no JSON", argv[1]);
    const bool refused = json_array_size(json_object_get(report, "refused")) > 0;
    if (cli->json) {
        cli_line(cli, json_incref(report));
    } else {
        print_report(cli->out, report);
    }
    json_decref(report);
    return refused ? EXIT_FAILED : EXIT_DONE;
}
