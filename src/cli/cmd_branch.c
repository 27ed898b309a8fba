/* cmd_branch.c - varve branch and varve tag: list, make, delete names of commits. */
#include "cli/cli.h"

#include <inttypes.h>
#include <string.h>

static bool is_tag(const char *name)
{
    return strncmp(name, "tags/", 5) == 0;
}

static int list_refs(struct cli *cli, bool tags)
{
    varve_ref ref = VARVE_INIT(varve_ref);

    for (bool first = true; varve_ref_next(cli->store, first ? NULL : ref.name, &ref, NULL) == VARVE_OK;
         first = false) {
        varve_commit *commit = NULL;
        varve_error error;
        char hex[65], subject[CLI_SUBJECT];
        if (is_tag(ref.name) != tags)
            continue;
        varve_hex_format(ref.commit.bytes, hex);
        if (varve_commit_open(cli->store, hex, &commit, &error) != VARVE_OK)
            return cli_fail(cli, &error, NULL);
        const varve_commit_info *info = varve_commit_get(commit);
        cli_subject(info->message, subject);
        const char *name = tags ? ref.name + 5 : ref.name;
        if (cli->json)
            cli_line(cli, json_pack("{s:o, s:s, s:I, s:I}", "name", cli_json_text(name), "commit", hex,
                                    "number", (json_int_t)info->number, "moves", (json_int_t)ref.moves));
        else
            (void)fprintf(cli->out, "%-16s  r%-4" PRIu64 "  %.12s  %s\n", name, info->number, hex, subject);
        varve_commit_close(commit);
    }
    return EXIT_DONE;
}

static int make_ref(struct cli *cli, const char *name, const char *revision)
{
    varve_commit *commit = NULL;
    varve_error error;
    int code = cli_commit_open(cli, revision, &commit);

    if (code == EXIT_DONE && varve_ref_set(cli->store, name, commit, NULL, 0, &error) != VARVE_OK) {
        if (error.status == VARVE_CONFLICT)
            error.status = VARVE_EXISTS; /* the name is taken: trying again would not help */
        code = cli_fail(cli, &error, NULL);
    }
    if (code == EXIT_DONE && cli->json) {
        cli_set(cli, "name", cli_json_text(is_tag(name) ? name + 5 : name));
        cli_set(cli, "commit", cli_json_commit(cli, varve_commit_get(commit)));
    }
    varve_commit_close(commit);
    return code;
}

/* Its commits stay, so what is said is the way back. */
static int delete_ref(struct cli *cli, const char *name)
{
    const char *word = is_tag(name) ? name + 5 : name;
    varve_ref ref = VARVE_INIT(varve_ref);
    varve_commit *commit = NULL;
    varve_error error;
    int code = EXIT_DONE;
    bool found = false;

    while (!found &&
           varve_ref_next(cli->store, ref.name[0] == '\0' ? NULL : ref.name, &ref, NULL) == VARVE_OK)
        found = strcmp(ref.name, name) == 0;
    if (!found)
        return cli_error(cli, VARVE_NOT_FOUND, "no %s %s: see `varve %s`", is_tag(name) ? "tag" : "branch",
                         word, is_tag(name) ? "tag" : "branch");
    code = cli_commit_open(cli, name, &commit);

    if (code == EXIT_DONE && varve_ref_set(cli->store, name, NULL, commit, 0, &error) != VARVE_OK)
        code = cli_fail(cli, &error, NULL);
    if (code == EXIT_DONE)
        cli_note(cli, "deleted %s; back with: varve %s %s r%" PRIu64, word, is_tag(name) ? "tag" : "branch",
                 word, varve_commit_get(commit)->number);
    if (code == EXIT_DONE && cli->json)
        cli_set(cli, "deleted", cli_json_text(word));
    varve_commit_close(commit);
    return code;
}

static int branch_or_tag(struct cli *cli, int argc, char **argv, bool tags)
{
    bool delete = false;
    char name[300];
    int code = EXIT_DONE;
    const struct cli_option options[] = {
        { "--delete", 'd', NULL, "delete NAME; the commits stay", .flag = &delete },
        { .name = NULL },
    };

    if (!cli_options(cli, &argc, argv, options, "[NAME [REV]] | -d NAME",
                     tags ? "List tags; name a commit for good."
                          : "List branches; begin one at REV (default HEAD).",
                     0, 2, &code))
        return code;
    if (delete &&argc != 2)
        return cli_usage(cli, "-d takes one NAME");
    code = cli_open_store(cli, argc < 2);
    if (code != EXIT_DONE)
        return code;
    if (argc < 2)
        return list_refs(cli, tags);
    if (snprintf(name, sizeof name, "%s%s", tags ? "tags/" : "", argv[1]) >= (int)sizeof name)
        return cli_usage(cli, "NAME %.40s...: too long", argv[1]);
    return delete ? delete_ref(cli, name) : make_ref(cli, name, argc > 2 ? argv[2] : "HEAD");
}

int cmd_branch(struct cli *cli, int argc, char **argv)
{
    return branch_or_tag(cli, argc, argv, false);
}

int cmd_tag(struct cli *cli, int argc, char **argv)
{
    return branch_or_tag(cli, argc, argv, true);
}
