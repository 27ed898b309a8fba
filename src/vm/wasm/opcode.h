/* opcode.h - the instructions of WebAssembly 3.0, of threads and of legacy exceptions: what follows each, and of which
 * feature it is a part. What is not here is unknown. */
#ifndef VV_WASM_OPCODE_H
#define VV_WASM_OPCODE_H

#include "vm/wasm/wasm.h"

/* What follows an opcode. */
enum vv_opcode_takes {
    VV_TAKES_NOTHING,
    VV_TAKES_INDEX,
    VV_TAKES_TWO_INDICES,
    VV_TAKES_MEMORY_ARGUMENT,
    VV_TAKES_MEMORY_ARGUMENT_LANE,
    VV_TAKES_MEMORY_INDEX,
    VV_TAKES_I32,
    VV_TAKES_I64,
    VV_TAKES_FOUR_BYTES,
    VV_TAKES_EIGHT_BYTES,
    VV_TAKES_SIXTEEN_BYTES,
    VV_TAKES_LANE,
    VV_TAKES_BLOCK_TYPE,   /* opens a block */
    VV_TAKES_BLOCK_END,    /* nothing, and closes one */
    VV_TAKES_DELEGATE,     /* an index, and closes one */
    VV_TAKES_BRANCH_TABLE, /* br_table */
    VV_TAKES_SELECT_TYPES, /* select with types */
    VV_TAKES_CATCHES,      /* try_table; opens a block */
    VV_TAKES_HEAP_TYPE,
    VV_TAKES_CAST_BRANCH, /* br_on_cast */
    VV_TAKES_OPCODE       /* a prefix: another opcode follows, which says the rest */
};

enum { VV_PREFIX_GC = 0xfb, VV_PREFIX_BULK = 0xfc, VV_PREFIX_SIMD = 0xfd, VV_PREFIX_ATOMIC = 0xfe };

/* The opcodes `first` to `last`, behind the same prefix or none. */
struct vv_opcodes {
    uint16_t first, last;
    uint8_t takes;    /* enum vv_opcode_takes */
    uint8_t feature;  /* enum vv_wasm_feature + 1; 0: none */
    const char *name; /* given where a message may need it */
};

/* Fill in those of each opcode of one byte, prefixes too; NULL: unknown. */
void vv_opcodes_index(const struct vv_opcodes *plain[256]);

/* Those of an opcode behind one of the prefixes above, or NULL. */
const struct vv_opcodes *vv_opcodes_find(uint8_t prefix, uint32_t opcode);

#endif
