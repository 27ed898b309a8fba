/* script.h - lines of a `varve run` script: words and quotes as in sh, $NAME expanded, nothing else. */
#ifndef SCRIPT_H
#define SCRIPT_H

#include <stdbool.h>
#include <stddef.h>

enum { SCRIPT_WORDS = 256 };

/* NAME=VALUE pairs, few; the last setting of a name counts. */
struct script_names {
    char **names, **values;
    size_t count;
};
bool script_is_name(const char *name); /* a letter or _, then letters, digits, _ */
bool script_set(struct script_names *names, const char *name, const char *value); /* false: no memory */
const char *script_get(const struct script_names *names, const char *name);       /* NULL: not set */
void script_names_release(struct script_names *names);

struct script_line {
    char *words[SCRIPT_WORDS + 1]; /* NULL-terminated; into `text` */
    int count;
    char *text;
    char why[128]; /* when parse failed */
};
/* Split one line; an empty line or a comment has no words. False: `why` says what is wrong and where. */
bool script_parse(const char *line, const struct script_names *names, struct script_line *parsed);
void script_line_release(struct script_line *parsed);

#endif
