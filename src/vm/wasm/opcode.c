/* opcode.c - the tables: see opcode.h. */
#include "vm/wasm/opcode.h"

#define PART_OF(feature) ((uint8_t)(VV_WASM_##feature + 1))

static const struct vv_opcodes plain_opcodes[] = {
    { 0x00, 0x01, VV_TAKES_NOTHING, 0, NULL },
    { 0x02, 0x04, VV_TAKES_BLOCK_TYPE, 0, NULL },
    { 0x05, 0x05, VV_TAKES_NOTHING, 0, NULL },
    { 0x06, 0x06, VV_TAKES_BLOCK_TYPE, PART_OF(LEGACY_EXCEPTIONS), "try" },
    { 0x07, 0x07, VV_TAKES_INDEX, PART_OF(LEGACY_EXCEPTIONS), "catch" },
    { 0x08, 0x08, VV_TAKES_INDEX, PART_OF(EXCEPTIONS), "throw" },
    { 0x09, 0x09, VV_TAKES_INDEX, PART_OF(LEGACY_EXCEPTIONS), "rethrow" },
    { 0x0a, 0x0a, VV_TAKES_NOTHING, PART_OF(EXCEPTIONS), "throw_ref" },
    { 0x0b, 0x0b, VV_TAKES_BLOCK_END, 0, NULL },
    { 0x0c, 0x0d, VV_TAKES_INDEX, 0, NULL },
    { 0x0e, 0x0e, VV_TAKES_BRANCH_TABLE, 0, NULL },
    { 0x0f, 0x0f, VV_TAKES_NOTHING, 0, NULL },
    { 0x10, 0x10, VV_TAKES_INDEX, 0, NULL },
    { 0x11, 0x11, VV_TAKES_TWO_INDICES, 0, NULL },
    { 0x12, 0x12, VV_TAKES_INDEX, PART_OF(TAIL_CALLS), "return_call" },
    { 0x13, 0x13, VV_TAKES_TWO_INDICES, PART_OF(TAIL_CALLS), "return_call_indirect" },
    { 0x14, 0x14, VV_TAKES_INDEX, PART_OF(TYPED_REFERENCES), "call_ref" },
    { 0x15, 0x15, VV_TAKES_INDEX, PART_OF(TYPED_REFERENCES), "return_call_ref" },
    { 0x18, 0x18, VV_TAKES_DELEGATE, PART_OF(LEGACY_EXCEPTIONS), "delegate" },
    { 0x19, 0x19, VV_TAKES_NOTHING, PART_OF(LEGACY_EXCEPTIONS), "catch_all" },
    { 0x1a, 0x1b, VV_TAKES_NOTHING, 0, NULL },
    { 0x1c, 0x1c, VV_TAKES_SELECT_TYPES, PART_OF(REFERENCES), "select" },
    { 0x1f, 0x1f, VV_TAKES_CATCHES, PART_OF(EXCEPTIONS), "try_table" },
    { 0x20, 0x24, VV_TAKES_INDEX, 0, NULL },
    { 0x25, 0x25, VV_TAKES_INDEX, PART_OF(REFERENCES), "table.get" },
    { 0x26, 0x26, VV_TAKES_INDEX, PART_OF(REFERENCES), "table.set" },
    { 0x28, 0x3e, VV_TAKES_MEMORY_ARGUMENT, 0, NULL },
    { 0x3f, 0x40, VV_TAKES_MEMORY_INDEX, 0, NULL },
    { 0x41, 0x41, VV_TAKES_I32, 0, NULL },
    { 0x42, 0x42, VV_TAKES_I64, 0, NULL },
    { 0x43, 0x43, VV_TAKES_FOUR_BYTES, 0, NULL },
    { 0x44, 0x44, VV_TAKES_EIGHT_BYTES, 0, NULL },
    { 0x45, 0xc4, VV_TAKES_NOTHING, 0, NULL },
    { 0xd0, 0xd0, VV_TAKES_HEAP_TYPE, PART_OF(REFERENCES), "ref.null" },
    { 0xd1, 0xd1, VV_TAKES_NOTHING, PART_OF(REFERENCES), "ref.is_null" },
    { 0xd2, 0xd2, VV_TAKES_INDEX, PART_OF(REFERENCES), "ref.func" },
    { 0xd3, 0xd3, VV_TAKES_NOTHING, PART_OF(GC), "ref.eq" },
    { 0xd4, 0xd4, VV_TAKES_NOTHING, PART_OF(TYPED_REFERENCES), "ref.as_non_null" },
    { 0xd5, 0xd6, VV_TAKES_INDEX, PART_OF(TYPED_REFERENCES), "br_on_null" },
    { 0xfb, 0xfe, VV_TAKES_OPCODE, 0, NULL },
};

static const struct vv_opcodes gc_opcodes[] = {
    { 0, 1, VV_TAKES_INDEX, PART_OF(GC), "struct.new" },
    { 2, 5, VV_TAKES_TWO_INDICES, PART_OF(GC), "struct.get" },
    { 6, 7, VV_TAKES_INDEX, PART_OF(GC), "array.new" },
    { 8, 8, VV_TAKES_TWO_INDICES, PART_OF(GC), "array.new_fixed" },
    { 9, 9, VV_TAKES_TWO_INDICES, PART_OF(GC), "array.new_data" },
    { 10, 10, VV_TAKES_TWO_INDICES, PART_OF(GC), "array.new_elem" },
    { 11, 14, VV_TAKES_INDEX, PART_OF(GC), "array.get" },
    { 15, 15, VV_TAKES_NOTHING, PART_OF(GC), "array.len" },
    { 16, 16, VV_TAKES_INDEX, PART_OF(GC), "array.fill" },
    { 17, 17, VV_TAKES_TWO_INDICES, PART_OF(GC), "array.copy" },
    { 18, 18, VV_TAKES_TWO_INDICES, PART_OF(GC), "array.init_data" },
    { 19, 19, VV_TAKES_TWO_INDICES, PART_OF(GC), "array.init_elem" },
    { 20, 23, VV_TAKES_HEAP_TYPE, PART_OF(GC), "ref.cast" },
    { 24, 25, VV_TAKES_CAST_BRANCH, PART_OF(GC), "br_on_cast" },
    { 26, 30, VV_TAKES_NOTHING, PART_OF(GC), "i31" },
};

static const struct vv_opcodes bulk_opcodes[] = {
    { 0, 7, VV_TAKES_NOTHING, 0, NULL }, /* saturating conversions */
    { 8, 8, VV_TAKES_TWO_INDICES, PART_OF(BULK_MEMORY), "memory.init" },
    { 9, 9, VV_TAKES_INDEX, PART_OF(BULK_MEMORY), "data.drop" },
    { 10, 10, VV_TAKES_TWO_INDICES, PART_OF(BULK_MEMORY), "memory.copy" },
    { 11, 11, VV_TAKES_MEMORY_INDEX, PART_OF(BULK_MEMORY), "memory.fill" },
    { 12, 12, VV_TAKES_TWO_INDICES, PART_OF(BULK_MEMORY), "table.init" },
    { 13, 13, VV_TAKES_INDEX, PART_OF(BULK_MEMORY), "elem.drop" },
    { 14, 14, VV_TAKES_TWO_INDICES, PART_OF(BULK_MEMORY), "table.copy" },
    { 15, 15, VV_TAKES_INDEX, PART_OF(REFERENCES), "table.grow" },
    { 16, 16, VV_TAKES_INDEX, PART_OF(REFERENCES), "table.size" },
    { 17, 17, VV_TAKES_INDEX, PART_OF(REFERENCES), "table.fill" },
    { 19, 22, VV_TAKES_NOTHING, PART_OF(WIDE_ARITHMETIC), "i64.add128" },
};

static const struct vv_opcodes simd_opcodes[] = {
    { 0, 11, VV_TAKES_MEMORY_ARGUMENT, PART_OF(SIMD), "v128.load" },
    { 12, 13, VV_TAKES_SIXTEEN_BYTES, PART_OF(SIMD), "v128.const" },
    { 14, 20, VV_TAKES_NOTHING, PART_OF(SIMD), "i8x16.splat" },
    { 21, 34, VV_TAKES_LANE, PART_OF(SIMD), "i8x16.extract_lane" },
    { 35, 83, VV_TAKES_NOTHING, PART_OF(SIMD), "a comparison of vectors" },
    { 84, 91, VV_TAKES_MEMORY_ARGUMENT_LANE, PART_OF(SIMD), "v128.load_lane" },
    { 92, 93, VV_TAKES_MEMORY_ARGUMENT, PART_OF(SIMD), "v128.load_zero" },
    { 94, 255, VV_TAKES_NOTHING, PART_OF(SIMD), "arithmetic of vectors" },
    { 256, 275, VV_TAKES_NOTHING, PART_OF(RELAXED_SIMD), "a relaxed vector instruction" },
};

static const struct vv_opcodes atomic_opcodes[] = {
    { 0, 0, VV_TAKES_MEMORY_ARGUMENT, PART_OF(THREADS), "memory.atomic.notify" },
    { 1, 2, VV_TAKES_MEMORY_ARGUMENT, PART_OF(THREADS), "memory.atomic.wait" },
    { 3, 3, VV_TAKES_LANE, PART_OF(THREADS), "atomic.fence" },
    { 16, 78, VV_TAKES_MEMORY_ARGUMENT, PART_OF(THREADS), "an atomic instruction" },
};

#define COUNT_OF(list) (sizeof(list) / sizeof *(list))

void vv_opcodes_index(const struct vv_opcodes *plain[256])
{
    for (size_t i = 0; i < COUNT_OF(plain_opcodes); i++) {
        for (unsigned op = plain_opcodes[i].first; op <= plain_opcodes[i].last; op++)
            plain[op] = &plain_opcodes[i];
    }
}

const struct vv_opcodes *vv_opcodes_find(uint8_t prefix, uint32_t opcode)
{
    static const struct {
        const struct vv_opcodes *list;
        size_t count;
    } sets[] = {
        [VV_PREFIX_GC - VV_PREFIX_GC] = { gc_opcodes, COUNT_OF(gc_opcodes) },
        [VV_PREFIX_BULK - VV_PREFIX_GC] = { bulk_opcodes, COUNT_OF(bulk_opcodes) },
        [VV_PREFIX_SIMD - VV_PREFIX_GC] = { simd_opcodes, COUNT_OF(simd_opcodes) },
        [VV_PREFIX_ATOMIC - VV_PREFIX_GC] = { atomic_opcodes, COUNT_OF(atomic_opcodes) },
    };

    VV_ASSERT(prefix >= VV_PREFIX_GC && prefix <= VV_PREFIX_ATOMIC);
    for (size_t i = 0; i < sets[prefix - VV_PREFIX_GC].count; i++) {
        const struct vv_opcodes *const found = &sets[prefix - VV_PREFIX_GC].list[i];
        if (opcode >= found->first && opcode <= found->last)
            return found;
    }
    return NULL;
}
