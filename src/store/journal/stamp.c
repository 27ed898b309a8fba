/* stamp.c - see stamp.h. */
#include "store/journal/stamp.h"

#include "base/bytes.h"
#include "page/pagetree.h"
#include "store/record.h"

enum { STAMP_VERSION = 1, SUM_AT = VV_STAMP_USED - VV_SUM };
static const uint8_t magic[4] = { 'v', 'I', 'm', 'g' };

static uint8_t *put_tree(uint8_t *at, const struct vv_stamp_tree *tree)
{
    vv_put_u64(at, tree->page_count);
    vv_put_u64(at + 8, tree->address);
    memcpy(at + 16, tree->top, VV_HASH_SIZE);
    return at + 16 + VV_HASH_SIZE;
}

void vv_stamp_encode(const struct vv_stamp *stamp, uint8_t page[VV_STAMP_PAGE])
{
    memset(page, 0, VV_STAMP_PAGE);
    memcpy(page, magic, sizeof magic);
    vv_put_u16(page + 4, STAMP_VERSION);
    page[6] = (uint8_t)stamp->state;
    vv_put_u64(page + 8, stamp->generation);
    memcpy(page + 16, stamp->module.bytes, 32);
    const uint8_t *end = put_tree(put_tree(page + 48, &stamp->to), &stamp->from);
    VV_ASSERT(end == page + SUM_AT);
    vv_record_sum(page, SUM_AT, page + SUM_AT);
}

/* A tree that has no top has no hash, and the other way round. */
static bool get_tree(struct vv_reader *reader, struct vv_stamp_tree *tree)
{
    tree->page_count = vv_reader_u64(reader);
    tree->address = vv_reader_u64(reader);
    vv_reader_copy(reader, tree->top, VV_HASH_SIZE);
    return tree->page_count <= VV_PAGETREE_PAGES_MAX && (tree->address == 0) == vv_hash_is_zero(tree->top);
}

varve_status vv_stamp_decode(const uint8_t *bytes, size_t size, struct vv_stamp *stamp)
{
    struct vv_reader reader = vv_reader_of(bytes, size);
    uint8_t sum[VV_SUM];

    *stamp = (struct vv_stamp){ .generation = 0 };
    if (size < VV_STAMP_PAGE || memcmp(bytes, magic, sizeof magic) != 0)
        return vv_fail(VARVE_CORRUPT, "it does not begin with a stamp");
    if (vv_get_u16(bytes + 4) > STAMP_VERSION)
        return vv_fail(VARVE_NEWER, "its stamp has version %u", vv_get_u16(bytes + 4));
    vv_record_sum(bytes, SUM_AT, sum);
    if (memcmp(sum, bytes + SUM_AT, VV_SUM) != 0)
        return vv_fail(VARVE_CORRUPT, "its stamp fails its checksum");
    (void)vv_reader_take(&reader, 6);
    const uint8_t state = vv_reader_u8(&reader);
    const uint8_t unused = vv_reader_u8(&reader);
    stamp->generation = vv_reader_u64(&reader);
    vv_reader_copy(&reader, stamp->module.bytes, 32);
    const bool trees = get_tree(&reader, &stamp->to) && get_tree(&reader, &stamp->from);
    const bool none = stamp->from.page_count == 0 && stamp->from.address == 0;
    if (vv_get_u16(bytes + 4) != STAMP_VERSION || unused != 0 || !trees ||
        (state != VV_STAMP_WHOLE && state != VV_STAMP_REWRITING) || (state == VV_STAMP_WHOLE && !none))
        return vv_fail(VARVE_CORRUPT, "its stamp does not decode");
    stamp->state = (enum vv_stamp_state)state;
    return VARVE_OK;
}
