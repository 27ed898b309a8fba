/* cmd_image.c - varve image: a plain image, as one commit. */
#include "cli/cli.h"

int cmd_image(struct cli *cli, int argc, char **argv)
{
    return cli_step(cli, argc, argv, statement_image, false);
}
