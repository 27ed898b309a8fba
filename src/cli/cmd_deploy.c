/* cmd_deploy.c - varve deploy: a module, its memory and its start, as one commit. */
#include "cli/cli.h"

#include <string.h>

/* The last word but the options says what is deployed; the file's name when no NAME is given. */
int cmd_deploy(struct cli *cli, int argc, char **argv)
{
    char message[80];
    const char *last = NULL;

    for (int i = 1; i < argc; i++)
        if (argv[i][0] != '-' && (i == 1 || argv[i - 1][0] != '-' || strchr(argv[i - 1], '=') != NULL))
            last = argv[i];
    const char *slash = last == NULL ? NULL : strrchr(last, '/');
    (void)snprintf(message, sizeof message, "deploy %s",
                   last == NULL    ? "a module"
                   : slash == NULL ? last
                                   : slash + 1);
    return cli_step(cli, argc, argv, statement_deploy, message, true);
}
