/* sql.c - varve sql: SQLite, unmodified, its database in the heap of a module.
 *
 * The connection is opened once, by --new; its handle is a pointer into guest memory, kept in meta ("sql.db"), so
 * every later process goes on with the same connection. One invocation is one transaction and one commit; when all
 * statements only read, nothing is committed. */
#include "tools/guest.h"

#include <stdlib.h>
#include <string.h>

enum { SQLITE_OK = 0, SQLITE_ROW = 100, SQLITE_DONE = 101, OPEN_READWRITE_CREATE = 6 };
enum column_type { COLUMN_INTEGER = 1, COLUMN_FLOAT = 2, COLUMN_TEXT = 3, COLUMN_BLOB = 4, COLUMN_NULL = 5 };

struct sql {
    struct tool tool;
    int32_t db;
    bool header;    /* --header */
    bool only_read; /* every statement so far */
};

static void meta_key(const struct sql *sql, char key[160])
{
    (void)snprintf(key, 160, "%s.db", sql->tool.module_name);
}

/* ---- the connection --------------------------------------------------------------------------- */

static bool sql_error(struct sql *sql)
{
    int32_t address = 0;
    char *text = NULL;

    if (guest_call(&sql->tool, "sqlite3_errmsg", &address, GUEST_ARGS(sql->db)) &&
        guest_text(&sql->tool, address, &text))
        (void)tool_fail(&sql->tool, EXIT_FAILED, VARVE_INVALID, text == NULL ? "unknown error" : text, "");
    free(text);
    return false;
}

static bool open_database(struct sql *sql)
{
    struct tool *tool = &sql->tool;
    int32_t name = 0, slot = 0, result = 0;
    uint8_t handle[4] = { 0 };
    char key[160], text[16];
    varve_error error;

    if (!guest_put_text(tool, ":memory:", &name) || !guest_put(tool, handle, sizeof handle, &slot) ||
        !guest_call(tool, "sqlite3_open_v2", &result, GUEST_ARGS(name, slot, OPEN_READWRITE_CREATE, 0)) ||
        !guest_read(tool, slot, handle, sizeof handle))
        return false;
    sql->db = (int32_t)((uint32_t)handle[0] | (uint32_t)handle[1] << 8 | (uint32_t)handle[2] << 16 |
                        (uint32_t)handle[3] << 24);
    if (result != SQLITE_OK)
        return sql_error(sql);
    if (!guest_drop(tool, name) || !guest_drop(tool, slot))
        return false;
    meta_key(sql, key);
    (void)snprintf(text, sizeof text, "%u", (unsigned)sql->db);
    if (varve_session_set_meta(tool->cli.session, key, text, strlen(text), &error) != VARVE_OK) {
        tool->code = cli_fail(&tool->cli, &error, NULL);
        return false;
    }
    return true;
}

static bool find_database(struct sql *sql)
{
    const void *value = NULL;
    size_t size = 0;
    char key[160], text[16] = "";
    uint64_t handle = 0;

    meta_key(sql, key);
    if (varve_session_get_meta(sql->tool.cli.session, key, &value, &size, NULL) == VARVE_OK &&
        size < sizeof text)
        memcpy(text, value, size);
    if (!cli_parse_u64(text, &handle) || handle == 0 || handle > UINT32_MAX) {
        sql->tool.code = cli_error(&sql->tool.cli, VARVE_NOT_FOUND,
                                   "meta %s holds no connection: was module %s made by `varve sql --new`?",
                                   key, sql->tool.module_name);
        return false;
    }
    sql->db = (int32_t)(uint32_t)handle;
    return true;
}

/* ---- rows ------------------------------------------------------------------------------------- */

static bool column_bytes(struct sql *sql, int32_t statement, int32_t column, enum column_type type,
                         uint8_t **data, size_t *size)
{
    struct tool *tool = &sql->tool;
    int32_t address = 0, length = 0;

    *data = NULL;
    if (!guest_call(tool, type == COLUMN_BLOB ? "sqlite3_column_blob" : "sqlite3_column_text", &address,
                    GUEST_ARGS(statement, column)) ||
        !guest_call(tool, "sqlite3_column_bytes", &length, GUEST_ARGS(statement, column)))
        return false;
    if (length < 0 || (*data = malloc((size_t)length + 1)) == NULL)
        return tool_fail(tool, EXIT_FAILED, VARVE_MEMORY, "out of memory", "");
    *size = (size_t)length;
    return length == 0 || guest_read(tool, address, *data, *size);
}

static bool json_column(struct sql *sql, int32_t statement, int32_t column, enum column_type type,
                        json_t **value)
{
    varve_value number = { .type = type == COLUMN_FLOAT ? VARVE_F64 : VARVE_I64 };
    uint8_t *data = NULL;
    size_t size = 0;
    bool done = true;

    *value = NULL;
    if (type == COLUMN_INTEGER || type == COLUMN_FLOAT) {
        done = guest_call_typed(&sql->tool,
                                type == COLUMN_FLOAT ? "sqlite3_column_double" : "sqlite3_column_int64",
                                &number, GUEST_ARGS(statement, column));
        *value = type == COLUMN_FLOAT ? json_real(number.of.f64) : json_integer(number.of.i64);
    } else if (type != COLUMN_NULL) {
        done = column_bytes(sql, statement, column, type, &data, &size);
        if (done && type == COLUMN_TEXT)
            *value = json_stringn((const char *)data, size);
        if (done && *value == NULL)
            *value = cli_json_bytes(data, size);
        free(data);
    }
    if (*value == NULL)
        *value = json_null(); /* NULL, infinity or NaN */
    return done;
}

static bool print_column(struct sql *sql, int32_t statement, int32_t column)
{
    uint8_t *data = NULL;
    size_t size = 0;
    const bool done = column_bytes(sql, statement, column, COLUMN_TEXT, &data, &size);

    if (done)
        (void)fwrite(data, 1, size, sql->tool.cli.out);
    free(data);
    return done;
}

static bool column_name(struct sql *sql, int32_t statement, int32_t column, char **name)
{
    int32_t address = 0;

    return guest_call(&sql->tool, "sqlite3_column_name", &address, GUEST_ARGS(statement, column)) &&
           guest_text(&sql->tool, address, name);
}

static bool print_row(struct sql *sql, int32_t statement, int32_t count)
{
    struct cli *cli = &sql->tool.cli;
    json_t *row = cli->json ? json_object() : NULL;

    for (int32_t column = 0; column < count; column++) {
        int32_t type = 0;
        if (!guest_call(&sql->tool, "sqlite3_column_type", &type, GUEST_ARGS(statement, column)))
            return false;
        if (cli->json) {
            json_t *value = NULL;
            char *name = NULL;
            const bool done = column_name(sql, statement, column, &name) &&
                              json_column(sql, statement, column, (enum column_type)type, &value);
            (void)json_object_set_new(row, name == NULL ? "" : name, value);
            free(name);
            if (!done)
                return false;
            continue;
        }
        if (column > 0)
            (void)fputc('|', cli->out);
        if (type != COLUMN_NULL && !print_column(sql, statement, column))
            return false;
    }
    if (cli->json)
        cli_line(cli, row);
    else
        (void)fputc('\n', cli->out);
    return true;
}

static bool print_header(struct sql *sql, int32_t statement, int32_t count)
{
    for (int32_t column = 0; column < count; column++) {
        char *name = NULL;
        if (!column_name(sql, statement, column, &name))
            return false;
        (void)fprintf(sql->tool.cli.out, "%s%s", column == 0 ? "" : "|", name == NULL ? "" : name);
        free(name);
    }
    (void)fputc('\n', sql->tool.cli.out);
    return true;
}

/* ---- statements ------------------------------------------------------------------------------- */

static bool run_statement(struct sql *sql, int32_t statement)
{
    struct tool *tool = &sql->tool;
    int32_t result = SQLITE_ROW, count = 0, reads = 0;

    if (!guest_call(tool, "sqlite3_stmt_readonly", &reads, GUEST_ARGS(statement)) ||
        !guest_call(tool, "sqlite3_column_count", &count, GUEST_ARGS(statement)))
        return false;
    sql->only_read = sql->only_read && reads != 0;
    if (sql->header && count > 0 && !tool->cli.json && !print_header(sql, statement, count))
        return false;
    while (result == SQLITE_ROW) {
        if (!guest_call(tool, "sqlite3_step", &result, GUEST_ARGS(statement)))
            return false;
        if (result == SQLITE_ROW && !print_row(sql, statement, count))
            return false;
    }
    if (result != SQLITE_DONE)
        return sql_error(sql);
    return guest_call(tool, "sqlite3_finalize", &result, GUEST_ARGS(statement));
}

/* One by one: prepare answers where the next one begins. */
static bool run_text(struct sql *sql, const char *text)
{
    struct tool *tool = &sql->tool;
    int32_t start = 0, slots = 0, result = 0, at = 0;
    uint8_t pair[8] = { 0 };

    if (!guest_put_text(tool, text, &start) || !guest_put(tool, pair, sizeof pair, &slots))
        return false;
    const int32_t end = start + (int32_t)strlen(text);
    for (at = start; at < end;) {
        if (!guest_call(tool, "sqlite3_prepare_v2", &result, GUEST_ARGS(sql->db, at, -1, slots, slots + 4)))
            return false;
        if (result != SQLITE_OK)
            return sql_error(sql);
        if (!guest_read(tool, slots, pair, sizeof pair))
            return false;
        int32_t values[2];
        memcpy(values, pair, sizeof values); /* little-endian on both sides: the host is x86-64 or aarch64 */
        at = values[1];
        if (values[0] != 0 && !run_statement(sql, values[0]))
            return false;
    }
    return guest_drop(tool, slots) && guest_drop(tool, start);
}

/* "begin" without its end would make the next process meet an open transaction of this one. */
static bool no_transaction_is_open(struct sql *sql)
{
    int32_t autocommit = 0;

    if (!guest_call(&sql->tool, "sqlite3_get_autocommit", &autocommit, GUEST_ARGS(sql->db)))
        return false;
    if (autocommit != 0)
        return true;
    return tool_fail(&sql->tool, EXIT_FAILED, VARVE_INVALID,
                     "a transaction was begun and not ended: one invocation is one transaction already", "");
}

int main(int argc, char **argv)
{
    struct sql sql = { .only_read = true };
    char *text = NULL;
    const struct cli_option more[] = {
        { "--header", 0, NULL, "column names first", .flag = &sql.header },
        { .name = NULL },
    };
    const struct tool_facts facts = {
        .program = "varve sql",
        .about =
            "SQLite, unmodified: its heap is durable. One invocation is one transaction and one commit,\n"
            "or a query when every statement only reads.",
        .usage = "[--new [FILE.wasm]] [SQL | -f FILE]",
        .default_module = "sql",
        .wasm = "sqlite3.wasm",
        .alloc = "malloc",
        .free = "free",
        .more = more,
    };

    bool done =
        tool_start(&sql.tool, &facts, &argc, argv) && tool_begin(&sql.tool, &facts, argc, argv, &text);
    done = done && (sql.tool.new_module ? open_database(&sql) : find_database(&sql));
    done = done && (text == NULL || (run_text(&sql, text) && no_transaction_is_open(&sql)));
    const int code = tool_end(&sql.tool, text == NULL ? "open a database" : text,
                              done && (sql.tool.new_module || !sql.only_read));
    free(text);
    return code;
}
