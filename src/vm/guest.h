/* guest.h - what a host function may do with the guest that called it. The varve_guest_* functions are here; these
 * are for the answers that varve gives itself.
 *
 * Every offset and size that comes from a guest is checked against its memory as it is now. */
#ifndef VV_GUEST_H
#define VV_GUEST_H

#include "vm/call.h"

/* errno values of WASI, which Emscripten uses too. */
enum vv_wasi_errno {
    VV_WASI_OK = 0,
    VV_WASI_BADF = 8,
    VV_WASI_FAULT = 21,
    VV_WASI_INVAL = 28,
    VV_WASI_NOENT = 44,
    VV_WASI_NOSPC = 51,
    VV_WASI_NOSYS = 52,
    VV_WASI_NOTTY = 59,
    VV_WASI_RANGE = 68,
    VV_WASI_SPIPE = 70,
    VV_WASI_NOTCAPABLE = 76
};

/* The guest behind an instance: the one that called. */
static inline varve_guest *vv_guest_of(const struct vv_instance *instance)
{
    return vv_instance_context(instance);
}

/* Its bytes at `offset`, lent until it runs or grows; NULL when they are not all inside. */
uint8_t *vv_guest_span(const varve_guest *guest, uint64_t offset, uint64_t size);
/* The text at `offset` up to its NUL, cut to `size` bytes with the NUL; false when it is not inside. */
bool vv_guest_text(const varve_guest *guest, uint64_t offset, char *text, size_t size);

/* Pass `fuel` of the call's gas for something done outside. OUT_OF_GAS. */
varve_status vv_guest_pay(varve_guest *guest, uint64_t gas);
/* TRAP, saying that a pointer is bad. */
varve_status vv_guest_bad_pointer(uint64_t offset, uint64_t size);

/* The function at `index` of the module's first table. TRAP when there is none, UNSUPPORTED when the module shows no
 * table. */
varve_status vv_guest_table(varve_guest *guest, uint32_t index, struct vv_function *function);

#endif
