/* options.c - options out of argv: "--name value", "--name=value", "-x value", "-xvalue", "--".
 *
 * getopt_long is not used because a word that looks like a negative number must stay a word anywhere. */
#include "cli/cli.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

bool cli_is_number(const char *word)
{
    char *end = NULL;

    if (word[0] != '-' || word[1] == '\0')
        return false;
    if (isdigit((unsigned char)word[1]))
        return true;
    if (word[1] != '.' && strcmp(word, "-inf") != 0 && strcmp(word, "-nan") != 0)
        return false;
    (void)strtod(word, &end);
    return *end == '\0';
}

static void print_options(const struct cli_option *options)
{
    for (const struct cli_option *o = options; o->name != NULL; o++) {
        char left[64];
        (void)snprintf(left, sizeof left, "%c%c%c %s%s%s", o->letter ? '-' : ' ', o->letter ? o->letter : ' ',
                       o->letter ? ',' : ' ', o->name, o->value_name == NULL ? "" : " ",
                       o->value_name == NULL ? "" : o->value_name);
        printf("  %-33s %s\n", left, o->help);
    }
}

static void print_help(const struct cli *cli, const struct cli_option *options, const char *usage,
                       const char *about)
{
    printf("usage: %s%s%s\n\n%s\n", cli->verb == NULL ? cli->program : cli->verb, usage[0] ? " " : "", usage,
           about);
    if (options->name != NULL || cli->common != NULL)
        printf("\n");
    print_options(options);
    if (cli->common != NULL)
        print_options(cli->common);
    printf("\nEverywhere: -s, --store DIR; --json; -q, --quiet; -v, --verbose; --color auto|always|never\n");
}

static const struct cli_option *find_option(const struct cli_option *options, const char *name, size_t length)
{
    for (const struct cli_option *o = options; o->name != NULL; o++)
        if (strncmp(o->name, name, length) == 0 && o->name[length] == '\0')
            return o;
    return NULL;
}

static const struct cli_option *find_letter(const struct cli_option *options, char letter)
{
    for (const struct cli_option *o = options; o->name != NULL; o++)
        if (o->letter == letter)
            return o;
    return NULL;
}

/* False: the list is full. */
static bool put_value(const struct cli_option *option, const char *value)
{
    if (option->flag != NULL)
        *option->flag = true;
    else if (option->text != NULL)
        *option->text = value;
    else if (option->list->count == sizeof option->list->items / sizeof *option->list->items)
        return false;
    else
        option->list->items[option->list->count++] = value;
    return true;
}

/* One word that begins with '-': sets `*used` to how many words it took. */
static int take_option(struct cli *cli, const struct cli_option *options, char **argv, int left, int *used)
{
    const char *word = argv[0];
    const char *value = NULL;
    const struct cli_option *option = NULL;

    *used = 1;
    if (word[1] == '-') {
        const size_t length = strcspn(word, "=");
        option = find_option(options, word, length);
        value = word[length] == '=' ? word + length + 1 : NULL;
    } else {
        option = find_letter(options, word[1]);
        value = word[2] == '\0' ? NULL : word + 2;
    }
    if (option == NULL)
        return cli_usage(cli, "unknown option %s: see --help", word);
    if (option->flag != NULL && value != NULL)
        return cli_usage(cli, "option %s takes no value", option->name);
    if (option->flag == NULL && value == NULL) {
        if (left < 2)
            return cli_usage(cli, "option %s needs a value: %s", option->name, option->value_name);
        value = argv[1];
        *used = 2;
    }
    if (!put_value(option, value))
        return cli_usage(cli, "option %s: given too often", option->name);
    return EXIT_DONE;
}

bool cli_options(struct cli *cli, int *argc, char **argv, const struct cli_option *options, const char *usage,
                 const char *about, int least, int most, int *code)
{
    int words = 1;

    *code = EXIT_DONE;
    for (int i = 1; i < *argc;) {
        const char *word = argv[i];
        if (strcmp(word, "--") == 0) {
            for (i++; i < *argc; i++)
                argv[words++] = argv[i];
            break;
        }
        if (strcmp(word, "--help") == 0) {
            print_help(cli, options, usage, about);
            return false;
        }
        if (word[0] != '-' || word[1] == '\0' || cli_is_number(word)) {
            argv[words++] = argv[i++];
            continue;
        }
        int used = 0;
        *code = take_option(cli, options, argv + i, *argc - i, &used);
        if (*code != EXIT_DONE)
            return false;
        i += used;
    }
    argv[words] = NULL;
    *argc = words;
    if (words - 1 < least || words - 1 > most) {
        *code = cli_usage(cli, "too %s arguments: usage: %s %s", words - 1 < least ? "few" : "many",
                          cli->verb == NULL ? cli->program : cli->verb, usage);
        return false;
    }
    return true;
}

/* Take the options of one table out of argv and leave all else, for the verb's own table comes later. */
static int take_known(struct cli *cli, const struct cli_option *options, int *argc, char **argv)
{
    int left = 1;

    for (int i = 1; i < *argc;) {
        const char *word = argv[i];
        int used = 1;
        if (strcmp(word, "--") == 0) {
            while (i < *argc)
                argv[left++] = argv[i++];
            break;
        }
        cli->helping = cli->helping || strcmp(word, "--help") == 0;
        const bool known = word[0] == '-' && word[1] != '\0' &&
                           (word[1] == '-' ? find_option(options, word, strcspn(word, "="))
                                           : find_letter(options, word[1])) != NULL;
        if (known) {
            const int code = take_option(cli, options, argv + i, *argc - i, &used);
            if (code != EXIT_DONE)
                return code;
        } else {
            argv[left++] = argv[i];
        }
        i += used;
    }
    argv[left] = NULL;
    *argc = left;
    return EXIT_DONE;
}

int cli_globals(struct cli *cli, int *argc, char **argv)
{
    const char *color = "auto", *no_color = getenv("NO_COLOR");
    const struct cli_option options[] = {
        { "--store", 's', "DIR", "", .text = &cli->store_option },
        { "--json", 0, NULL, "", .flag = &cli->json },
        { "--quiet", 'q', NULL, "", .flag = &cli->quiet },
        { "--verbose", 'v', NULL, "", .flag = &cli->verbose },
        { "--color", 0, "auto|always|never", "", .text = &color },
        { .name = NULL },
    };
    const int code = take_known(cli, options, argc, argv);

    if (code != EXIT_DONE)
        return code;
    if (strcmp(color, "auto") != 0 && strcmp(color, "always") != 0 && strcmp(color, "never") != 0)
        return cli_usage(cli, "--color %s: auto, always or never", color);
    if (cli->store_option != NULL && cli->store_option[0] == '\0')
        return cli_usage(cli, "--store: no DIR is given");
    cli->color_always = strcmp(color, "always") == 0;
    cli->color =
        cli->color_always || (strcmp(color, "never") != 0 && (no_color == NULL || no_color[0] == '\0'));
    return EXIT_DONE;
}

int cli_common(struct cli *cli, int *argc, char **argv, bool looking)
{
    const struct cli_option committing_options[] = {
        { "--branch", 'b', "BRANCH", "the branch to work on (default main)", .text = &cli->branch },
        { "--message", 'm', "TEXT", "the commit's message", .text = &cli->message },
        { "--dry-run", 0, NULL, "all but the commit", .flag = &cli->dry_run },
        { .name = NULL },
    };
    const struct cli_option looking_options[] = {
        { "--at", 0, "REV", "look at this commit (default HEAD)", .text = &cli->at },
        { "--branch", 'b', "BRANCH", "the branch that HEAD stands for", .text = &cli->branch },
        { .name = NULL },
    };
    const size_t size = looking ? sizeof looking_options : sizeof committing_options;

    memcpy(cli->common_options, looking ? looking_options : committing_options, size);
    cli->common = cli->common_options;
    return take_known(cli, cli->common, argc, argv);
}
