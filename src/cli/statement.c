/* statement.c - the verbs that work on an open session: alone as a command, or as a line of `varve run`.
 *
 * A statement prints its answer to cli->out, as an object too with --json, and makes no commit: who opened the
 * session decides that. It either does all it says or leaves the session as it was. */
#include "cli/cli.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_ARGUMENTS = 64, MOST_RESULTS = 16 };

#define BAD_NAME \
    "NAME %s: a letter or _, then letters, digits, _ . -, at most 127, and not 64 hexadecimal digits"

bool cli_gas(struct cli *cli, const char *text, uint64_t *gas)
{
    *gas = 0;
    if (text == NULL)
        return true;
    if (cli_parse_u64(text, gas) && *gas > 0)
        return true;
    (void)cli_usage(cli, "--gas %s: not a positive number", text);
    return false;
}

/* ---- call and query --------------------------------------------------------------------------- */

struct placed {
    uint32_t address; /* of the copy in guest memory */
    bool placed;
};
struct call {
    varve_module_info module;
    const char *function;
    varve_signature signature;
    struct cli_piece pieces[MOST_ARGUMENTS];
    struct placed copies[MOST_ARGUMENTS];
    size_t piece_count;
    varve_value args[MOST_ARGUMENTS], results[MOST_RESULTS];
    size_t arg_count;
    const char *alloc, *free;
    char allocator[256]; /* what --alloc gave, cut at the comma */
    varve_call_options options;
    varve_receipt *receipt;
};

static int parse_pieces(struct cli *cli, struct call *call, int argc, char **argv)
{
    if (argc > MOST_ARGUMENTS)
        return cli_usage(cli, "too many arguments: %d (at most %d)", argc, MOST_ARGUMENTS);
    for (int i = 0; i < argc; i++) {
        const int code = cli_piece_parse(cli, argv[i], &call->pieces[i]);
        if (code != EXIT_DONE)
            return code;
        call->piece_count++;
    }
    return EXIT_DONE;
}

static bool needs_copy(const struct cli_piece *piece)
{
    return piece->form == PIECE_TEXT || piece->form == PIECE_BYTES || piece->form == PIECE_OUT;
}

/* The first pair of these that the module exports. */
static int find_allocator(struct cli *cli, struct call *call, const char *wanted)
{
    static const char *const pairs[][2] = { { "malloc", "free" }, { "wasm_malloc", "wasm_free" } };
    varve_signature signature = VARVE_INIT(varve_signature);

    if (wanted != NULL) {
        char *names = call->allocator, *comma = NULL;
        if (snprintf(names, sizeof call->allocator, "%s", wanted) >= (int)sizeof call->allocator ||
            (comma = strchr(names, ',')) == NULL)
            return cli_usage(cli, "--alloc %s: not two names with a comma between", wanted);
        *comma = '\0';
        call->alloc = names;
        call->free = comma + 1;
        return EXIT_DONE;
    }
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (varve_session_signature(cli->session, &call->module.id, pairs[i][0], &signature, NULL) ==
                VARVE_OK &&
            varve_session_signature(cli->session, &call->module.id, pairs[i][1], &signature, NULL) ==
                VARVE_OK) {
            call->alloc = pairs[i][0];
            call->free = pairs[i][1];
            return EXIT_DONE;
        }
    return cli_error(cli, VARVE_NOT_FOUND,
                     "module %s exports neither malloc and free nor wasm_malloc and wasm_free: "
                     "name its allocator with --alloc ALLOC,FREE",
                     call->module.name);
}

static int call_guest(struct cli *cli, struct call *call, const char *function, varve_value *args,
                      size_t arg_count, varve_value *results, size_t result_count)
{
    varve_error error;
    varve_receipt *receipt = NULL;
    int code = EXIT_DONE;

    const varve_status status = varve_session_call(cli->session, &call->module.id, function, args, arg_count,
                                                   results, result_count, &call->options, &receipt, &error);
    if (status != VARVE_OK)
        code = cli_fail(cli, &error, receipt);
    varve_receipt_free(call->receipt);
    call->receipt = receipt;
    return code;
}

static int place_copy(struct cli *cli, struct call *call, size_t index)
{
    struct cli_piece *piece = &call->pieces[index];
    varve_value size = { .type = VARVE_I32, .of.i32 = (int32_t)(piece->size == 0 ? 1 : piece->size) };
    varve_value address = { .type = VARVE_I32 };
    varve_image *image = NULL;
    varve_error error;
    int code = call_guest(cli, call, call->alloc, &size, 1, &address, 1);

    if (code != EXIT_DONE)
        return code;
    if (address.of.i32 == 0)
        return cli_error(cli, VARVE_LIMIT,
                         "%s of %zu bytes in module %s answered 0: the guest has no memory left", call->alloc,
                         piece->size, call->module.name);
    call->copies[index] = (struct placed){ .address = (uint32_t)address.of.i32, .placed = true };
    uint8_t *zeros = piece->form == PIECE_OUT ? calloc(1, piece->size) : NULL;
    if (piece->form == PIECE_OUT && zeros == NULL)
        return cli_error(cli, VARVE_MEMORY, "out of memory");
    if (varve_image_open(cli->session, &call->module.id, NULL, &image, &error) != VARVE_OK ||
        varve_image_write(image, call->copies[index].address, zeros != NULL ? zeros : piece->data,
                          piece->size, &error) != VARVE_OK)
        code = cli_fail(cli, &error, NULL);
    free(zeros);
    return code;
}

/* Pieces become arguments by the signature: a copy is a pointer, or a pointer and its size. */
static int make_arguments(struct cli *cli, struct call *call)
{
    size_t wanted = 0;

    for (size_t i = 0; i < call->piece_count; i++)
        wanted += call->pieces[i].form == PIECE_BYTES ? 2 : 1;
    if (wanted != call->signature.param_count)
        return cli_usage(cli, "%s takes %zu argument%s, %zu given", call->function,
                         call->signature.param_count, call->signature.param_count == 1 ? "" : "s", wanted);
    if (wanted > MOST_ARGUMENTS)
        return cli_usage(cli, "too many arguments: %zu (at most %d)", wanted, MOST_ARGUMENTS);
    for (size_t i = 0; i < call->piece_count; i++) {
        const struct cli_piece *piece = &call->pieces[i];
        const varve_type type = call->signature.params[call->arg_count];
        varve_value *value = &call->args[call->arg_count++];
        if (piece->form == PIECE_NUMBER && !cli_parse_value(piece->word, type, value))
            return cli_usage(cli, "argument %zu: not an %s: %s", i + 1, cli_type_name(type), piece->word);
        if (piece->form == PIECE_TYPED)
            return cli_usage(cli, "argument %zu: %s is for contracts; this function takes an %s", i + 1,
                             piece->word, cli_type_name(type));
        if (needs_copy(piece) && type != VARVE_I32)
            return cli_usage(cli, "argument %zu: a copy needs a pointer, an i32; the function takes an %s",
                             i + 1, cli_type_name(type));
        if (needs_copy(piece))
            *value = (varve_value){ .type = VARVE_I32, .of.i32 = (int32_t)call->copies[i].address };
        if (piece->form == PIECE_BYTES)
            call->args[call->arg_count++] =
                (varve_value){ .type = VARVE_I32, .of.i32 = (int32_t)piece->size };
    }
    return EXIT_DONE;
}

static void answer_results(struct cli *cli, const struct call *call)
{
    json_t *results = cli->json ? json_array() : NULL;

    for (size_t i = 0; i < call->signature.result_count; i++) {
        char text[64];
        cli_value_text(&call->results[i], text);
        (void)fprintf(cli->out, "%s\n", text);
        if (cli->json)
            (void)json_array_append_new(results, cli_json_value(&call->results[i]));
    }
    if (cli->json)
        cli_set(cli, "results", results);
}

static int answer_outs(struct cli *cli, struct call *call)
{
    json_t *outs = cli->json ? json_array() : NULL;
    unsigned number = 0;

    for (size_t i = 0; i < call->piece_count; i++) {
        varve_image *image = NULL;
        varve_error error;
        if (call->pieces[i].form != PIECE_OUT)
            continue;
        uint8_t *data = malloc(call->pieces[i].size);
        if (data == NULL)
            return cli_error(cli, VARVE_MEMORY, "out of memory");
        if (varve_image_open(cli->session, &call->module.id, NULL, &image, &error) != VARVE_OK ||
            varve_image_read(image, call->copies[i].address, data, call->pieces[i].size, &error) !=
                VARVE_OK) {
            free(data);
            return cli_fail(cli, &error, NULL);
        }
        (void)fprintf(cli->out, "out%u ", ++number);
        for (size_t b = 0; b < call->pieces[i].size; b++)
            (void)fprintf(cli->out, "%02X", data[b]);
        (void)fputc('\n', cli->out);
        if (cli->json)
            (void)json_array_append_new(outs, cli_json_bytes(data, call->pieces[i].size));
        free(data);
    }
    if (cli->json)
        cli_set(cli, "outs", outs);
    return EXIT_DONE;
}

/* Copies, call and frees, inside a savepoint that the caller took. */
static int run_call(struct cli *cli, struct call *call)
{
    int code = EXIT_DONE;

    for (size_t i = 0; i < call->piece_count && code == EXIT_DONE; i++)
        if (needs_copy(&call->pieces[i]))
            code = place_copy(cli, call, i);
    if (code == EXIT_DONE)
        code = make_arguments(cli, call);
    if (code == EXIT_DONE)
        code = call_guest(cli, call, call->function, call->args, call->arg_count, call->results,
                          call->signature.result_count);
    if (code != EXIT_DONE)
        return code;
    answer_results(cli, call);
    code = answer_outs(cli, call);
    if (cli->json)
        cli_set(cli, "receipt", cli_json_receipt(call->receipt));
    for (size_t i = 0; i < call->piece_count && code == EXIT_DONE; i++)
        if (call->copies[i].placed) {
            varve_value pointer = { .type = VARVE_I32, .of.i32 = (int32_t)call->copies[i].address };
            varve_value nothing[1];
            varve_signature signature = VARVE_INIT(varve_signature);
            varve_error error;
            if (varve_session_signature(cli->session, &call->module.id, call->free, &signature, &error) !=
                VARVE_OK)
                return cli_fail(cli, &error, NULL);
            if (signature.param_count != 1 || signature.result_count > 1)
                return cli_usage(cli, "%s does not take one pointer", call->free);
            code = call_guest(cli, call, call->free, &pointer, 1, nothing, signature.result_count);
        }
    return code;
}

static int call_or_query(struct cli *cli, int argc, char **argv, bool query)
{
    const char *gas = NULL, *alloc = NULL;
    struct call *call = NULL;
    uint32_t savepoint = 0;
    varve_error error;
    int code = EXIT_DONE;
    const struct cli_option options[] = {
        { "--gas", 0, "N", "most gas the call may use (default: no limit)", .text = &gas },
        { "--alloc", 0, "ALLOC,FREE", "the module's own allocator, for s: d: x: @ and out:", .text = &alloc },
        { .name = NULL },
    };

    if (!cli_options(cli, &argc, argv, options, "MODULE FUNCTION [PIECE]... [--gas N] [--alloc A,F]",
                     "Call an exported function. PIECE: 42, s:TEXT, d:TEXT, x:HEX, @FILE, out:N.", 2,
                     2 + MOST_ARGUMENTS, &code))
        return code;
    call = calloc(1, sizeof *call);
    if (call == NULL)
        return cli_error(cli, VARVE_MEMORY, "out of memory");
    call->options = VARVE_INIT(varve_call_options);
    call->signature = VARVE_INIT(varve_signature);
    call->function = argv[2];
    if (!cli_gas(cli, gas, &call->options.gas))
        code = EXIT_USAGE;
    if (code == EXIT_DONE)
        code = cli_module(cli, argv[1], &call->module);
    if (code == EXIT_DONE)
        code = parse_pieces(cli, call, argc - 3, argv + 3);
    if (code == EXIT_DONE && varve_session_signature(cli->session, &call->module.id, call->function,
                                                     &call->signature, &error) != VARVE_OK)
        code = cli_fail(cli, &error, NULL);
    if (code == EXIT_DONE && call->signature.result_count > MOST_RESULTS)
        code = cli_usage(cli, "%s: too many results", call->function);
    for (size_t i = 0; i < call->piece_count && code == EXIT_DONE && call->alloc == NULL; i++)
        if (needs_copy(&call->pieces[i]))
            code = find_allocator(cli, call, alloc);
    if (code == EXIT_DONE && varve_session_savepoint(cli->session, &savepoint, &error) != VARVE_OK)
        code = cli_fail(cli, &error, NULL);
    else if (code == EXIT_DONE) {
        code = run_call(cli, call);
        const bool undo = query || code != EXIT_DONE;
        if (undo && varve_session_rollback(cli->session, savepoint, &error) != VARVE_OK)
            code = cli_fail(cli, &error, NULL);
        if (varve_session_release(cli->session, savepoint, &error) != VARVE_OK)
            code = cli_fail(cli, &error, NULL);
    }
    for (size_t i = 0; i < call->piece_count; i++)
        cli_piece_release(&call->pieces[i]);
    varve_receipt_free(call->receipt);
    free(call);
    return code;
}

int statement_call(struct cli *cli, int argc, char **argv)
{
    return call_or_query(cli, argc, argv, false);
}

int statement_query(struct cli *cli, int argc, char **argv)
{
    return call_or_query(cli, argc, argv, true);
}

/* ---- peek and poke ---------------------------------------------------------------------------- */

static void dump(FILE *out, const uint8_t *data, uint64_t address, size_t size)
{
    for (size_t row = 0; row < size; row += 16) {
        const size_t count = size - row < 16 ? size - row : 16;
        (void)fprintf(out, "%08" PRIx64 " ", address + row);
        for (size_t i = 0; i < 16; i++) {
            if (i == 8)
                (void)fputc(' ', out);
            if (i < count)
                (void)fprintf(out, " %02x", data[row + i]);
            else
                (void)fputs("   ", out);
        }
        (void)fputs("  |", out);
        for (size_t i = 0; i < count; i++)
            (void)fputc(isprint(data[row + i]) ? data[row + i] : '.', out);
        (void)fputs("|\n", out);
    }
}

struct peek_type {
    const char *name;
    size_t size;
    bool is_signed;
};
static const struct peek_type peek_types[] = {
    { "i8", 1, true },   { "u8", 1, false }, { "i16", 2, true },  { "u16", 2, false }, { "i32", 4, true },
    { "u32", 4, false }, { "i64", 8, true }, { "u64", 8, false }, { "f32", 4, true },  { "f64", 8, true },
};

/* A number as text; sign extended when the type is signed. */
static void number_text(const struct peek_type *type, const uint8_t *data, char text[64])
{
    uint64_t bits = 0;

    for (size_t i = 0; i < type->size; i++)
        bits |= (uint64_t)data[i] << (8 * i);
    if (type->name[0] == 'f') {
        varve_value value = { .type = type->size == 4 ? VARVE_F32 : VARVE_F64 };
        memcpy(&value.of, data, type->size);
        cli_value_text(&value, text);
    } else if (type->is_signed) {
        const unsigned shift = 64 - 8 * (unsigned)type->size;
        (void)snprintf(text, 64, "%" PRId64, (int64_t)(bits << shift) >> shift);
    } else {
        (void)snprintf(text, 64, "%" PRIu64, bits);
    }
}

static int peek_value(struct cli *cli, varve_image *image, uint64_t address, const char *name)
{
    const struct peek_type *type = NULL;
    uint8_t data[8];
    char text[64];
    varve_error error;

    if (strcmp(name, "str") == 0) {
        const uint64_t size = varve_image_size(image);
        if (address >= size)
            return cli_usage(cli, "address %" PRIu64 " is not inside: the memory has %" PRIu64 " bytes",
                             address, size);
        const char *start = (const char *)varve_image_bytes(image) + address;
        const size_t length = strnlen(start, (size_t)(size - address));
        (void)fwrite(start, 1, length, cli->out);
        (void)fputc('\n', cli->out);
        if (cli->json)
            cli_line(cli, json_pack("{s:s, s:o}", "type", "str", "value", cli_json_bytes(start, length)));
        return EXIT_DONE;
    }
    for (size_t i = 0; i < sizeof peek_types / sizeof *peek_types; i++)
        if (strcmp(peek_types[i].name, name) == 0)
            type = &peek_types[i];
    if (type == NULL)
        return cli_usage(cli, "--type %s: one of i8 u8 i16 u16 i32 u32 i64 u64 f32 f64 str", name);
    if (varve_image_read(image, address, data, type->size, &error) != VARVE_OK)
        return cli_fail(cli, &error, NULL);
    number_text(type, data, text);
    (void)fprintf(cli->out, "%s\n", text);
    if (cli->json)
        cli_line(cli, json_pack("{s:s, s:s}", "type", name, "value", text));
    return EXIT_DONE;
}

int statement_peek(struct cli *cli, int argc, char **argv)
{
    const char *type = NULL;
    bool raw = false;
    uint64_t address = 0, size = 256;
    varve_module_info module;
    varve_image *image = NULL;
    varve_error error;
    int code = EXIT_DONE;
    const struct cli_option options[] = {
        { "--type", 0, "T", "one value: i8 u8 i16 u16 i32 u32 i64 u64 f32 f64 str", .text = &type },
        { "--raw", 0, NULL, "the bytes as they are", .flag = &raw },
        { .name = NULL },
    };

    if (!cli_options(cli, &argc, argv, options, "MODULE [ADDR [SIZE]]",
                     "Show memory. ADDR and SIZE: decimal, 0x, k, M.", 1, 3, &code))
        return code;
    if ((argc > 2 && !cli_parse_size(argv[2], &address)) || (argc > 3 && !cli_parse_size(argv[3], &size)))
        return cli_usage(cli, "ADDR and SIZE are numbers: decimal, 0x, with k or M");
    code = cli_module(cli, argv[1], &module);
    if (code != EXIT_DONE)
        return code;
    if (varve_image_open(cli->session, &module.id, NULL, &image, &error) != VARVE_OK)
        return cli_fail(cli, &error, NULL);
    if (type != NULL)
        return peek_value(cli, image, address, type);
    const uint64_t length = varve_image_size(image);
    if (address > length)
        return cli_usage(cli, "address %" PRIu64 " is not inside: the memory has %" PRIu64 " bytes", address,
                         length);
    if (argc > 3 && size > length - address)
        return cli_usage(cli,
                         "%" PRIu64 " bytes at %" PRIu64 " are not inside: the memory has %" PRIu64 " bytes",
                         size, address, length);
    if (argc <= 3 && size > length - address)
        size = length - address;
    const uint8_t *data = (const uint8_t *)varve_image_bytes(image) + address;
    if (raw)
        (void)fwrite(data, 1, (size_t)size, cli->out);
    else
        dump(cli->out, data, address, (size_t)size);
    if (cli->json)
        cli_line(cli, json_pack("{s:I, s:o}", "address", (json_int_t)address, "data",
                                cli_json_bytes(data, (size_t)size)));
    return EXIT_DONE;
}

int statement_poke(struct cli *cli, int argc, char **argv)
{
    const struct cli_option options[] = { { .name = NULL } };
    uint64_t address = 0;
    varve_module_info module;
    varve_image *image = NULL;
    varve_error error;
    uint8_t *data = NULL;
    size_t size = 0;
    int code = EXIT_DONE;

    if (!cli_options(cli, &argc, argv, options, "MODULE ADDR PIECE", "Write bytes into memory.", 3, 3, &code))
        return code;
    if (!cli_parse_size(argv[2], &address))
        return cli_usage(cli, "ADDR %s: not a number: decimal, 0x, with k or M", argv[2]);
    code = cli_module(cli, argv[1], &module);
    if (code == EXIT_DONE)
        code = cli_piece_bytes(cli, argv[3], &data, &size);
    if (code != EXIT_DONE)
        return code;
    if (varve_image_open(cli->session, &module.id, NULL, &image, &error) != VARVE_OK ||
        varve_image_write(image, address, data, size, &error) != VARVE_OK)
        code = cli_fail(cli, &error, NULL);
    free(data);
    return code;
}

/* ---- images, meta, modules -------------------------------------------------------------------- */

int statement_image(struct cli *cli, int argc, char **argv)
{
    const struct cli_option options[] = { { .name = NULL } };
    varve_image_options image_options = VARVE_INIT(varve_image_options);
    varve_image *image = NULL;
    varve_module_id id;
    varve_module_info module = VARVE_INIT(varve_module_info);
    varve_error error;
    uint8_t *data = NULL;
    size_t size = 0;
    uint64_t length = 0;
    int code = EXIT_DONE;

    if (!cli_options(cli, &argc, argv, options, "NAME SIZE [FILE]",
                     "Make a plain image of SIZE bytes, filled from FILE.", 2, 3, &code))
        return code;
    if (!cli_parse_size(argv[2], &length) || length == 0 || length % 4096 != 0)
        return cli_usage(cli, "SIZE %s: not a positive multiple of 4096 (64k, 1M)", argv[2]);
    if (varve_module_id_of(argv[1], &id) != VARVE_OK)
        return cli_usage(cli, BAD_NAME, argv[1]);
    if (varve_session_module(cli->session, &id, &module, NULL) == VARVE_OK)
        return cli_error(cli, VARVE_EXISTS, "image %s: the name is taken", argv[1]);
    if (argc > 3)
        code = cli_read_file(cli, argv[3], &data, &size);
    if (code != EXIT_DONE)
        return code;
    image_options.name = argv[1];
    image_options.create_size = length;
    if (size > length)
        code = cli_usage(cli, "%s has %zu bytes, the image %" PRIu64, argv[3], size, length);
    else if (varve_image_open(cli->session, &id, &image_options, &image, &error) != VARVE_OK ||
             varve_image_write(image, 0, data == NULL ? (const uint8_t *)"" : data, size, &error) != VARVE_OK)
        code = cli_fail(cli, &error, NULL);
    free(data);
    return code;
}

/* One value alone is printed as it is; in a list it takes one line, whatever its bytes. */
static void show_meta(struct cli *cli, const char *key, const void *value, size_t size, bool in_list)
{
    const uint8_t *bytes = value;

    if (in_list)
        (void)fprintf(cli->out, "%s\t", key);
    for (size_t i = 0; i < size; i++)
        if (in_list && (bytes[i] < 32 || bytes[i] == 127))
            (void)fprintf(cli->out, "\\x%02X", bytes[i]);
        else
            (void)fputc(bytes[i], cli->out);
    (void)fputc('\n', cli->out);
    if (cli->json)
        cli_line(cli,
                 json_pack("{s:o, s:o}", "key", cli_json_text(key), "value", cli_json_bytes(value, size)));
}

int statement_meta(struct cli *cli, int argc, char **argv)
{
    bool unset = false;
    const void *value = NULL;
    const char *key = NULL;
    uint8_t *data = NULL;
    size_t size = 0;
    varve_error error;
    int code = EXIT_DONE;
    const struct cli_option options[] = {
        { "--unset", 0, NULL, "remove KEY", .flag = &unset },
        { .name = NULL },
    };

    if (!cli_options(cli, &argc, argv, options, "[KEY [VALUE | --unset]]",
                     "List, get, set or remove named values of the state.", 0, 2, &code))
        return code;
    if (unset && argc != 2)
        return cli_usage(cli, "--unset goes with a KEY and no VALUE");
    if (argc == 1) {
        while (varve_session_next_meta(cli->session, key, &key, NULL) == VARVE_OK)
            if (varve_session_get_meta(cli->session, key, &value, &size, NULL) == VARVE_OK)
                show_meta(cli, key, value, size, true);
        return EXIT_DONE;
    }
    if (argc == 2 && !unset) {
        if (varve_session_get_meta(cli->session, argv[1], &value, &size, &error) != VARVE_OK)
            return cli_fail(cli, &error, NULL);
        show_meta(cli, argv[1], value, size, false);
        return EXIT_DONE;
    }
    if (argc == 3)
        code = cli_piece_bytes(cli, argv[2], &data, &size);
    if (code != EXIT_DONE)
        return code;
    if (argc == 3 && size == 0)
        code = cli_usage(cli, "an empty VALUE: use --unset to remove KEY");
    else if (varve_session_set_meta(cli->session, argv[1], data, size, &error) != VARVE_OK)
        code = cli_fail(cli, &error, NULL);
    free(data);
    return code;
}

int statement_remove(struct cli *cli, int argc, char **argv)
{
    const struct cli_option options[] = { { .name = NULL } };
    varve_module_info module;
    varve_error error;
    int code = EXIT_DONE;

    if (!cli_options(cli, &argc, argv, options, "MODULE",
                     "Take a module or image out of the state; older commits keep it.", 1, 1, &code))
        return code;
    code = cli_module(cli, argv[1], &module);
    if (code != EXIT_DONE)
        return code;
    if (varve_session_remove(cli->session, &module.id, &error) != VARVE_OK)
        return cli_fail(cli, &error, NULL);
    return EXIT_DONE;
}

struct file_row {
    char *path, *what;
};

static void print_row(struct cli *cli, const char *const cells[3], const int widths[3])
{
    (void)fprintf(cli->out, "| %-*s | %-*s | %-*s |\n", widths[0], cells[0], widths[1], cells[1], widths[2], cells[2]);
}

/* As the tables of the design notes: the directory once, then a file a row. */
static void print_files(struct cli *cli, const struct file_row *rows, size_t count)
{
    const char *titles[3] = { "Base directory", "Files", "Comment" };
    int widths[3];
    char rules[3][4096];

    for (int i = 0; i < 3; i++)
        widths[i] = (int)strlen(titles[i]);
    for (size_t i = 0; i < count; i++) {
        const int lengths[3] = { (int)strlen(cli->store_path), (int)strlen(rows[i].path), (int)strlen(rows[i].what) };
        for (int k = 0; k < 3; k++)
            widths[k] = lengths[k] > widths[k] ? lengths[k] : widths[k];
    }
    print_row(cli, titles, widths);
    for (int i = 0; i < 3; i++) {
        const size_t width = (size_t)widths[i] < sizeof rules[i] ? (size_t)widths[i] : sizeof rules[i] - 1;
        memset(rules[i], '-', width);
        rules[i][width] = '\0';
    }
    (void)fprintf(cli->out, "|-%s-|-%s-|-%s-|\n", rules[0], rules[1], rules[2]);
    for (size_t i = 0; i < count; i++)
        print_row(cli, (const char *const[3]){ i == 0 ? cli->store_path : "", rows[i].path, rows[i].what }, widths);
}

static int list_files(struct cli *cli)
{
    varve_files *files = NULL;
    const varve_file_info *info = NULL;
    struct file_row *rows = NULL;
    size_t count = 0;
    varve_error error;
    int code = EXIT_DONE;

    varve_status status = varve_files_open(cli->store, &files, &error);
    while (status == VARVE_OK && (status = varve_files_next(files, &info, &error)) == VARVE_OK) {
        struct file_row *more = realloc(rows, (count + 1) * sizeof *rows);
        if (more == NULL) {
            code = cli_error(cli, VARVE_MEMORY, "out of memory");
            break;
        }
        rows = more;
        rows[count++] = (struct file_row){ (char *)info->path, (char *)info->what }; /* lent by `files` */
        if (cli->json)
            cli_line(cli, json_pack("{s:s, s:I, s:I, s:s}", "path", info->path, "bytes", (json_int_t)info->bytes,
                                    "links", (json_int_t)info->links, "what", info->what));
    }
    if (status != VARVE_OK && status != VARVE_END)
        code = cli_fail(cli, &error, NULL);
    if (code == EXIT_DONE)
        print_files(cli, rows, count);
    free(rows);
    varve_files_close(files);
    return code;
}

int statement_ls(struct cli *cli, int argc, char **argv)
{
    bool files = false;
    const struct cli_option options[] = {
        { "--files", 0, NULL, "the files of the store instead, and what each is for", .flag = &files },
        { .name = NULL },
    };
    varve_module_info module = VARVE_INIT(varve_module_info);
    varve_module_id after;
    int code = EXIT_DONE;

    if (!cli_options(cli, &argc, argv, options, "", "List the modules and images of the state.", 0, 0, &code))
        return code;
    if (files)
        return list_files(cli);
    for (bool first = true;
         varve_session_next_module(cli->session, first ? NULL : &after, &module, NULL) == VARVE_OK;
         first = false) {
        char id[65], size[24], hash[13] = "-";
        after = module.id;
        varve_hex_format(module.id.bytes, id);
        cli_size_text(module.memory_size, size);
        if (module.kind != VARVE_KIND_IMAGE)
            cli_short_id(module.code, hash);
        (void)fprintf(cli->out, "%-20s  %-8s  %10s  %s\n", module.name[0] ? module.name : id,
                      cli_kind_name(module.kind), size, hash);
        if (cli->json)
            cli_line(cli, cli_json_module(&module));
    }
    return EXIT_DONE;
}

/* ---- deploy ----------------------------------------------------------------------------------- */

/* The file's stem: the name when none is given. */
static void stem_of(const char *path, char name[128])
{
    const char *slash = strrchr(path, '/');
    const char *start = slash == NULL ? path : slash + 1;
    const char *dot = strrchr(start, '.');
    const size_t length = dot == NULL || dot == start ? strlen(start) : (size_t)(dot - start);

    (void)snprintf(name, 128, "%.*s", (int)(length > 127 ? 127 : length), start);
}

/* What the command line said, and how it reads. */
struct deploy {
    const char *file, *id_text, *owner_text, *gas, *missing;
    bool plain;
    struct cli_list args, env, global_texts;
    char global_names[sizeof((struct cli_list){ .count = 0 }).items / sizeof(const char *)][256];
    varve_global_value globals[sizeof((struct cli_list){ .count = 0 }).items / sizeof(const char *)];
    char name[128];
    varve_module_id id;
    uint8_t owner[32];
    varve_deploy_options options;
};

enum { LIST_MOST = sizeof((struct cli_list){ .count = 0 }).items / sizeof(const char *) };

/* MODULE.NAME=VALUE or MODULE.NAME=TYPE:VALUE; without a type it is an i32. The name begins after the last dot. */
static bool read_global(char *text, varve_global_value *global)
{
    static const struct {
        const char *name;
        varve_type type;
    } types[] = {
        { "i32:", VARVE_I32 }, { "i64:", VARVE_I64 }, { "f32:", VARVE_F32 }, { "f64:", VARVE_F64 }
    };
    char *value = strchr(text, '=');
    varve_type type = VARVE_I32;

    if (value == NULL)
        return false;
    *value++ = '\0';
    char *name = strrchr(text, '.');
    if (name == NULL)
        return false;
    *name++ = '\0';
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strncmp(value, types[i].name, 4) == 0) {
            type = types[i].type;
            value += 4;
            break;
        }
    global->module = text;
    global->name = name;
    return cli_parse_value(value, type, &global->value);
}

static int read_globals(struct cli *cli, struct deploy *deploy)
{
    for (size_t i = 0; i < deploy->global_texts.count; i++) {
        const char *given = deploy->global_texts.items[i];
        char *text = deploy->global_names[i];
        const int size = snprintf(text, sizeof deploy->global_names[i], "%s", given);
        if ((size_t)size >= sizeof deploy->global_names[i] || !read_global(text, &deploy->globals[i]))
            return cli_usage(
                cli, "--global %s: not MODULE.NAME=VALUE; a value is 5, i64:5, f32:1.5 or f64:1.5", given);
    }
    deploy->options.globals = deploy->globals;
    deploy->options.global_count = deploy->global_texts.count;
    return EXIT_DONE;
}

static int read_deploy(struct cli *cli, struct deploy *deploy, const char *name)
{
    deploy->options = VARVE_INIT(varve_deploy_options);
    if (!cli_gas(cli, deploy->gas, &deploy->options.gas))
        return EXIT_USAGE;
    if (deploy->id_text != NULL && varve_hex_parse(deploy->id_text, deploy->id.bytes) != VARVE_OK)
        return cli_usage(cli, "--id %s: not 64 hexadecimal digits", deploy->id_text);
    if (deploy->owner_text != NULL && varve_hex_parse(deploy->owner_text, deploy->owner) != VARVE_OK)
        return cli_usage(cli, "--owner %s: not 64 hexadecimal digits", deploy->owner_text);
    if (deploy->missing != NULL && strcmp(deploy->missing, "refuse") != 0 &&
        strcmp(deploy->missing, "trap") != 0)
        return cli_usage(cli, "--missing %s: refuse or trap", deploy->missing);
    if (deploy->id_text != NULL && name != NULL)
        return cli_usage(cli, "a NAME or --id, not both");
    if (deploy->args.count == LIST_MOST || deploy->env.count == LIST_MOST)
        return cli_usage(cli, "too many --arg or --env: at most %d", (int)LIST_MOST - 1);
    for (size_t i = 0; i < deploy->env.count; i++)
        if (strchr(deploy->env.items[i], '=') == NULL || deploy->env.items[i][0] == '=')
            return cli_usage(cli, "--env %s: not K=V", deploy->env.items[i]);
    if (name == NULL && deploy->id_text == NULL && strcmp(deploy->file, "-") == 0)
        return cli_usage(cli, "deploy -: what comes from stdin needs a NAME");
    if (name == NULL)
        stem_of(deploy->file, deploy->name);
    else if (strlen(name) < sizeof deploy->name)
        strcpy(deploy->name, name);
    if (deploy->id_text == NULL && varve_module_id_of(deploy->name, &deploy->id) != VARVE_OK)
        return cli_usage(cli, BAD_NAME, name == NULL ? deploy->name : name);
    deploy->options.flags =
        (deploy->plain ? VARVE_DEPLOY_PLAIN : 0) |
        (deploy->missing != NULL && strcmp(deploy->missing, "trap") == 0 ? VARVE_DEPLOY_TRAP_MISSING : 0);
    deploy->options.name = deploy->id_text == NULL ? deploy->name : NULL;
    deploy->options.id = deploy->id_text == NULL ? NULL : &deploy->id;
    deploy->options.owner = deploy->owner_text == NULL ? NULL : deploy->owner;
    deploy->options.args = deploy->args.count == 0 ? NULL : deploy->args.items; /* zeroed: NULL ends it */
    deploy->options.env = deploy->env.count == 0 ? NULL : deploy->env.items;
    return read_globals(cli, deploy);
}

static void answer_deploy(struct cli *cli, const struct deploy *deploy, const varve_receipt *receipt)
{
    varve_module_info module = VARVE_INIT(varve_module_info);
    char hex[65];

    varve_hex_format(deploy->id.bytes, hex);
    (void)fprintf(cli->out, "%s %s\n", deploy->id_text == NULL ? deploy->name : hex, hex);
    if (!cli->json)
        return;
    if (varve_session_module(cli->session, &deploy->id, &module, NULL) == VARVE_OK)
        cli_set(cli, "module", cli_json_module(&module));
    cli_set(cli, "receipt", cli_json_receipt(receipt));
}

int statement_deploy(struct cli *cli, int argc, char **argv)
{
    struct deploy deploy = { .file = NULL };
    uint8_t *data = NULL;
    size_t size = 0;
    varve_receipt *receipt = NULL;
    varve_error error;
    int code = EXIT_DONE;
    const struct cli_option options[] = {
        { "--id", 0, "HEX", "the module's id, instead of a name", .text = &deploy.id_text },
        { "--owner", 0, "HEX", "32 bytes (default: zeros)", .text = &deploy.owner_text },
        { "--arg", 0, "A", "an argument that the guest sees (repeat)", .list = &deploy.args },
        { "--env", 0, "K=V", "an environment variable that the guest sees (repeat)", .list = &deploy.env },
        { "--global", 0, "M.N=VALUE", "a number that it imports: 5, i64:5, f64:1.5 (repeat)",
          .list = &deploy.global_texts },
        { "--gas", 0, "N", "most gas for start and _initialize", .text = &deploy.gas },
        { "--missing", 0, "refuse|trap", "imports that nobody answers (default refuse)",
          .text = &deploy.missing },
        { "--plain", 0, NULL, "numbers in, numbers out, whatever it looks like", .flag = &deploy.plain },
        { .name = NULL },
    };

    if (!cli_options(cli, &argc, argv, options, "FILE.wasm|- [NAME]",
                     "Deploy a module under NAME (default: the file's stem).", 1, 2, &code))
        return code;
    deploy.file = argv[1];
    code = read_deploy(cli, &deploy, argc > 2 ? argv[2] : NULL);
    if (code == EXIT_DONE)
        code = cli_read_file(cli, argv[1], &data, &size);
    if (code != EXIT_DONE)
        return code;
    const varve_status status =
        varve_session_deploy(cli->session, data, size, &deploy.options, &deploy.id, &receipt, &error);
    if (status == VARVE_OK) {
        (void)snprintf(cli->did, sizeof cli->did, "deploy %s",
                       deploy.id_text == NULL ? deploy.name : deploy.id_text);
        answer_deploy(cli, &deploy, receipt);
    } else if (status == VARVE_INVALID || status == VARVE_REFUSED) /* the file is at fault, not the words */
        code = cli_error(cli, VARVE_REFUSED, "%s: %s", argv[1], error.message);
    else
        code = cli_fail(cli, &error, receipt);
    varve_receipt_free(receipt);
    free(data);
    return code;
}
