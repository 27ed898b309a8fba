/* hash.c - see hash.h.
 *
 * A derive-key hash is a keyed hash whose key is the hash of the context string. Those keys never change, so
 * they are made once per process, on first use: a table of constants that C cannot spell as an initializer. It
 * is the one thing of static storage here, and nothing writes it afterwards.
 *
 * Batches call blake3_hash_many, the primitive under the library's own hasher, with the flags of the paper's
 * table 3. A page is four chunks of 1024 bytes; chunk k of sixteen pages is hashed abreast, k = 0..3, then the
 * pages' inner nodes, then their roots: every lane is full, where the library's hasher fills four at most. */
#include "page/hash.h"

#include <blake3_impl.h>
#include <pthread.h>
#include <string.h>

#include "base/bytes.h"

enum { LANES = 16, CHUNK_SIZE = 1024, CHUNKS = VV_PAGE_SIZE / CHUNK_SIZE };

static const char *const contexts[VV_HASH_KINDS] = {
    [VV_HASH_PAGE] = "varve 2026 page",         [VV_HASH_NODE] = "varve 2026 node",
    [VV_HASH_MEMORY] = "varve 2026 memory",     [VV_HASH_MODULE] = "varve 2026 module",
    [VV_HASH_INSTANCE] = "varve 2026 instance", [VV_HASH_DESCRIPTOR] = "varve 2026 descriptor",
    [VV_HASH_META] = "varve 2026 meta",         [VV_HASH_STATE] = "varve 2026 state",
    [VV_HASH_COMMIT] = "varve 2026 commit",     [VV_HASH_CODE] = "varve 2026 code",
    [VV_HASH_NAME] = "varve 2026 name",         [VV_HASH_RECORD] = "varve 2026 record",
    [VV_HASH_CHANCE] = "varve 2026 chance",     [VV_HASH_RECEIPT] = "varve 2026 receipt",
    [VV_HASH_CACHE] = "varve 2026 cache",
};

const uint8_t vv_hash_zero[VV_HASH_SIZE];

static blake3_hasher prepared[VV_HASH_KINDS]; /* written by prepare_all alone */
static pthread_once_t prepared_once = PTHREAD_ONCE_INIT;

static void prepare_all(void)
{
    for (int kind = 0; kind < VV_HASH_KINDS; kind++)
        blake3_hasher_init_derive_key(&prepared[kind], contexts[kind]);
    (void)blake3_simd_degree(); /* it looks at the processor once; here, so that threads find it looked at */
}

static const blake3_hasher *hasher_of(enum vv_hash_kind kind)
{
    (void)pthread_once(&prepared_once, prepare_all);
    return &prepared[kind];
}

const char *vv_hash_context(enum vv_hash_kind kind)
{
    VV_ASSERT(kind < VV_HASH_KINDS);
    return contexts[kind];
}

void vv_hasher_init(struct vv_hasher *hasher, enum vv_hash_kind kind)
{
    VV_ASSERT(kind < VV_HASH_KINDS);
    /* The stack of chaining values behind (1760 bytes) is empty at the start and need not be copied. */
    memcpy(&hasher->state, hasher_of(kind), offsetof(blake3_hasher, cv_stack));
}

void vv_hasher_put(struct vv_hasher *hasher, const void *data, size_t size)
{
    blake3_hasher_update(&hasher->state, data, size);
}

void vv_hasher_u64(struct vv_hasher *hasher, uint64_t value)
{
    uint8_t raw[8];
    vv_put_u64(raw, value);
    vv_hasher_put(hasher, raw, sizeof raw);
}

void vv_hasher_end(const struct vv_hasher *hasher, uint8_t out[VV_HASH_SIZE])
{
    blake3_hasher_finalize(&hasher->state, out, VV_HASH_SIZE);
}

void vv_hash(enum vv_hash_kind kind, const void *data, size_t size, uint8_t out[VV_HASH_SIZE])
{
    struct vv_hasher hasher;

    vv_hasher_init(&hasher, kind);
    vv_hasher_put(&hasher, data, size);
    vv_hasher_end(&hasher, out);
}

/* Hash `count` <= 16 pages with all lanes that count fills. */
static void pages_abreast(const uint8_t *const *pages, size_t count, uint8_t (*out)[VV_HASH_SIZE])
{
    const uint32_t *key = hasher_of(VV_HASH_PAGE)->key;
    uint8_t chunks[LANES][CHUNKS][VV_HASH_SIZE]; /* chaining values, page by page */
    uint8_t halves[LANES][2][VV_HASH_SIZE];
    const uint8_t *in[2 * LANES];

    if (count == 1) { /* the chunks of one page abreast: their counters ascend */
        for (size_t k = 0; k < CHUNKS; k++)
            in[k] = pages[0] + k * CHUNK_SIZE;
        blake3_hash_many(in, CHUNKS, CHUNK_SIZE / BLAKE3_BLOCK_LEN, key, 0, true, DERIVE_KEY_MATERIAL,
                         CHUNK_START, CHUNK_END, chunks[0][0]);
    } else { /* the same chunk of all pages abreast: one counter for all */
        uint8_t level[LANES][VV_HASH_SIZE];
        for (size_t k = 0; k < CHUNKS; k++) {
            for (size_t i = 0; i < count; i++)
                in[i] = pages[i] + k * CHUNK_SIZE;
            blake3_hash_many(in, count, CHUNK_SIZE / BLAKE3_BLOCK_LEN, key, k, false, DERIVE_KEY_MATERIAL,
                             CHUNK_START, CHUNK_END, level[0]);
            for (size_t i = 0; i < count; i++)
                memcpy(chunks[i][k], level[i], VV_HASH_SIZE);
        }
    }
    for (size_t i = 0; i < 2 * count; i++)
        in[i] = chunks[i / 2][i % 2 * 2];
    blake3_hash_many(in, 2 * count, 1, key, 0, false, DERIVE_KEY_MATERIAL | PARENT, 0, 0, halves[0][0]);
    for (size_t i = 0; i < count; i++)
        in[i] = halves[i][0];
    blake3_hash_many(in, count, 1, key, 0, false, DERIVE_KEY_MATERIAL | PARENT | ROOT, 0, 0, out[0]);
}

/* The widest batch whose lanes `left` pages fill: with fewer than four, one page's four chunks fill more. */
static size_t batch_width(size_t left)
{
    return left >= 16 ? 16 : left >= 8 ? 8 : left >= 4 ? 4 : 1;
}

void vv_hash_pages(const uint8_t *const *pages, size_t count, uint8_t (*out)[VV_HASH_SIZE])
{
    for (size_t at = 0; at < count;) {
        const uint8_t *full[LANES];
        size_t where[LANES], found = 0;
        uint8_t hashes[LANES][VV_HASH_SIZE];

        for (; at < count && found < LANES; at++) {
            if (vv_page_is_zero(pages[at])) {
                memset(out[at], 0, VV_HASH_SIZE);
            } else {
                full[found] = pages[at];
                where[found++] = at;
            }
        }
        for (size_t done = 0; done < found;) {
            const size_t width = batch_width(found - done);
            pages_abreast(full + done, width, hashes + done);
            done += width;
        }
        for (size_t i = 0; i < found; i++)
            memcpy(out[where[i]], hashes[i], VV_HASH_SIZE);
    }
}

void vv_hash_pairs(const uint8_t *const *pairs, size_t count, uint8_t *const *out)
{
    const uint32_t *key = hasher_of(VV_HASH_NODE)->key;

    for (size_t at = 0; at < count;) {
        const uint8_t *in[LANES];
        uint8_t *to[LANES], hashes[LANES][VV_HASH_SIZE];
        size_t found = 0;

        for (; at < count && found < LANES; at++) {
            if (vv_hash_is_zero(pairs[at]) && vv_hash_is_zero(pairs[at] + VV_HASH_SIZE)) {
                memset(out[at], 0, VV_HASH_SIZE);
            } else {
                in[found] = pairs[at];
                to[found++] = out[at];
            }
        }
        blake3_hash_many(in, found, 1, key, 0, false, DERIVE_KEY_MATERIAL, CHUNK_START, CHUNK_END | ROOT,
                         hashes[0]);
        for (size_t i = 0; i < found; i++)
            memcpy(to[i], hashes[i], VV_HASH_SIZE);
    }
}

void vv_hash_nodes(const uint8_t (*pairs)[2 * VV_HASH_SIZE], size_t count, uint8_t (*out)[VV_HASH_SIZE])
{
    for (size_t at = 0; at < count; at += LANES) {
        const uint8_t *in[LANES];
        uint8_t *to[LANES];
        const size_t width = count - at < LANES ? count - at : LANES;

        for (size_t i = 0; i < width; i++) {
            in[i] = pairs[at + i];
            to[i] = out[at + i];
        }
        vv_hash_pairs(in, width, to);
    }
}

bool vv_hash_is_zero(const uint8_t hash[VV_HASH_SIZE])
{
    uint64_t words[VV_HASH_SIZE / sizeof(uint64_t)];

    memcpy(words, hash, sizeof words);
    return (words[0] | words[1] | words[2] | words[3]) == 0;
}

bool vv_page_is_zero(const uint8_t *page)
{
    /* Most pages say no in their first line, without the rest being fetched. */
    for (size_t at = 0; at < VV_PAGE_SIZE; at += 64) {
        uint64_t words[8];
        memcpy(words, page + at, sizeof words);
        if ((words[0] | words[1] | words[2] | words[3] | words[4] | words[5] | words[6] | words[7]) != 0)
            return false;
    }
    return true;
}
