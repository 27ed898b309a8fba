/* cmd_ls.c - varve ls: what a state holds. */
#include "cli/cli.h"

int cmd_ls(struct cli *cli, int argc, char **argv)
{
    return cli_look(cli, argc, argv, statement_ls, false);
}
