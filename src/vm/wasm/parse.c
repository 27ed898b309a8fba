/* parse.c - what all readers of a module share: see parse.h. */
#include "vm/wasm/parse.h"

#include "base/alloc.h"
#include "vm/wasm/binary.h"

varve_status vv_parse_invalid_at(const struct vv_parse *p, size_t offset, const char *why)
{
    return vv_fail(VARVE_INVALID, "not a valid module: %s, offset %#zx: %s", p->what, offset, why);
}

varve_status vv_parse_invalid(const struct vv_parse *p, const char *why)
{
    return vv_parse_invalid_at(p, p->reader.offset, why);
}

varve_status vv_parse_cut_short(const struct vv_parse *p)
{
    return vv_parse_invalid(p, "it ends early, or holds a number that is too long");
}

varve_status vv_parse_whole(const struct vv_parse *p)
{
    return p->reader.bad ? vv_parse_cut_short(p) : VARVE_OK;
}

varve_status vv_parse_over_limit(uint64_t count, const char *what, uint64_t limit)
{
    return vv_fail(VARVE_REFUSED, "%ju %s: the limit is %ju", (uintmax_t)count, what, (uintmax_t)limit);
}

varve_status vv_parse_count(struct vv_parse *p, const char *what, uint64_t limit, uint32_t *count)
{
    *count = vv_wasm_read_u32(&p->reader);
    if (p->reader.bad || *count > vv_reader_left(&p->reader))
        return vv_parse_cut_short(p);
    return *count > limit ? vv_parse_over_limit(*count, what, limit) : VARVE_OK;
}

varve_status vv_parse_each(struct vv_parse *p, const char *what, uint64_t limit,
                           varve_status (*read_entry)(struct vv_parse *p))
{
    varve_status rc = VARVE_OK;
    uint32_t count = 0;

    TRY(vv_parse_count(p, what, limit, &count));
    for (; count > 0; count--)
        TRY(read_entry(p));
out:
    return rc;
}

varve_status vv_parse_room(uint32_t count, const char *what, uint64_t limit)
{
    return count >= limit ? vv_parse_over_limit((uint64_t)count + 1, what, limit) : VARVE_OK;
}

/* The array grows when its count is a power of two, so that no capacity need be kept. */
varve_status vv_parse_grow(void *array, uint32_t *count, size_t size)
{
    uint8_t *base = NULL;

    if ((*count & (*count - 1)) == 0) {
        const varve_status rc = vv_resize(array, *count == 0 ? 1 : (size_t)*count * 2, size);
        if (rc != VARVE_OK)
            return rc;
    }
    memcpy(&base, array, sizeof base);
    memset(base + (size_t)*count * size, 0, size);
    ++*count;
    return VARVE_OK;
}

varve_status vv_parse_text(struct vv_parse *p, struct vv_text *text)
{
    const uint32_t size = vv_wasm_read_u32(&p->reader);
    const uint8_t *data = vv_reader_take(&p->reader, size);

    if (data == NULL)
        return vv_parse_cut_short(p);
    if (!vv_wasm_is_utf8(data, size))
        return vv_parse_invalid(p, "a name is not UTF-8");
    *text = (struct vv_text){ .data = (const char *)data, .size = size };
    return VARVE_OK;
}
