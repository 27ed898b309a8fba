/* cmd_peek.c - varve peek: memory of any commit. */
#include "cli/cli.h"

int cmd_peek(struct cli *cli, int argc, char **argv)
{
    return cli_look(cli, argc, argv, statement_peek, false);
}
