/* pool.h - warm images: after a commit the mapped image stays, for the next session on the same (module, memory
 * root). Bounded by a budget of private bytes, and in number; the one given longest ago goes first. Thread safe. */
#ifndef VV_POOL_H
#define VV_POOL_H

#include "page/image.h"

/* A process has some 65 000 mappings, of which an image takes a few, and 128 TiB, of which it may reserve 4 GiB. */
enum { VV_POOL_IMAGES = 1024 };

struct vv_pool;
varve_status vv_pool_new(uint64_t budget, struct vv_pool **pool);
void vv_pool_free(struct vv_pool *pool); /* frees the images in it; NULL is fine */
/* Take the image of (module, root) if a warm one with this limit is here; else NULL. The caller owns it, and says
 * with vv_image_arm who answers for its base. */
struct vv_image *vv_pool_take(struct vv_pool *pool, const uint8_t module[32], const uint8_t root[32],
                              uint64_t limit);
/* The same for one at an address of the caller's choice, which the other never gives: that may be wanted there. */
struct vv_image *vv_pool_take_at(struct vv_pool *pool, const uint8_t module[32], const uint8_t root[32],
                                 uint64_t limit, const void *address);
/* Free what such images keep of these `size` bytes: something else is to be mapped there. */
void vv_pool_clear(struct vv_pool *pool, const void *address, uint64_t size);
/* Give an image that holds exactly this content, with no levels and nothing written since its base. It goes at once
 * when it alone is above the budget. */
void vv_pool_give(struct vv_pool *pool, const uint8_t module[32], const uint8_t root[32],
                  struct vv_image *image);
uint64_t vv_pool_bytes(const struct vv_pool *pool); /* private bytes of all images in it */
uint64_t vv_pool_count(const struct vv_pool *pool);

#endif
