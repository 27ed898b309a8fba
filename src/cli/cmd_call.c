/* cmd_call.c - varve call: one call, one durable commit. */
#include "cli/cli.h"

int cmd_call(struct cli *cli, int argc, char **argv)
{
    return cli_step(cli, argc, argv, statement_call, true);
}
