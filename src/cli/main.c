/* main.c - varve: the command table, global options, and programs called varve-WORD. */
#include "cli/cli.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct command {
    const char *group, *name, *line;
    cli_command_fn run;
} commands[] = {
    { "make and fill", "init", "make a store", cmd_init },
    { NULL, "deploy", "deploy a WebAssembly module", cmd_deploy },
    { NULL, "call", "call a function; one durable commit", cmd_call },
    { NULL, "query", "call a function on any commit, and undo it", cmd_query },
    { NULL, "run", "run a script of many steps in one session", cmd_run },
    { NULL, "poke", "write bytes into memory", cmd_poke },
    { NULL, "image", "make a plain image", cmd_image },
    { NULL, "meta", "list, get or set named values", cmd_meta },
    { NULL, "remove", "take a module out of the state", cmd_remove },
    { "look", "ls", "list modules and images", cmd_ls },
    { NULL, "log", "list commits, or a ref's moves", cmd_log },
    { NULL, "show", "show one commit", cmd_show },
    { NULL, "diff", "compare two commits", cmd_diff },
    { NULL, "peek", "show memory", cmd_peek },
    { NULL, "inspect", "read a module without deploying it", cmd_inspect },
    { NULL, "stat", "sizes, counts and times of the store", cmd_stat },
    { "steer history", "restore", "move the branch to a commit", cmd_restore },
    { NULL, "branch", "list, make or delete branches", cmd_branch },
    { NULL, "tag", "list, make or delete tags", cmd_tag },
    { NULL, "delete", "take one commit out of the history", cmd_delete },
    { "keep and prove", "fsck", "read everything, report what is wrong", cmd_fsck },
    { NULL, "gc", "apply retention, give back space", cmd_gc },
    { NULL, "config", "list, get or set what the store keeps of its own", cmd_config },
    { NULL, "clone", "copy a whole store, also into another layout", cmd_clone },
    { NULL, "prove", "prove what a commit holds at one page", cmd_prove },
    { NULL, "verify", "check a proof; needs no store", cmd_verify },
};
enum { COMMAND_COUNT = sizeof commands / sizeof *commands };

/* varve-WORD programs that come with it; any other is found in the same way. */
static const struct {
    const char *name, *line;
} programs[] = {
    { "sql", "SQLite, unmodified, its whole heap durable" },
    { "js", "QuickJS, likewise" },
};

static void print_help(FILE *out)
{
    fprintf(out, "usage: varve [--store DIR] [--json] [--quiet] [--verbose] [--color WHEN] VERB [OPTION]... "
                 "[ARG]...\n\n"
                 "Programs whose memory is the database: every step is one durable commit.\n");
    for (int i = 0; i < COMMAND_COUNT; i++) {
        if (commands[i].group != NULL)
            fprintf(out, "\n%s\n", commands[i].group);
        fprintf(out, "  %-9s %s\n", commands[i].name, commands[i].line);
    }
    fprintf(out, "\nprograms\n");
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++)
        fprintf(out, "  %-9s %s\n", programs[i].name, programs[i].line);
    fprintf(
        out,
        "\n`varve VERB --help` says more. A revision is HEAD, main~2, v1, r12, a commit id's first digits,\n"
        "root:HEX, main@{1} or main@{-10m}.\n");
}

/* What people type who know git, sqlite3 or another VM. */
static const struct {
    const char *word, *instead;
} hints[] = {
    { "commit", "every verb commits by itself; many steps in one commit are a `varve run` script" },
    { "checkout", "`varve query --at REV` looks, `varve branch NAME REV` works on from there" },
    { "reset", "`varve restore REV` moves the branch, and can be taken back" },
    { "invoke", "it is `varve call`, or `varve query` to leave no trace" },
    { "dump", "it is `varve peek`" },
    { "version", "it is `varve --version`" },
};

static int unknown_verb(struct cli *cli, const char *word)
{
    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++)
        if (strcmp(hints[i].word, word) == 0)
            return cli_usage(cli, "unknown verb %s: %s", word, hints[i].instead);
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++)
        if (cli_is_near(word, programs[i].name))
            return cli_usage(cli, "unknown verb %s: did you mean %s?", word, programs[i].name);
    for (int i = 0; i < COMMAND_COUNT; i++)
        if (cli_is_near(word, commands[i].name))
            return cli_usage(cli, "unknown verb %s: did you mean %s?", word, commands[i].name);
    return cli_usage(cli, "unknown verb %s: see `varve --help`", word);
}

/* Where this program lies; its libexec directory is found from there. */
static bool own_directory(char path[PATH_MAX])
{
    const ssize_t length = readlink("/proc/self/exe", path, PATH_MAX - 1);

    if (length <= 0)
        return false;
    path[length] = '\0';
    char *slash = strrchr(path, '/');
    if (slash == NULL)
        return false;
    *slash = '\0';
    return true;
}

static int run_program(struct cli *cli, const char *word, char **argv)
{
    char here[PATH_MAX], path[PATH_MAX + 64];
    char **args = NULL;
    int count = 0;

    while (argv[count] != NULL)
        count++;
    args = calloc((size_t)count + 8, sizeof *args);
    if (args == NULL)
        return cli_error(cli, VARVE_MEMORY, "out of memory");
    if (cli->store_option != NULL)
        (void)setenv("VARVE_STORE", cli->store_option, 1);
    int used = 1;
    if (cli->json)
        args[used++] = (char *)"--json";
    if (cli->quiet)
        args[used++] = (char *)"--quiet";
    if (cli->verbose)
        args[used++] = (char *)"--verbose";
    if (!cli->color || cli->color_always)
        args[used++] = (char *)(cli->color ? "--color=always" : "--color=never");
    for (int i = 1; i < count; i++)
        args[used++] = argv[i];
    if (word[0] == '\0' || strchr(word, '/') != NULL) {
        free(args);
        return unknown_verb(cli, word);
    }
    if (own_directory(here)) {
        static const char *const places[] = { "%s/varve-%s", "%s/../libexec/varve/varve-%s" };
        for (size_t i = 0; i < 2; i++) {
            (void)snprintf(path, sizeof path, i == 0 ? places[0] : places[1], here, word);
            args[0] = path;
            (void)execv(path, args);
        }
    }
    (void)snprintf(path, sizeof path, "varve-%s", word);
    args[0] = path;
    (void)execvp(path, args);
    free(args);
    return unknown_verb(cli, word);
}

/* A verb of this program, from its options to its last byte of output. */
static int run_command(struct cli *cli, const struct command *command, int argc, char **argv)
{
    char verb[64];

    (void)snprintf(verb, sizeof verb, "varve %s", command->name);
    cli->verb = verb;
    if (cli->json && (cli->out = fopen("/dev/null", "w")) == NULL)
        return cli_error(cli, VARVE_IO, "/dev/null: %s", strerror(errno));
    int code = command->run(cli, argc, argv);
    if (code == EXIT_DONE)
        cli_flush(cli);
    code = cli_close(cli, code);
    if (fflush(stdout) != 0 && code == EXIT_DONE)
        code = cli_error(cli, VARVE_IO, "standard output: %s", strerror(errno));
    if (cli->json)
        (void)fclose(cli->out);
    return code;
}

int main(int argc, char **argv)
{
    struct cli cli = { .program = "varve", .out = stdout };

    cli_start();
    const int code = cli_globals(&cli, &argc, argv);
    if (code != EXIT_DONE)
        return code;
    if (argc < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return EXIT_DONE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        uint32_t features = 0;
        const char *version = varve_version(&features);
        printf("varve %s%s\n", version, features & VARVE_HAS_VM ? "" : " (store only, no VM)");
        return EXIT_DONE;
    }
    for (int i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return run_command(&cli, &commands[i], argc - 1, argv + 1);
    if (argv[1][0] == '-')
        return cli_usage(&cli, "unknown option %s before the verb: see `varve --help`", argv[1]);
    return run_program(&cli, argv[1], argv + 1);
}
