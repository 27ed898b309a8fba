/* shelf.c - see shelf.h. */
#include "shelf.h"

varve_status shelf_write(void *context, const void *bytes, size_t size, uint64_t *address)
{
    struct shelf *shelf = context;

    if (++shelf->writes == shelf->fail_at_write)
        return vv_fail(VARVE_FULL, "the shelf is full");
    *address = shelf->bytes.size + 1;
    vv_bytes_u64(&shelf->bytes, size);
    vv_bytes_put(&shelf->bytes, bytes, size);
    return vv_bytes_done(&shelf->bytes);
}

static varve_status shelf_read(void *context, uint64_t address, struct vv_bytes *bytes)
{
    struct shelf *shelf = context;

    shelf->reads++;
    if (address < 1 || address > shelf->bytes.size - 8)
        return vv_fail(VARVE_CORRUPT, "nothing is at %llu", (unsigned long long)address);
    const uint64_t size = vv_get_u64(shelf->bytes.data + address - 1);
    if (size > shelf->bytes.size - address - 7)
        return vv_fail(VARVE_CORRUPT, "no node is at %llu", (unsigned long long)address);
    vv_bytes_put(bytes, shelf->bytes.data + address + 7, size);
    return vv_bytes_done(bytes);
}

struct vv_node_source shelf_source(struct shelf *shelf)
{
    return (struct vv_node_source){ .read = shelf_read, .context = shelf };
}
