/* opened.c - see opened.h. */
#include "opened.h"

const struct vv_journal_limits opened_small = {
    .log = { .segment = 32 << 10, .ahead = 8 << 10, .files = 2 },
    .spare = 8 << 10,
    .checkpoint_records = 3,
    .checkpoint_bytes = 64 << 10,
    .views = 2,
    .frames = 2,
};

varve_status opened_create(const struct vv_vfs *vfs, const char *path, const struct vv_journal_limits *limits)
{
    const struct vv_layout_options options = { .vfs = vfs, .durability = VARVE_DURABLE };
    struct vv_dir dir = VV_DIR_NONE;
    varve_status rc = VARVE_OK;

    TRY(vv_dir_create(vfs, path, NULL));
    TRY(vv_dir_open(vfs, path, &dir));
    TRY(vv_dir_create_at(&dir, ".varve"));
    TRY(vv_journal_create(&dir, &options, limits));
out:
    vv_dir_close(&dir);
    return rc;
}

varve_status opened_begin(struct opened *opened, const struct vv_vfs *vfs, const char *path, bool read_only,
                          const struct vv_journal_limits *limits)
{
    const struct vv_layout_options options = { .vfs = vfs,
                                               .read_only = read_only,
                                               .durability = VARVE_DURABLE };
    varve_status rc = VARVE_OK;

    *opened = OPENED_NONE;
    TRY(vv_dir_open(vfs, path, &opened->dir));
    TRY(vv_journal_open(&opened->dir, &options, limits, &opened->place));
out:
    return rc;
}

void opened_end(struct opened *opened)
{
    vv_journal_close(opened->place);
    vv_dir_close(&opened->dir);
    opened->place = NULL;
}
