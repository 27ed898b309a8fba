/* constant.h - constant expressions: their instructions, one by one, and their value. */
#ifndef VV_WASM_CONSTANT_H
#define VV_WASM_CONSTANT_H

#include "vm/wasm/wasm.h"

/* One instruction of a constant expression. */
struct vv_wasm_constant {
    uint32_t opcode;    /* 0xfd0c for v128.const; 0xfb00 | n for those of GC; VV_WASM_END */
    struct vv_span raw; /* as it is written */
    uint32_t index;     /* of global.get, ref.func */
    int64_t heap;       /* of ref.null: a type index, or negative */
    uint8_t bits[16];   /* of a number */
};
enum {
    VV_WASM_END = 0x0b,
    VV_WASM_GLOBAL_GET = 0x23,
    VV_WASM_I32_CONST = 0x41,
    VV_WASM_I64_CONST = 0x42,
    VV_WASM_F32_CONST = 0x43,
    VV_WASM_F64_CONST = 0x44,
    VV_WASM_REF_NULL = 0xd0,
    VV_WASM_REF_FUNC = 0xd2,
    VV_WASM_V128_CONST = 0xfd0c
};
/* Read the next instruction; `reader` reads the whole module. False: it is none that a constant expression
 * may hold, or the bytes end. */
bool vv_wasm_read_constant(struct vv_reader *reader, struct vv_wasm_constant *constant);

/* The value of the constant expression at `span`. `globals`: the values of the globals that it may get, by
 * index, `known` of them. VARVE_INVALID when it has no one value; VARVE_REFUSED for an object of GC. */
varve_status vv_wasm_evaluate(const struct vv_wasm *module, struct vv_span span,
                              const struct vv_wasm_value *globals, uint32_t known,
                              struct vv_wasm_value *value);

#endif
