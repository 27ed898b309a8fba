/* cmd_gc.c - varve gc: apply retention, give back the space of what nothing needs. */
#include "cli/cli.h"

int cmd_gc(struct cli *cli, int argc, char **argv)
{
    bool dry = false, snapshot = false, fork = false;
    varve_maintain_options maintain = VARVE_INIT(varve_maintain_options);
    uint64_t freed = 0;
    varve_error error;
    char text[24];
    const struct cli_option options[] = {
        { "--dry-run", 0, NULL, "say about how much it would be, and change nothing", .flag = &dry },
        { "--snapshot", 0, NULL, "also bring the files of images up to where the branches stand",
          .flag = &snapshot },
        { "--fork", 0, NULL, "with --snapshot: by a process of its own, or when the store is closed", .flag = &fork },
        { .name = NULL },
    };
    int code = EXIT_DONE;

    if (!cli_options(cli, &argc, argv, options, "",
                     "Keep what `varve config retain` says, and give back the space of what nothing needs.",
                     0, 0, &code))
        return code;
    code = cli_open_store(cli, dry);
    if (code != EXIT_DONE)
        return code;
    maintain.flags = (dry ? VARVE_MAINTAIN_DRY_RUN : 0) | (snapshot ? VARVE_MAINTAIN_SNAPSHOT : 0) |
                     (fork ? VARVE_MAINTAIN_FORK : 0);
    maintain.progress = cli_progress;
    maintain.context = cli;
    const varve_status status = varve_store_maintain(cli->store, &maintain, &freed, &error);
    cli_progress_end(cli);
    if (status != VARVE_OK)
        return cli_fail(cli, &error, NULL);
    if (cli->json) {
        cli_set(cli, "bytes_freed", json_integer((json_int_t)freed));
        return EXIT_DONE;
    }
    cli_size_text(freed, text);
    (void)fprintf(cli->out, "%s %s\n", dry ? "would free about" : "freed", text);
    return EXIT_DONE;
}
