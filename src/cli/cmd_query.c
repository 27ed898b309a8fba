/* cmd_query.c - varve query: a call on any commit, whose changes are undone. */
#include "cli/cli.h"

int cmd_query(struct cli *cli, int argc, char **argv)
{
    return cli_look(cli, argc, argv, statement_query, true);
}
