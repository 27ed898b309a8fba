/* setting.c - where a command works: which store, branch, commit, time, chance and cache.
 *
 * Options first, then the environment (VARVE_STORE, VARVE_BRANCH, VARVE_TIME, VARVE_SEED, VARVE_WAIT,
 * VARVE_CACHE), then what the current directory says. Opening, beginning and committing are the same for every
 * verb, so they are here and nowhere else. */
#include "cli/cli.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- streams and signals ---------------------------------------------------------------------- */

static varve_session *volatile watched;      /* for the signal handler alone */
static volatile sig_atomic_t interrupts;     /* since a session is watched */
static volatile sig_atomic_t commit_is_made; /* it ends by itself, and soon: its outcome must be told */

/* The first interrupt stops the call that runs, which is undone. Where no call runs (a module is compiled, a log is
 * read), or on the second, the process ends: what was not committed never happened. */
static void on_interrupt(int signal_number)
{
    varve_session *session = watched;

    (void)signal_number;
    if (commit_is_made)
        return;
    if (session == NULL || interrupts++ > 0)
        _exit(EXIT_INTERRUPTED);
    varve_session_interrupt(session);
}

static void watch(varve_session *session)
{
    watched = session;
    interrupts = 0;
}

void cli_start(void)
{
    struct sigaction action = { .sa_handler = on_interrupt };
    int file = 0;

    /* A stream that was closed must not become a file of the store, for then printing would write into it. */
    do
        file = open("/dev/null", O_RDONLY | O_CLOEXEC);
    while (file >= 0 && file <= STDERR_FILENO);
    (void)close(file);
    (void)signal(SIGXFSZ, SIG_IGN); /* a file size limit is an errno, not a death */
    (void)sigaction(SIGINT, &action, NULL);
}

/* ---- numbers and times ------------------------------------------------------------------------ */

bool cli_parse_u64(const char *text, uint64_t *value)
{
    char *end = NULL;

    if (!isdigit((unsigned char)text[0]))
        return false;
    errno = 0;
    const unsigned long long parsed = strtoull(text, &end, text[0] == '0' && (text[1] | 32) == 'x' ? 16 : 10);
    if (errno != 0 || *end != '\0')
        return false;
    *value = parsed;
    return true;
}

bool cli_parse_size(const char *text, uint64_t *value)
{
    char digits[32];
    const size_t length = strlen(text);
    unsigned shift = 0;

    if (length == 0 || length >= sizeof digits)
        return false;
    memcpy(digits, text, length + 1);
    switch (digits[length - 1]) {
    case 'k':
    case 'K':
        shift = 10;
        break;
    case 'M':
        shift = 20;
        break;
    case 'G':
        shift = 30;
        break;
    default:
        break;
    }
    if (shift != 0)
        digits[length - 1] = '\0';
    uint64_t parsed = 0;
    if (!cli_parse_u64(digits, &parsed) || parsed > UINT64_MAX >> shift)
        return false;
    *value = parsed << shift;
    return true;
}

bool cli_time_parse(const char *text, int64_t *time_ns)
{
    struct tm broken = { .tm_isdst = 0 };
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &broken);
    int64_t fraction = 0, unit = 100000000;
    int64_t offset = 0;

    if (rest == NULL)
        return false;
    if (*rest == '.')
        for (rest++; isdigit((unsigned char)*rest); rest++, unit /= 10)
            fraction += (*rest - '0') * unit;
    if (*rest == '+' || *rest == '-') {
        int hours = 0, minutes = 0, used = 0;
        if (sscanf(rest + 1, "%2d:%2d%n", &hours, &minutes, &used) != 2 || hours > 23 || minutes > 59)
            return false;
        offset = (*rest == '-' ? -1 : 1) * (int64_t)(hours * 3600 + minutes * 60);
        rest += 1 + used;
    } else if (*rest++ != 'Z') {
        return false;
    }
    if (*rest != '\0')
        return false;
    return !__builtin_mul_overflow((int64_t)timegm(&broken) - offset, INT64_C(1000000000), time_ns) &&
           !__builtin_add_overflow(*time_ns, fraction, time_ns);
}

int cli_time(struct cli *cli, int64_t *time_ns)
{
    const char *text = getenv("VARVE_TIME");

    *time_ns = 0;
    if (text == NULL)
        return EXIT_DONE;
    if (!cli_time_parse(text, time_ns))
        return cli_usage(cli, "VARVE_TIME: not an RFC 3339 time before 2262: %s (like 2026-11-20T23:59:01Z)",
                         text);
    if (*time_ns == 0)
        return cli_usage(cli, "VARVE_TIME: %s stands for now: give another time", text);
    return EXIT_DONE;
}

static uint64_t monotonic_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- the store -------------------------------------------------------------------------------- */

static bool is_store(const char *directory)
{
    char path[4200];
    struct stat facts;

    (void)snprintf(path, sizeof path, "%s/.varve", directory);
    return stat(path, &facts) == 0 && S_ISDIR(facts.st_mode);
}

/* From here upward; false: none. */
static bool search_upward(char path[4096])
{
    if (getcwd(path, 4096) == NULL)
        return false;
    for (;;) {
        if (is_store(path))
            return true;
        char *slash = strrchr(path, '/');
        if (slash == NULL || path[1] == '\0')
            return false;
        slash[slash == path ? 1 : 0] = '\0';
    }
}

void cli_finding(void *context, const varve_finding *finding)
{
    const struct cli *cli = context;

    if (finding->severity == VARVE_NOTE && !cli->verbose)
        return;
    cli_note(cli, "%s: %s%s%s",
             finding->severity == VARVE_NOTE      ? "note"
             : finding->severity == VARVE_WARNING ? "warning"
                                                  : "damage",
             finding->file == NULL ? "" : finding->file, finding->file == NULL ? "" : ": ", finding->text);
}

/* Only what takes longer than a second is worth a line, and only a person reads it. */
int cli_progress(void *context, const varve_progress *progress)
{
    struct cli *cli = context;
    const uint64_t now = monotonic_ns();

    if (cli->quiet || !isatty(STDERR_FILENO))
        return 0;
    if (cli->progress_since == 0)
        cli->progress_since = now;
    if (now - cli->progress_since < 1000000000u)
        return 0;
    cli->progress_shown = true;
    (void)fprintf(stderr, "\r%s: %" PRIu64, progress->what, progress->done);
    if (progress->total > 0)
        (void)fprintf(stderr, " of %" PRIu64, progress->total);
    (void)fprintf(stderr, " %s\033[K", progress->unit);
    return 0;
}

void cli_progress_end(struct cli *cli)
{
    if (cli->progress_shown)
        (void)fputs("\r\033[K", stderr);
    cli->progress_shown = false;
    cli->progress_since = 0;
}

int cli_find_store(struct cli *cli)
{
    const char *given = cli->store_option != NULL ? cli->store_option : getenv("VARVE_STORE");

    if (cli->store_path[0] != '\0')
        return EXIT_DONE;
    if (given != NULL && given[0] != '\0') {
        if (strlen(given) >= sizeof cli->store_path)
            return cli_usage(cli, "store: path too long");
        strcpy(cli->store_path, given);
        return EXIT_DONE;
    }
    if (!search_upward(cli->store_path)) {
        cli->store_path[0] = '\0';
        return cli_error(cli, VARVE_NOT_FOUND,
                         "no store here or in any directory above: make one with `varve init`, "
                         "or name one with --store DIR");
    }
    return EXIT_DONE;
}

int cli_open_store(struct cli *cli, bool read_only)
{
    varve_store_options options = VARVE_INIT(varve_store_options);
    varve_error error;
    uint64_t wait_ms = 0;
    const char *wait = getenv("VARVE_WAIT");
    int code = cli_find_store(cli);

    if (code != EXIT_DONE)
        return code;
    if (wait != NULL && (!cli_parse_u64(wait, &wait_ms) || wait_ms > UINT32_MAX))
        return cli_usage(cli, "VARVE_WAIT: not a number of milliseconds: %s", wait);
    options.flags = read_only ? VARVE_STORE_READ_ONLY : 0;
    cli->looks = read_only;
    options.wait_ms = (uint32_t)wait_ms;
    options.finding = cli_finding;
    options.context = cli;
    if (varve_store_open(cli->store_path, &options, &cli->store, &error) != VARVE_OK)
        return cli_fail(cli, &error, NULL);
    return EXIT_DONE;
}

int cli_vm(struct cli *cli)
{
    varve_vm_options options = VARVE_INIT(varve_vm_options);
    varve_error error;

    if (cli->vm != NULL)
        return EXIT_DONE;
    options.cache = getenv("VARVE_CACHE");
    if (varve_vm_new(&options, &cli->vm, &error) != VARVE_OK)
        return cli_fail(cli, &error, NULL);
    if (options.cache != NULL && options.cache[0] != '\0' && access(options.cache, W_OK) != 0 &&
        errno != ENOENT)
        cli_note(cli, "note: VARVE_CACHE %s: %s: compiled code is not kept", options.cache, strerror(errno));
    return EXIT_DONE;
}

const char *cli_branch(const struct cli *cli)
{
    const char *branch = cli->branch != NULL ? cli->branch : getenv("VARVE_BRANCH");

    return branch == NULL || branch[0] == '\0' ? "main" : branch;
}

int cli_revision(struct cli *cli, const char *revision, char text[CLI_REVISION])
{
    const bool head = strncmp(revision, "HEAD", 4) == 0 && strchr("~^@", revision[4]) != NULL;

    if (snprintf(text, CLI_REVISION, "%s%s", head ? cli_branch(cli) : "", head ? revision + 4 : revision) >=
        CLI_REVISION)
        return cli_usage(cli, "revision %.40s...: too long", revision);
    return EXIT_DONE;
}

int cli_commit_open(struct cli *cli, const char *revision, varve_commit **commit)
{
    char text[CLI_REVISION];
    varve_error error;
    const int code = cli_revision(cli, revision, text);

    if (code == EXIT_DONE && varve_commit_open(cli->store, text, commit, &error) != VARVE_OK)
        return cli_fail(cli, &error, NULL);
    return code;
}

static int read_seed(struct cli *cli, uint8_t seed[32], bool *given)
{
    const char *text = getenv("VARVE_SEED");

    *given = text != NULL;
    if (text != NULL && varve_hex_parse(text, seed) != VARVE_OK)
        return cli_usage(cli, "VARVE_SEED: not 64 hexadecimal digits: %s", text);
    return EXIT_DONE;
}

/* Has the branch a commit? A new store has none, and looking at it shows an empty state. */
static bool branch_exists(struct cli *cli, const char *branch)
{
    varve_commit *commit = NULL;
    const varve_status status = varve_commit_open(cli->store, branch, &commit, NULL);

    varve_commit_close(commit);
    return status != VARVE_NOT_FOUND;
}

static bool store_is_empty(struct cli *cli)
{
    varve_ref ref = VARVE_INIT(varve_ref);

    return varve_ref_next(cli->store, NULL, &ref, NULL) == VARVE_END;
}

int cli_begin(struct cli *cli, bool looking)
{
    varve_session_options options = VARVE_INIT(varve_session_options);
    varve_error error;
    varve_commit *base = NULL;
    uint8_t seed[32];
    bool seeded = false;
    int code = cli->store != NULL ? EXIT_DONE : cli_open_store(cli, looking);

    if (code == EXIT_DONE)
        code = cli_time(cli, &options.time_ns);
    if (code == EXIT_DONE)
        code = read_seed(cli, seed, &seeded);
    if (code != EXIT_DONE)
        return code;
    const char *branch = cli_branch(cli);
    if (looking && cli->at != NULL) {
        code = cli_commit_open(cli, cli->at, &base);
        if (code != EXIT_DONE)
            return code;
    } else if (!store_is_empty(cli) && !branch_exists(cli, branch)) {
        return cli_error(cli, VARVE_NOT_FOUND,
                         "no branch %s: see `varve branch`, or make it with `varve branch %s REV`", branch,
                         branch);
    }
    options.flags = looking ? VARVE_SESSION_READ_ONLY : 0;
    options.vm = cli->vm;
    options.base = base;
    options.branch = branch;
    options.seed = seeded ? seed : NULL;
    options.output = cli_on_output;
    options.context = cli;
    const varve_status status = varve_session_begin(cli->store, &options, &cli->session, &error);
    varve_commit_close(base);
    watch(cli->session);
    return status == VARVE_OK ? EXIT_DONE : cli_fail(cli, &error, NULL);
}

const char *cli_layout_name(varve_layout layout)
{
    static const char *const names[] = { "default", "flat", "chain", "tree", "journal" };

    return (size_t)layout < sizeof names / sizeof *names ? names[layout] : "unknown";
}

bool cli_layout_parse(const char *text, varve_layout *layout)
{
    for (varve_layout i = VARVE_LAYOUT_FLAT; i <= VARVE_LAYOUT_JOURNAL; i++)
        if (strcmp(text, cli_layout_name(i)) == 0) {
            *layout = i;
            return true;
        }
    return false;
}

/* A process that ends holds nothing: what a layout keeps in memory until it is persisted is persisted now. */
static int persist(struct cli *cli)
{
    varve_store_info info = VARVE_INIT(varve_store_info);
    varve_error error;

    if (cli->store == NULL || cli->looks || varve_store_stat(cli->store, &info, &error) != VARVE_OK ||
        (info.layout != VARVE_LAYOUT_FLAT && info.layout != VARVE_LAYOUT_CHAIN))
        return EXIT_DONE;
    return varve_store_persist(cli->store, &error) == VARVE_OK ? EXIT_DONE : cli_fail(cli, &error, NULL);
}

int cli_close(struct cli *cli, int code)
{
    watch(NULL);
    varve_session_abort(cli->session);
    cli->session = NULL;
    const int persisted = persist(cli);
    varve_store_close(cli->store);
    cli->store = NULL;
    varve_vm_free(cli->vm);
    cli->vm = NULL;
    return code != EXIT_DONE ? code : persisted;
}

/* ---- commit ----------------------------------------------------------------------------------- */

/* "[main r3 9F3A21C04D11] update 5 rows: 1 module, 33 pages, 8.1 KiB, 0.4 ms" */
static void say_commit(const struct cli *cli, const char *branch, const varve_commit_info *info,
                       uint64_t took_ns)
{
    char id[13], size[24], subject[CLI_SUBJECT];

    cli_short_id(info->id.bytes, id);
    cli_size_text(info->bytes_written, size);
    cli_subject(info->message, subject);
    cli_note(cli, "%s[%s r%" PRIu64 " %s]%s %s: %" PRIu64 " module%s, %" PRIu64 " page%s, %s, %.1f ms",
             cli_paint(cli, stderr, "\033[32m"), branch, info->number, id, cli_paint(cli, stderr, "\033[0m"),
             subject, info->modules_changed, info->modules_changed == 1 ? "" : "s", info->pages_changed,
             info->pages_changed == 1 ? "" : "s", size, (double)took_ns / 1e6);
}

static void answer_changed(struct cli *cli, const varve_commit_info *info, uint64_t took_ns)
{
    if (!cli->json)
        return;
    cli_set(cli, "commit", info == NULL ? json_null() : cli_json_commit(cli, info));
    cli_set(cli, "branch", cli_json_text(cli_branch(cli)));
    cli_set(cli, "nanoseconds", json_integer((json_int_t)took_ns));
}

int cli_commit(struct cli *cli, const char *default_message, bool chain)
{
    varve_commit_options options = VARVE_INIT(varve_commit_options);
    varve_commit *commit = NULL;
    varve_error error;
    const varve_commit *base = varve_session_base(cli->session);
    varve_commit_id before = { { 0 } };
    char message[CLI_SUBJECT];
    int code = EXIT_DONE;

    /* The answer goes out first: who cannot be told has changed nothing. */
    if (!cli->json && fflush(stdout) != 0)
        return cli_error(cli, VARVE_IO, "standard output: %s: nothing was committed", strerror(errno));
    if (cli->dry_run) {
        answer_changed(cli, NULL, 0);
        return EXIT_DONE;
    }
    if (base != NULL)
        before = varve_commit_get(base)->id;
    cli_subject(default_message, message);
    options.message = cli->message != NULL ? cli->message : message;
    options.flags = chain ? VARVE_COMMIT_CHAIN : 0;
    code = cli_time(cli, &options.time_ns);
    if (code != EXIT_DONE)
        return code;
    const uint64_t start = monotonic_ns();
    commit_is_made = 1;
    const varve_status status = varve_session_commit(cli->session, &options, &commit, &error);
    const uint64_t took = monotonic_ns() - start;
    if (status == VARVE_OK && !chain)
        cli->session = NULL; /* it has ended */
    watch(cli->session);
    commit_is_made = 0;
    if (status != VARVE_OK)
        return cli_fail(cli, &error, NULL);
    const varve_commit_info *info = commit == NULL ? NULL : varve_commit_get(commit);
    const bool changed = info != NULL && memcmp(&before, &info->id, sizeof before) != 0;
    if (changed)
        say_commit(cli, cli_branch(cli), info, took);
    else
        cli_note(cli, "nothing changed");
    answer_changed(cli, changed ? info : NULL, took);
    varve_commit_close(commit);
    return EXIT_DONE;
}

/* ---- modules and files ------------------------------------------------------------------------ */

static bool is_hex(const char *word, size_t least)
{
    const size_t length = strlen(word);

    return length >= least && length <= 64 && strspn(word, "0123456789abcdefABCDEF") == length;
}

bool cli_is_near(const char *a, const char *b)
{
    const size_t na = strlen(a), nb = strlen(b);
    size_t front = 0, back = 0;

    while (front < na && front < nb && a[front] == b[front])
        front++;
    while (back < na - front && back < nb - front && a[na - 1 - back] == b[nb - 1 - back])
        back++;
    const size_t left = na - front - back, right = nb - front - back;
    return front > 0 && left <= 2 && right <= 2 && (left == right || left == 0 || right == 0);
}

static int by_prefix(struct cli *cli, const char *word, varve_module_info *info)
{
    varve_module_info each = VARVE_INIT(varve_module_info);
    varve_module_id after;
    char near[128] = "";
    size_t found = 0;

    for (bool first = true;
         varve_session_next_module(cli->session, first ? NULL : &after, &each, NULL) == VARVE_OK;
         first = false) {
        char hex[65];
        varve_hex_format(each.id.bytes, hex);
        if (is_hex(word, 4) && strncasecmp(hex, word, strlen(word)) == 0) {
            *info = each;
            found++;
        }
        if (each.name[0] != '\0' && cli_is_near(word, each.name))
            strcpy(near, each.name);
        after = each.id;
    }
    if (found == 1)
        return EXIT_DONE;
    if (found > 1)
        return cli_error(cli, VARVE_AMBIGUOUS,
                         "module %s: %zu modules have ids that begin so: give more digits", word, found);
    return cli_error(cli, VARVE_NOT_FOUND, "no module %s in this state%s%s%s", word,
                     near[0] ? ": did you mean " : ": see `varve ls`", near, near[0] ? "?" : "");
}

int cli_module(struct cli *cli, const char *word, varve_module_info *info)
{
    varve_module_id id;
    uint8_t bytes[32];

    *info = VARVE_INIT(varve_module_info);
    if (strlen(word) == 64 && varve_hex_parse(word, bytes) == VARVE_OK) {
        memcpy(id.bytes, bytes, sizeof bytes);
        if (varve_session_module(cli->session, &id, info, NULL) == VARVE_OK)
            return EXIT_DONE;
    } else if (varve_module_id_of(word, &id) == VARVE_OK &&
               varve_session_module(cli->session, &id, info, NULL) == VARVE_OK) {
        return EXIT_DONE;
    }
    return by_prefix(cli, word, info);
}

int cli_read_file(struct cli *cli, const char *path, uint8_t **data, size_t *size)
{
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    size_t capacity = 65536, used = 0;
    int code = EXIT_DONE;

    if (file == NULL)
        return cli_error(cli, errno == ENOENT ? VARVE_NOT_FOUND : VARVE_IO, "cannot read %s: %s", path,
                         strerror(errno));
    uint8_t *bytes = malloc(capacity);
    while (bytes != NULL) {
        used += fread(bytes + used, 1, capacity - used, file);
        if (used < capacity)
            break;
        uint8_t *grown = realloc(bytes, capacity *= 2);
        if (grown == NULL)
            free(bytes);
        bytes = grown;
    }
    if (bytes == NULL)
        code = cli_error(cli, VARVE_MEMORY, "%s: out of memory", path);
    else if (ferror(file))
        code = cli_error(cli, VARVE_IO, "cannot read %s: %s", path, strerror(errno));
    if (file != stdin)
        (void)fclose(file);
    if (code != EXIT_DONE) {
        free(bytes);
        return code;
    }
    bytes[used] = 0; /* used < capacity: room for a NUL, so that a text can be used as one */
    *data = bytes;
    *size = used;
    return EXIT_DONE;
}

/* ---- verbs ------------------------------------------------------------------------------------ */

int cli_step(struct cli *cli, int argc, char **argv, cli_command_fn statement, bool vm)
{
    char words[256] = "";
    int code = cli_common(cli, &argc, argv, false);

    for (int i = 0; i < argc; i++) {
        const size_t used = strlen(words);
        (void)snprintf(words + used, sizeof words - used, "%s%s", i == 0 ? "" : " ", argv[i]);
    }
    if (code == EXIT_DONE && !cli->helping && vm)
        code = cli_vm(cli);
    if (code == EXIT_DONE && !cli->helping)
        code = cli_begin(cli, false);
    if (code == EXIT_DONE)
        code = statement(cli, argc, argv);
    if (code == EXIT_DONE && !cli->helping)
        code = cli_commit(cli, cli->did[0] != '\0' ? cli->did : words, false);
    return code;
}

int cli_look(struct cli *cli, int argc, char **argv, cli_command_fn statement, bool vm)
{
    int code = cli_common(cli, &argc, argv, true);

    if (code == EXIT_DONE && !cli->helping && vm)
        code = cli_vm(cli);
    if (code == EXIT_DONE && !cli->helping)
        code = cli_begin(cli, true);
    return code == EXIT_DONE ? statement(cli, argc, argv) : code;
}
