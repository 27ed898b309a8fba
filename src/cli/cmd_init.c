/* cmd_init.c - varve init: an empty store. */
#include "cli/cli.h"

#include <string.h>

int cmd_init(struct cli *cli, int argc, char **argv)
{
    const char *layout = "journal", *durability = NULL, *retain = NULL;
    varve_store_options store = VARVE_INIT(varve_store_options);
    varve_store_options settings = VARVE_INIT(varve_store_options);
    varve_store_info info = VARVE_INIT(varve_store_info);
    varve_error error;
    int code = EXIT_DONE;
    const struct cli_option options[] = {
        { "--layout", 0, "LAYOUT", "how bytes are placed: journal (default), tree, flat, chain", .text = &layout },
        { "--retain", 0, "all|latest|N", "which commits are kept: all, or the newest of each branch",
          .text = &retain },
        { "--durability", 0, "durable|buffered", "whether a commit waits for the disk", .text = &durability },
        { .name = NULL },
    };

    if (!cli_options(cli, &argc, argv, options, "[DIR]", "Make an empty store in DIR (default: here).", 0, 1,
                     &code))
        return code;
    if (argc > 1 && argv[1][0] == '\0')
        return cli_usage(cli, "DIR: no name is given");
    const char *given = argc > 1 ? argv[1] : cli->store_option != NULL ? cli->store_option : ".";
    if (!cli_layout_parse(layout, &store.layout))
        return cli_usage(cli, "--layout %s: journal, tree, flat or chain", layout);
    if (retain != NULL)
        code = cli_setting(cli, "retain", retain, &settings);
    if (code == EXIT_DONE && durability != NULL)
        code = cli_setting(cli, "durability", durability, &settings);
    if (code != EXIT_DONE)
        return code;
    const varve_layout wanted = store.layout;
    store.flags = VARVE_STORE_READ_ONLY;
    store.layout = VARVE_LAYOUT_DEFAULT;
    if (varve_store_open(given, &store, &cli->store, &error) != VARVE_NOT_FOUND)
        return cli_error(cli, VARVE_EXISTS, "%s: already a store", given);
    store.layout = wanted;
    store.flags = VARVE_STORE_CREATE;
    if (varve_store_open(given, &store, &cli->store, &error) != VARVE_OK ||
        ((retain != NULL || durability != NULL) &&
         varve_store_configure(cli->store, &settings, &error) != VARVE_OK) ||
        varve_store_stat(cli->store, &info, &error) != VARVE_OK)
        return cli_fail(cli, &error, NULL);
    if (cli->json) {
        cli_set(cli, "store", cli_json_text(given));
        cli_set(cli, "layout", json_string(layout));
        cli_set(cli, "format", json_integer((json_int_t)info.format));
    } else {
        (void)fprintf(cli->out, "created a %s store in %s\n", layout, given);
    }
    return EXIT_DONE;
}
