/* cmd_run.c - varve run: many steps in one session. The script is one transaction, cut by `commit`.
 *
 *   line = [ NAME "=" ] STATEMENT | "#" comment
 * The end of the script (or `quit`) commits what is uncommitted; any error drops it and names SCRIPT:LINE. Time and
 * seed are fixed once, so a script with VARVE_TIME and VARVE_SEED makes the same commits everywhere. */
#include "cli/cli.h"
#include "cli/script.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct run {
    struct cli *cli;
    struct script_names names;
    char *last; /* text of the last statement's answer */
    uint32_t savepoints[64];
    char savepoint_names[64][64];
    size_t savepoint_count;
    bool dirty;       /* a statement that may change ran since the last commit */
    bool finished;    /* quit */
    char branch[256]; /* the one that `branch NAME` went to */
};

typedef int (*run_fn)(struct run *run, int argc, char **argv);

/* ---- statements that only a script has -------------------------------------------------------- */

static int run_commit(struct run *run, int argc, char **argv)
{
    const char *message = argc > 1 ? argv[1] : "run";
    const int code = cli_commit(run->cli, message, true);

    run->savepoint_count = 0;
    run->dirty = false;
    return code;
}

static int run_abort(struct run *run, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    varve_session_abort(run->cli->session);
    run->cli->session = NULL;
    run->savepoint_count = 0;
    run->dirty = false;
    return cli_begin(run->cli, run->cli->at != NULL);
}

static int run_savepoint(struct run *run, int argc, char **argv)
{
    varve_error error;

    (void)argc;
    if (run->savepoint_count == 64 || strlen(argv[1]) >= 64)
        return cli_usage(run->cli, "savepoint %s: at most 64, of names up to 63 characters", argv[1]);
    if (varve_session_savepoint(run->cli->session, &run->savepoints[run->savepoint_count], &error) !=
        VARVE_OK)
        return cli_fail(run->cli, &error, NULL);
    strcpy(run->savepoint_names[run->savepoint_count++], argv[1]);
    return EXIT_DONE;
}

/* The innermost savepoint of that name; SIZE_MAX: none. */
static size_t find_savepoint(const struct run *run, const char *name)
{
    for (size_t i = run->savepoint_count; i > 0; i--)
        if (strcmp(run->savepoint_names[i - 1], name) == 0)
            return i - 1;
    return SIZE_MAX;
}

static int run_rollback(struct run *run, int argc, char **argv)
{
    const size_t index = find_savepoint(run, argv[1]);
    varve_error error;

    (void)argc;
    if (index == SIZE_MAX)
        return cli_error(run->cli, VARVE_NOT_FOUND, "no savepoint %s", argv[1]);
    if (varve_session_rollback(run->cli->session, run->savepoints[index], &error) != VARVE_OK)
        return cli_fail(run->cli, &error, NULL);
    run->savepoint_count = index + 1; /* rollback keeps its savepoint */
    return EXIT_DONE;
}

static int run_release(struct run *run, int argc, char **argv)
{
    const size_t index = find_savepoint(run, argv[1]);
    varve_error error;

    (void)argc;
    if (index == SIZE_MAX)
        return cli_error(run->cli, VARVE_NOT_FOUND, "no savepoint %s", argv[1]);
    if (varve_session_release(run->cli->session, run->savepoints[index], &error) != VARVE_OK)
        return cli_fail(run->cli, &error, NULL);
    run->savepoint_count = index;
    return EXIT_DONE;
}

static int run_root(struct run *run, int argc, char **argv)
{
    varve_root root;
    varve_error error;
    char hex[65];

    (void)argc;
    (void)argv;
    if (varve_session_root(run->cli->session, &root, &error) != VARVE_OK)
        return cli_fail(run->cli, &error, NULL);
    varve_hex_format(root.bytes, hex);
    if (run->cli->json)
        cli_set(run->cli, "root", json_string(hex));
    else
        (void)fprintf(run->cli->out, "%s\n", hex);
    return EXIT_DONE;
}

/* Branch and restore end the session and begin one there; the commits are kept by their refs. */
static int end_session(struct run *run)
{
    if (run->dirty)
        return cli_error(run->cli, VARVE_MISUSE, "there are uncommitted changes: commit or abort first");
    varve_session_abort(run->cli->session);
    run->cli->session = NULL;
    run->savepoint_count = 0;
    return EXIT_DONE;
}

static int run_branch(struct run *run, int argc, char **argv)
{
    struct cli *cli = run->cli;
    varve_commit *head = NULL;
    varve_error error;
    int code = end_session(run);

    (void)argc;
    if (code == EXIT_DONE)
        code = cli_commit_open(cli, "HEAD", &head);
    if (code == EXIT_DONE && varve_ref_set(cli->store, argv[1], head, NULL, 0, &error) != VARVE_OK)
        code = cli_fail(cli, &error, NULL);
    varve_commit_close(head);
    (void)snprintf(run->branch, sizeof run->branch, "%s", argv[1]);
    if (code == EXIT_DONE)
        cli->branch = run->branch;
    return code == EXIT_DONE ? cli_begin(cli, false) : code;
}

static int run_restore(struct run *run, int argc, char **argv)
{
    struct cli *cli = run->cli;
    varve_commit *from = NULL, *to = NULL;
    varve_error error;
    int code = end_session(run);

    (void)argc;
    if (code == EXIT_DONE)
        code = cli_commit_open(cli, argv[1], &to);
    if (code == EXIT_DONE)
        code = cli_commit_open(cli, "HEAD", &from);
    if (code == EXIT_DONE && varve_ref_set(cli->store, cli_branch(cli), to, from, 0, &error) != VARVE_OK)
        code = cli_fail(cli, &error, NULL);
    varve_commit_close(from);
    varve_commit_close(to);
    return code == EXIT_DONE ? cli_begin(cli, false) : code;
}

static int run_persist(struct run *run, int argc, char **argv)
{
    varve_error error;

    (void)argc;
    (void)argv;
    if (varve_store_persist(run->cli->store, &error) != VARVE_OK)
        return cli_fail(run->cli, &error, NULL);
    return EXIT_DONE;
}

static int run_echo(struct run *run, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        (void)fprintf(run->cli->out, "%s%s", i == 1 ? "" : " ", argv[i]);
    (void)fputc('\n', run->cli->out);
    return EXIT_DONE;
}

static int run_expect(struct run *run, int argc, char **argv)
{
    const char *last = run->last == NULL ? "" : run->last;

    (void)argc;
    if (strcmp(last, argv[1]) == 0)
        return EXIT_DONE;
    return cli_error(run->cli, VARVE_NOT_FOUND, "expected %s, got %s", argv[1], last);
}

static int run_kill(struct run *run, int argc, char **argv)
{
    (void)run;
    (void)argc;
    (void)argv;
    (void)fflush(NULL);
    (void)raise(SIGKILL);
    return EXIT_FAILED;
}

static int run_quit(struct run *run, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    run->finished = true;
    return EXIT_DONE;
}

static int run_fails(struct run *run, int argc, char **argv);

/* ---- the table -------------------------------------------------------------------------------- */

static const struct statement {
    const char *name;
    cli_command_fn shared; /* also a verb of its own */
    run_fn own;
    int least, most; /* words after the name, for `own` */
    bool changes;
} statements[] = {
    { "call", statement_call, NULL, 0, 0, true },
    { "query", statement_query, NULL, 0, 0, false },
    { "peek", statement_peek, NULL, 0, 0, false },
    { "poke", statement_poke, NULL, 0, 0, true },
    { "meta", statement_meta, NULL, 0, 0, true },
    { "image", statement_image, NULL, 0, 0, true },
    { "deploy", statement_deploy, NULL, 0, 0, true },
    { "remove", statement_remove, NULL, 0, 0, true },
    { "ls", statement_ls, NULL, 0, 0, false },
    { "commit", NULL, run_commit, 0, 1, false },
    { "abort", NULL, run_abort, 0, 0, false },
    { "savepoint", NULL, run_savepoint, 1, 1, false },
    { "rollback", NULL, run_rollback, 1, 1, true },
    { "release", NULL, run_release, 1, 1, false },
    { "root", NULL, run_root, 0, 0, false },
    { "branch", NULL, run_branch, 1, 1, false },
    { "restore", NULL, run_restore, 1, 1, false },
    { "persist", NULL, run_persist, 0, 0, false },
    { "echo", NULL, run_echo, 0, SCRIPT_WORDS, false },
    { "expect", NULL, run_expect, 1, 1, false },
    { "fails", NULL, run_fails, 2, SCRIPT_WORDS, true },
    { "kill", NULL, run_kill, 0, 0, false },
    { "quit", NULL, run_quit, 0, 0, false },
};

static int run_statement(struct run *run, int argc, char **argv)
{
    struct cli *cli = run->cli;

    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        const struct statement *s = &statements[i];
        if (strcmp(argv[0], s->name) != 0)
            continue;
        run->dirty = run->dirty || s->changes;
        if (s->shared != NULL) {
            cli->verb = s->name;
            return s->shared(cli, argc, argv);
        }
        if (argc - 1 < s->least || argc - 1 > s->most)
            return cli_usage(cli, "%s: too %s words", s->name, argc - 1 < s->least ? "few" : "many");
        return s->own(run, argc, argv);
    }
    return cli_usage(cli, "unknown statement %s", argv[0]);
}

/* fails STATUS STATEMENT: it must fail, and with that status. */
static int run_fails(struct run *run, int argc, char **argv)
{
    struct cli *cli = run->cli;
    char wanted[64];

    (void)snprintf(wanted, sizeof wanted, "%s", argv[1]);
    cli->status = VARVE_OK;
    cli->quiet_failure = true;
    const int code = run_statement(run, argc - 2, argv + 2);
    cli->quiet_failure = false;
    if (code == EXIT_DONE)
        return cli_error(cli, VARVE_NOT_FOUND, "%s did not fail", argv[2]);
    if (strcmp(varve_status_name(cli->status), wanted) != 0)
        return cli_error(cli, VARVE_NOT_FOUND, "expected %s, got %s", wanted, varve_status_name(cli->status));
    return EXIT_DONE;
}

/* ---- lines ------------------------------------------------------------------------------------ */

/* Print what the statement answered, unless a name takes it; keep it for `expect`. */
static int deliver(struct run *run, const char *name, char *text, const char *verb, unsigned line)
{
    struct cli *cli = run->cli;
    const size_t length = strlen(text);

    if (cli->json && name == NULL && strcmp(verb, "echo") != 0) {
        cli_set(cli, "line", json_integer((json_int_t)line));
        cli_flush(cli);
    }
    if (name == NULL)
        (void)fputs(text, stdout);
    (void)fflush(stdout);
    if (length > 0 && text[length - 1] == '\n')
        text[length - 1] = '\0';
    if (name != NULL && !script_set(&run->names, name, text))
        return cli_error(cli, VARVE_MEMORY, "out of memory");
    if (strcmp(verb, "expect") != 0) {
        free(run->last);
        run->last = text;
    } else {
        free(text);
    }
    return EXIT_DONE;
}

/* [ NAME "=" ] or NAME= in front; moves argv behind it. */
static const char *take_name(int *argc, char ***argv)
{
    const char *name = NULL;

    if (*argc > 2 && strcmp((*argv)[1], "=") == 0) {
        name = (*argv)[0];
        *argv += 2;
        *argc -= 2;
    }
    return name;
}

static int run_line(struct run *run, const char *text, unsigned line)
{
    struct cli *cli = run->cli;
    struct script_line parsed;
    char *answer = NULL;
    size_t size = 0;
    int code = EXIT_DONE;

    if (!script_parse(text, &run->names, &parsed)) {
        code = cli_usage(cli, "%s", parsed.why);
        script_line_release(&parsed);
        return code;
    }
    int argc = parsed.count;
    char **argv = parsed.words;
    const char *name = take_name(&argc, &argv);
    if (argc == 0) {
        script_line_release(&parsed);
        return EXIT_DONE;
    }
    const bool json = cli->json;
    FILE *out = open_memstream(&answer, &size);
    if (out == NULL) {
        script_line_release(&parsed);
        return cli_error(cli, VARVE_MEMORY, "out of memory");
    }
    const char *verb = argv[0];
    cli->out = out;
    cli->json = json && name == NULL; /* a name takes the text */
    code = run_statement(run, argc, argv);
    cli->json = json;
    cli->out = stdout;
    (void)fclose(out);
    if (code == EXIT_DONE)
        code = deliver(run, name, answer, verb, line);
    else
        free(answer);
    script_line_release(&parsed);
    return code;
}

static int run_file(struct run *run, FILE *file, const char *path)
{
    const bool prompt = file == stdin && isatty(STDIN_FILENO);
    char *text = NULL, place[512];
    size_t capacity = 0;
    int code = EXIT_DONE;

    for (unsigned line = 1; code == EXIT_DONE && !run->finished; line++) {
        if (prompt)
            (void)fputs("varve> ", stderr);
        if (getline(&text, &capacity, file) < 0)
            break;
        (void)snprintf(place, sizeof place, "%s:%u", path, line);
        run->cli->place = place;
        code = run_line(run, text, line);
        if (prompt && code != EXIT_DONE && run->cli->session != NULL)
            code = EXIT_DONE; /* a person goes on; the statement itself was undone */
    }
    run->cli->place = NULL;
    free(text);
    return code;
}

int cmd_run(struct cli *cli, int argc, char **argv)
{
    struct run run = { .cli = cli };
    FILE *file = stdin;
    int code = cli_common(cli, &argc, argv, false);
    const struct cli_option options[] = {
        { "--at", 0, "REV", "look at this commit; nothing is committed", .text = &cli->at },
        { .name = NULL },
    };

    if (code != EXIT_DONE ||
        !cli_options(
            cli, &argc, argv, options, "[SCRIPT|-] [NAME=VALUE]...",
            "Run a script in one session; its end commits, an error drops all since the last commit.", 0, 64,
            &code))
        return code;
    const char *path = argc > 1 && strchr(argv[1], '=') == NULL ? argv[1] : "-";
    for (int i = argc > 1 && path == argv[1] ? 2 : 1; i < argc; i++) {
        char *equals = strchr(argv[i], '=');
        if (equals == NULL)
            return cli_usage(cli, "%s: not NAME=VALUE", argv[i]);
        *equals = '\0';
        if (!script_set(&run.names, argv[i], equals + 1))
            return cli_error(cli, VARVE_MEMORY, "out of memory");
    }
    if (strcmp(path, "-") != 0 && (file = fopen(path, "r")) == NULL)
        return cli_error(cli, errno == ENOENT ? VARVE_NOT_FOUND : VARVE_IO, "%s: %s", path, strerror(errno));
    uint32_t features = 0;
    (void)varve_version(&features);
    if (features & VARVE_HAS_VM)
        code = cli_vm(cli);
    if (code == EXIT_DONE)
        code = cli_begin(cli, cli->at != NULL);
    if (code == EXIT_DONE)
        code = run_file(&run, file, path);
    if (code == EXIT_DONE && run.dirty && cli->at == NULL)
        code = cli_commit(cli, cli->message != NULL ? cli->message : "run", false);
    if (file != stdin)
        (void)fclose(file);
    free(run.last);
    script_names_release(&run.names);
    return code;
}
