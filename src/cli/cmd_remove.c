/* cmd_remove.c - varve remove: a module out of the state, as one commit. */
#include "cli/cli.h"

int cmd_remove(struct cli *cli, int argc, char **argv)
{
    return cli_step(cli, argc, argv, statement_remove, false);
}
