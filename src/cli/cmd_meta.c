/* cmd_meta.c - varve meta: looks, unless a VALUE or --unset says to change. */
#include "cli/cli.h"

#include <string.h>

/* How many words there are besides options; -b, -m and --at take a value. */
static bool changes(int argc, char **argv)
{
    int words = 0;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--") == 0)
            return words + argc - 1 - i > 1;
        if (strcmp(argv[i], "--unset") == 0)
            return true;
        if (strcmp(argv[i], "-b") == 0 || strcmp(argv[i], "-m") == 0 || strcmp(argv[i], "--at") == 0 ||
            strcmp(argv[i], "--branch") == 0 || strcmp(argv[i], "--message") == 0)
            i++;
        else if (argv[i][0] != '-' || cli_is_number(argv[i]))
            words++;
    }
    return words > 1;
}

int cmd_meta(struct cli *cli, int argc, char **argv)
{
    if (changes(argc, argv))
        return cli_step(cli, argc, argv, statement_meta, false);
    return cli_look(cli, argc, argv, statement_meta, false);
}
