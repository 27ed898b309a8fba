/* script.c - see script.h. A word is built in one buffer; quotes, backslashes and $NAME are taken out as it grows. */
#include "cli/script.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_MOST = 1 << 20 };

bool script_is_name(const char *name)
{
    if (!isalpha((unsigned char)name[0]) && name[0] != '_')
        return false;
    while (isalnum((unsigned char)*name) || *name == '_')
        name++;
    return *name == '\0';
}

const char *script_get(const struct script_names *names, const char *name)
{
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->names[i], name) == 0)
            return names->values[i];
    return NULL;
}

bool script_set(struct script_names *names, const char *name, const char *value)
{
    char *copy = strdup(value);

    if (copy == NULL)
        return false;
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->names[i], name) == 0) {
            free(names->values[i]);
            names->values[i] = copy;
            return true;
        }
    char **grown_names = realloc(names->names, (names->count + 1) * sizeof *grown_names);
    if (grown_names != NULL)
        names->names = grown_names;
    char **grown_values = realloc(names->values, (names->count + 1) * sizeof *grown_values);
    if (grown_values != NULL)
        names->values = grown_values;
    char *own_name = strdup(name);
    if (grown_names == NULL || grown_values == NULL || own_name == NULL) {
        free(own_name);
        free(copy);
        return false;
    }
    names->names[names->count] = own_name;
    names->values[names->count++] = copy;
    return true;
}

void script_names_release(struct script_names *names)
{
    for (size_t i = 0; i < names->count; i++) {
        free(names->names[i]);
        free(names->values[i]);
    }
    free(names->names);
    free(names->values);
    *names = (struct script_names){ .count = 0 };
}

/* The text of all words, each ended by a NUL; `start` is where the current one begins. */
struct builder {
    char *text;
    size_t size, start;
    bool in_word;
};

static bool put(struct builder *b, const char *text, size_t size)
{
    if (b->size + size + 2 > LINE_MOST)
        return false;
    memcpy(b->text + b->size, text, size);
    b->size += size;
    b->in_word = true;
    return true;
}

/* "$NAME" or "${NAME}" at `*at`, which is moved behind it. */
static bool expand(struct builder *b, const char **at, const struct script_names *names, char why[128])
{
    const char *p = *at + 1;
    const bool braced = *p == '{';
    char name[128];
    size_t length = 0;

    p += braced;
    while (isalnum((unsigned char)p[length]) || p[length] == '_')
        length++;
    if (length == 0 || length >= sizeof name || (braced && p[length] != '}')) {
        (void)snprintf(why, 128, "$ without a NAME or {NAME}: put '...' around a plain $");
        return false;
    }
    memcpy(name, p, length);
    name[length] = '\0';
    const char *value = script_get(names, name);
    if (value == NULL) {
        (void)snprintf(why, 128, "$%.100s is not set", name);
        return false;
    }
    *at = p + length + braced;
    if (!put(b, value, strlen(value))) {
        (void)snprintf(why, 128, "the line is too long");
        return false;
    }
    return true;
}

static bool end_word(struct builder *b, struct script_line *parsed)
{
    if (!b->in_word)
        return true;
    if (parsed->count == SCRIPT_WORDS) {
        (void)snprintf(parsed->why, sizeof parsed->why, "more than %d words", SCRIPT_WORDS);
        return false;
    }
    b->text[b->size++] = '\0';
    parsed->words[parsed->count++] = b->text + b->start;
    b->start = b->size;
    b->in_word = false;
    return true;
}

bool script_parse(const char *line, const struct script_names *names, struct script_line *parsed)
{
    struct builder b = { .text = malloc(LINE_MOST) };
    char quote = 0;

    *parsed = (struct script_line){ .text = b.text };
    if (b.text == NULL) {
        (void)snprintf(parsed->why, sizeof parsed->why, "out of memory");
        return false;
    }
    for (const char *p = line; *p != '\0';) {
        if (quote == 0 && isspace((unsigned char)*p)) {
            if (!end_word(&b, parsed))
                return false;
            p++;
        } else if (quote == 0 && *p == '#' && !b.in_word) {
            break;
        } else if ((*p == '\'' || *p == '"') && (quote == 0 || quote == *p)) {
            quote = quote == 0 ? *p : 0;
            b.in_word = true;
            p++;
        } else if (*p == '$' && quote != '\'') {
            b.in_word = true;
            if (!expand(&b, &p, names, parsed->why))
                return false;
        } else {
            if (*p == '\\' && p[1] != '\0' && (quote == 0 || (quote == '"' && strchr("\"\\$", p[1]) != NULL)))
                p++;
            if (!put(&b, p++, 1)) {
                (void)snprintf(parsed->why, sizeof parsed->why, "the line is too long");
                return false;
            }
        }
    }
    if (quote != 0) {
        (void)snprintf(parsed->why, sizeof parsed->why, "a %c is not closed", quote);
        return false;
    }
    return end_word(&b, parsed);
}

void script_line_release(struct script_line *parsed)
{
    free(parsed->text);
    *parsed = (struct script_line){ .count = 0 };
}
