/* script.h - one script of the suite, run in one world: what happened at each command. */
#ifndef SPEC_SCRIPT_H
#define SPEC_SCRIPT_H

#include <jansson.h>

#include "world.h"

enum verdict {
    PASS,    /* as the script wants it */
    FAIL,    /* not so */
    SKIPPED, /* could not be tried: `text` says why */
    NOT_OURS /* asserts something about the text format */
};

enum { OUTCOME_TEXT = 480 };
struct outcome {
    enum verdict verdict;
    const char *command; /* lent by the script */
    unsigned line;
    bool shared;  /* some module before or here shares with another one what comes apart when rewritten */
    bool missing; /* some module before or here could not be made */
    bool changed; /* some module before or here failed to link by an old rule, and now does so halfway */
    char
        text[OUTCOME_TEXT]; /* bits of the results, or the reason of the trap: what the modes must agree on */
};

struct script {
    json_t *json;
    const json_t *commands;
    size_t count;
    struct file {
        uint8_t *bytes;
        size_t size;
    } * files; /* of each command: the module that it names */
};

/* Read `folder`/`name`.json and all that it names; false: it is not there. */
bool script_read(const char *folder, const char *name, struct script *script);
void script_release(struct script *script);

/* Run it all: outcomes[script->count]. */
void script_run(const struct script *script, struct world *world, struct outcome *outcomes);

#endif
