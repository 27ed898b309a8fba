/* model.h - small states that a test can compare byte by byte, and how to commit them through a layout.
 *
 * A state is a few modules of a few pages; a page is one number, which stands for 4096 bytes: numbers that differ
 * in their low byte alone stand for pages that differ in a few bytes. */
#ifndef VV_TEST_MODEL_H
#define VV_TEST_MODEL_H

#include "store/layout.h"

enum { MODEL_MODULES = 3, MODEL_PAGES = 40 };

struct model_state {
    bool present[MODEL_MODULES];
    uint32_t size[MODEL_MODULES];              /* pages */
    uint32_t page[MODEL_MODULES][MODEL_PAGES]; /* 0: zeros */
    uint32_t instance[MODEL_MODULES];
    uint32_t meta; /* 0: absent */
};

/* A generator of numbers: the same for the same seed. */
struct model_chance {
    uint64_t state;
};
uint32_t model_chance(struct model_chance *chance, uint32_t below);

void model_page(uint32_t number, uint8_t page[VV_PAGE_SIZE]);
void model_module_id(unsigned module, varve_module_id *id);
/* Change a state at random, a little. */
void model_mutate(struct model_state *state, struct model_chance *chance);

/* Commit `after` on top of `base` (whose facts are `parent`, NULL: none); `move` may be NULL. On VARVE_OK `facts`
 * are the commit's and are the caller's. */
varve_status model_commit(const struct vv_layout *layout, struct vv_place *place,
                          const struct model_state *base, const struct vv_commit_facts *parent,
                          const struct model_state *after, const char *message,
                          const struct vv_ref_move *move, varve_durability durability,
                          struct vv_commit_facts *facts);
/* Open the commit `id` and compare it with `expected`, every page read on its own, all together, and as a file to map
 * with pages on top; and its id with what it says. VARVE_CONFLICT, with words, when it differs. */
varve_status model_compare(const struct vv_layout *layout, struct vv_place *place, const varve_commit_id *id,
                           const struct model_state *expected);

#endif
