/* cmd_clone.c - varve clone: a whole store once more, also in another layout. */
#include "cli/cli.h"

int cmd_clone(struct cli *cli, int argc, char **argv)
{
    varve_clone_options clone = VARVE_INIT(varve_clone_options);
    varve_store_options look = VARVE_INIT(varve_store_options);
    varve_store_info info = VARVE_INIT(varve_store_info);
    const char *layout = NULL;
    bool salvage = false;
    varve_error error;
    int code = EXIT_DONE;
    const struct cli_option options[] = {
        { "--layout", 0, "LAYOUT", "of the copy: journal, tree, flat, chain (default: as SRC)",
          .text = &layout },
        { "--salvage", 0, NULL, "leave out commits that are damaged, and name them", .flag = &salvage },
        { .name = NULL },
    };

    if (!cli_options(cli, &argc, argv, options, "SRC DST",
                     "Make in DST, an empty or new directory, a store that holds what the one in SRC holds:\n"
                     "all commits with the same ids and roots, and all refs. SRC is only read.",
                     2, 2, &code))
        return code;
    if (layout != NULL && !cli_layout_parse(layout, &clone.layout))
        return cli_usage(cli, "--layout %s: journal, tree, flat or chain", layout);
    look.flags = VARVE_STORE_READ_ONLY;
    cli->looks = true;
    if (varve_store_open(argv[1], &look, &cli->store, &error) != VARVE_OK)
        return cli_fail(cli, &error, NULL);
    clone.flags = salvage ? VARVE_CLONE_SALVAGE : 0;
    clone.finding = cli_finding;
    clone.progress = cli_progress;
    clone.context = cli;
    const varve_status status = varve_store_clone(cli->store, argv[2], &clone, &error);
    cli_progress_end(cli);
    if (status != VARVE_OK)
        return cli_fail(cli, &error, NULL);
    varve_store_close(cli->store); /* the answer is of what was made */
    cli->store = NULL;
    if (varve_store_open(argv[2], &look, &cli->store, &error) != VARVE_OK ||
        varve_store_stat(cli->store, &info, &error) != VARVE_OK)
        return cli_fail(cli, &error, NULL);
    const char *made = cli_layout_name(info.layout);
    if (cli->json) {
        cli_set(cli, "store", cli_json_text(argv[2]));
        cli_set(cli, "layout", json_string(made));
        cli_set(cli, "commits", json_integer((json_int_t)info.commits));
    } else {
        (void)fprintf(cli->out, "cloned %llu commits into a %s store in %s\n",
                      (unsigned long long)info.commits, made, argv[2]);
    }
    return EXIT_DONE;
}
