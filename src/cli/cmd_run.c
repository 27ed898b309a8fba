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
    struct cli *cli = run->cli;
    const char *whole = cli->message; /* -m: for commits that say nothing themselves */

    if (argc > 1)
        cli->message = argv[1];
    const int code = cli_commit(cli, "run", true);
    cli->message = whole;
    if (code != EXIT_DONE)
        return code;
    run->savepoint_count = 0;
    run->dirty = false;
    return EXIT_DONE;
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
    (void)fprintf(run->cli->out, "%s\n", hex);
    if (run->cli->json)
        cli_set(run->cli, "root", json_string(hex));
    return EXIT_DONE;
}

static int begin_again(struct run *run)
{
    varve_session_abort(run->cli->session);
    run->cli->session = NULL;
    run->savepoint_count = 0;
    return cli_begin(run->cli, run->cli->at != NULL);
}

static int run_abort(struct run *run, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    run->dirty = false;
    return begin_again(run);
}

/* Branch and restore move refs at once and begin a session there, so nothing may be left to lose. */
static int may_move(struct run *run, const char *statement)
{
    if (run->dirty)
        return cli_error(run->cli, VARVE_MISUSE, "%s: there are uncommitted changes: commit or abort first",
                         statement);
    if (run->cli->at != NULL || run->cli->dry_run)
        return cli_usage(run->cli, "%s: not with --at or --dry-run", statement);
    return EXIT_DONE;
}

static int run_branch(struct run *run, int argc, char **argv)
{
    struct cli *cli = run->cli;
    varve_commit *head = NULL;
    varve_error error;
    int code = may_move(run, "branch");

    (void)argc;
    if (code == EXIT_DONE && strlen(argv[1]) >= sizeof run->branch)
        code = cli_usage(cli, "branch %.40s...: too long", argv[1]);
    if (code == EXIT_DONE)
        code = cli_commit_open(cli, "HEAD", &head);
    if (code == EXIT_DONE && varve_ref_set(cli->store, argv[1], head, NULL, 0, &error) != VARVE_OK) {
        if (error.status == VARVE_CONFLICT)
            error.status = VARVE_EXISTS; /* as `varve branch` says it */
        code = cli_fail(cli, &error, NULL);
    }
    varve_commit_close(head);
    if (code != EXIT_DONE)
        return code;
    strcpy(run->branch, argv[1]);
    cli->branch = run->branch;
    return begin_again(run);
}

static int run_restore(struct run *run, int argc, char **argv)
{
    struct cli *cli = run->cli;
    varve_commit *from = NULL, *to = NULL;
    varve_error error;
    int code = may_move(run, "restore");

    (void)argc;
    if (code == EXIT_DONE)
        code = cli_commit_open(cli, argv[1], &to);
    if (code == EXIT_DONE)
        code = cli_commit_open(cli, "HEAD", &from);
    if (code == EXIT_DONE && varve_ref_set(cli->store, cli_branch(cli), to, from, 0, &error) != VARVE_OK)
        code = cli_fail(cli, &error, NULL);
    varve_commit_close(from);
    varve_commit_close(to);
    return code == EXIT_DONE ? begin_again(run) : code;
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
    char *text = NULL;
    size_t size = 0;
    FILE *words = open_memstream(&text, &size);

    if (words == NULL)
        return cli_error(run->cli, VARVE_MEMORY, "out of memory");
    for (int i = 1; i < argc; i++)
        (void)fprintf(words, "%s%s", i == 1 ? "" : " ", argv[i]);
    if (fclose(words) != 0 || text == NULL)
        return cli_error(run->cli, VARVE_MEMORY, "out of memory");
    (void)fprintf(run->cli->out, "%s\n", text);
    if (run->cli->json)
        cli_set(run->cli, "text", cli_json_text(text));
    free(text);
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
    { "fails", NULL, run_fails, 2, SCRIPT_WORDS, false },
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
    if (strchr(argv[0], '=') != NULL)
        return cli_usage(cli, "unknown statement %s: a name, = and a statement need spaces between", argv[0]);
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
        if (cli_is_near(argv[0], statements[i].name))
            return cli_usage(cli, "unknown statement %s: did you mean %s?", argv[0], statements[i].name);
    return cli_usage(cli, "unknown statement %s: see `varve run --help`", argv[0]);
}

enum { STATUS_MOST = 100 }; /* pinned: two digits */

/* fails STATUS STATEMENT: it must fail, and with that status. */
static int run_fails(struct run *run, int argc, char **argv)
{
    struct cli *cli = run->cli;
    const char *wanted = argv[1];
    int known = 0;

    while (known < STATUS_MOST && strcmp(varve_status_name((varve_status)known), wanted) != 0)
        known++;
    if (known == STATUS_MOST || known == VARVE_OK || strcmp(wanted, "UNKNOWN") == 0)
        return cli_usage(cli, "fails %s: not the name of a failure, as TRAP or NOT_FOUND are", wanted);
    const bool dirty = run->dirty;
    cli->status = VARVE_OK;
    cli->quiet_failure = true;
    const int code = run_statement(run, argc - 2, argv + 2);
    cli->quiet_failure = false;
    run->dirty = dirty; /* what failed has changed nothing */
    if (code == EXIT_DONE)
        return cli_error(cli, VARVE_NOT_FOUND, "%s did not fail", argv[2]);
    if (strcmp(varve_status_name(cli->status), wanted) != 0)
        return cli_error(cli, VARVE_NOT_FOUND, "expected %s, got %s", wanted, varve_status_name(cli->status));
    return EXIT_DONE;
}

/* ---- lines ------------------------------------------------------------------------------------ */

/* Print what the statement answered, unless a name takes it; keep it for `expect`. Takes `text`. */
static int deliver(struct run *run, const char *name, char *text, const char *verb)
{
    struct cli *cli = run->cli;
    const size_t length = strlen(text);

    if (cli->json && cli->answer == NULL && !cli->answered)
        cli->answer = json_object(); /* nothing but its line */
    if (cli->json)
        cli_flush(cli);
    else if (name == NULL)
        (void)fputs(text, stdout);
    if (length > 0 && text[length - 1] == '\n')
        text[length - 1] = '\0';
    const bool kept = name == NULL || script_set(&run->names, name, text);
    if (strcmp(verb, "expect") != 0) {
        free(run->last);
        run->last = text;
    } else {
        free(text);
    }
    if (!kept)
        return cli_error(cli, VARVE_MEMORY, "out of memory");
    if (fflush(stdout) != 0)
        return cli_error(cli, VARVE_IO, "standard output: %s", strerror(errno));
    return EXIT_DONE;
}

/* [ NAME "=" ] in front; moves argv behind it. */
static const char *take_name(int *argc, char ***argv)
{
    if (*argc < 2 || strcmp((*argv)[1], "=") != 0)
        return NULL;
    *argv += 2;
    *argc -= 2;
    return (*argv)[-2];
}

/* Words in, the answer out, as text in `*answer` (the caller frees) and, with --json, as objects. */
static int run_words(struct run *run, int argc, char **argv, char **answer)
{
    struct cli *cli = run->cli;
    size_t size = 0;

    cli->answered = false;
    cli->did[0] = '\0';
    FILE *out = open_memstream(answer, &size);
    FILE *before = cli->out;
    if (out == NULL)
        return cli_error(cli, VARVE_MEMORY, "out of memory");
    cli->out = out;
    int code = run_statement(run, argc, argv);
    cli->out = before;
    if (fclose(out) != 0 && code == EXIT_DONE)
        code = cli_error(cli, VARVE_MEMORY, "out of memory");
    return code;
}

static int run_line(struct run *run, const char *text)
{
    struct cli *cli = run->cli;
    struct script_line parsed;
    char *answer = NULL;

    if (!script_parse(text, &run->names, &parsed)) {
        const int code = cli_usage(cli, "%s", parsed.why);
        script_line_release(&parsed);
        return code;
    }
    int argc = parsed.count, code = EXIT_DONE;
    char **argv = parsed.words;
    const char *name = take_name(&argc, &argv);
    if (name != NULL && (argc == 0 || !script_is_name(name)))
        code = cli_usage(
            cli, argc == 0 ? "%s =: a statement is missing" : "%s: not a name: letters, digits and _", name);
    else if (argc > 0)
        code = run_words(run, argc, argv, &answer);
    if (code == EXIT_DONE && argc > 0)
        code = deliver(run, name, answer, argv[0]);
    else
        free(answer);
    script_line_release(&parsed);
    return code;
}

static int read_line(struct run *run, FILE *file, const char *path, char **text, size_t *capacity)
{
    errno = 0;
    const ssize_t length = getline(text, capacity, file);

    if (length < 0) {
        run->finished = true;
        return ferror(file) ? cli_error(run->cli, VARVE_IO, "cannot read %s: %s", path, strerror(errno))
                            : EXIT_DONE;
    }
    if (strlen(*text) != (size_t)length)
        return cli_usage(run->cli, "a NUL byte: this is no text");
    return EXIT_DONE;
}

static int run_file(struct run *run, FILE *file, const char *path)
{
    struct cli *cli = run->cli;
    const bool prompt = file == stdin && isatty(STDIN_FILENO);
    char *text = NULL, place[512];
    size_t capacity = 0;
    int code = EXIT_DONE;

    for (unsigned line = 1; code == EXIT_DONE && !run->finished; line++) {
        if (prompt)
            (void)fputs("varve> ", stderr);
        (void)snprintf(place, sizeof place, "%s:%u", path, line);
        cli->place = place;
        cli->line = line;
        code = read_line(run, file, path, &text, &capacity);
        if (code == EXIT_DONE && !run->finished)
            code = run_line(run, text);
        if (prompt && run->finished && feof(file))
            (void)fputc('\n', stderr); /* the end was typed, not a new line */
        if (prompt && code != EXIT_DONE && !run->finished && cli->session != NULL)
            code = EXIT_DONE; /* a person goes on; the statement itself was undone */
    }
    cli->place = NULL;
    cli->line = 0;
    free(text);
    return code;
}

/* NAME=VALUE words of the command line. */
static int take_values(struct run *run, int count, char **words)
{
    for (int i = 0; i < count; i++) {
        char *equals = strchr(words[i], '=');
        if (equals != NULL)
            *equals = '\0';
        if (equals == NULL || !script_is_name(words[i]))
            return cli_usage(run->cli, "%s: not NAME=VALUE", words[i]);
        if (!script_set(&run->names, words[i], equals + 1))
            return cli_error(run->cli, VARVE_MEMORY, "out of memory");
    }
    return EXIT_DONE;
}

static const char run_about[] =
    "Run a script in one session; its end commits, an error drops all since the last commit.\n\n"
    "  [NAME =] STATEMENT            words and quotes as in sh; $NAME and ${NAME} expand; # comment\n"
    "  call query peek poke meta image deploy remove ls      as the verbs\n"
    "  commit [MESSAGE]   abort   quit\n"
    "  savepoint NAME   rollback NAME   release NAME\n"
    "  root   branch NAME   restore REV   persist   echo WORD...\n"
    "  expect TEXT                   the last statement's answer was TEXT\n"
    "  fails STATUS STATEMENT        it must fail with that status, such as TRAP\n"
    "  kill                          SIGKILL to oneself";

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
        !cli_options(cli, &argc, argv, options, "[SCRIPT|-] [NAME=VALUE]...", run_about, 0, 64, &code))
        return code;
    const bool named = argc > 1 && strchr(argv[1], '=') == NULL;
    const char *path = named ? argv[1] : "-";
    code = take_values(&run, argc - (named ? 2 : 1), argv + (named ? 2 : 1));
    if (code == EXIT_DONE && strcmp(path, "-") != 0 && (file = fopen(path, "r")) == NULL)
        code = cli_error(cli, errno == ENOENT ? VARVE_NOT_FOUND : VARVE_IO, "cannot read %s: %s", path,
                         strerror(errno));
    uint32_t features = 0;
    (void)varve_version(&features);
    if (code == EXIT_DONE && features & VARVE_HAS_VM)
        code = cli_vm(cli);
    if (code == EXIT_DONE)
        code = cli_begin(cli, cli->at != NULL);
    if (code == EXIT_DONE)
        code = run_file(&run, file, path);
    if (code == EXIT_DONE && run.dirty && cli->at == NULL)
        code = cli_commit(cli, "run", false);
    if (file != NULL && file != stdin)
        (void)fclose(file);
    free(run.last);
    script_names_release(&run.names);
    return code;
}
