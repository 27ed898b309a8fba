/* deploy.h - put a module into a session's state: checked, rewritten, compiled, given its memory, started once. */
#ifndef VV_DEPLOY_H
#define VV_DEPLOY_H

#include "vm/call.h"

/* As varve_session_deploy; `options` are never NULL, `id` may be. */
varve_status vv_deploy(struct vv_guests *guests, const void *code, size_t code_size,
                       const varve_deploy_options *options, varve_module_id *id, varve_receipt **receipt);

/* As varve_session_migrate without `move`: memory and globals stay as they are. */
varve_status vv_migrate(struct vv_guests *guests, const varve_module_id *id, const void *code,
                        size_t code_size, const varve_deploy_options *options, varve_receipt **receipt);

#endif
