/* piece.c - an argument of a call as it is written: 42, s:TEXT, d:TEXT, x:HEX, @FILE, i32:7, out:16. */
#include "cli/cli.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* `text` as bytes, two digits each; false: it is not that. `data` must hold strlen / 2. */
static bool parse_hex(const char *text, uint8_t *data, size_t *size)
{
    const size_t length = strlen(text);

    if (length % 2 != 0)
        return false;
    for (size_t i = 0; i < length; i += 2) {
        const int high = hex_digit(text[i]), low = hex_digit(text[i + 1]);
        if (high < 0 || low < 0)
            return false;
        data[i / 2] = (uint8_t)(high << 4 | low);
    }
    *size = length / 2;
    return true;
}

/* A whole number in [least, most]; most may exceed INT64_MAX. Bits come back. */
static bool parse_integer(const char *word, int64_t least, uint64_t most, uint64_t *bits)
{
    const bool negative = word[0] == '-';
    const char *digits = negative || word[0] == '+' ? word + 1 : word;
    uint64_t magnitude = 0;

    if (!cli_parse_u64(digits, &magnitude))
        return false;
    if (negative ? magnitude > (uint64_t)0 - (uint64_t)least : magnitude > most)
        return false;
    *bits = negative ? (uint64_t)0 - magnitude : magnitude;
    return true;
}

/* nan:0x7FC00000 gives the bits; everything else is strtod's. */
static bool parse_float(const char *word, double *value, bool *has_bits, uint64_t *bits)
{
    char *end = NULL;

    *has_bits = strncmp(word, "nan:", 4) == 0;
    if (*has_bits)
        return cli_parse_u64(word + 4, bits);
    if (word[0] == '\0' || isspace((unsigned char)word[0]))
        return false;
    *value = strtod(word, &end);
    return *end == '\0';
}

bool cli_parse_value(const char *word, varve_type type, varve_value *value)
{
    uint64_t bits = 0;
    double number = 0;
    bool has_bits = false;
    size_t size = 0;

    *value = (varve_value){ .type = type };
    switch (type) {
    case VARVE_I32:
        if (!parse_integer(word, INT32_MIN, UINT32_MAX, &bits))
            return false;
        value->of.i32 = (int32_t)(uint32_t)bits;
        return true;
    case VARVE_I64:
        if (!parse_integer(word, INT64_MIN, UINT64_MAX, &bits))
            return false;
        value->of.i64 = (int64_t)bits;
        return true;
    case VARVE_F32:
        if (!parse_float(word, &number, &has_bits, &bits) || (has_bits && bits > UINT32_MAX))
            return false;
        value->of.f32 = (float)number;
        if (has_bits)
            memcpy(&value->of.f32, &(uint32_t){ (uint32_t)bits }, 4);
        return true;
    case VARVE_F64:
        if (!parse_float(word, &number, &has_bits, &bits))
            return false;
        value->of.f64 = number;
        if (has_bits)
            memcpy(&value->of.f64, &bits, 8);
        return true;
    case VARVE_V128:
        return strncmp(word, "v128:", 5) == 0 && strlen(word + 5) == 32 &&
               parse_hex(word + 5, value->of.v128, &size);
    }
    return false;
}

/* ---- i32:7 and its like ----------------------------------------------------------------------- */

static const struct {
    const char *prefix;
    size_t size;
    bool is_signed, is_float;
} typed[] = {
    { "i8:", 1, true, false },   { "u8:", 1, false, false },  { "i16:", 2, true, false },
    { "u16:", 2, false, false }, { "i32:", 4, true, false },  { "u32:", 4, false, false },
    { "i64:", 8, true, false },  { "u64:", 8, false, false }, { "f32:", 4, true, true },
    { "f64:", 8, true, true },
};

static bool encode_typed(const char *text, size_t which, uint8_t data[8])
{
    const size_t size = typed[which].size;
    uint64_t bits = 0;
    varve_value value;

    if (typed[which].is_float) {
        if (!cli_parse_value(text, size == 4 ? VARVE_F32 : VARVE_F64, &value))
            return false;
        if (size == 4) {
            uint32_t narrow = 0;
            memcpy(&narrow, &value.of.f32, 4);
            bits = narrow;
        } else {
            memcpy(&bits, &value.of.f64, 8);
        }
    } else {
        const uint64_t most = UINT64_MAX >> (64 - 8 * size + (typed[which].is_signed ? 1 : 0));
        const int64_t least = typed[which].is_signed ? -(int64_t)most - 1 : 0;
        if (!parse_integer(text, least, most, &bits))
            return false;
    }
    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)(bits >> (8 * i));
    return true;
}

static int parse_typed(struct cli *cli, size_t which, struct cli_piece *piece)
{
    piece->form = PIECE_TYPED;
    piece->size = typed[which].size;
    piece->data = calloc(1, 8);
    if (piece->data == NULL)
        return cli_error(cli, VARVE_MEMORY, "out of memory");
    if (!encode_typed(piece->word + strlen(typed[which].prefix), which, piece->data)) {
        cli_piece_release(piece);
        return cli_usage(cli, "argument %s: not a number of that type", piece->word);
    }
    return EXIT_DONE;
}

static int parse_text(struct cli *cli, struct cli_piece *piece, const char *text, size_t size)
{
    piece->data = malloc(size + 1);
    if (piece->data == NULL)
        return cli_error(cli, VARVE_MEMORY, "out of memory");
    memcpy(piece->data, text, size);
    piece->data[size] = 0;
    piece->size = size;
    return EXIT_DONE;
}

static int parse_hex_piece(struct cli *cli, struct cli_piece *piece, const char *digits)
{
    piece->form = PIECE_BYTES;
    piece->data = malloc(strlen(digits) / 2 + 1);
    if (piece->data == NULL)
        return cli_error(cli, VARVE_MEMORY, "out of memory");
    if (!parse_hex(digits, piece->data, &piece->size)) {
        cli_piece_release(piece);
        return cli_usage(cli, "argument %s: not pairs of hexadecimal digits", piece->word);
    }
    return EXIT_DONE;
}

int cli_piece_parse(struct cli *cli, const char *word, struct cli_piece *piece)
{
    *piece = (struct cli_piece){ .form = PIECE_NUMBER, .word = word };
    if (strncmp(word, "s:", 2) == 0) {
        piece->form = PIECE_TEXT;
        const int code = parse_text(cli, piece, word + 2, strlen(word + 2));
        piece->size++; /* its NUL goes with it */
        return code;
    }
    if (strncmp(word, "d:", 2) == 0) {
        piece->form = PIECE_BYTES;
        return parse_text(cli, piece, word + 2, strlen(word + 2));
    }
    if (strncmp(word, "x:", 2) == 0)
        return parse_hex_piece(cli, piece, word + 2);
    if (word[0] == '@') {
        piece->form = PIECE_BYTES;
        return cli_read_file(cli, word + 1, &piece->data, &piece->size);
    }
    if (strncmp(word, "out:", 4) == 0) {
        uint64_t size = 0;
        piece->form = PIECE_OUT;
        if (!cli_parse_size(word + 4, &size) || size == 0 || size > UINT32_MAX)
            return cli_usage(cli, "argument %s: not a size from 1 to 4G", word);
        piece->size = (size_t)size;
        return EXIT_DONE;
    }
    for (size_t i = 0; i < sizeof typed / sizeof *typed; i++)
        if (strncmp(word, typed[i].prefix, strlen(typed[i].prefix)) == 0)
            return parse_typed(cli, i, piece);
    return EXIT_DONE;
}

void cli_piece_release(struct cli_piece *piece)
{
    free(piece->data);
    piece->data = NULL;
}

int cli_piece_bytes(struct cli *cli, const char *word, uint8_t **data, size_t *size)
{
    struct cli_piece piece;
    int code = cli_piece_parse(cli, word, &piece);

    if (code != EXIT_DONE)
        return code;
    if (piece.form == PIECE_OUT)
        return cli_usage(cli, "argument %s: out: is for calls of plain modules", word);
    if (piece.form == PIECE_NUMBER)
        code = parse_text(cli, &piece, word, strlen(word));
    if (piece.form == PIECE_TEXT)
        piece.size--; /* the bytes of TEXT, no NUL */
    *data = piece.data;
    *size = piece.size;
    return code;
}
