/* page.h - the unit of change: 4096 bytes whatever the host's page is; and conversions, so that nobody shifts. */
#ifndef VV_PAGE_H
#define VV_PAGE_H

#include <stddef.h>
#include <stdint.h>

#define VV_PAGE_SIZE 4096u
#define VV_WASM_PAGE_SIZE 65536u

static inline uint64_t vv_page_of(uint64_t offset)
{
    return offset / VV_PAGE_SIZE;
}

/* How many pages hold `size` bytes. */
static inline uint64_t vv_pages_for(uint64_t size)
{
    return size / VV_PAGE_SIZE + (size % VV_PAGE_SIZE != 0);
}

#endif
