/* product.h - varve as its users see it: a store, a session, an image, a commit. Whatever fails ends the row. */
#ifndef BENCH_PRODUCT_H
#define BENCH_PRODUCT_H

#include <varve.h>

#include "bench.h"

struct product {
    char path[600];
    varve_store *store;
    varve_session *session; /* or NULL */
    varve_vm *vm;           /* or NULL: images only */
    varve_layout layout;    /* of a store that is created */
};

/* End the row unless `status` is VARVE_OK; `error` says why. */
void must(varve_status status, const varve_error *error, const char *what);

/* A new store `name` in the row's scratch directory; open_again opens the one that is there. */
void product_create(struct product *p, const struct bench *b, const char *name);
void product_open(struct product *p);
void product_close(struct product *p); /* session, then store; not the VM */
/* A session on `base`, NULL: the branch main. */
void product_begin(struct product *p, const varve_commit *base);
/* Commit and go on from there; what the commit tells of itself, or NULL. */
void product_commit(struct product *p, varve_durability durability, varve_commit_info *info);

varve_module_id product_id(const char *name);
/* The memory of an image, made with `size` when it is absent. */
uint8_t *product_image(struct product *p, const char *name, uint64_t size);
/* Every word random: nothing that compresses, no page of zeros. */
void product_fill(uint8_t *bytes, size_t size);

#endif
