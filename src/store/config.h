/* config.h - the store's own settings: .varve/config, a line each, "KEY VALUE". */
#ifndef VV_CONFIG_H
#define VV_CONFIG_H

#include "base/vfs.h"

/* 0, or DEFAULT: not set. */
struct vv_config {
    varve_durability durability;
    uint64_t retain; /* VARVE_RETAIN_ALL, or the newest so many of each branch */
    uint64_t snapshot_bytes;
};

/* What is stored; no file: nothing is set. CORRUPT names the key that is not known or the value that is none. */
varve_status vv_config_read(const struct vv_dir *own, struct vv_config *config);
/* A crash leaves the old settings or the new ones. */
varve_status vv_config_write(const struct vv_dir *own, const struct vv_config *config);
/* Take from `newer` what it sets. */
void vv_config_merge(struct vv_config *config, const struct vv_config *newer);

#endif
