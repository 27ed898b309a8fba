/* emscripten.h - what Emscripten's own JavaScript would answer, for modules that were built for it.
 *
 * Only names that mean the same in every build are answered; builds whose names were minified ("a.b") need their
 * embedder to define them. Answers are fixed: no files (errno), time of the session, UTC. emscripten_resize_heap
 * really grows the memory. invoke_* call through the table and catch what _emscripten_throw_longjmp throws, which is
 * how C's setjmp and longjmp arrive here. */
#ifndef VV_EMSCRIPTEN_H
#define VV_EMSCRIPTEN_H

#include "vm/wasi.h"

varve_status vv_emscripten_answer(const struct vv_plan_import *import, struct vv_answer *answer);

#endif
