/* cmd_log.c - varve log: commits from a revision to its ancestors, newest first; or a ref's moves. */
#include "cli/cli.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void print_commit(struct cli *cli, const varve_commit_info *info, bool moves)
{
    char id[13], when[31];

    if (cli->json) {
        json_t *object = cli_json_commit(cli, info);
        if (moves)
            (void)json_object_set_new(object, "move", json_string(info->move));
        cli_line(cli, object);
        return;
    }
    char *refs = cli_refs_of(cli, &info->id);
    cli_short_id(info->id.bytes, id);
    cli_time_text(info->time_ns, when);
    when[10] = ' ';
    (void)fprintf(
        cli->out, "%sr%-4" PRIu64 " %s%s  %.19s  %s%s%s%s%s%s%" PRIu64 " page%s  %s%s%s\n",
        cli_paint(cli, cli->out, "\033[33m"), info->number, id, cli_paint(cli, cli->out, "\033[0m"), when,
        refs != NULL && refs[0] ? cli_paint(cli, cli->out, "\033[36m") : "",
        refs != NULL && refs[0] ? "(" : "", refs == NULL ? "" : refs, refs != NULL && refs[0] ? ")" : "",
        refs != NULL && refs[0] ? cli_paint(cli, cli->out, "\033[0m") : "",
        refs != NULL && refs[0] ? "  " : "", info->pages_changed, info->pages_changed == 1 ? "" : "s",
        moves ? info->move : "", moves ? "  " : "", info->message);
    free(refs);
}

/* HEAD in either end of a range stands for the branch. */
static void put_branch(const struct cli *cli, const char *revision, char text[1024])
{
    const bool head = strncmp(revision, "HEAD", 4) == 0 && strchr("~^@", revision[4]) != NULL;

    (void)snprintf(text, 1024, "%s%s", head ? cli_branch(cli) : "", head ? revision + 4 : revision);
}

int cmd_log(struct cli *cli, int argc, char **argv)
{
    const char *limit = NULL, *module = NULL;
    bool moves = false;
    uint64_t left = UINT64_MAX;
    char from[1024], until[1024] = "", words[1024];
    varve_log_options log_options = VARVE_INIT(varve_log_options);
    varve_log *log = NULL;
    const varve_commit_info *info = NULL;
    varve_ref ref = VARVE_INIT(varve_ref);
    varve_error error;
    int code = EXIT_DONE;
    const struct cli_option options[] = {
        { "--branch", 'b', "BRANCH", "the branch that HEAD stands for", .text = &cli->branch },
        { "--count", 'n', "N", "at most N", .text = &limit },
        { "--module", 0, "MODULE", "only commits that changed it", .text = &module },
        { "--moves", 0, NULL, "the ref's own moves, restores included", .flag = &moves },
        { .name = NULL },
    };

    if (!cli_options(cli, &argc, argv, options, "[REV | REV..REV]", "List commits, newest first.", 0, 1,
                     &code))
        return code;
    if (limit != NULL && !cli_parse_u64(limit, &left))
        return cli_usage(cli, "-n %s: not a number", limit);
    (void)snprintf(words, sizeof words, "%s", argc > 1 ? argv[1] : "HEAD");
    char *dots = strstr(words, "..");
    put_branch(cli, dots == NULL ? words : dots + 2, from);
    if (dots != NULL) {
        *dots = '\0';
        put_branch(cli, words, until);
    }
    code = cli_open_store(cli, true);
    if (code != EXIT_DONE)
        return code;
    if (argc < 2 && varve_ref_next(cli->store, NULL, &ref, NULL) == VARVE_END)
        return EXIT_DONE; /* a new store has no history, which is no failure */
    log_options.from = from;
    log_options.until = dots == NULL ? NULL : until;
    log_options.module = module;
    log_options.moves = moves;
    if (varve_log_open(cli->store, &log_options, &log, &error) != VARVE_OK)
        return cli_fail(cli, &error, NULL);
    for (; left > 0; left--) {
        const varve_status status = varve_log_next(log, &info, &error);
        if (status == VARVE_END)
            break;
        if (status != VARVE_OK) {
            code = cli_fail(cli, &error, NULL);
            break;
        }
        print_commit(cli, info, moves);
    }
    varve_log_close(log);
    return code;
}
