/* cmd_poke.c - varve poke: bytes into memory, as one commit. */
#include "cli/cli.h"

int cmd_poke(struct cli *cli, int argc, char **argv)
{
    return cli_step(cli, argc, argv, statement_poke, false);
}
