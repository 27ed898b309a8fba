/* segment.c - see segment.h. */
#include "store/journal/segment.h"

#include <stdio.h>

#include "base/plant.h"
#include "store/record.h"

void vv_segment_name(uint64_t start, char name[VV_SEGMENT_NAME])
{
    snprintf(name, VV_SEGMENT_NAME, "log.%016llx", (unsigned long long)start);
}

bool vv_segment_parse(const char *name, uint64_t *start)
{
    uint64_t value = 0;

    if (strncmp(name, "log.", 4) != 0 || strlen(name) != 20)
        return false;
    for (const char *p = name + 4; *p != '\0'; p++) {
        const char *digits = "0123456789abcdef";
        const char *found = strchr(digits, *p);
        if (found == NULL)
            return false;
        value = value << 4 | (uint64_t)(found - digits);
    }
    *start = value;
    return true;
}

varve_status vv_segment_measure(struct vv_segment *segment)
{
    const varve_status rc = vv_file_size(&segment->file, &segment->written);
    const uint64_t beyond = segment->written % VV_RECORD_ALIGN;

    /* Up, not down: a power loss may cut the padding off a record that is whole, and zeros must not begin in it. */
    segment->written += beyond == 0 ? 0 : VV_RECORD_ALIGN - beyond;
    segment->measured = rc == VARVE_OK;
    return rc;
}

varve_status vv_segment_open(struct vv_segment *segment, const struct vv_dir *dir, bool write)
{
    varve_status rc = VARVE_OK;
    char name[VV_SEGMENT_NAME];

    if (segment->file.fd >= 0)
        return VARVE_OK;
    vv_segment_name(segment->start, name);
    TRY(vv_file_open(dir, name, write ? VV_OPEN_WRITE : VV_OPEN_READ, &segment->file));
    if (!segment->measured)
        TRY(vv_segment_measure(segment));
out:
    if (rc != VARVE_OK)
        vv_file_close(&segment->file);
    return rc;
}

varve_status vv_segment_create(struct vv_segment *segment, const struct vv_dir *dir)
{
    varve_status rc = VARVE_OK;
    char name[VV_SEGMENT_NAME];

    vv_segment_name(segment->start, name);
    if (segment->file.fd < 0)
        TRY(vv_file_open(dir, name, VV_OPEN_WRITE | VV_OPEN_CREATE, &segment->file));
    TRY(vv_segment_measure(segment));
    TRY(vv_file_sync_new(&segment->file));
    if (!VV_PLANT("sync-dir-segment"))
        TRY(vv_dir_sync(dir));
    segment->settled = true;
out:
    return rc;
}

static varve_status write_zeros(struct vv_segment *segment, uint64_t from, uint64_t to)
{
    static const uint8_t zeros[65536];
    varve_status rc = VARVE_OK;

    for (uint64_t at = from; at < to;) {
        const uint64_t size = to - at < sizeof zeros ? to - at : sizeof zeros;
        TRY(vv_file_write(&segment->file, zeros, (size_t)size, at));
        at += size;
    }
    TRY(vv_file_sync_new(&segment->file));
    segment->written = to > segment->written ? to : segment->written;
out:
    return rc;
}

varve_status vv_segment_extend(struct vv_segment *segment, uint64_t offset, uint64_t size, uint64_t ahead)
{
    varve_status rc = VARVE_OK;
    const uint64_t end = offset + size;
    const uint64_t room = segment->capacity - end;
    const uint64_t most = end + (ahead < room ? ahead : room);
    const uint64_t from = segment->written;

    VV_ASSERT(end <= segment->capacity);
    if (end <= from)
        return VARVE_OK;
    TRY(vv_segment_sound(segment));
    rc = write_zeros(segment, from, most);
    if (rc == VARVE_FULL && most > end)
        rc = write_zeros(segment, from, end); /* a disk that is nearly full still takes this one */
    if (rc == VARVE_OK && (from <= offset || segment->solid >= from))
        segment->solid = segment->written;
out:
    return rc;
}

varve_status vv_segment_sound(struct vv_segment *segment)
{
    uint64_t allocated = 0;

    if (segment->sounded)
        return VARVE_OK;
    const varve_status rc = vv_file_allocated(&segment->file, &allocated);
    segment->solid = rc == VARVE_OK && allocated >= segment->written ? segment->written : 0;
    segment->sounded = rc == VARVE_OK;
    return rc;
}

varve_status vv_segment_fill(struct vv_segment *segment, uint64_t size)
{
    varve_status rc = VARVE_OK;

    TRY(vv_segment_sound(segment));
    if (segment->solid >= size)
        goto out;
    TRY(write_zeros(segment, segment->solid, size));
    segment->solid = size;
out:
    return rc;
}

void vv_segment_close(struct vv_segment *segment)
{
    vv_file_close(&segment->file);
}
