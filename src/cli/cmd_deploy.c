/* cmd_deploy.c - varve deploy: a module, its memory and its start, as one commit. */
#include "cli/cli.h"

int cmd_deploy(struct cli *cli, int argc, char **argv)
{
    return cli_step(cli, argc, argv, statement_deploy, true);
}
