/* product.h - the modules of one script in a store of varve, through the public API: a world whose teardown is a commit,
 * a close and a reopen. */
#ifndef SPEC_PRODUCT_H
#define SPEC_PRODUCT_H

#include "world.h"

struct product;
/* Both end the program with words when something fails that must not. */
struct product *product_new(void);
void product_free(struct product *product);

/* Deploy under the name `name`. MADE_INVALID and MADE_REFUSED are one here: REFUSED. `words`: WORLD_WORDS bytes. */
enum made product_make(struct product *product, const char *name, const uint8_t *bytes, size_t size,
                       char *words);
/* Would it be deployed? The state stays as it is. */
enum made product_check(struct product *product, const uint8_t *bytes, size_t size, char *words);
/* MADE_REFUSED: the API cannot make this call. */
enum made product_call(struct product *product, const char *name, const char *function, size_t function_size,
                       const wasmtime_val_t *args, size_t arg_count, struct results *results, char *words);
void product_remove(struct product *product, const char *name);
void product_reopen(struct product *product);

#endif
