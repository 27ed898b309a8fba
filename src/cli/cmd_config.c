/* cmd_config.c - varve config: the store's own settings. */
#include "cli/cli.h"

#include <inttypes.h>
#include <string.h>

static const char *const keys[] = { "retain", "durability", "snapshot_bytes" };
enum { KEY_COUNT = sizeof keys / sizeof *keys };

static void value_of(const varve_store_info *info, const char *key, char text[32])
{
    if (strcmp(key, "durability") == 0)
        (void)snprintf(text, 32, "%s", info->durability == VARVE_BUFFERED ? "buffered" : "durable");
    else if (strcmp(key, "snapshot_bytes") == 0)
        (void)snprintf(text, 32, "%" PRIu64, info->snapshot_bytes);
    else if (info->retain == VARVE_RETAIN_ALL)
        (void)snprintf(text, 32, "all");
    else
        (void)snprintf(text, 32, "%" PRIu64, info->retain);
}

int cli_setting(struct cli *cli, const char *key, const char *value, varve_store_options *options)
{
    if (strcmp(key, "durability") == 0) {
        if (strcmp(value, "durable") != 0 && strcmp(value, "buffered") != 0)
            return cli_usage(cli, "durability %s: durable or buffered", value);
        options->durability = strcmp(value, "buffered") == 0 ? VARVE_BUFFERED : VARVE_DURABLE;
    } else if (strcmp(key, "retain") == 0) {
        options->retain = VARVE_RETAIN_ALL;
        if (strcmp(value, "latest") == 0)
            options->retain = 1;
        else if (strcmp(value, "all") != 0 &&
                 (!cli_parse_u64(value, &options->retain) || options->retain == 0))
            return cli_usage(cli, "retain %s: all, latest, or how many commits of each branch", value);
    } else if (strcmp(key, "snapshot_bytes") == 0) {
        if (!cli_parse_size(value, &options->snapshot_bytes) || options->snapshot_bytes == 0)
            return cli_usage(cli, "snapshot_bytes %s: a number of bytes, as 64M", value);
    } else {
        return cli_usage(cli, "config %s: the settings are retain, durability and snapshot_bytes", key);
    }
    return EXIT_DONE;
}

int cmd_config(struct cli *cli, int argc, char **argv)
{
    const struct cli_option options[] = { { .name = NULL } };
    varve_store_options store = VARVE_INIT(varve_store_options);
    varve_store_info info = VARVE_INIT(varve_store_info);
    varve_error error;
    char text[32];
    int code = EXIT_DONE;

    if (!cli_options(cli, &argc, argv, options, "[KEY [VALUE]]",
                     "List, get or set what the store keeps of its own:\n"
                     "  retain          all, or the newest N commits of each branch (latest: 1); tags stay\n"
                     "  durability      durable or buffered: whether a commit waits for the disk\n"
                     "  snapshot_bytes  after how much log a snapshot is due",
                     0, 2, &code))
        return code;
    if (argc > 1)
        code = cli_setting(cli, argv[1],
                           argc > 2                             ? argv[2]
                           : strcmp(argv[1], "durability") == 0 ? "durable"
                                                                : "1",
                           &store); /* for a key alone, only the key is judged */
    if (code == EXIT_DONE)
        code = cli_open_store(cli, argc < 3);
    if (code != EXIT_DONE)
        return code;
    if (argc > 2 && varve_store_configure(cli->store, &store, &error) != VARVE_OK)
        return cli_fail(cli, &error, NULL);
    if (varve_store_stat(cli->store, &info, &error) != VARVE_OK)
        return cli_fail(cli, &error, NULL);
    for (int i = 0; i < KEY_COUNT; i++) {
        if (argc > 1 && strcmp(argv[1], keys[i]) != 0)
            continue;
        value_of(&info, keys[i], text);
        if (cli->json)
            cli_line(cli, json_pack("{s:s, s:s}", "key", keys[i], "value", text));
        else if (argc == 1)
            (void)fprintf(cli->out, "%s\t%s\n", keys[i], text);
        else if (argc == 2)
            (void)fprintf(cli->out, "%s\n", text);
    }
    return EXIT_DONE;
}
