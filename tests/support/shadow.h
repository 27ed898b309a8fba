/* shadow.h - states held in plain memory, and the roots and ids that they must have: what a store is compared with.
 *
 * Written from docs/format.md alone ("Hashes and roots"). It shares BLAKE3 with the library and no line besides,
 * and computes every tree in full, so that an incremental root that is wrong shows. Pages, images and values are
 * shared between states and never changed once they are: a copy of a state costs a few pointers. Threads
 * may use it at once, each on states of its own that share nothing. Out of memory ends the program. */
#ifndef VV_TEST_SHADOW_H
#define VV_TEST_SHADOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SHADOW_IMAGES = 8, SHADOW_METAS = 6, SHADOW_PAGE = 4096, SHADOW_VALUE_MAX = 4096 };

struct shadow_image;
struct shadow_value;
struct shadow_state { /* all NULL: the empty state */
    struct shadow_image *image[SHADOW_IMAGES];
    struct shadow_value *meta[SHADOW_METAS];
};

/* Some images have names, from which their ids come; some have ids alone, two of which differ in their last bit. */
const char *shadow_image_name(unsigned image); /* NULL: it has none */
void shadow_image_id(unsigned image, uint8_t id[32]);
unsigned shadow_image_at(unsigned rank); /* images in the order of their ids */
const char *shadow_meta_key(unsigned meta); /* ascending */

void shadow_copy(struct shadow_state *to, const struct shadow_state *from); /* `to` must be empty */
void shadow_release(struct shadow_state *state);                            /* leaves it empty */

void shadow_create(struct shadow_state *state, unsigned image, uint32_t pages);
void shadow_remove(struct shadow_state *state, unsigned image);
void shadow_grow(struct shadow_state *state, unsigned image, uint32_t pages);
uint32_t shadow_pages(const struct shadow_state *state, unsigned image); /* 0: it is not there */
void shadow_write(struct shadow_state *state, unsigned image, uint64_t offset, const void *data, size_t size);
/* NULL: it is zero. */
const uint8_t *shadow_page(const struct shadow_state *state, unsigned image, uint32_t page);
void shadow_set_meta(struct shadow_state *state, unsigned meta, const void *value, size_t size); /* 0: gone */
const void *shadow_meta(const struct shadow_state *state, unsigned meta, size_t *size);

void shadow_root(const struct shadow_state *state, uint8_t root[32]);
void shadow_memory_root(const struct shadow_state *state, unsigned image, uint8_t root[32]);
/* `parent` NULL: none. */
void shadow_commit_id(const uint8_t *parent, const uint8_t root[32], int64_t time_ns, const char *message,
                      uint8_t id[32]);

#endif
