/* spec.c - run the specification's test suite plain, rewritten, and torn down between every two commands.
 *
 *   test_spec [--expected FILE] [--committed | --forget WHAT] [--verbose] SUITE[/NAME]...
 *
 * The plain outcome is judged by the script; the other two must then be the same, bit for bit, trap for trap. What
 * is not falls into a class by the rules below, each with its reason; what no rule covers is a failure. The counts
 * of every class are compared with FILE too, so that a class cannot grow unnoticed; without it they are printed
 * in its form.
 * --committed: what follows through the product instead: deploy, call; commit, close and reopen between every two.
 * --forget: a faulty machine, in what follows. What it does wrong is counted as "noticed"; that too must be as in
 * FILE: a harness that notices nothing proves nothing.
 * Scripts come from the folder that VARVE_TEST_SPEC names. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "script.h"

enum { MODES = 4, COUNTS_MAX = 1024 };

/* A rule holds for a command whose verdict is `verdict` (ANY: any) and whose text contains `text` (NULL: any), if
 * what it needs was so in the script by then. The first that holds names the class. */
enum { ANY = -1 };
enum need { ALWAYS, SHARED, MISSING, CHANGED };
struct rule {
    const char *class;
    int verdict;
    const char *text;
    enum need need;
};

static const struct rule plain_rules[] = {
    { "text-format", NOT_OURS, NULL, ALWAYS },
    { "collector", SKIPPED, "gc types are disallowed", ALWAYS },
    { "collector", SKIPPED, "when gc types are disabled", ALWAYS },
    { "collector", SKIPPED, "needs garbage collection", ALWAYS },
    { "collector", SKIPPED, "exceptions proposal not enabled", ALWAYS },
    { "collector", SKIPPED, "exception refs not supported", ALWAYS },
    { "collector", SKIPPED, "exceptions support is not enabled", ALWAYS },
    { "threads", SKIPPED, "threads must be enabled", ALWAYS },
    { "threads", SKIPPED, "threads support is not enabled", ALWAYS },
    { "unfinished", SKIPPED, "custom-descriptors proposal not implemented", ALWAYS },
    { "unfinished", SKIPPED, "custom descriptors required", ALWAYS },
    { "unfinished", SKIPPED, "unsupported heap type Exact", ALWAYS },
    { "relaxed", FAIL, "accepted", ALWAYS },
    { "relaxed", FAIL, NULL, CHANGED },
    { "follows", ANY, NULL, MISSING },
};
static const struct rule rewritten_rules[] = {
    { "memories", SKIPPED, "memories: one is supported", ALWAYS },
    { "page-size", SKIPPED, "has a page size of its own", ALWAYS },
    { "typed", SKIPPED, "holds typed references", ALWAYS },
    { "reference", SKIPPED, "imports a reference of another module", ALWAYS },
    { "shared", ANY, NULL, SHARED },
    { "follows", ANY, NULL, MISSING },
};

static const struct rule committed_rules[] = {
    { "functions", SKIPPED, "nobody answers", ALWAYS },
    { "globals", SKIPPED, "that has no value; give it one", ALWAYS },
    { "get", SKIPPED, "a global is read from outside", ALWAYS },
    { "references", SKIPPED, "takes or gives references", ALWAYS },
    { "name", SKIPPED, "a name with a zero byte", ALWAYS },
    { "off", SKIPPED, "not a valid module", ALWAYS },
    { "off", SKIPPED, "is not supported (", ALWAYS },
    { "off", SKIPPED, "is addressed with 64 bits", ALWAYS },
    { "memories", SKIPPED, "memories: one is supported", ALWAYS },
    { "page-size", SKIPPED, "has a page size of its own", ALWAYS },
    { "typed", SKIPPED, "holds typed references", ALWAYS },
    { "shared", ANY, NULL, SHARED },
    { "follows", ANY, NULL, MISSING },
};

static const struct {
    const char *class, *mode, *why;
} reasons[] = {
    { "pass", "plain", "as the script wants it" },
    { "same", "", "as plain, bit for bit" },
    { "text-format", "plain", "not run: they test parsers of the text format, which modules never come in" },
    { "collector", "plain",
      "not run: the engine is built without its collector, so there are no external references, "
      "exceptions and collected objects" },
    { "threads", "plain", "not run: the engine is built without threads: they are not deterministic" },
    { "unfinished", "plain", "not run: the engine does not know the proposal yet" },
    { "relaxed", "plain",
      "wrong of the script: an old copy forbids what a later version allows, or undoes what a later one "
      "keeps" },
    { "follows", "", "it needs a module that could not be made, for a reason above" },
    { "memories", "", "refused: a module has one memory, one image" },
    { "page-size", "", "refused: pages of a memory are 65536 bytes" },
    { "typed", "", "refused: a mutable global or changed table of references that say the function's type" },
    { "reference", "", "refused: a function of another module as the value of an imported global" },
    { "shared", "",
      "different: modules share a memory, table, mutable global or tag, which are their own here" },
    { "functions", "", "refused: it imports functions of another module, and varve does not link modules" },
    { "globals", "", "refused: it imports a global, which has no value here" },
    { "get", "", "not run: the public API does not read single globals" },
    { "references", "", "not run: the public API passes numbers only" },
    { "name", "", "not run: the public API takes names that end with a zero byte" },
    { "off", "",
      "refused: a proposal that is off for guests: 64-bit memories, relaxed SIMD, wide arithmetic.." },
    { "noticed", "", "what a machine that forgets this does wrong" },
};

static const struct {
    const char *name;
    unsigned bit;
    const char *mode;
} forgettings[] = {
    { "memory", FORGET_MEMORY, "without-memory" },
    { "globals", FORGET_GLOBALS, "without-globals" },
    { "tables", FORGET_TABLES, "without-tables" },
    { "segments", FORGET_SEGMENTS, "without-segments" },
};

struct count {
    char suite[64], mode[32], class[32];
    unsigned long count;
};
struct counts {
    struct count list[COUNTS_MAX];
    size_t used;
};

struct totals {
    struct counts counts;
    unsigned long passed, failed, commands, teardowns, restored;
    bool verbose;
    unsigned modes;  /* that are run: bits 1 << enum world_kind */
    unsigned forget; /* bit */
    const char *forget_mode;
};

enum {
    GOOD_RUN = 1u << WORLD_PLAIN | 1u << WORLD_REWRITTEN | 1u << WORLD_RESUMED,
    FAULTY_RUN = 1u << WORLD_REWRITTEN | 1u << WORLD_RESUMED,
    COMMITTED_RUN = 1u << WORLD_PLAIN | 1u << WORLD_COMMITTED
};
static const char *const mode_names[MODES] = { "plain", "rewritten", "resumed", "committed" };

static struct count *find_count(struct counts *counts, const char *suite, const char *mode, const char *class)
{
    for (size_t i = 0; i < counts->used; i++) {
        struct count *const count = &counts->list[i];
        if (strcmp(count->suite, suite) == 0 && strcmp(count->mode, mode) == 0 &&
            strcmp(count->class, class) == 0)
            return count;
    }
    if (counts->used == COUNTS_MAX)
        abort();
    struct count *const count = &counts->list[counts->used++];
    (void)snprintf(count->suite, sizeof count->suite, "%s", suite);
    (void)snprintf(count->mode, sizeof count->mode, "%s", mode);
    (void)snprintf(count->class, sizeof count->class, "%s", class);
    return count;
}

static const char *apply(const struct rule *rules, size_t count, const struct outcome *outcome)
{
    for (size_t i = 0; i < count; i++) {
        if ((rules[i].verdict == ANY || rules[i].verdict == (int)outcome->verdict) &&
            (rules[i].text == NULL || strstr(outcome->text, rules[i].text) != NULL) &&
            (rules[i].need != SHARED || outcome->shared) && (rules[i].need != MISSING || outcome->missing) &&
            (rules[i].need != CHANGED || outcome->changed))
            return rules[i].class;
    }
    return "unexplained";
}

static bool same(const struct outcome *a, const struct outcome *b)
{
    return a->verdict == b->verdict && strcmp(a->text, b->text) == 0;
}

/* NULL: nothing to compare with. */
static const char *class_of(const struct outcome *plain, const struct outcome *outcome, int mode)
{
    if (outcome == plain)
        return plain->verdict == PASS ? "pass"
                                      : apply(plain_rules, sizeof plain_rules / sizeof plain_rules[0], plain);
    if (plain->verdict != PASS)
        return NULL;
    if (same(plain, outcome))
        return "same";
    if (mode == WORLD_COMMITTED)
        return apply(committed_rules, sizeof committed_rules / sizeof committed_rules[0], outcome);
    return apply(rewritten_rules, sizeof rewritten_rules / sizeof rewritten_rules[0], outcome);
}

static void tell(const char *file, const char *mode, const char *class, const struct outcome *plain,
                 const struct outcome *outcome)
{
    (void)printf("%s:%u %s, %s: %s:%s", file, outcome->line, outcome->command, mode, class, outcome->text);
    if (plain != outcome)
        (void)printf(" (plain:%s)", plain->text);
    (void)printf("\n");
}

static void judge(struct totals *totals, const char *suite, const char *file,
                  struct outcome *const outcomes[MODES], size_t index)
{
    const struct outcome *const plain = &outcomes[0][index];

    for (int mode = 0; mode < MODES; mode++) {
        const struct outcome *const outcome = &outcomes[mode][index];
        const char *const class = class_of(plain, outcome, mode);
        /* What is plain is counted once: not again beside the product. */
        if (class == NULL || (totals->modes & 1u << mode) == 0 ||
            (mode == WORLD_PLAIN && totals->modes != GOOD_RUN))
            continue;
        const bool good = strcmp(class, "pass") == 0 || strcmp(class, "same") == 0;
        const bool bad = strcmp(class, "unexplained") == 0;
        find_count(&totals->counts, suite, mode_names[mode], class)->count++;
        totals->passed += good;
        totals->failed += bad;
        if (bad || (totals->verbose && !good))
            tell(file, mode_names[mode], class, plain, outcome);
    }
}

/* Of a faulty machine only what it does otherwise than the rewritten one counts. */
static void judge_faulty(struct totals *totals, const char *suite, struct outcome *const outcomes[MODES],
                         size_t index)
{
    if (!same(&outcomes[WORLD_REWRITTEN][index], &outcomes[WORLD_RESUMED][index]))
        find_count(&totals->counts, suite, totals->forget_mode, "noticed")->count++;
}

static void run_mode(struct totals *totals, wasm_engine_t *engine, const char *file,
                     const struct script *script, enum world_kind kind, struct outcome *outcomes)
{
    struct world *const world = world_new(engine, kind, kind == WORLD_RESUMED ? totals->forget : 0);

    script_run(script, world, outcomes);
    totals->teardowns += world->teardowns;
    totals->restored += world->restored;
    if (world->restore_differs || world->frozen != NULL) {
        (void)printf("%s: %s\n", file,
                     world->frozen != NULL ? world->frozen : "what was restored is not what was captured");
        totals->failed++;
    }
    world_free(world);
}

static void run_file(struct totals *totals, wasm_engine_t *engine, const char *root, const char *suite,
                     const char *name)
{
    char folder[4096], file[320];
    struct script script;
    struct outcome *outcomes[MODES];

    (void)snprintf(folder, sizeof folder, "%s/%s/%s", root, suite, name);
    (void)snprintf(file, sizeof file, "%s/%s", suite, name);
    if (!script_read(folder, name, &script)) {
        (void)printf("%s: cannot be read\n", file);
        totals->failed++;
        return;
    }
    for (int mode = 0; mode < MODES; mode++) {
        outcomes[mode] = calloc(script.count + 1, sizeof *outcomes[mode]);
        if (outcomes[mode] == NULL)
            abort();
        if ((totals->modes & 1u << mode) != 0)
            run_mode(totals, engine, file, &script, (enum world_kind)mode, outcomes[mode]);
    }
    for (size_t i = 0; i < script.count; i++) {
        if (totals->forget != 0)
            judge_faulty(totals, suite, outcomes, i);
        else
            judge(totals, suite, file, outcomes, i);
    }
    totals->commands += script.count;
    for (int mode = 0; mode < MODES; mode++)
        free(outcomes[mode]);
    script_release(&script);
}

static int is_entry(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static void run_suite(struct totals *totals, wasm_engine_t *engine, const char *root, const char *suite)
{
    char folder[4096];
    struct dirent **entries = NULL;

    (void)snprintf(folder, sizeof folder, "%s/%s", root, suite);
    const int count = scandir(folder, &entries, is_entry, alphasort);
    if (count <= 0) {
        (void)printf("%s: there is no such suite\n", suite);
        totals->failed++;
    }
    for (int i = 0; i < count; i++) {
        run_file(totals, engine, root, suite, entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
}

/* ---- counts ---- */

static const char *why(const char *class)
{
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++) {
        if (strcmp(reasons[i].class, class) == 0)
            return reasons[i].why;
    }
    return "NO RULE COVERS IT";
}

/* By mode and class, over all suites that were run. */
static void print_summary(const struct totals *totals)
{
    static struct counts sums;

    for (size_t i = 0; i < totals->counts.used; i++) {
        const struct count *const count = &totals->counts.list[i];
        find_count(&sums, "", count->mode, count->class)->count += count->count;
    }
    (void)printf("%lu commands", totals->commands);
    if (totals->modes == COMMITTED_RUN)
        (void)printf("; %lu times committed, closed and opened", totals->teardowns);
    if (totals->modes == GOOD_RUN)
        (void)printf(
            "; %lu teardowns, in which %lu instances were captured, made anew, restored and compared",
            totals->teardowns, totals->restored);
    (void)printf("\n");
    for (size_t i = 0; i < sums.used; i++)
        (void)printf("%-18s %-12s %7lu  %s\n", sums.list[i].mode, sums.list[i].class, sums.list[i].count,
                     why(sums.list[i].class));
}

/* Whether it is about this suite and this kind of run. */
static bool is_about(const struct count *count, const char *suite, const struct totals *totals)
{
    if (strcmp(count->suite, suite) != 0)
        return false;
    if (totals->modes == FAULTY_RUN)
        return strcmp(count->mode, totals->forget_mode) == 0;
    const bool committed = strcmp(count->mode, mode_names[WORLD_COMMITTED]) == 0;
    return strncmp(count->mode, "without-", 8) != 0 && committed == (totals->modes == COMMITTED_RUN);
}

/* Every line of the file that is about this run must be as counted, and nothing else be. */
static void compare(struct totals *totals, const char *path, const char *suite)
{
    struct count line;
    FILE *const file = fopen(path, "r");
    unsigned long lines = 0, counted = 0;
    char text[256];

    if (file == NULL) {
        (void)printf("%s: cannot be read\n", path);
        totals->failed++;
        return;
    }
    while (fgets(text, sizeof text, file) != NULL) {
        if (text[0] == '#' ||
            sscanf(text, "%63s %31s %31s %lu", line.suite, line.mode, line.class, &line.count) != 4 ||
            !is_about(&line, suite, totals))
            continue;
        lines++;
        const unsigned long count = find_count(&totals->counts, line.suite, line.mode, line.class)->count;
        if (count != line.count) {
            (void)printf("%s, %s: %lu %s, and %s says %lu\n", line.suite, line.mode, count, line.class, path,
                         line.count);
            totals->failed++;
        }
        totals->passed += count == line.count && totals->forget != 0 && count > 0;
    }
    (void)fclose(file);
    for (size_t i = 0; i < totals->counts.used; i++)
        counted += is_about(&totals->counts.list[i], suite, totals);
    if (lines != counted) {
        (void)printf("%s: %lu classes, and %s has %lu\n", suite, counted, path, lines);
        totals->failed++;
    }
}

static void print_counts(const struct totals *totals)
{
    for (size_t i = 0; i < totals->counts.used; i++) {
        const struct count *const count = &totals->counts.list[i];
        (void)printf("%s %s %s %lu\n", count->suite, count->mode, count->class, count->count);
    }
}

static bool choose_forgetting(struct totals *totals, const char *name)
{
    for (size_t i = 0; i < sizeof forgettings / sizeof forgettings[0]; i++) {
        if (strcmp(forgettings[i].name, name) == 0) {
            totals->modes = FAULTY_RUN;
            totals->forget = forgettings[i].bit;
            totals->forget_mode = forgettings[i].mode;
            return true;
        }
    }
    (void)fprintf(stderr, "--forget memory, globals, tables or segments\n");
    return false;
}

int main(int argc, char **argv)
{
    static struct totals totals;
    const char *const root = getenv("VARVE_TEST_SPEC"), *expected = NULL;
    wasm_engine_t *engine;

    if (root == NULL) {
        (void)printf("VARVE_TEST_SPEC is not set: tools/setup.sh spec brings the suite in\n");
        return 77;
    }
    engine = world_engine();
    totals.modes = GOOD_RUN;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--verbose") == 0) {
            totals.verbose = true;
        } else if (strcmp(argv[i], "--committed") == 0) {
            totals.modes = COMMITTED_RUN;
        } else if (strcmp(argv[i], "--expected") == 0 && i + 1 < argc) {
            expected = argv[++i];
        } else if (strcmp(argv[i], "--forget") == 0 && i + 1 < argc) {
            if (!choose_forgetting(&totals, argv[++i]))
                return 2;
        } else if (strchr(argv[i], '/') != NULL) {
            char suite[64];
            (void)snprintf(suite, sizeof suite, "%.*s", (int)(strchr(argv[i], '/') - argv[i]), argv[i]);
            run_file(&totals, engine, root, suite, strchr(argv[i], '/') + 1);
        } else {
            run_suite(&totals, engine, root, argv[i]);
            if (expected != NULL)
                compare(&totals, expected, argv[i]);
        }
    }
    wasm_engine_delete(engine);
    if (expected == NULL)
        print_counts(&totals);
    print_summary(&totals);
    (void)printf("%lu passed, %lu failed\n", totals.passed, totals.failed);
    return totals.failed == 0 ? 0 : 1;
}
