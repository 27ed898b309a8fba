/* answer.c - what is printed: the answer on stdout, the talk on stderr, as text or as JSON.
 *
 * With --json an answer is one object, collected in cli->answer and printed by cli_flush, or lines printed one by
 * one by cli_line. A failure is an object too, on stdout, so that a script reads one stream. */
#include "cli/cli.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int cli_exit_code(varve_status status)
{
    switch (status) {
    case VARVE_OK:
    case VARVE_END:
        return EXIT_DONE;
    case VARVE_MISUSE:
    case VARVE_INVALID:
        return EXIT_USAGE;
    case VARVE_CONFLICT:
    case VARVE_BUSY:
        return EXIT_BUSY;
    case VARVE_CORRUPT:
    case VARVE_UNCERTAIN:
        return EXIT_DAMAGE;
    case VARVE_TRAP:
    case VARVE_OUT_OF_GAS:
    case VARVE_PANIC:
    case VARVE_LIMIT:
    case VARVE_EXITED:
    case VARVE_VETOED:
        return EXIT_GUEST;
    case VARVE_CANCELLED:
        return EXIT_INTERRUPTED;
    default:
        return EXIT_FAILED;
    }
}

/* ---- texts ------------------------------------------------------------------------------------ */

/* How many bytes the character at `text` has; 0: it is no UTF-8. */
static size_t character_size(const char *text)
{
    const unsigned char *c = (const unsigned char *)text;
    const size_t size = c[0] < 0x80   ? 1
                        : c[0] < 0xc2 ? 0
                        : c[0] < 0xe0 ? 2
                        : c[0] < 0xf0 ? 3
                        : c[0] < 0xf5 ? 4
                                      : 0;

    for (size_t i = 1; i < size; i++)
        if ((c[i] & 0xc0) != 0x80)
            return 0;
    if (size == 3 && ((c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xed && c[1] > 0x9f)))
        return 0; /* too long, or half of a pair */
    if (size == 4 && ((c[0] == 0xf0 && c[1] < 0x90) || (c[0] == 0xf4 && c[1] > 0x8f)))
        return 0;
    return size;
}

static bool is_control(char c)
{
    return (unsigned char)c < 32 || c == 127;
}

json_t *cli_json_text(const char *text)
{
    json_t *whole = json_string(text == NULL ? "" : text);
    char *copy = NULL;
    size_t used = 0;

    if (whole != NULL || text == NULL)
        return whole == NULL ? json_null() : whole;
    copy = malloc(strlen(text) * 3 + 1); /* U+FFFD has three bytes */
    if (copy == NULL)
        return json_null();
    while (*text != '\0') {
        const size_t size = character_size(text);
        memcpy(copy + used, size == 0 ? "\xef\xbf\xbd" : text, size == 0 ? 3 : size);
        used += size == 0 ? 3 : size;
        text += size == 0 ? 1 : size;
    }
    whole = json_stringn(copy, used);
    free(copy);
    return whole == NULL ? json_null() : whole;
}

void cli_subject(const char *text, char subject[CLI_SUBJECT])
{
    size_t used = 0;

    while (*text == ' ' || *text == '\n' || *text == '\t')
        text++;
    while (*text != '\0') {
        const size_t size = character_size(text);
        const size_t taken = size == 0 ? 1 : size;
        if (used + taken >= CLI_SUBJECT)
            break;
        memcpy(subject + used, size == 0 ? "?" : is_control(*text) ? " " : text, taken);
        used += taken;
        text += taken;
    }
    while (used > 0 && subject[used - 1] == ' ')
        used--;
    subject[used] = '\0';
}

void cli_put_plain(FILE *out, const char *text, const char *newline)
{
    for (; *text != '\0'; text++)
        if (*text == '\n')
            (void)fputs(newline, out);
        else
            (void)fputc(is_control(*text) && *text != '\t' ? '?' : *text, out);
}

/* ---- answers ---------------------------------------------------------------------------------- */

static void print_json(struct cli *cli, json_t *object)
{
    if (cli->line != 0)
        (void)json_object_set_new(object, "line", json_integer(cli->line));
    (void)json_dumpf(object, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
    (void)fputc('\n', stdout);
    json_decref(object);
    cli->answered = true;
}

void cli_line(struct cli *cli, json_t *object)
{
    print_json(cli, object);
}

void cli_set(struct cli *cli, const char *key, json_t *value)
{
    if (cli->answer == NULL)
        cli->answer = json_object();
    (void)json_object_set_new(cli->answer, key, value);
}

/* What guests printed since the last answer: into that object, and forgotten. */
static void collect_output(struct cli *cli, json_t *object)
{
    static const char *const names[] = { NULL, "stdout", "stderr" };

    for (int stream = 1; stream <= 2; stream++) {
        if (cli->printed_size[stream] > 0 && object != NULL)
            (void)json_object_set_new(object, names[stream],
                                      cli_json_bytes(cli->printed[stream], cli->printed_size[stream]));
        free(cli->printed[stream]);
        cli->printed[stream] = NULL;
        cli->printed_size[stream] = 0;
    }
}

void cli_flush(struct cli *cli)
{
    collect_output(cli, cli->answer);
    if (cli->answer != NULL)
        print_json(cli, cli->answer);
    cli->answer = NULL;
}

const char *cli_paint(const struct cli *cli, FILE *stream, const char *code)
{
    return cli->color_always || (cli->color && isatty(fileno(stream))) ? code : "";
}

static json_t *json_failure(const struct cli *cli, varve_status status, const char *message,
                            const char *trace)
{
    json_t *error = json_pack("{s:s, s:i, s:o, s:o}", "status", varve_status_name(status), "code",
                              (int)status, "message", cli_json_text(message), "trace", cli_json_text(trace));

    if (cli->place != NULL)
        (void)json_object_set_new(error, "place", cli_json_text(cli->place));
    return json_pack("{s:o}", "error", error);
}

int cli_tell(struct cli *cli, varve_status status, const char *message, const char *trace)
{
    cli->status = status;
    if (cli->quiet_failure)
        return cli_exit_code(status);
    json_decref(cli->answer);
    cli->answer = NULL;
    if (cli->json) {
        json_t *failure = json_failure(cli, status, message, trace);
        collect_output(cli, failure);
        print_json(cli, failure);
    }
    (void)fflush(stdout);
    (void)fprintf(stderr, "%svarve:%s ", cli_paint(cli, stderr, "\033[31m"),
                  cli_paint(cli, stderr, "\033[0m"));
    if (cli->place != NULL) {
        cli_put_plain(stderr, cli->place, " ");
        (void)fputs(": ", stderr);
    }
    cli_put_plain(stderr, message, " ");
    (void)fputc('\n', stderr);
    cli_put_plain(stderr, trace, "\n");
    if (trace[0] != '\0' && trace[strlen(trace) - 1] != '\n')
        (void)fputc('\n', stderr);
    return cli_exit_code(status);
}

int cli_fail(struct cli *cli, const varve_error *error, const varve_receipt *receipt)
{
    const varve_receipt_info *info = receipt == NULL ? NULL : varve_receipt_get(receipt);

    return cli_tell(cli, error->status, error->message,
                    info == NULL || info->trace == NULL ? "" : info->trace);
}

int cli_error(struct cli *cli, varve_status status, const char *format, ...)
{
    char message[1024];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return cli_tell(cli, status, message, "");
}

int cli_usage(struct cli *cli, const char *format, ...)
{
    char message[1024];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return cli_tell(cli, VARVE_MISUSE, message, "");
}

void cli_note(const struct cli *cli, const char *format, ...)
{
    va_list args;

    if (cli->quiet)
        return;
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fputc('\n', stderr);
}

void cli_time_text(int64_t time_ns, char text[31])
{
    int64_t seconds = time_ns / 1000000000;
    int64_t rest = time_ns % 1000000000;
    struct tm broken;
    char day[24];

    if (rest < 0) {
        rest += 1000000000;
        seconds--;
    }
    const time_t clock = (time_t)seconds;
    (void)gmtime_r(&clock, &broken);
    (void)strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &broken);
    (void)snprintf(text, 31, "%.19s.%09dZ", day, (int)rest);
}

void cli_size_text(uint64_t bytes, char text[24])
{
    static const char *const units[] = { "KiB", "MiB", "GiB", "TiB" };
    double value = (double)bytes / 1024;
    size_t unit = 0;

    if (bytes < 1024) {
        (void)snprintf(text, 24, "%d B", (int)bytes);
        return;
    }
    while (value >= 1024 && unit + 1 < sizeof units / sizeof *units) {
        value /= 1024;
        unit++;
    }
    (void)snprintf(text, 24, "%.1f %s", value, units[unit]);
}

void cli_short_id(const uint8_t bytes[32], char text[13])
{
    char hex[65];

    varve_hex_format(bytes, hex);
    memcpy(text, hex, 12);
    text[12] = '\0';
}

json_t *cli_json_hex(const uint8_t *bytes, size_t size)
{
    static const char digits[] = "0123456789ABCDEF";
    char *text = malloc(size * 2 + 1);

    if (text == NULL)
        return json_null();
    for (size_t i = 0; i < size; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    json_t *json = json_stringn(text, size * 2);
    free(text);
    return json;
}

static json_t *base64(const uint8_t *bytes, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *text = malloc(size / 3 * 4 + 8);
    size_t used = 0;

    if (text == NULL)
        return json_null();
    for (size_t i = 0; i < size; i += 3) {
        const size_t left = size - i;
        const uint32_t group = (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
                               (left > 2 ? bytes[i + 2] : 0);
        text[used++] = digits[group >> 18];
        text[used++] = digits[group >> 12 & 63];
        text[used++] = left > 1 ? digits[group >> 6 & 63] : '=';
        text[used++] = left > 2 ? digits[group & 63] : '=';
    }
    json_t *json = json_stringn(text, used);
    free(text);
    return json;
}

json_t *cli_json_bytes(const void *data, size_t size)
{
    const uint8_t *bytes = data;
    bool printable = true;

    for (size_t i = 0; i < size && printable; i++)
        printable = bytes[i] >= 32 || bytes[i] == '\n' || bytes[i] == '\t' || bytes[i] == '\r';
    json_t *text =
        printable ? json_stringn(data == NULL ? "" : data, size) : NULL; /* NULL: no UTF-8 either */
    json_t *object = json_pack("{s:I}", "size", (json_int_t)size);
    (void)json_object_set_new(object, text != NULL ? "text" : "base64",
                              text != NULL ? text : base64(bytes, size));
    return object;
}

static bool is_zero(const uint8_t bytes[32])
{
    static const uint8_t zeros[32];

    return memcmp(bytes, zeros, 32) == 0;
}

json_t *cli_json_commit(struct cli *cli, const varve_commit_info *info)
{
    char when[31];
    json_t *refs = json_array();

    cli_time_text(info->time_ns, when);
    for (varve_ref ref = VARVE_INIT(varve_ref), *after = NULL;
         varve_ref_next(cli->store, after == NULL ? NULL : ref.name, &ref, NULL) == VARVE_OK; after = &ref)
        if (memcmp(&ref.commit, &info->id, 32) == 0)
            (void)json_array_append_new(refs, cli_json_text(ref.name));
    json_t *object =
        json_pack("{s:o, s:I, s:o, s:o, s:o, s:o, s:s, s:o}", "id", cli_json_hex(info->id.bytes, 32),
                  "number", (json_int_t)info->number, "root", cli_json_hex(info->root.bytes, 32), "parent",
                  is_zero(info->parent.bytes) ? json_null() : cli_json_hex(info->parent.bytes, 32), "branch",
                  cli_json_text(info->branch), "message", cli_json_text(info->message), "time", when,
                  "engine", cli_json_text(info->engine));
    (void)json_object_update_new(object,
                                 json_pack("{s:I, s:I, s:I, s:I, s:o}", "modules", (json_int_t)info->modules,
                                           "modules_changed", (json_int_t)info->modules_changed,
                                           "pages_changed", (json_int_t)info->pages_changed, "bytes_written",
                                           (json_int_t)info->bytes_written, "refs", refs));
    return object;
}

const char *cli_kind_name(varve_kind kind)
{
    return kind == VARVE_KIND_IMAGE ? "image" : kind == VARVE_KIND_CONTRACT ? "contract" : "plain";
}

json_t *cli_json_module(const varve_module_info *info)
{
    return json_pack("{s:o, s:o, s:s, s:o, s:o, s:I, s:o, s:I, s:o}", "id", cli_json_hex(info->id.bytes, 32),
                     "name", cli_json_text(info->name), "kind", cli_kind_name(info->kind), "code",
                     cli_json_hex(info->code, 32), "owner", cli_json_hex(info->owner, 32), "memory_size",
                     (json_int_t)info->memory_size, "memory_root", cli_json_hex(info->memory_root, 32),
                     "globals", (json_int_t)info->globals, "leaf", cli_json_hex(info->leaf, 32));
}

const char *cli_type_name(varve_type type)
{
    static const char *const names[] = { "?", "i32", "i64", "f32", "f64", "v128" };

    return (size_t)type < sizeof names / sizeof *names ? names[type] : names[0];
}

/* Shortest text that reads back as the same number; NaNs other than the plain one by their bits. */
static void float_text(double value, bool single, uint64_t bits, uint64_t plain_nan, char text[64])
{
    if (isnan(value)) {
        if (bits == plain_nan)
            (void)snprintf(text, 64, "nan");
        else
            (void)snprintf(text, 64, single ? "nan:0x%08llX" : "nan:0x%016llX", (unsigned long long)bits);
        return;
    }
    for (int digits = single ? 6 : 15; digits <= 17; digits++) {
        (void)snprintf(text, 64, "%.*g", digits, value);
        if (single ? strtof(text, NULL) == (float)value : strtod(text, NULL) == value)
            break;
    }
}

void cli_value_text(const varve_value *value, char text[64])
{
    uint64_t bits = 0;

    switch (value->type) {
    case VARVE_I32:
        (void)snprintf(text, 64, "%d", value->of.i32);
        break;
    case VARVE_I64:
        (void)snprintf(text, 64, "%lld", (long long)value->of.i64);
        break;
    case VARVE_F32:
        memcpy(&bits, &value->of.f32, 4);
        float_text((double)value->of.f32, true, bits, 0x7fc00000, text);
        break;
    case VARVE_F64:
        memcpy(&bits, &value->of.f64, 8);
        float_text(value->of.f64, false, bits, UINT64_C(0x7ff8000000000000), text);
        break;
    default:
        memcpy(text, "v128:", 5);
        for (int i = 0; i < 16; i++)
            (void)snprintf(text + 5 + 2 * i, 3, "%02X", value->of.v128[i]);
    }
}

json_t *cli_json_value(const varve_value *value)
{
    char text[64];

    cli_value_text(value, text);
    return json_pack("{s:s, s:s}", "type", cli_type_name(value->type), "value", text);
}

static json_t *json_events(const varve_receipt *receipt, size_t count)
{
    json_t *events = json_array();
    varve_event event = VARVE_INIT(varve_event);

    for (size_t i = 0; i < count && varve_receipt_event(receipt, i, &event) == VARVE_OK; i++)
        (void)json_array_append_new(
            events, json_pack("{s:o, s:o, s:o, s:b}", "source", cli_json_hex(event.source.bytes, 32), "topic",
                              cli_json_text(event.topic), "data", cli_json_bytes(event.data, event.data_size),
                              "reverted", event.reverted));
    return events;
}

static json_t *json_frames(const varve_receipt *receipt, size_t count)
{
    json_t *frames = json_array();
    varve_frame frame = VARVE_INIT(varve_frame);

    for (size_t i = 0; i < count && varve_receipt_frame(receipt, i, &frame) == VARVE_OK; i++)
        (void)json_array_append_new(
            frames,
            json_pack("{s:o, s:o, s:i, s:s, s:I, s:I}", "module", cli_json_hex(frame.module.bytes, 32),
                      "function", cli_json_text(frame.function), "depth", (int)frame.depth, "status",
                      varve_status_name(frame.status), "gas_used", (json_int_t)frame.gas_used, "gas_limit",
                      (json_int_t)frame.gas_limit));
    return frames;
}

json_t *cli_json_receipt(const varve_receipt *receipt)
{
    if (receipt == NULL)
        return json_null();
    const varve_receipt_info *info = varve_receipt_get(receipt);
    return json_pack("{s:s, s:o, s:o, s:o, s:I, s:I, s:I, s:o, s:o, s:o}", "status",
                     varve_status_name(info->status), "message", cli_json_text(info->message), "trace",
                     cli_json_text(info->trace), "data", cli_json_bytes(info->data, info->data_size),
                     "gas_used", (json_int_t)info->gas_used, "gas_limit", (json_int_t)info->gas_limit,
                     "pages_changed", (json_int_t)info->pages_changed, "events",
                     json_events(receipt, info->event_count), "frames",
                     json_frames(receipt, info->frame_count), "digest", cli_json_hex(info->digest, 32));
}

char *cli_refs_of(struct cli *cli, const varve_commit_id *id)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    varve_ref ref = VARVE_INIT(varve_ref);

    if (out == NULL)
        return NULL;
    for (bool first = true; varve_ref_next(cli->store, first ? NULL : ref.name, &ref, NULL) == VARVE_OK;
         first = false)
        if (memcmp(&ref.commit, id, sizeof *id) == 0) {
            (void)fprintf(out, "%s%s", ftell(out) == 0 ? "" : ", ",
                          strncmp(ref.name, "tags/", 5) == 0 ? ref.name + 5 : ref.name);
            (void)fflush(out);
        }
    (void)fclose(out);
    return text;
}

/* With --json what guests print waits for the answer's object; else it goes to stderr as it comes. */
void cli_on_output(void *context, const varve_module_id *module, int stream, const void *data, size_t size,
                   bool reverted)
{
    struct cli *cli = context;
    const int slot = stream == 1 ? 1 : 2;

    (void)module;
    (void)reverted;
    if (!cli->json) {
        if (!cli->quiet)
            (void)fwrite(data, 1, size, stderr);
        return;
    }
    char *grown = realloc(cli->printed[slot], cli->printed_size[slot] + size + 1);
    if (grown == NULL)
        return;
    memcpy(grown + cli->printed_size[slot], data, size);
    cli->printed[slot] = grown;
    cli->printed_size[slot] += size;
}
