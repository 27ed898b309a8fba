/* copyfiles.h - the files of a store once more, as they are. */
#ifndef VV_COPYFILES_H
#define VV_COPYFILES_H

#include "base/vfs.h"

/* All files of a store that nobody writes to meanwhile, into an empty directory, durably: FROZEN files by a
 * second name where the file system lets them have one, others by a copy that shares their bytes where it can.
 * Left out are what belongs to an opening (.varve/lock), and .varve/format, without which the copy is no store
 * yet. */
varve_status vv_copy_files(const struct vv_dir *from, const struct vv_dir *to);

#endif
