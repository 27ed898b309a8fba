/* cmd_restore.c - varve restore: move the branch to another commit. Newer commits stay. */
#include "cli/cli.h"

#include <inttypes.h>
#include <string.h>

int cmd_restore(struct cli *cli, int argc, char **argv)
{
    varve_commit *from = NULL, *to = NULL;
    varve_error error;
    int code = EXIT_DONE;
    const struct cli_option options[] = {
        { "--branch", 'b', "BRANCH", "the branch to move (default main)", .text = &cli->branch },
        { .name = NULL },
    };

    if (!cli_options(cli, &argc, argv, options, "REV", "Move the branch to REV; newer commits stay.", 1, 1,
                     &code))
        return code;
    code = cli_open_store(cli, false);
    if (code == EXIT_DONE)
        code = cli_commit_open(cli, argv[1], &to);
    if (code == EXIT_DONE)
        code = cli_commit_open(cli, "HEAD", &from);
    const char *branch = cli_branch(cli);
    if (code == EXIT_DONE && varve_ref_set(cli->store, branch, to, from, 0, &error) != VARVE_OK)
        code = cli_fail(cli, &error, NULL);
    if (code == EXIT_DONE && cli->json) {
        cli_set(cli, "branch", cli_json_text(branch));
        cli_set(cli, "from", cli_json_commit(cli, varve_commit_get(from)));
        cli_set(cli, "to", cli_json_commit(cli, varve_commit_get(to)));
    } else if (code == EXIT_DONE) {
        (void)fprintf(cli->out, "%s r%" PRIu64 " -> r%" PRIu64 "; back with: varve restore %s@{1}\n", branch,
                      varve_commit_get(from)->number, varve_commit_get(to)->number, branch);
    }
    varve_commit_close(from);
    varve_commit_close(to);
    return code;
}
