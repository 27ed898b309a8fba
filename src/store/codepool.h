/* codepool.h - bytecode by hash: .varve/code/<64 hex digits>, the same for every layout.
 *
 * A file is named by what it must hold, so it is checked whenever it is read and never changes. It is durable,
 * name and bytes, before anything is written that names it (J6). */
#ifndef VV_CODEPOOL_H
#define VV_CODEPOOL_H

#include "base/vfs.h"
#include "page/hash.h"

/* No bytecode is larger: a bound on what a directory from elsewhere can make us read. */
enum { VV_CODE_SIZE_MAX = 256 << 20 };

/* `store` holds .varve already. On VARVE_OK the code is durable under its hash, which must be
 * vv_code_hash(code). What is there already, whole, is only synced again. */
varve_status vv_codepool_put(const struct vv_dir *store, const uint8_t hash[VV_HASH_SIZE], const void *code,
                             size_t size);
/* The caller frees `code`. NOT_FOUND; CORRUPT, naming the file, when its bytes have another hash. */
varve_status vv_codepool_get(const struct vv_dir *store, const uint8_t hash[VV_HASH_SIZE], uint8_t **code,
                             size_t *size);
/* Read every file; `each` gets its name and how reading it went (words: vv_words). */
varve_status vv_codepool_check(const struct vv_dir *store,
                               void (*each)(void *context, const char *name, varve_status status),
                               void *context);

/* Take a file out of the pool, durably; absent is fine. */
varve_status vv_codepool_remove(const struct vv_dir *store, const char *name);
/* On VARVE_OK what was taken out is so durably, also by one who was killed in the middle. */
varve_status vv_codepool_settle(const struct vv_dir *store);

#endif
