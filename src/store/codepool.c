/* codepool.c - see codepool.h. */
#include "store/codepool.h"

#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/plant.h"
#include "page/root.h"

static varve_status open_pool(const struct vv_dir *store, bool make, struct vv_dir *pool)
{
    varve_status rc = VARVE_OK;
    struct vv_dir own = VV_DIR_NONE;

    TRY(vv_dir_open_at(store, ".varve", &own));
    rc = vv_dir_open_at(&own, "code", pool);
    if (rc == VARVE_NOT_FOUND && make) {
        TRY(vv_dir_create_at(&own, "code"));
        TRY(vv_dir_open_at(&own, "code", pool));
    }
    if (make && !VV_PLANT("sync-code-dir"))
        TRY(vv_dir_sync(&own)); /* whoever made it may have been killed before this (J6) */
out:
    vv_dir_close(&own);
    return rc;
}

static varve_status read_checked(const struct vv_dir *pool, const uint8_t hash[VV_HASH_SIZE], uint8_t **code,
                                 size_t *size)
{
    varve_status rc = VARVE_OK;
    uint8_t found[VV_HASH_SIZE];
    char name[65];

    vv_hex_format(hash, name);
    TRY(vv_dir_read(pool, name, VV_CODE_SIZE_MAX, code, size));
    vv_code_hash(*code, *size, found);
    if (!vv_hash_equal(found, hash)) {
        vv_free(*code);
        *code = NULL;
        rc = vv_fail(VARVE_CORRUPT, ".varve/code/%s: its bytes have another hash", name);
    }
out:
    return rc;
}

/* A planted bug (J6): the bytes are left to the page cache. */
static varve_status put_unsynced(const struct vv_dir *pool, const char *name, const void *code, size_t size)
{
    varve_status rc = VARVE_OK;
    struct vv_file file = VV_FILE_NONE;

    TRY(vv_file_open(pool, name, VV_OPEN_WRITE | VV_OPEN_CREATE, &file));
    TRY(vv_file_write(&file, code, size, 0));
    TRY(vv_dir_sync(pool));
out:
    vv_file_close(&file);
    return rc;
}

varve_status vv_codepool_put(const struct vv_dir *store, const uint8_t hash[VV_HASH_SIZE], const void *code,
                             size_t size)
{
    varve_status rc = VARVE_OK;
    struct vv_dir pool = VV_DIR_NONE;
    uint8_t *there = NULL;
    size_t there_size = 0;
    char name[65];

    VV_ASSERT(size > 0);
    if (size > VV_CODE_SIZE_MAX)
        return vv_fail(VARVE_LIMIT, "bytecode of %zu bytes: the limit is %d", size, (int)VV_CODE_SIZE_MAX);
    TRY(open_pool(store, true, &pool));
    rc = read_checked(&pool, hash, &there, &there_size);
    if (rc == VARVE_OK) {
        TRY(vv_dir_sync(&pool)); /* whoever put it may have died before this */
        goto out;
    }
    if (rc != VARVE_NOT_FOUND && rc != VARVE_CORRUPT)
        goto out;
    vv_hex_format(hash, name);
    TRY(VV_PLANT("sync-code") ? put_unsynced(&pool, name, code, size)
                              : vv_dir_publish(&pool, name, code, size));
out:
    vv_free(there);
    vv_dir_close(&pool);
    return rc;
}

varve_status vv_codepool_get(const struct vv_dir *store, const uint8_t hash[VV_HASH_SIZE], uint8_t **code,
                             size_t *size)
{
    varve_status rc = VARVE_OK;
    struct vv_dir pool = VV_DIR_NONE;
    char name[65];

    *code = NULL;
    *size = 0;
    rc = open_pool(store, false, &pool);
    if (rc == VARVE_OK)
        rc = read_checked(&pool, hash, code, size);
    if (rc == VARVE_NOT_FOUND) {
        vv_hex_format(hash, name);
        rc = vv_fail(VARVE_NOT_FOUND, "the store has no bytecode %s", name);
    }
    vv_dir_close(&pool);
    return rc;
}

struct pool_check {
    const struct vv_dir *pool;
    void (*each)(void *context, const char *name, varve_status status);
    void *context;
};

static int check_name(void *context, const char *name)
{
    const struct pool_check *check = context;
    uint8_t hash[VV_HASH_SIZE];
    uint8_t *code = NULL;
    size_t size = 0;
    char canonical[65];
    varve_status rc = vv_hex_parse(name, hash);

    if (rc == VARVE_OK) {
        vv_hex_format(hash, canonical);
        if (strcmp(canonical, name) != 0)
            rc = vv_fail(VARVE_INVALID, "no file of this store has such a name");
    } else {
        rc = vv_fail(VARVE_INVALID, "no file of this store has such a name");
    }
    if (rc == VARVE_OK)
        rc = read_checked(check->pool, hash, &code, &size);
    check->each(check->context, name, rc);
    vv_free(code);
    return 0;
}

varve_status vv_codepool_check(const struct vv_dir *store,
                               void (*each)(void *context, const char *name, varve_status status),
                               void *context)
{
    struct vv_dir pool = VV_DIR_NONE;
    struct pool_check check = { .pool = &pool, .each = each, .context = context };
    varve_status rc = open_pool(store, false, &pool);

    if (rc == VARVE_NOT_FOUND)
        return VARVE_OK; /* nothing was deployed yet */
    if (rc == VARVE_OK)
        rc = vv_dir_each(&pool, check_name, &check);
    vv_dir_close(&pool);
    return rc;
}

varve_status vv_codepool_remove(const struct vv_dir *store, const char *name)
{
    varve_status rc = VARVE_OK;
    struct vv_dir pool = VV_DIR_NONE;

    TRY(open_pool(store, false, &pool));
    TRY(vv_dir_unlink(&pool, name));
    TRY(vv_dir_sync(&pool));
out:
    vv_dir_close(&pool);
    return rc;
}

varve_status vv_codepool_settle(const struct vv_dir *store)
{
    varve_status rc = VARVE_OK;
    struct vv_dir pool = VV_DIR_NONE;

    rc = open_pool(store, false, &pool);
    if (rc == VARVE_NOT_FOUND)
        return VARVE_OK; /* nothing was deployed yet */
    if (rc == VARVE_OK)
        rc = vv_dir_sync(&pool);
    vv_dir_close(&pool);
    return rc;
}
