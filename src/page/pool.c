/* pool.c - warm images, found by (module, root), forgotten by age.
 *
 *   buckets          chains of images whose keys begin alike; keys are hashes, so their first bytes spread well
 *   oldest, newest   a list of all images in the order they were given; the budget takes from its old end
 * Laws:
 *   (W1) An image is in exactly one chain and in the list, or in neither; the pool owns it meanwhile.
 *   (W2) After a give, `bytes` (the sum of what the images said when given) is within the budget, and no more than
 *        VV_POOL_IMAGES are here: one that has no private bytes takes address space and mappings still.
 * Images are freed outside the lock: unmapping gigabytes takes its time. */
#include "page/pool.h"

#include <pthread.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"

enum { BUCKET_COUNT = 1024, ID_SIZE = 32 };

struct warm {
    struct warm *older, *newer;
    struct warm *next; /* in the bucket; or in a list of those that go */
    struct vv_image *image;
    uint64_t bytes; /* private bytes when it was given: nobody writes to it here */
    uint8_t module[ID_SIZE], root[ID_SIZE];
};

struct vv_pool {
    pthread_mutex_t *lock; /* apart, so that reading a sum needs no cast of const away */
    uint64_t budget, bytes, count;
    struct warm *oldest, *newest;
    struct warm *buckets[BUCKET_COUNT];
};

static size_t bucket_of(const uint8_t *module, const uint8_t *root)
{
    return (vv_get_u64(module) ^ vv_get_u64(root)) % BUCKET_COUNT;
}

static void pool_check(const struct vv_pool *pool)
{
    VV_ASSERT((pool->oldest == NULL) == (pool->count == 0));
    VV_ASSERT((pool->newest == NULL) == (pool->count == 0));
    VV_ASSERT(pool->count > 0 || pool->bytes == 0);
}

static void insert(struct vv_pool *pool, struct warm *warm)
{
    struct warm **bucket = &pool->buckets[bucket_of(warm->module, warm->root)];

    warm->next = *bucket;
    *bucket = warm;
    warm->older = pool->newest;
    warm->newer = NULL;
    if (pool->newest != NULL)
        pool->newest->newer = warm;
    else
        pool->oldest = warm;
    pool->newest = warm;
    pool->bytes += warm->bytes;
    pool->count++;
}

static void take_out(struct vv_pool *pool, struct warm *warm)
{
    struct warm **link = &pool->buckets[bucket_of(warm->module, warm->root)];

    while (*link != warm)
        link = &(*link)->next;
    *link = warm->next;
    *(warm->older != NULL ? &warm->older->newer : &pool->oldest) = warm->newer;
    *(warm->newer != NULL ? &warm->newer->older : &pool->newest) = warm->older;
    pool->bytes -= warm->bytes;
    pool->count--;
}

varve_status vv_pool_new(uint64_t budget, struct vv_pool **out_pool)
{
    varve_status rc = VARVE_OK;
    struct vv_pool *pool = NULL;
    pthread_mutex_t *lock = NULL;

    *out_pool = NULL;
    TRY(vv_alloc(&pool, 1, sizeof *pool));
    TRY(vv_alloc(&lock, 1, sizeof *lock));
    if (pthread_mutex_init(lock, NULL) != 0) {
        rc = vv_fail(VARVE_MEMORY, "make the image pool's lock");
        goto out;
    }
    pool->lock = lock;
    pool->budget = budget;
    *out_pool = pool;
out:
    if (rc != VARVE_OK) {
        vv_free(lock);
        vv_free(pool);
    }
    return rc;
}

/* A list linked by `next`. */
static void free_all(struct warm *list)
{
    while (list != NULL) {
        struct warm *next = list->next;
        vv_image_free(list->image);
        vv_free(list);
        list = next;
    }
}

void vv_pool_free(struct vv_pool *pool)
{
    if (pool == NULL)
        return;
    for (size_t i = 0; i < BUCKET_COUNT; i++)
        free_all(pool->buckets[i]);
    (void)pthread_mutex_destroy(pool->lock);
    vv_free(pool->lock);
    vv_free(pool);
}

static bool fits(const struct warm *warm, const uint8_t *module, const uint8_t *root, uint64_t limit,
                 const void *address)
{
    if (memcmp(warm->module, module, ID_SIZE) != 0 || memcmp(warm->root, root, ID_SIZE) != 0 ||
        vv_image_limit(warm->image) != limit)
        return false;
    return vv_image_placed(warm->image) ? vv_image_bytes(warm->image) == address : address == NULL;
}

struct vv_image *vv_pool_take_at(struct vv_pool *pool, const uint8_t module[32], const uint8_t root[32],
                                 uint64_t limit, const void *address)
{
    struct vv_image *image = NULL;

    (void)pthread_mutex_lock(pool->lock);
    pool_check(pool);
    struct warm *warm = pool->buckets[bucket_of(module, root)];
    while (warm != NULL && !fits(warm, module, root, limit, address))
        warm = warm->next;
    if (warm != NULL)
        take_out(pool, warm);
    (void)pthread_mutex_unlock(pool->lock);
    if (warm != NULL)
        image = warm->image;
    vv_free(warm);
    return image;
}

struct vv_image *vv_pool_take(struct vv_pool *pool, const uint8_t module[32], const uint8_t root[32],
                              uint64_t limit)
{
    return vv_pool_take_at(pool, module, root, limit, NULL);
}

void vv_pool_clear(struct vv_pool *pool, const void *address, uint64_t size)
{
    const uintptr_t from = (uintptr_t)address;
    struct warm *gone = NULL;

    (void)pthread_mutex_lock(pool->lock);
    for (struct warm *warm = pool->oldest, *newer = NULL; warm != NULL; warm = newer) {
        const uintptr_t begin = (uintptr_t)vv_image_bytes(warm->image);
        newer = warm->newer;
        if (!vv_image_placed(warm->image) || begin >= from + size ||
            from >= begin + vv_image_span(warm->image))
            continue;
        take_out(pool, warm);
        warm->next = gone;
        gone = warm;
    }
    pool_check(pool);
    (void)pthread_mutex_unlock(pool->lock);
    free_all(gone);
}

void vv_pool_give(struct vv_pool *pool, const uint8_t module[32], const uint8_t root[32],
                  struct vv_image *image)
{
    struct warm *warm = NULL, *gone = NULL;

    if (vv_alloc(&warm, 1, sizeof *warm) != VARVE_OK) {
        vv_image_free(image); /* a cache that finds no room is no failure */
        return;
    }
    warm->image = image;
    warm->bytes = vv_image_private_bytes(image);
    memcpy(warm->module, module, ID_SIZE);
    memcpy(warm->root, root, ID_SIZE);
    (void)pthread_mutex_lock(pool->lock);
    insert(pool, warm);
    while (pool->bytes > pool->budget || pool->count > VV_POOL_IMAGES) {
        struct warm *oldest = pool->oldest;
        take_out(pool, oldest);
        oldest->next = gone;
        gone = oldest;
    }
    pool_check(pool);
    (void)pthread_mutex_unlock(pool->lock);
    free_all(gone);
}

uint64_t vv_pool_bytes(const struct vv_pool *pool)
{
    (void)pthread_mutex_lock(pool->lock);
    const uint64_t bytes = pool->bytes;
    (void)pthread_mutex_unlock(pool->lock);
    return bytes;
}

uint64_t vv_pool_count(const struct vv_pool *pool)
{
    (void)pthread_mutex_lock(pool->lock);
    const uint64_t count = pool->count;
    (void)pthread_mutex_unlock(pool->lock);
    return count;
}
