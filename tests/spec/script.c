/* script.c - see script.h. The commands are those of `wasm-tools json-from-wast`. */
#include "script.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "value.h"

/* What the script calls by name: an instance, a definition, or a module that could not be made. */
struct named {
    const char *name;
    struct slot *slot;
    const struct file *definition;
    const char *why; /* there is no slot */
};

struct run {
    const struct script *script;
    struct world *world;
    struct slot *current;
    struct named *names;
    size_t name_count;
    char why_missing[OUTCOME_TEXT]; /* there is no current module */
    bool missing;                   /* at least one of the script could not be made */
    bool changed;                   /* a rule of the script was changed since: what it left differs */
};

static const char *text_of(const json_t *json, const char *key)
{
    return json_string_value(json_object_get(json, key));
}

static bool is(const char *text, const char *wanted)
{
    return text != NULL && strcmp(text, wanted) == 0;
}

/* ---- reading ---- */

static bool read_file(const char *path, struct file *file)
{
    FILE *const stream = fopen(path, "rb");
    size_t got;

    if (stream == NULL)
        return false;
    do {
        file->bytes = realloc(file->bytes, file->size + 65536);
        if (file->bytes == NULL)
            abort();
        got = fread(file->bytes + file->size, 1, 65536, stream);
        file->size += got;
    } while (got > 0);
    (void)fclose(stream);
    return true;
}

bool script_read(const char *folder, const char *name, struct script *script)
{
    char path[4096];

    *script = (struct script){ .json = NULL };
    (void)snprintf(path, sizeof path, "%s/%s.json", folder, name);
    script->json = json_load_file(path, JSON_ALLOW_NUL, NULL);
    if (script->json == NULL)
        return false;
    script->commands = json_object_get(script->json, "commands");
    script->count = json_array_size(script->commands);
    script->files = calloc(script->count + 1, sizeof *script->files);
    for (size_t i = 0; i < script->count; i++) {
        const json_t *const command = json_array_get(script->commands, i);
        const char *file = text_of(command, "binary_filename");
        if (file == NULL)
            file = text_of(command, "filename");
        if (file == NULL)
            continue;
        (void)snprintf(path, sizeof path, "%s/%s", folder, file);
        if (!read_file(path, &script->files[i]))
            return false;
    }
    return true;
}

void script_release(struct script *script)
{
    for (size_t i = 0; i < script->count; i++)
        free(script->files[i].bytes);
    free(script->files);
    json_decref(script->json);
}

/* ---- names ---- */

static struct named *find_named(struct run *run, const char *name)
{
    for (size_t i = 0; i < run->name_count; i++) {
        if (strcmp(run->names[i].name, name) == 0)
            return &run->names[i];
    }
    return NULL;
}

static struct named *give_name(struct run *run, const char *name)
{
    struct named *named = find_named(run, name);

    if (named == NULL) {
        run->names = reallocarray(run->names, run->name_count + 1, sizeof *run->names);
        if (run->names == NULL)
            abort();
        named = &run->names[run->name_count++];
    }
    *named = (struct named){ .name = name };
    return named;
}

/* The instance meant by `name`, or the current one; NULL: `outcome` says why it is not there. */
static struct slot *instance_of(struct run *run, const char *name, struct outcome *outcome)
{
    const struct named *const named = name == NULL ? NULL : find_named(run, name);
    struct slot *const slot = name == NULL ? run->current : named == NULL ? NULL : named->slot;

    if (slot == NULL) {
        outcome->verdict = SKIPPED;
        (void)snprintf(outcome->text, sizeof outcome->text, "%s",
                       named != NULL && named->why != NULL ? named->why : run->why_missing);
    }
    return slot;
}

/* ---- commands ---- */

static void say(struct outcome *outcome, enum verdict verdict, const char *text)
{
    outcome->verdict = verdict;
    (void)snprintf(outcome->text, sizeof outcome->text, "%s", text);
}

static bool is_text(const json_t *command)
{
    return is(text_of(command, "module_type"), "text") && json_object_get(command, "binary_filename") == NULL;
}

static void run_module(struct run *run, const struct file *file, const char *name, struct outcome *outcome)
{
    struct named *const named = name == NULL ? NULL : give_name(run, name);

    run->current = NULL;
    const enum made made = world_make(run->world, file->bytes, file->size, &run->current);
    if (made == MADE) {
        say(outcome, PASS, "module");
    } else {
        static const char *const kinds[] = { [MADE_TRAPPED] = "trapped: ",
                                             [MADE_UNLINKABLE] = "not linked: ",
                                             [MADE_INVALID] = "not accepted: ",
                                             [MADE_REFUSED] = "refused: " };
        outcome->verdict = made == MADE_INVALID || made == MADE_REFUSED ? SKIPPED : FAIL;
        (void)snprintf(outcome->text, sizeof outcome->text, "%s%.300s", kinds[made], run->world->words);
        (void)snprintf(run->why_missing, sizeof run->why_missing, "no module: %.300s", outcome->text);
    }
    if (named != NULL) {
        named->slot = run->current;
        named->why = run->current == NULL ? strdup(run->why_missing) : NULL;
    }
}

/* Do the action of a command. Whatever `made`, results->values are to be freed. */
static bool act(struct run *run, const json_t *command, struct outcome *outcome, enum made *made,
                struct results *results)
{
    const json_t *const action = json_object_get(command, "action");
    const json_t *const field = json_object_get(action, "field"), *args = json_object_get(action, "args");
    const char *why = NULL;
    struct slot *const slot = instance_of(run, text_of(action, "module"), outcome);

    if (slot == NULL)
        return false;
    if (is(text_of(action, "type"), "get")) {
        *made = world_get(run->world, slot, json_string_value(field), json_string_length(field), results);
        return true;
    }
    const size_t count = json_array_size(args);
    wasmtime_val_t *const values = calloc(count + 1, sizeof *values);
    for (size_t i = 0; i < count; i++) {
        if (!value_read(json_array_get(args, i), &values[i], &why)) {
            outcome->verdict = SKIPPED;
            (void)snprintf(outcome->text, sizeof outcome->text, "an argument of type %s", why);
            free(values);
            return false;
        }
    }
    *made = world_call(run->world, slot, json_string_value(field), json_string_length(field), values, count,
                       results);
    free(values);
    return true;
}

static bool results_match(const json_t *expected, const struct results *results)
{
    if (json_array_size(expected) != results->count)
        return false;
    for (size_t i = 0; i < results->count; i++) {
        if (!value_matches(json_array_get(expected, i), &results->values[i]))
            return false;
    }
    return true;
}

/* Scripts of all ages word traps in their own ways: the beginning must agree, or both be about the same thing. */
static bool trap_matches(const char *wanted, const char *words)
{
    static const char *const same[][2] = {
        { "undefined element", "out of bounds table access" },
        { "undefined", "out of bounds table access" },
        { "uninitialized", "uninitialized element" },
        { "indirect call", "indirect call type mismatch" },
        { "out of bounds", "out of bounds table access" },
        { "out of bounds", "out of bounds memory access" },
        { "null function reference", "null reference" },
        { "null function", "null reference" },
    };
    unsigned code;

    if (wanted == NULL || sscanf(words, "trap %u", &code) != 1)
        return false;
    const char *const text = world_trap_text(code);
    if (text == NULL)
        return false;
    if (strncmp(wanted, text, strlen(text)) == 0 || strncmp(wanted, text, strlen(wanted)) == 0)
        return true;
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        if (strncmp(wanted, same[i][0], strlen(same[i][0])) == 0 && strcmp(text, same[i][1]) == 0)
            return true;
    }
    return false;
}

static void run_action(struct run *run, const json_t *command, struct outcome *outcome)
{
    struct results results = { .values = NULL };
    enum made made = MADE;
    const bool is_return = is(outcome->command, "assert_return");
    const bool wants_trap = !is_return && !is(outcome->command, "action");

    if (!act(run, command, outcome, &made, &results))
        return;
    if (made == MADE_REFUSED) {
        outcome->verdict = SKIPPED;
        (void)snprintf(outcome->text, sizeof outcome->text, "refused: %.400s", run->world->words);
    } else if (made != MADE) {
        say(outcome,
            made == MADE_TRAPPED && wants_trap && trap_matches(text_of(command, "text"), run->world->words)
                ? PASS
                : FAIL,
            run->world->words);
    } else {
        say(outcome, PASS, "");
        for (size_t i = 0; i < results.count; i++)
            value_print(&results.values[i], outcome->text, sizeof outcome->text);
        if (wants_trap || (is_return && !results_match(json_object_get(command, "expected"), &results)))
            outcome->verdict = FAIL;
    }
    free(results.values);
}

static void run_not_made(struct run *run, const json_t *command, const struct file *file,
                         struct outcome *outcome)
{
    struct slot *slot = NULL;
    const bool unlinkable = is(outcome->command, "assert_unlinkable");
    const enum made made = world_make(run->world, file->bytes, file->size, &slot);

    /* Once nothing was written when a segment did not fit; now all is written up to the one that does not. */
    run->changed = run->changed || (unlinkable && made == MADE_TRAPPED);
    switch (made) {
    case MADE:
        say(outcome, FAIL, "instantiated");
        break;
    case MADE_TRAPPED:
        say(outcome, !unlinkable && trap_matches(text_of(command, "text"), run->world->words) ? PASS : FAIL,
            run->world->words);
        break;
    case MADE_UNLINKABLE:
        say(outcome, unlinkable ? PASS : FAIL, "not linked");
        break;
    default:
        outcome->verdict = SKIPPED;
        (void)snprintf(outcome->text, sizeof outcome->text, "%s: %.300s",
                       made == MADE_REFUSED ? "refused" : "not accepted", run->world->words);
    }
}

static void run_rejected(struct run *run, const struct file *file, struct outcome *outcome)
{
    if (world_check(run->world, file->bytes, file->size) == MADE_INVALID)
        say(outcome, PASS, "rejected");
    else
        say(outcome, FAIL, "accepted");
}

static void run_register(struct run *run, const json_t *command, struct outcome *outcome)
{
    struct slot *const slot = instance_of(run, text_of(command, "name"), outcome);

    world_register(run->world, text_of(command, "as"), slot);
    if (slot != NULL)
        say(outcome, PASS, "registered");
}

static void run_definition(struct run *run, const json_t *command, const struct file *file,
                           struct outcome *outcome)
{
    const char *const name = text_of(command, "name");
    struct named *const named = give_name(run, name == NULL ? "" : name);

    named->definition = file;
    if (world_check(run->world, file->bytes, file->size) == MADE) {
        say(outcome, PASS, "definition");
    } else {
        outcome->verdict = SKIPPED;
        (void)snprintf(outcome->text, sizeof outcome->text, "not accepted: %.300s", run->world->words);
    }
}

static void run_command(struct run *run, size_t index, struct outcome *outcome)
{
    const json_t *const command = json_array_get(run->script->commands, index);
    const struct file *const file = &run->script->files[index];
    const char *const type = outcome->command;

    if (is_text(command)) {
        say(outcome, NOT_OURS, "the text format");
    } else if (is(type, "module")) {
        run_module(run, file, text_of(command, "name"), outcome);
    } else if (is(type, "module_definition")) {
        run_definition(run, command, file, outcome);
    } else if (is(type, "module_instance")) {
        const char *const of = text_of(command, "module");
        const struct named *const named = find_named(run, of == NULL ? "" : of);
        if (named == NULL || named->definition == NULL)
            say(outcome, SKIPPED, "no module: no definition");
        else
            run_module(run, named->definition, text_of(command, "instance"), outcome);
    } else if (is(type, "register")) {
        run_register(run, command, outcome);
    } else if (is(type, "assert_invalid") || is(type, "assert_malformed")) {
        run_rejected(run, file, outcome);
    } else if (is(type, "assert_unlinkable") || is(type, "assert_uninstantiable")) {
        run_not_made(run, command, file, outcome);
    } else if (is(type, "assert_return") || is(type, "assert_trap") || is(type, "assert_exhaustion") ||
               is(type, "assert_exception") || is(type, "action")) {
        run_action(run, command, outcome);
    } else {
        say(outcome, FAIL, "a command that this program does not know");
    }
}

/* What makes no instance and calls none needs no teardown after it. */
static bool changes_nothing(const char *type)
{
    return is(type, "assert_invalid") || is(type, "assert_malformed") || is(type, "module_definition");
}

static void tear_down(struct run *run)
{
    struct slot **const live = calloc(run->name_count + 1, sizeof(struct slot *));
    size_t count = 0;

    for (size_t i = 0; i < run->name_count; i++) {
        if (run->names[i].slot != NULL)
            live[count++] = run->names[i].slot;
    }
    if (run->current != NULL)
        live[count++] = run->current;
    world_between(run->world, live, count);
    free(live);
}

void script_run(const struct script *script, struct world *world, struct outcome *outcomes)
{
    struct run run = { .script = script, .world = world, .why_missing = "no module" };

    for (size_t i = 0; i < script->count; i++) {
        const json_t *const command = json_array_get(script->commands, i);
        struct outcome *const outcome = &outcomes[i];
        *outcome = (struct outcome){ .command = text_of(command, "type"),
                                     .line = (unsigned)json_integer_value(json_object_get(command, "line")) };
        run_command(&run, i, outcome);
        outcome->shared = world->shared;
        run.missing = run.missing || (outcome->verdict != PASS && outcome->verdict != NOT_OURS &&
                                      !strncmp(outcome->command, "module", 6));
        outcome->missing = run.missing;
        outcome->changed = run.changed;
        if (!changes_nothing(outcome->command))
            tear_down(&run);
    }
    for (size_t i = 0; i < run.name_count; i++)
        free((void *)(uintptr_t)run.names[i].why);
    free(run.names);
}
