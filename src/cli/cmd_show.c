/* cmd_show.c - varve show: one commit in full, and the modules that it changed. */
#include "cli/cli.h"

#include <inttypes.h>
#include <string.h>

struct tally {
    varve_module_id id;
    char name[128];
    uint64_t pages, bytes;
    bool any;
};

static void print_tally(struct cli *cli, const struct tally *tally, json_t *changed)
{
    char hex[65];

    varve_hex_format(tally->id.bytes, hex);
    if (cli->json)
        (void)json_array_append_new(
            changed, json_pack("{s:s, s:o, s:I, s:I}", "module", hex, "name", cli_json_text(tally->name),
                               "pages", (json_int_t)tally->pages, "bytes", (json_int_t)tally->bytes));
    else
        (void)fprintf(cli->out, "%-8s  %s  %" PRIu64 " page%s, %" PRIu64 " bytes\n", "changed",
                      tally->name[0] ? tally->name : hex, tally->pages, tally->pages == 1 ? "" : "s",
                      tally->bytes);
}

/* The difference with the parent, summed by module. */
static int show_changed(struct cli *cli, const varve_commit *commit, json_t *changed)
{
    const varve_commit_info *info = varve_commit_get(commit);
    varve_commit *parent = NULL;
    varve_diff *diff = NULL;
    const varve_change *change = NULL;
    struct tally tally = { .any = false };
    varve_error error;
    char hex[65];
    varve_status status = VARVE_OK;
    static const varve_commit_id none;

    varve_hex_format(info->parent.bytes, hex);
    if (memcmp(&info->parent, &none, sizeof none) != 0 &&
        varve_commit_open(cli->store, hex, &parent, &error) != VARVE_OK)
        return cli_fail(cli, &error, NULL);
    status = varve_diff_open(cli->store, parent, commit, &diff, &error);
    while (status == VARVE_OK && (status = varve_diff_next(diff, &change, &error)) == VARVE_OK) {
        if (change->kind == VARVE_CHANGE_META)
            continue;
        if (tally.any && memcmp(&tally.id, &change->module, sizeof tally.id) != 0) {
            print_tally(cli, &tally, changed);
            tally = (struct tally){ .any = false };
        }
        tally.any = true;
        tally.id = change->module;
        (void)snprintf(tally.name, sizeof tally.name, "%s", change->name);
        if (change->kind == VARVE_CHANGE_PAGE) {
            tally.pages++;
            tally.bytes += cli_page_distance(change);
        }
    }
    if (tally.any)
        print_tally(cli, &tally, changed);
    varve_diff_close(diff);
    varve_commit_close(parent);
    return status == VARVE_OK || status == VARVE_END ? EXIT_DONE : cli_fail(cli, &error, NULL);
}

static int show(struct cli *cli, const varve_commit *commit)
{
    const varve_commit_info *info = varve_commit_get(commit);
    char id[65], root[65], parent[65], when[31];
    json_t *changed = NULL;

    if (cli->json) {
        json_decref(cli->answer);
        cli->answer = cli_json_commit(cli, info);
        changed = json_array();
        cli_set(cli, "changed", changed);
        return show_changed(cli, commit, changed);
    }
    varve_hex_format(info->id.bytes, id);
    varve_hex_format(info->root.bytes, root);
    varve_hex_format(info->parent.bytes, parent);
    cli_time_text(info->time_ns, when);
    (void)fprintf(cli->out, "id        %s\nnumber    r%" PRIu64 "\nroot      %s\nparent    %s\n", id,
                  info->number, root, strspn(parent, "0") == 64 ? "none" : parent);
    (void)fprintf(cli->out, "branch    %s\ntime      %s\nengine    %s\nmessage   ", info->branch, when,
                  info->engine[0] ? info->engine : "none");
    cli_put_plain(cli->out, info->message, "\n          ");
    (void)fprintf(cli->out, "\nwritten   %" PRIu64 " bytes\n", info->bytes_written);
    return show_changed(cli, commit, NULL);
}

int cmd_show(struct cli *cli, int argc, char **argv)
{
    varve_commit *commit = NULL;
    int code = EXIT_DONE;
    const struct cli_option options[] = {
        { "--branch", 'b', "BRANCH", "the branch that HEAD stands for", .text = &cli->branch },
        { .name = NULL },
    };

    if (!cli_options(cli, &argc, argv, options, "[REV]", "Show one commit and what it changed.", 0, 1, &code))
        return code;
    cli->at = argc > 1 ? argv[1] : "HEAD";
    code = cli_begin(cli, true);
    if (code == EXIT_DONE)
        code = cli_commit_open(cli, cli->at, &commit);
    if (code == EXIT_DONE)
        code = show(cli, commit);
    varve_commit_close(commit);
    return code;
}
