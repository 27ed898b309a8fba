/* head.c - see head.h. Format: docs/format.md, "head". */
#include "store/journal/head.h"

#include "base/bytes.h"
#include "store/record.h"

enum { HEAD_VERSION = 1, HEAD_SUM_AT = VV_HEAD_USED - VV_SUM };
static const uint8_t magic[4] = { 'v', 'H', 'e', 'd' };

void vv_head_encode(const struct vv_head *head, uint8_t out[VV_HEAD_USED])
{
    memset(out, 0, VV_HEAD_USED);
    memcpy(out, magic, sizeof magic);
    vv_put_u16(out + 4, HEAD_VERSION);
    vv_put_u64(out + 8, head->number);
    vv_put_u64(out + 16, head->checkpoint);
    vv_put_u64(out + 24, head->acknowledged);
    vv_put_u64(out + 32, head->visible);
    vv_put_u64(out + 40, head->generation);
    vv_record_sum(out, HEAD_SUM_AT, out + HEAD_SUM_AT);
}

bool vv_head_decode(const uint8_t *bytes, size_t size, struct vv_head *head)
{
    uint8_t sum[VV_SUM];

    *head = (struct vv_head){ .number = 0 };
    if (size < VV_HEAD_USED || memcmp(bytes, magic, sizeof magic) != 0 ||
        vv_get_u16(bytes + 4) != HEAD_VERSION)
        return false;
    vv_record_sum(bytes, HEAD_SUM_AT, sum);
    if (memcmp(sum, bytes + HEAD_SUM_AT, VV_SUM) != 0)
        return false;
    head->number = vv_get_u64(bytes + 8);
    head->checkpoint = vv_get_u64(bytes + 16);
    head->acknowledged = vv_get_u64(bytes + 24);
    head->visible = vv_get_u64(bytes + 32);
    head->generation = vv_get_u64(bytes + 40);
    if (head->generation > VV_GENERATION_MAX)
        head->number = 0;
    return head->number != 0;
}

varve_status vv_head_read(const struct vv_dir *dir, struct vv_file *file, unsigned flags,
                          struct vv_head heads[2])
{
    varve_status rc = VARVE_OK;
    uint8_t bytes[VV_HEAD_SLOT + VV_HEAD_USED]; /* both slots, in one read */
    size_t got = 0;

    heads[0] = heads[1] = (struct vv_head){ .number = 0 };
    if (file->fd < 0) {
        rc = vv_file_open(dir, "head", flags, file);
        if (rc == VARVE_NOT_FOUND)
            return VARVE_OK;
        TRY(rc);
    }
    TRY(vv_file_read_some(file, bytes, sizeof bytes, 0, &got));
    (void)vv_head_decode(bytes, got, &heads[0]);
    if (got > VV_HEAD_SLOT)
        (void)vv_head_decode(bytes + VV_HEAD_SLOT, got - VV_HEAD_SLOT, &heads[1]);
    if (heads[1].number > heads[0].number) {
        const struct vv_head newer = heads[1];
        heads[1] = heads[0];
        heads[0] = newer;
    }
out:
    return rc;
}

varve_status vv_head_reserve(const struct vv_dir *dir, struct vv_file *file)
{
    varve_status rc = VARVE_OK;
    static const uint8_t zeros[VV_HEAD_SLOT];
    uint8_t bytes[VV_HEAD_USED];
    struct vv_head head;
    size_t got = 0;

    if (file->fd < 0)
        TRY(vv_file_open(dir, "head", VV_OPEN_WRITE | VV_OPEN_CREATE, file));
    for (unsigned slot = 0; slot < 2; slot++) {
        TRY(vv_file_read_some(file, bytes, sizeof bytes, (uint64_t)slot * VV_HEAD_SLOT, &got));
        if (!vv_head_decode(bytes, got, &head)) /* it was never written, or says nothing */
            TRY(vv_file_write(file, zeros, sizeof zeros, (uint64_t)slot * VV_HEAD_SLOT));
    }
out:
    return rc;
}

varve_status vv_head_write(const struct vv_dir *dir, struct vv_file *file, struct vv_head *head)
{
    varve_status rc = VARVE_OK;
    uint8_t slot[VV_HEAD_SLOT] = { 0 };

    if (file->fd < 0)
        TRY(vv_file_open(dir, "head", VV_OPEN_WRITE | VV_OPEN_CREATE, file));
    head->number++;
    vv_head_encode(head, slot);
    TRY(vv_file_write(file, slot, sizeof slot, head->number % 2 * VV_HEAD_SLOT));
out:
    return rc;
}
