/* clone.h - a store once more, in any layout: all retained commits with their ids and roots, all refs. */
#ifndef VV_CLONE_H
#define VV_CLONE_H

#include "store/store.h"

/* As varve_store_clone, over any vfs for the new store. */
varve_status vv_store_clone(varve_store *source, const struct vv_vfs *vfs, const char *path,
                            const varve_clone_options *options);

#endif
