/* cmd_delete.c - varve delete: take one commit out of the history. */
#include "cli/cli.h"

#include <inttypes.h>

int cmd_delete(struct cli *cli, int argc, char **argv)
{
    const struct cli_option options[] = { { .name = NULL } };
    varve_commit *commit = NULL;
    varve_error error;
    int code = EXIT_DONE;

    if (!cli_options(
            cli, &argc, argv, options, "REV",
            "Take the commit REV out of the history. Other commits never change; its space goes with the\n"
            "last session that uses it, when `varve gc` runs or the store tidies up.",
            1, 1, &code))
        return code;
    code = cli_open_store(cli, false);
    if (code == EXIT_DONE)
        code = cli_commit_open(cli, argv[1], &commit);
    if (code == EXIT_DONE && varve_commit_delete(cli->store, commit, &error) != VARVE_OK) {
        code = cli_fail(cli, &error, NULL);
        if (error.status == VARVE_MISUSE)
            code = EXIT_FAILED; /* a ref names it: refused, not misspelt */
    }
    if (code == EXIT_DONE) {
        const varve_commit_info *info = varve_commit_get(commit);
        char id[13];
        if (cli->json)
            cli_set(cli, "deleted", cli_json_hex(info->id.bytes, sizeof info->id.bytes));
        cli_short_id(info->id.bytes, id);
        cli_note(cli, "deleted r%" PRIu64 " %s", info->number, id);
    }
    varve_commit_close(commit);
    return code;
}
