/* cmd_fsck.c - varve fsck: read everything, believe nothing, report; with --repair, put right what can be. */
#include "cli/cli.h"

#include <inttypes.h>
#include <string.h>

static const char *const severities[] = { "?", "note", "warning", "damage" };

static void print_finding(void *context, const varve_finding *finding)
{
    struct cli *cli = context;

    cli_progress_end(cli);
    if (cli->json) {
        cli_line(cli, json_pack(
                          "{s:s, s:o, s:o, s:o, s:o, s:b}", "severity", severities[finding->severity], "file",
                          finding->file == NULL ? json_null() : cli_json_text(finding->file), "commit",
                          finding->commit == NULL ? json_null() : cli_json_hex(finding->commit->bytes, 32),
                          "module",
                          finding->module == NULL ? json_null() : cli_json_hex(finding->module->bytes, 32),
                          "text", cli_json_text(finding->text), "repaired", finding->repaired));
        return;
    }
    const size_t length = finding->file == NULL ? 0 : strlen(finding->file);
    const bool named = length > 0 && strncmp(finding->text, finding->file, length) == 0;
    (void)fprintf(cli->out, "%s: %s%s%s", severities[finding->severity],
                  length > 0 && !named ? finding->file : "", length > 0 && !named ? ": " : "", finding->text);
    if (finding->commit != NULL) {
        char id[13];
        cli_short_id(finding->commit->bytes, id);
        (void)fprintf(cli->out, " (commit %s)", id);
    }
    if (finding->repaired)
        (void)fputs(" [repaired]", cli->out);
    (void)fputc('\n', cli->out);
}

int cmd_fsck(struct cli *cli, int argc, char **argv)
{
    bool quick = false, repair = false;
    varve_check_options check = VARVE_INIT(varve_check_options);
    uint64_t damage = 0;
    varve_error error;
    int code = EXIT_DONE;
    const struct cli_option options[] = {
        { "--quick", 0, NULL, "structure, not every page", .flag = &quick },
        { "--repair", 0, NULL, "drop the commits that need damaged bytes, keep the rest, go on",
          .flag = &repair },
        { .name = NULL },
    };

    if (!cli_options(cli, &argc, argv, options, "", "Read everything in the store and report what is wrong.",
                     0, 0, &code))
        return code;
    code = cli_find_store(cli);
    if (code != EXIT_DONE)
        return code;
    check.flags = (quick ? VARVE_CHECK_QUICK : 0) | (repair ? VARVE_CHECK_REPAIR : 0);
    check.finding = print_finding;
    check.progress = cli_progress;
    check.context = cli;
    const varve_status status = varve_store_check(cli->store_path, &check, &damage, &error);
    cli_progress_end(cli);
    if (status != VARVE_OK)
        return cli_fail(cli, &error, NULL);
    if (cli->json)
        cli_line(cli, json_pack("{s:I}", "damage", (json_int_t)damage));
    else
        (void)fprintf(cli->out, damage == 0 ? "no damage\n" : "damage: %" PRIu64 "\n", damage);
    return damage == 0 ? EXIT_DONE : EXIT_DAMAGE;
}
