/* cmd_diff.c - varve diff: what differs between two commits. */
#include "cli/cli.h"

#include <inttypes.h>
#include <string.h>

static const char *const kind_names[] = { "?", "added", "removed", "code", "size", "global", "page", "meta" };

struct diff_view {
    bool pages, bytes;      /* --pages, --bytes */
    varve_module_id module; /* of the summary line that is being collected */
    char name[128];         /* or its id when it has none */
    uint64_t page_count, byte_count;
    char notes[64]; /* "added", "code, size" */
    bool any, open;
};

uint64_t cli_page_distance(const varve_change *change)
{
    static const uint8_t zeros[4096];
    const uint8_t *before = change->before == NULL ? zeros : change->before;
    const uint8_t *after = change->after == NULL ? zeros : change->after;
    uint64_t count = 0;

    for (size_t i = 0; i < sizeof zeros; i++)
        count += before[i] != after[i];
    return count;
}

static void end_module(struct cli *cli, struct diff_view *view)
{
    if (view->open && !view->pages && !view->bytes && !cli->json) {
        (void)fprintf(cli->out, "%s  ", view->name);
        if (view->notes[0])
            (void)fprintf(cli->out, "%s%s", view->notes, view->page_count > 0 ? ", " : "");
        if (view->page_count > 0)
            (void)fprintf(cli->out, "%" PRIu64 " page%s, %" PRIu64 " bytes", view->page_count,
                          view->page_count == 1 ? "" : "s", view->byte_count);
        (void)fputc('\n', cli->out);
    }
    view->open = false;
}

static void name_of(const varve_change *change, char name[128])
{
    varve_hex_format(change->module.bytes, name);
    if (change->name[0] != '\0')
        (void)snprintf(name, 128, "%s", change->name);
}

static void print_hex_row(FILE *out, char sign, uint64_t address, const uint8_t *data)
{
    (void)fprintf(out, "%c %08" PRIx64 " ", sign, address);
    for (int i = 0; i < 16; i++)
        (void)fprintf(out, " %02x", data[i]);
    (void)fputc('\n', out);
}

static void print_page(struct cli *cli, const struct diff_view *view, const varve_change *change)
{
    static const uint8_t zeros[4096];
    const uint8_t *before = change->before == NULL ? zeros : change->before;
    const uint8_t *after = change->after == NULL ? zeros : change->after;

    (void)fprintf(cli->out, "%s 0x%" PRIx64 "\n", view->name, change->index * 4096);
    for (size_t row = 0; view->bytes && row < sizeof zeros; row += 16)
        if (memcmp(before + row, after + row, 16) != 0) {
            print_hex_row(cli->out, '-', change->index * 4096 + row, before + row);
            print_hex_row(cli->out, '+', change->index * 4096 + row, after + row);
        }
}

static void print_json(struct cli *cli, const struct diff_view *view, const varve_change *change)
{
    const bool page = change->kind == VARVE_CHANGE_PAGE;
    json_t *object = json_pack("{s:s}", "change", kind_names[change->kind]);

    if (change->kind == VARVE_CHANGE_META) {
        (void)json_object_set_new(object, "key", cli_json_text(change->key));
    } else {
        (void)json_object_set_new(object, "module", cli_json_hex(change->module.bytes, 32));
        (void)json_object_set_new(object, "name", cli_json_text(change->name));
        (void)json_object_set_new(object, "index", json_integer((json_int_t)change->index));
    }
    if (!page || view->bytes) {
        (void)json_object_set_new(
            object, "before",
            change->before == NULL ? json_null() : cli_json_bytes(change->before, change->before_size));
        (void)json_object_set_new(object, "after",
                                  change->after == NULL ? json_null()
                                                        : cli_json_bytes(change->after, change->after_size));
    }
    cli_line(cli, object);
}

static void take_change(struct cli *cli, struct diff_view *view, const varve_change *change)
{
    view->any = true;
    if (change->kind == VARVE_CHANGE_META) {
        end_module(cli, view);
        if (cli->json)
            print_json(cli, view, change);
        else
            (void)fprintf(cli->out, "meta %s\n", change->key);
        return;
    }
    if (!view->open || memcmp(&view->module, &change->module, sizeof view->module) != 0) {
        end_module(cli, view);
        view->open = true;
        view->module = change->module;
        view->page_count = view->byte_count = 0;
        view->notes[0] = '\0';
        name_of(change, view->name);
    }
    if (cli->json) {
        print_json(cli, view, change);
    } else if (change->kind != VARVE_CHANGE_PAGE) {
        const size_t used = strlen(view->notes);
        (void)snprintf(view->notes + used, sizeof view->notes - used, "%s%s", used > 0 ? ", " : "",
                       kind_names[change->kind]);
        if (view->pages || view->bytes)
            (void)fprintf(cli->out, "%s %s\n", view->name, kind_names[change->kind]);
    } else {
        view->page_count++;
        view->byte_count += cli_page_distance(change);
        if (view->pages || view->bytes)
            print_page(cli, view, change);
    }
}

int cmd_diff(struct cli *cli, int argc, char **argv)
{
    struct diff_view view = { .any = false };
    bool exit_code = false;
    varve_commit *from = NULL, *to = NULL;
    varve_diff *diff = NULL;
    const varve_change *change = NULL;
    varve_module_info module;
    varve_error error;
    int code = EXIT_DONE;
    const struct cli_option options[] = {
        { "--branch", 'b', "BRANCH", "the branch that HEAD stands for", .text = &cli->branch },
        { "--pages", 0, NULL, "a line per page", .flag = &view.pages },
        { "--bytes", 0, NULL, "the bytes of both sides", .flag = &view.bytes },
        { "--exit-code", 0, NULL, "exit 1 when they differ", .flag = &exit_code },
        { .name = NULL },
    };

    if (!cli_options(cli, &argc, argv, options, "REV [REV] [MODULE]",
                     "Compare two commits; the second is HEAD by default.", 1, 3, &code))
        return code;
    cli->at = argc > 2 ? argv[2] : "HEAD";
    code = cli_begin(cli, true);
    if (code == EXIT_DONE)
        code = cli_commit_open(cli, argv[1], &from);
    if (code == EXIT_DONE)
        code = cli_commit_open(cli, cli->at, &to);
    if (code == EXIT_DONE && argc > 3)
        code = cli_module(cli, argv[3], &module);
    if (code == EXIT_DONE && varve_diff_open(cli->store, from, to, &diff, &error) != VARVE_OK)
        code = cli_fail(cli, &error, NULL);
    while (code == EXIT_DONE) {
        const varve_status status = varve_diff_next(diff, &change, &error);
        if (status == VARVE_END)
            break;
        if (status != VARVE_OK)
            code = cli_fail(cli, &error, NULL);
        else if (argc <= 3 || (change->kind != VARVE_CHANGE_META &&
                               memcmp(&module.id, &change->module, sizeof module.id) == 0))
            take_change(cli, &view, change);
    }
    if (code == EXIT_DONE) {
        end_module(cli, &view);
        code = exit_code && view.any ? EXIT_FAILED : EXIT_DONE;
    }
    varve_diff_close(diff);
    varve_commit_close(to);
    varve_commit_close(from);
    return code;
}
