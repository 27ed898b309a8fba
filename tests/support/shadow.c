/* shadow.c - see shadow.h. */
#include "shadow.h"

#include <blake3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HASH = 32, ID_BITS = 256 };

struct shadow_page {
    unsigned refs;
    bool hashed;
    uint8_t hash[HASH];
    uint8_t bytes[SHADOW_PAGE];
};
struct shadow_image {
    unsigned refs;
    bool hashed;
    uint8_t memory_root[HASH];
    uint32_t pages;
    struct shadow_page **page; /* NULL: zero */
};
struct shadow_value {
    unsigned refs;
    size_t size;
    uint8_t bytes[];
};

/* ---- Memory ----------------------------------------------------------------------------------- */

static void *need(size_t count, size_t size)
{
    void *memory = calloc(count, size);

    if (memory == NULL) {
        (void)fputs("shadow: out of memory\n", stderr);
        exit(2);
    }
    return memory;
}

static void page_drop(struct shadow_page *page)
{
    if (page != NULL && --page->refs == 0)
        free(page);
}

static void image_drop(struct shadow_image *image)
{
    if (image == NULL || --image->refs > 0)
        return;
    for (uint32_t i = 0; i < image->pages; i++)
        page_drop(image->page[i]);
    free(image->page);
    free(image);
}

static void value_drop(struct shadow_value *value)
{
    if (value != NULL && --value->refs == 0)
        free(value);
}

static struct shadow_image *image_new(uint32_t pages)
{
    struct shadow_image *image = need(1, sizeof *image);

    image->refs = 1;
    image->pages = pages;
    image->page = need(pages, sizeof *image->page);
    return image;
}

/* The image in `state`, of `pages` pages and nobody else's: to be changed. */
static struct shadow_image *image_own(struct shadow_state *state, unsigned number, uint32_t pages)
{
    struct shadow_image *old = state->image[number];

    if (old->refs == 1 && old->pages == pages) {
        old->hashed = false;
        return old;
    }
    struct shadow_image *image = image_new(pages);
    for (uint32_t i = 0; i < old->pages; i++) {
        image->page[i] = old->page[i];
        if (image->page[i] != NULL)
            image->page[i]->refs++;
    }
    image_drop(old);
    state->image[number] = image;
    return image;
}

static struct shadow_page *page_own(struct shadow_image *image, uint32_t index)
{
    struct shadow_page *old = image->page[index];

    if (old != NULL && old->refs == 1) {
        old->hashed = false;
        return old;
    }
    struct shadow_page *page = need(1, sizeof *page);
    page->refs = 1;
    if (old != NULL)
        memcpy(page->bytes, old->bytes, SHADOW_PAGE);
    page_drop(old);
    image->page[index] = page;
    return page;
}

/* ---- Hashes ----------------------------------------------------------------------------------- */

enum kind { PAGE, NODE, MEMORY, MODULE, DESCRIPTOR, META, STATE, COMMIT, NAME, KINDS };

static void begin(blake3_hasher *hasher, enum kind kind)
{
    static const char *const contexts[KINDS] = { "varve 2026 page",       "varve 2026 node",
                                                 "varve 2026 memory",     "varve 2026 module",
                                                 "varve 2026 descriptor", "varve 2026 meta",
                                                 "varve 2026 state",      "varve 2026 commit",
                                                 "varve 2026 name" };
    static _Thread_local blake3_hasher ready[KINDS];
    static _Thread_local bool is_ready[KINDS];

    if (!is_ready[kind]) {
        blake3_hasher_init_derive_key(&ready[kind], contexts[kind]);
        is_ready[kind] = true;
    }
    *hasher = ready[kind];
}

static void put(blake3_hasher *hasher, const void *data, size_t size)
{
    blake3_hasher_update(hasher, data, size);
}

static void put_number(blake3_hasher *hasher, uint64_t number)
{
    uint8_t bytes[8];

    for (unsigned i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(number >> 8 * i);
    put(hasher, bytes, sizeof bytes);
}

static void end(const blake3_hasher *hasher, uint8_t hash[HASH])
{
    blake3_hasher_finalize(hasher, hash, HASH);
}

static bool is_zero(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

static void hash_node(const uint8_t left[HASH], const uint8_t right[HASH], uint8_t hash[HASH])
{
    blake3_hasher hasher;

    begin(&hasher, NODE);
    put(&hasher, left, HASH);
    put(&hasher, right, HASH);
    end(&hasher, hash);
}

static void hash_page(struct shadow_page *page, uint8_t hash[HASH])
{
    memset(hash, 0, HASH);
    if (page == NULL || is_zero(page->bytes, SHADOW_PAGE))
        return;
    if (!page->hashed) {
        blake3_hasher hasher;
        begin(&hasher, PAGE);
        put(&hasher, page->bytes, SHADOW_PAGE);
        end(&hasher, page->hash);
        page->hashed = true;
    }
    memcpy(hash, page->hash, HASH);
}

/* The full binary tree over 16^h leaves, level by level. */
static void hash_memory(struct shadow_image *image)
{
    size_t width = 16;
    blake3_hasher hasher;

    if (image->hashed)
        return;
    while (width < image->pages)
        width *= 16;
    uint8_t(*level)[HASH] = need(width, HASH);
    for (uint32_t i = 0; i < image->pages; i++)
        hash_page(image->page[i], level[i]);
    for (; width > 1; width /= 2) {
        for (size_t i = 0; i < width / 2; i++) {
            if (is_zero(level[2 * i], 2 * HASH)) {
                memset(level[i], 0, HASH);
                continue;
            }
            uint8_t node[HASH];
            hash_node(level[2 * i], level[2 * i + 1], node);
            memcpy(level[i], node, HASH);
        }
    }
    begin(&hasher, MEMORY);
    put_number(&hasher, (uint64_t)image->pages * SHADOW_PAGE);
    put(&hasher, level[0], HASH);
    end(&hasher, image->memory_root);
    image->hashed = true;
    free(level);
}

static void hash_leaf(unsigned number, struct shadow_image *image, uint8_t hash[HASH])
{
    const uint8_t zeros[2 * HASH] = { 0 };
    const char *name = shadow_image_name(number) == NULL ? "" : shadow_image_name(number);
    const uint8_t head[2] = { 0 /* an image */, (uint8_t)strlen(name) }, no_extra = 0;
    uint8_t id[HASH], descriptor[HASH];
    blake3_hasher hasher;

    begin(&hasher, DESCRIPTOR);
    put(&hasher, head, sizeof head);
    put(&hasher, name, strlen(name));
    put(&hasher, &no_extra, 1);
    end(&hasher, descriptor);
    shadow_image_id(number, id);
    hash_memory(image);
    begin(&hasher, MODULE);
    put(&hasher, id, HASH);
    put(&hasher, zeros, 2 * HASH); /* code, owner */
    put(&hasher, image->memory_root, HASH);
    put(&hasher, zeros, HASH); /* instance state */
    put(&hasher, descriptor, HASH);
    end(&hasher, hash);
}

static bool bit(const uint8_t id[HASH], unsigned index)
{
    return id[index / 8] >> (7 - index % 8) & 1;
}

struct leaf {
    uint8_t id[HASH], hash[HASH];
};

/* The top of the subtree over `count` leaves, sorted by id, that agree in their first `depth` bits. */
static void hash_trie(const struct leaf *leaves, size_t count, unsigned depth, uint8_t hash[HASH])
{
    uint8_t left[HASH], right[HASH];
    size_t split = 0;

    memset(hash, 0, HASH);
    if (count == 0)
        return;
    if (count == 1 || depth == ID_BITS) {
        memcpy(hash, leaves[0].hash, HASH);
        return;
    }
    while (split < count && !bit(leaves[split].id, depth))
        split++;
    hash_trie(leaves, split, depth + 1, left);
    hash_trie(leaves + split, count - split, depth + 1, right);
    hash_node(left, right, hash);
}

static void hash_meta(const struct shadow_state *state, uint8_t hash[HASH])
{
    bool any = false;
    blake3_hasher hasher;

    begin(&hasher, META);
    for (unsigned i = 0; i < SHADOW_METAS; i++) {
        const struct shadow_value *value = state->meta[i];
        if (value == NULL)
            continue;
        any = true;
        put_number(&hasher, strlen(shadow_meta_key(i)));
        put(&hasher, shadow_meta_key(i), strlen(shadow_meta_key(i)));
        put_number(&hasher, value->size);
        put(&hasher, value->bytes, value->size);
    }
    memset(hash, 0, HASH);
    if (any)
        end(&hasher, hash);
}

void shadow_root(const struct shadow_state *state, uint8_t root[32])
{
    struct leaf leaves[SHADOW_IMAGES];
    uint8_t top[HASH], meta[HASH];
    size_t count = 0;
    blake3_hasher hasher;

    for (unsigned rank = 0; rank < SHADOW_IMAGES; rank++) {
        const unsigned number = shadow_image_at(rank);
        if (state->image[number] == NULL)
            continue;
        shadow_image_id(number, leaves[count].id);
        hash_leaf(number, state->image[number], leaves[count].hash);
        count++;
    }
    hash_trie(leaves, count, 0, top);
    hash_meta(state, meta);
    begin(&hasher, STATE);
    put(&hasher, top, HASH);
    put(&hasher, meta, HASH);
    end(&hasher, root);
}

void shadow_memory_root(const struct shadow_state *state, unsigned image, uint8_t root[32])
{
    hash_memory(state->image[image]);
    memcpy(root, state->image[image]->memory_root, HASH);
}

void shadow_commit_id(const uint8_t *parent, const uint8_t root[32], int64_t time_ns, const char *message,
                      uint8_t id[32])
{
    const uint8_t none[HASH] = { 0 };
    blake3_hasher hasher;

    begin(&hasher, COMMIT);
    put(&hasher, parent == NULL ? none : parent, HASH);
    put(&hasher, root, HASH);
    put_number(&hasher, (uint64_t)time_ns);
    put(&hasher, message, strlen(message));
    end(&hasher, id);
}

/* ---- What there is ---------------------------------------------------------------------------- */

const char *shadow_image_name(unsigned image)
{
    static const char *const names[SHADOW_IMAGES] = { "ledger", "index", "heap", "blobs", "scratch" };

    return names[image];
}

void shadow_image_id(unsigned image, uint8_t id[32])
{
    const char *name = shadow_image_name(image);
    blake3_hasher hasher;

    if (name == NULL) {
        memset(id, 0x5a, HASH);
        id[HASH - 1] = (uint8_t)(image == SHADOW_IMAGES - 1   ? 0x5b
                                 : image == SHADOW_IMAGES - 2 ? 0x5a
                                                              : 0x1a);
        return;
    }
    begin(&hasher, NAME);
    put(&hasher, name, strlen(name));
    end(&hasher, id);
}

unsigned shadow_image_at(unsigned rank)
{
    static _Thread_local unsigned order[SHADOW_IMAGES];
    static _Thread_local bool sorted = false;

    for (unsigned i = 0; !sorted && i < SHADOW_IMAGES; i++) {
        uint8_t id[HASH], other[HASH];
        unsigned below = 0;
        shadow_image_id(i, id);
        for (unsigned j = 0; j < SHADOW_IMAGES; j++) {
            shadow_image_id(j, other);
            below += memcmp(other, id, HASH) < 0;
        }
        order[below] = i;
    }
    sorted = true;
    return order[rank];
}

const char *shadow_meta_key(unsigned meta)
{
    static _Thread_local char longest[256];
    static const char *const keys[SHADOW_METAS] = { "a", "ab", "block", "height", "\xc3\xa9t\xc3\xa9" };

    if (keys[meta] != NULL)
        return keys[meta];
    memset(longest, 0xf0, sizeof longest - 1);
    return longest;
}

/* ---- States ----------------------------------------------------------------------------------- */

void shadow_copy(struct shadow_state *to, const struct shadow_state *from)
{
    *to = *from;
    for (unsigned i = 0; i < SHADOW_IMAGES; i++)
        if (to->image[i] != NULL)
            to->image[i]->refs++;
    for (unsigned i = 0; i < SHADOW_METAS; i++)
        if (to->meta[i] != NULL)
            to->meta[i]->refs++;
}

void shadow_release(struct shadow_state *state)
{
    for (unsigned i = 0; i < SHADOW_IMAGES; i++)
        image_drop(state->image[i]);
    for (unsigned i = 0; i < SHADOW_METAS; i++)
        value_drop(state->meta[i]);
    *state = (struct shadow_state){ .image = { NULL } };
}

void shadow_create(struct shadow_state *state, unsigned image, uint32_t pages)
{
    image_drop(state->image[image]);
    state->image[image] = image_new(pages);
}

void shadow_remove(struct shadow_state *state, unsigned image)
{
    image_drop(state->image[image]);
    state->image[image] = NULL;
}

void shadow_grow(struct shadow_state *state, unsigned image, uint32_t pages)
{
    (void)image_own(state, image, pages);
}

uint32_t shadow_pages(const struct shadow_state *state, unsigned image)
{
    return state->image[image] == NULL ? 0 : state->image[image]->pages;
}

void shadow_write(struct shadow_state *state, unsigned number, uint64_t offset, const void *data, size_t size)
{
    struct shadow_image *image = image_own(state, number, state->image[number]->pages);
    const uint8_t *from = data;

    while (size > 0) {
        const size_t at = offset % SHADOW_PAGE;
        const size_t part = size < SHADOW_PAGE - at ? size : SHADOW_PAGE - at;
        memcpy(page_own(image, (uint32_t)(offset / SHADOW_PAGE))->bytes + at, from, part);
        offset += part;
        from += part;
        size -= part;
    }
}

const uint8_t *shadow_page(const struct shadow_state *state, unsigned image, uint32_t page)
{
    const struct shadow_page *there = state->image[image]->page[page];

    return there == NULL ? NULL : there->bytes;
}

void shadow_set_meta(struct shadow_state *state, unsigned meta, const void *value, size_t size)
{
    value_drop(state->meta[meta]);
    state->meta[meta] = NULL;
    if (size == 0)
        return;
    state->meta[meta] = need(1, sizeof **state->meta + size);
    state->meta[meta]->refs = 1;
    state->meta[meta]->size = size;
    memcpy(state->meta[meta]->bytes, value, size);
}

const void *shadow_meta(const struct shadow_state *state, unsigned meta, size_t *size)
{
    const struct shadow_value *value = state->meta[meta];

    *size = value == NULL ? 0 : value->size;
    return value == NULL ? NULL : value->bytes;
}
