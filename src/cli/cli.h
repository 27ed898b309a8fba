/* cli.h - what the commands share: one invocation, its session, its answer and its errors.
 *
 *   main.c       the command table; global options; varve-WORD programs
 *   options.c    GNU-style options out of argv; a negative number is never one
 *   setting.c    store, branch, time, seed, cache: from options and environment; opening and committing
 *   answer.c     what is printed: text or JSON, errors and exit codes
 *   piece.c      arguments of calls: s: d: x: @FILE i32: out: ...
 *   statement.c  the verbs that also stand in a `varve run` script, over an open session
 *   cmd_*.c      one command each
 *
 * stdout is the answer, stderr is the talk. A command returns its exit code; what failed has been said by then. */
#ifndef CLI_H
#define CLI_H

#include <jansson.h>
#include <stdio.h>
#include <varve.h>

enum cli_exit {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_GUEST = 3,
    EXIT_BUSY = 4,
    EXIT_DAMAGE = 5,
    EXIT_INTERRUPTED = 130
};

struct cli_list {
    const char *items[64];
    size_t count;
};
/* One option: a flag, or a value that goes to *text (the last one wins) or is added to *list. The table ends
 * with a NULL name. */
struct cli_option {
    const char *name; /* "--branch" */
    char letter;      /* 'b'; 0: none */
    const char *value_name, *help;
    bool *flag;
    const char **text;
    struct cli_list *list;
};

struct cli {
    /* Global options. */
    const char *program; /* "varve", "varve-sql" */
    const char *verb;
    const char *store_option; /* --store; NULL */
    bool json, quiet, verbose;
    bool color, color_always; /* on a terminal; also elsewhere */

    /* What is open; ended by cli_close. */
    varve_store *store;
    bool looks; /* it was opened to read only */
    varve_vm *vm;
    varve_session *session;
    char store_path[4096];
    uint64_t progress_since; /* when the work that is told of began; 0: none is */
    bool progress_shown;

    /* The answer of the statement that runs. */
    FILE *out;        /* text: stdout; with --json nowhere; a buffer in `run` */
    json_t *answer;   /* with --json: one object, printed at the end; NULL: only lines were printed */
    unsigned line;    /* of the script, in every object that `run` prints; 0: none */
    bool answered;    /* an object was printed */
    char *printed[3]; /* with --json: what guests printed to stdout and stderr; [0] unused */
    size_t printed_size[3];

    char did[256]; /* what the statement did, for the commit's message; "": its words say it */

    /* Options of verbs that commit or look. */
    const char *branch, *message, *at;
    bool dry_run;
    bool helping; /* --help was given: nothing is opened */
    struct cli_option
        common_options[4]; /* what cli_common took, for --help; `common` NULL: it took nothing */
    const struct cli_option *common;

    const char *place;   /* "SCRIPT:LINE" in `run`, put before errors; NULL */
    bool quiet_failure;  /* `fails` asked for it: remember, do not print */
    varve_status status; /* of the last failure */
};

/* A verb, with argv[0] its name. Returns the exit code. */
typedef int (*cli_command_fn)(struct cli *cli, int argc, char **argv);

/* ---- options.c -------------------------------------------------------------------------------- */

/* Take the options out of argv, leaving words. --help prints and returns false with *code 0; a mistake is told
 * and returns false with *code 2. Between `least` and `most` words must be left after the verb. */
bool cli_options(struct cli *cli, int *argc, char **argv, const struct cli_option *options, const char *usage,
                 const char *about, int least, int most, int *code);
/* Take out the global options, which stand anywhere before "--". */
int cli_globals(struct cli *cli, int *argc, char **argv);
/* Take out what all verbs that look (--at) or commit (-b, -m, --dry-run) have in common, before the verb's own. */
int cli_common(struct cli *cli, int *argc, char **argv, bool looking);
bool cli_is_number(const char *word); /* -1, -0x1, -.5, -inf: never an option */

/* ---- setting.c -------------------------------------------------------------------------------- */

/* The first thing a program does: streams, signals. */
void cli_start(void);
/* Which store: into cli->store_path. */
int cli_find_store(struct cli *cli);
/* Open the store that was found. */
int cli_open_store(struct cli *cli, bool read_only);
/* Also begin a session: at `cli->at` (looking), or on the branch's head, to be committed. */
int cli_begin(struct cli *cli, bool looking);
/* Tell what a store finds about itself: notes only with --verbose. */
void cli_finding(void *context, const varve_finding *finding);
/* Tell how far long work is, and take that line away again. */
int cli_progress(void *context, const varve_progress *progress); /* context: the struct cli */
void cli_progress_end(struct cli *cli);
int cli_vm(struct cli *cli);                                     /* makes cli->vm */
/* End the session by a commit unless --dry-run or nothing changed; says the commit line; adds CHANGED to the
 * answer. `chain`: the session goes on from the commit. */
int cli_commit(struct cli *cli, const char *default_message, bool chain);
/* `code`, or what went wrong with what had to be made durable yet. */
int cli_close(struct cli *cli, int code);
const char *cli_layout_name(varve_layout layout);
bool cli_layout_parse(const char *text, varve_layout *layout);
/* A verb that commits: common options, session, statement, commit. */
int cli_step(struct cli *cli, int argc, char **argv, cli_command_fn statement, bool vm);
/* A verb that only looks, at --at. */
int cli_look(struct cli *cli, int argc, char **argv, cli_command_fn statement, bool vm);
/* The branch that HEAD stands for: -b, VARVE_BRANCH, main. */
const char *cli_branch(const struct cli *cli);
/* A revision with HEAD put as that branch. */
enum { CLI_REVISION = 1024 };
int cli_revision(struct cli *cli, const char *revision, char text[CLI_REVISION]);
int cli_commit_open(struct cli *cli, const char *revision, varve_commit **commit);
int cli_time(struct cli *cli, int64_t *time_ns); /* VARVE_TIME; 0: not set */
bool cli_time_parse(const char *text, int64_t *time_ns);
/* A module of the session, by name, hex or prefix. */
int cli_module(struct cli *cli, const char *word, varve_module_info *info);
/* Near enough for "did you mean": the same beginning, and up to two letters more, less or different. */
bool cli_is_near(const char *a, const char *b);
/* A file or "-"; the caller frees. */
int cli_read_file(struct cli *cli, const char *path, uint8_t **data, size_t *size);
bool cli_parse_size(const char *text, uint64_t *value); /* decimal, 0x, with k, M or G */
bool cli_parse_u64(const char *text, uint64_t *value);

/* One of the settings that a store keeps (cmd_config.c), into the options to open or configure it with. */
int cli_setting(struct cli *cli, const char *key, const char *value, varve_store_options *options);

/* ---- answer.c --------------------------------------------------------------------------------- */

/* Say a failure of the library; returns its exit code. `receipt` may be NULL. */
int cli_fail(struct cli *cli, const varve_error *error, const varve_receipt *receipt);
/* Say a failure of ours. */
int cli_error(struct cli *cli, varve_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int cli_usage(struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));
void cli_note(const struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));
int cli_exit_code(varve_status status);
/* Say a failure, with a guest's backtrace or "". Everything that fails comes through here. */
int cli_tell(struct cli *cli, varve_status status, const char *message, const char *trace);
/* Print one JSON object as a line of the answer. Takes `object`. */
void cli_line(struct cli *cli, json_t *object);
/* Print the answer collected so far, if any, and forget it. */
void cli_flush(struct cli *cli);
void cli_set(struct cli *cli, const char *key, json_t *value); /* into the answer; takes `value` */
/* A text as one line without what moves a cursor, cut to 72 bytes between two characters. */
enum { CLI_SUBJECT = 73 };
void cli_subject(const char *text, char subject[CLI_SUBJECT]);
/* A text as people may see it: lines parted by `newline`, other control characters as "?". */
void cli_put_plain(FILE *out, const char *text, const char *newline);
/* A text from a guest, a store or the command line: bytes that are no UTF-8 become U+FFFD. */
json_t *cli_json_text(const char *text);
void cli_time_text(int64_t time_ns, char text[31]);
void cli_size_text(uint64_t bytes, char text[24]);                            /* "8.1 KiB" */
const char *cli_paint(const struct cli *cli, FILE *stream, const char *code); /* an escape, or "" */
json_t *cli_json_hex(const uint8_t *bytes, size_t size);
json_t *cli_json_bytes(const void *data, size_t size);
json_t *cli_json_commit(struct cli *cli, const varve_commit_info *info);
json_t *cli_json_module(const varve_module_info *info);
json_t *cli_json_value(const varve_value *value);
json_t *cli_json_receipt(const varve_receipt *receipt);
void cli_value_text(const varve_value *value, char text[64]);
const char *cli_type_name(varve_type type);
const char *cli_kind_name(varve_kind kind);
void cli_short_id(const uint8_t bytes[32], char text[13]);
/* "main, v1": the refs that name a commit; "" when none. The caller frees; NULL: no memory. */
char *cli_refs_of(struct cli *cli, const varve_commit_id *id);
void cli_on_output(void *context, const varve_module_id *module, int stream, const void *data, size_t size,
                   bool reverted);

/* ---- piece.c ---------------------------------------------------------------------------------- */

enum cli_piece_form { PIECE_NUMBER, PIECE_TEXT, PIECE_BYTES, PIECE_TYPED, PIECE_OUT };
struct cli_piece {
    enum cli_piece_form form;
    const char *word;
    uint8_t *data; /* TEXT (with its NUL), BYTES, TYPED: little-endian */
    size_t size;   /* OUT: how many bytes */
};
int cli_piece_parse(struct cli *cli, const char *word, struct cli_piece *piece);
void cli_piece_release(struct cli_piece *piece);
/* The contract column: any piece as bytes, plain words as they stand. The caller frees. */
int cli_piece_bytes(struct cli *cli, const char *word, uint8_t **data, size_t *size);
/* A number of one type; false: it is none, or out of range. */
bool cli_parse_value(const char *word, varve_type type, varve_value *value);

/* ---- statement.c ------------------------------------------------------------------------------ */

/* The verbs over cli->session. argv[0] is the verb; -b, -m, --at and --dry-run are not theirs. */
int statement_call(struct cli *cli, int argc, char **argv);
int statement_query(struct cli *cli, int argc, char **argv);
int statement_peek(struct cli *cli, int argc, char **argv);
int statement_poke(struct cli *cli, int argc, char **argv);
int statement_image(struct cli *cli, int argc, char **argv);
int statement_meta(struct cli *cli, int argc, char **argv);
int statement_deploy(struct cli *cli, int argc, char **argv);
int statement_remove(struct cli *cli, int argc, char **argv);
int statement_ls(struct cli *cli, int argc, char **argv);
/* The value of --gas; false: told. */
bool cli_gas(struct cli *cli, const char *text, uint64_t *gas);

/* ---- cmd_*.c ---------------------------------------------------------------------------------- */

/* How many bytes of a changed page differ. */
uint64_t cli_page_distance(const varve_change *change);

int cmd_init(struct cli *cli, int argc, char **argv);
int cmd_deploy(struct cli *cli, int argc, char **argv);
int cmd_call(struct cli *cli, int argc, char **argv);
int cmd_query(struct cli *cli, int argc, char **argv);
int cmd_run(struct cli *cli, int argc, char **argv);
int cmd_poke(struct cli *cli, int argc, char **argv);
int cmd_image(struct cli *cli, int argc, char **argv);
int cmd_meta(struct cli *cli, int argc, char **argv);
int cmd_remove(struct cli *cli, int argc, char **argv);
int cmd_ls(struct cli *cli, int argc, char **argv);
int cmd_log(struct cli *cli, int argc, char **argv);
int cmd_show(struct cli *cli, int argc, char **argv);
int cmd_diff(struct cli *cli, int argc, char **argv);
int cmd_peek(struct cli *cli, int argc, char **argv);
int cmd_inspect(struct cli *cli, int argc, char **argv);
int cmd_stat(struct cli *cli, int argc, char **argv);
int cmd_restore(struct cli *cli, int argc, char **argv);
int cmd_branch(struct cli *cli, int argc, char **argv);
int cmd_tag(struct cli *cli, int argc, char **argv);
int cmd_prove(struct cli *cli, int argc, char **argv);
int cmd_verify(struct cli *cli, int argc, char **argv);
int cmd_config(struct cli *cli, int argc, char **argv);
int cmd_delete(struct cli *cli, int argc, char **argv);
int cmd_clone(struct cli *cli, int argc, char **argv);
int cmd_gc(struct cli *cli, int argc, char **argv);
int cmd_fsck(struct cli *cli, int argc, char **argv);

#endif
