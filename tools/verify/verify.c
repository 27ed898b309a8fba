/* verify.c - check a varve proof with nothing but BLAKE3: a second reader of docs/format.md, sections "Hashes and
 * roots" and "Proofs", that shares no line with the library, so that an error in one shows against the other.
 *
 *   verify ROOT FILE [PAGE]     ROOT: 64 hex digits; PAGE: where to put the proved 4096 bytes
 *
 * Says PROVED and what, exit 0; or NOT PROVED and why, exit 1. Exit 2: called wrongly. */
#include <blake3.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 4096, HASH = 32, TRIE_BITS = 256, PAGE_BITS = 52, PROOF_MAX = 32768 };
enum { WHAT_PAGE = 1, WHAT_NOTHING = 2, WHAT_OTHER = 3 };

struct proof {
    const uint8_t *bytes;
    size_t size, offset;
};
struct leaf { /* in this order they are hashed */
    uint8_t id[HASH], code[HASH], owner[HASH], memory[HASH], instance[HASH], descriptor[HASH];
};
struct page {
    uint64_t memory_size, index;
    uint8_t bytes[PAGE];
};

static _Noreturn void not_proved(const char *why)
{
    printf("NOT PROVED: %s\n", why);
    exit(1);
}

/* ---- Reading ---------------------------------------------------------------------------------- */

static const uint8_t *take(struct proof *proof, size_t size)
{
    if (size > proof->size - proof->offset)
        not_proved("the proof ends early");
    proof->offset += size;
    return proof->bytes + proof->offset - size;
}

static uint64_t take_number(struct proof *proof, size_t size)
{
    const uint8_t *bytes = take(proof, size);
    uint64_t number = 0;
    while (size-- > 0)
        number = number << 8 | bytes[size];
    return number;
}

static void take_hash(struct proof *proof, uint8_t hash[HASH])
{
    memcpy(hash, take(proof, HASH), HASH);
}

static bool is_zero(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

/* A bit for each sibling, the lowest first; then those that are not zero. */
static void take_siblings(struct proof *proof, uint8_t (*siblings)[HASH], unsigned count)
{
    const uint8_t *mask = take(proof, (count + 7) / 8);
    for (unsigned i = 0; i < (count + 7) / 8 * 8; i++) {
        const bool some = (mask[i / 8] >> i % 8 & 1) != 0;
        if (i >= count && some)
            not_proved("a bit is set for a sibling that is none");
        if (i >= count)
            continue;
        memset(siblings[i], 0, HASH);
        if (some)
            take_hash(proof, siblings[i]);
        if (some && is_zero(siblings[i], HASH))
            not_proved("a sibling of zeros is written out");
    }
}

/* ---- Hashing ---------------------------------------------------------------------------------- */

static void hash(const char *context, const void *bytes, size_t size, uint8_t out[HASH])
{
    blake3_hasher hasher;

    blake3_hasher_init_derive_key(&hasher, context);
    blake3_hasher_update(&hasher, bytes, size);
    blake3_hasher_finalize(&hasher, out, HASH);
}

/* Two halves one after the other; above nothing is nothing. */
static void hash_pair(const char *context, const uint8_t left[HASH], const uint8_t right[HASH],
                      uint8_t out[HASH])
{
    uint8_t pair[2 * HASH];

    memcpy(pair, left, HASH);
    memcpy(pair + HASH, right, HASH);
    hash(context, pair, sizeof pair, out);
}

static void hash_node(const uint8_t left[HASH], const uint8_t right[HASH], uint8_t out[HASH])
{
    if (is_zero(left, HASH) && is_zero(right, HASH))
        memset(out, 0, HASH);
    else
        hash_pair("varve 2026 node", left, right, out);
}

/* ---- The proof, from the page up -------------------------------------------------------------- */

/* Four binary levels for each radix level: the least number of them, at least one, that hold the pages. */
static unsigned bits_of(uint64_t pages)
{
    unsigned bits = 4;

    while (pages > UINT64_C(1) << bits)
        bits += 4;
    return bits;
}

static void memory_root(uint64_t memory_size, const uint8_t top[HASH], uint8_t root[HASH])
{
    uint8_t preimage[8 + HASH];

    for (int i = 0; i < 8; i++)
        preimage[i] = (uint8_t)(memory_size >> 8 * i);
    memcpy(preimage + 8, top, HASH);
    hash("varve 2026 memory", preimage, sizeof preimage, root);
}

static void take_page(struct proof *proof, struct leaf *leaf, struct page *page)
{
    uint8_t siblings[PAGE_BITS][HASH], at[HASH] = { 0 };

    take_hash(proof, leaf->code);
    take_hash(proof, leaf->owner);
    take_hash(proof, leaf->instance);
    take_hash(proof, leaf->descriptor);
    page->memory_size = take_number(proof, 8);
    page->index = take_number(proof, 8);
    const uint64_t form = take_number(proof, 1);
    if (page->memory_size % PAGE != 0 || page->index >= page->memory_size / PAGE || form > 1)
        not_proved("it names a page that cannot be");
    memset(page->bytes, 0, PAGE);
    if (form == 1) {
        memcpy(page->bytes, take(proof, PAGE), PAGE);
        if (is_zero(page->bytes, PAGE))
            not_proved("a page of zeros is written out");
        hash("varve 2026 page", page->bytes, PAGE, at);
    }
    const unsigned bits = bits_of(page->memory_size / PAGE);
    take_siblings(proof, siblings, bits);
    for (unsigned i = 0; i < bits; i++)
        if ((page->index >> i & 1) != 0)
            hash_node(siblings[i], at, at);
        else
            hash_node(at, siblings[i], at);
    memory_root(page->memory_size, at, leaf->memory);
}

static unsigned key_bit(const uint8_t key[HASH], unsigned depth)
{
    return key[depth / 8] >> (7 - depth % 8) & 1;
}

static void take_other(struct proof *proof, const uint8_t id[HASH], unsigned bits, struct leaf *leaf)
{
    take_hash(proof, leaf->id);
    take_hash(proof, leaf->code);
    take_hash(proof, leaf->owner);
    take_hash(proof, leaf->memory);
    take_hash(proof, leaf->instance);
    take_hash(proof, leaf->descriptor);
    if (memcmp(leaf->id, id, HASH) == 0)
        not_proved("it calls absent the module that it shows");
    for (unsigned depth = 0; depth < bits; depth++)
        if (key_bit(leaf->id, depth) != key_bit(id, depth))
            not_proved("the other module stands elsewhere");
}

/* Read it all; `what` says which of the outputs hold something, `root` is where it leads. */
static void take_proof(struct proof *proof, uint64_t *what, struct leaf *leaf, struct page *page,
                       uint8_t id[HASH], uint8_t root[HASH])
{
    static uint8_t siblings[TRIE_BITS][HASH];
    uint8_t meta[HASH], at[HASH] = { 0 };

    if (memcmp(take(proof, 4), "VPRF", 4) != 0 || take_number(proof, 1) != 1)
        not_proved("this is no proof of version 1");
    *what = take_number(proof, 1);
    take_hash(proof, id);
    take_hash(proof, meta);
    const unsigned bits = (unsigned)take_number(proof, 2);
    if (bits > TRIE_BITS)
        not_proved("its way is longer than an id");
    take_siblings(proof, siblings, bits);
    if (*what == WHAT_PAGE) {
        memcpy(leaf->id, id, HASH);
        take_page(proof, leaf, page);
    } else if (*what == WHAT_OTHER) {
        take_other(proof, id, bits, leaf);
    } else if (*what != WHAT_NOTHING) {
        not_proved("it proves nothing known");
    }
    if (proof->offset != proof->size)
        not_proved("bytes are left over");
    if (*what != WHAT_NOTHING)
        hash("varve 2026 module", leaf, sizeof *leaf, at);
    for (unsigned i = 0; i < bits; i++) {
        if (is_zero(at, HASH) && is_zero(siblings[i], HASH))
            not_proved("its way goes on where nothing is");
        if (key_bit(id, bits - 1 - i) != 0)
            hash_node(siblings[i], at, at);
        else
            hash_node(at, siblings[i], at);
    }
    hash_pair("varve 2026 state", at, meta, root);
}

/* ---- The program ------------------------------------------------------------------------------ */

static _Noreturn void usage(const char *why)
{
    fprintf(stderr, "verify: %s\nusage: verify ROOT FILE [PAGE]\n", why);
    exit(2);
}

static void parse_root(const char *text, uint8_t root[HASH])
{
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";

    if (strlen(text) != 2 * HASH)
        usage("a root has 64 hex digits");
    for (size_t i = 0; i < 2 * HASH; i++) {
        const char *digit = strchr(digits, text[i]);
        if (digit == NULL)
            usage("a root has 64 hex digits");
        root[i / 2] = (uint8_t)(root[i / 2] << 4 | (digit - digits) % 16);
    }
}

static size_t read_file(const char *name, uint8_t *bytes, size_t room)
{
    FILE *file = fopen(name, "rb");

    if (file == NULL)
        usage("the proof cannot be read");
    const size_t size = fread(bytes, 1, room, file);
    fclose(file);
    return size;
}

static void print_hash(const char *name, const uint8_t value[HASH])
{
    printf("%-12s", name);
    for (int i = 0; i < HASH; i++)
        printf("%02X", value[i]);
    printf("\n");
}

int main(int argc, char **argv)
{
    static uint8_t bytes[PROOF_MAX + 1];
    static struct page page;
    static struct leaf leaf;
    uint8_t trusted[HASH] = { 0 }, id[HASH], root[HASH];
    uint64_t what = 0;

    if (argc != 3 && argc != 4)
        usage("wrong number of arguments");
    parse_root(argv[1], trusted);
    struct proof proof = { .bytes = bytes, .size = read_file(argv[2], bytes, sizeof bytes) };
    if (proof.size > PROOF_MAX)
        not_proved("it is longer than any proof");
    take_proof(&proof, &what, &leaf, &page, id, root);
    if (memcmp(root, trusted, HASH) != 0)
        not_proved("it leads to another root");

    printf("PROVED\n");
    print_hash("module", id);
    if (what != WHAT_PAGE) {
        printf("%-12sno\n", "present");
        return 0;
    }
    print_hash("code", leaf.code);
    print_hash("owner", leaf.owner);
    printf("%-12s%llu\n%-12s%llu\n", "memory_size", (unsigned long long)page.memory_size, "page",
           (unsigned long long)page.index);
    FILE *out = argc == 4 ? fopen(argv[3], "wb") : NULL;
    if (argc == 4 && (out == NULL || fwrite(page.bytes, PAGE, 1, out) != 1 || fclose(out) != 0))
        usage("the page cannot be written");
    return 0;
}
