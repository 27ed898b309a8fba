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
    static const varve_commit_id no_id;
    const bool gone = info->number == 0; /* a move that deleted the ref, or to a commit that was deleted */
    const bool nameless = memcmp(&info->id, &no_id, sizeof no_id) == 0;
    char subject[CLI_SUBJECT], number[24];
    char *refs = gone ? NULL : cli_refs_of(cli, &info->id);
    cli_short_id(info->id.bytes, id);
    cli_time_text(info->time_ns, when);
    when[10] = ' ';
    cli_subject(info->message, subject);
    (void)snprintf(number, sizeof number, "r%" PRIu64, info->number);
    (void)fprintf(cli->out, "%s%-5s %s%s  %.19s  ", cli_paint(cli, cli->out, "\033[33m"), gone ? "-" : number,
                  nameless ? "-           " : id, cli_paint(cli, cli->out, "\033[0m"), when);
    if (refs != NULL && refs[0])
        (void)fprintf(cli->out, "%s(%s)%s  ", cli_paint(cli, cli->out, "\033[36m"), refs,
                      cli_paint(cli, cli->out, "\033[0m"));
    if (moves)
        (void)fprintf(cli->out, "%s  ", info->move);
    if (!gone)
        (void)fprintf(cli->out, "%" PRIu64 " page%s  ", info->pages_changed,
                      info->pages_changed == 1 ? "" : "s");
    (void)fprintf(cli->out, "%s\n", subject);
    free(refs);
}

int cmd_log(struct cli *cli, int argc, char **argv)
{
    const char *limit = NULL, *module = NULL;
    bool moves = false;
    uint64_t left = UINT64_MAX;
    char from[CLI_REVISION], until[CLI_REVISION], first[CLI_REVISION];
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
    const char *words = argc > 1 ? argv[1] : "HEAD";
    const char *dots = strstr(words, "..");
    if (dots != NULL) {
        if ((size_t)(dots - words) >= sizeof first)
            return cli_usage(cli, "revision %.40s...: too long", words);
        memcpy(first, words, (size_t)(dots - words));
        first[dots - words] = '\0';
        code = cli_revision(cli, first, until);
    }
    if (code == EXIT_DONE)
        code = cli_revision(cli, dots == NULL ? words : dots + 2, from);
    if (code != EXIT_DONE)
        return code;
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
