/* history.h - walking from a commit to its ancestors, or along the moves of a ref. */
#ifndef VV_HISTORY_H
#define VV_HISTORY_H

#include "store/revision.h"

/* As varve_log_open, varve_log_next. */
varve_status vv_history_open(varve_store *store, const varve_log_options *options, varve_log **log);
varve_status vv_history_next(varve_log *log, const varve_commit_info **info);
void vv_history_close(varve_log *log);

#endif
