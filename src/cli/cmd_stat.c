/* cmd_stat.c - varve stat: what the store is and costs. */
#include "cli/cli.h"

#include <inttypes.h>

static void print_text(struct cli *cli, const varve_store_info *info)
{
    char stored[24];

    cli_size_text(info->bytes_stored, stored);
    (void)fprintf(cli->out, "store        %s\nlayout       %s, format %u\n", cli->store_path,
                  cli_layout_name(info->layout), info->format);
    (void)fprintf(cli->out, "commits      %" PRIu64 "\nrefs         %" PRIu64 "\n", info->commits,
                  info->refs);
    (void)fprintf(cli->out, "stored       %s\ndurability   %s\n", stored,
                  info->durability == VARVE_BUFFERED ? "buffered" : "durable");
    cli_size_text(info->journal_bytes, stored);
    if (info->layout == VARVE_LAYOUT_JOURNAL)
        (void)fprintf(cli->out, "journal      %s\n", stored);
    cli_size_text(info->bytes_reclaimable, stored);
    (void)fprintf(cli->out, "reclaimable  %s\n", stored);
    if (info->retain == VARVE_RETAIN_ALL)
        (void)fprintf(cli->out, "retain       all\n");
    else
        (void)fprintf(cli->out, "retain       %" PRIu64 "\n", info->retain);
    if (info->writer_pid != 0)
        (void)fprintf(cli->out, "writer       process %" PRIu64 "\n", info->writer_pid);
    if (info->damaged)
        (void)fprintf(cli->out, "damaged      yes: see `varve fsck`\n");
}

int cmd_stat(struct cli *cli, int argc, char **argv)
{
    const struct cli_option options[] = { { .name = NULL } };
    varve_maintain_options maintain = VARVE_INIT(varve_maintain_options);
    varve_store_info info = VARVE_INIT(varve_store_info);
    uint64_t reclaimable = 0;
    varve_error error;
    int code = EXIT_DONE;

    if (!cli_options(cli, &argc, argv, options, "", "Sizes and counts of the store.", 0, 0, &code))
        return code;
    code = cli_open_store(cli, true);
    if (code != EXIT_DONE)
        return code;
    if (varve_store_stat(cli->store, &info, &error) != VARVE_OK)
        return cli_fail(cli, &error, NULL);
    maintain.flags =
        VARVE_MAINTAIN_DRY_RUN; /* a damaged log cannot tell what it needs: then nothing is reclaimable */
    if (varve_store_maintain(cli->store, &maintain, &reclaimable, NULL) == VARVE_OK)
        info.bytes_reclaimable = reclaimable;
    if (!cli->json) {
        print_text(cli, &info);
        return EXIT_DONE;
    }
    cli_set(cli, "layout", json_string(cli_layout_name(info.layout)));
    cli_set(cli, "format", json_integer(info.format));
    cli_set(cli, "commits", json_integer((json_int_t)info.commits));
    cli_set(cli, "refs", json_integer((json_int_t)info.refs));
    cli_set(cli, "durability", json_string(info.durability == VARVE_BUFFERED ? "buffered" : "durable"));
    cli_set(cli, "bytes_stored", json_integer((json_int_t)info.bytes_stored));
    cli_set(cli, "bytes_reclaimable", json_integer((json_int_t)info.bytes_reclaimable));
    cli_set(cli, "journal_bytes", json_integer((json_int_t)info.journal_bytes));
    cli_set(cli, "damaged", json_boolean(info.damaged));
    cli_set(cli, "writer", info.writer_pid == 0 ? json_null() : json_integer((json_int_t)info.writer_pid));
    return EXIT_DONE;
}
