/* guest.h - a C library inside a module, driven by hand: texts in, numbers and texts out, all as one savepoint.
 *
 * What varve-sql and varve-js share. A `false` has been told; the caller passes it up, and the process ends with
 * tool->code. Copies live in guest memory from the module's own allocator. */
#ifndef GUEST_H
#define GUEST_H

#include "cli/cli.h"

struct tool {
    struct cli cli;
    const char *module_name, *file; /* --module; FILE of -f */
    bool new_module;
    const char *alloc, *free; /* exports */
    varve_module_id module;
    varve_image *image;
    uint32_t savepoint;
    int code;
};

/* Call an export whose parameters and result are i32 (`result` NULL: it has none). */
bool guest_call(struct tool *tool, const char *function, int32_t *result, size_t count, const int32_t *args);
/* The same with a result of any one type. */
bool guest_call_typed(struct tool *tool, const char *function, varve_value *result, size_t count,
                      const int32_t *args);
#define GUEST_ARGS(...) (sizeof((int32_t[]){ __VA_ARGS__ }) / sizeof(int32_t)), ((int32_t[]){ __VA_ARGS__ })
bool guest_has(struct tool *tool, const char *function);

/* A copy of `size` bytes in guest memory; freed with guest_drop. */
bool guest_put(struct tool *tool, const void *data, size_t size, int32_t *address);
bool guest_put_text(struct tool *tool, const char *text, int32_t *address); /* with its NUL */
bool guest_drop(struct tool *tool, int32_t address);
bool guest_read(struct tool *tool, int32_t address, void *data, size_t size);
/* The text at `address`, as a copy that the caller frees; NULL address: NULL text. */
bool guest_text(struct tool *tool, int32_t address, char **text);

/* ---- what such a program does before and after ------------------------------------------------ */

struct tool_facts {
    const char *program, *about, *usage, *default_module, *wasm; /* "sqlite3.wasm" */
    const char *alloc, *free;
    const struct cli_option *more; /* options of its own; may be NULL */
};
/* Global options and an engine, to which host functions may be added before tool_begin. */
bool tool_start(struct tool *tool, const struct tool_facts *facts, int *argc, char **argv);
/* Options, words and input: `text` is the argument, -f FILE or stdin's (owned by caller); NULL with --new alone. */
bool tool_begin(struct tool *tool, const struct tool_facts *facts, int argc, char **argv, char **text);
/* Commit with `text` (cut) as the message, or undo; print the answer; close. Returns the exit code. */
int tool_end(struct tool *tool, const char *text, bool keep);
/* A failure that the guest's library told; everything is undone. */
bool tool_fail(struct tool *tool, int code, varve_status status, const char *message, const char *trace);

#endif
