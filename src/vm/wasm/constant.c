/* constant.c - see constant.h. */
#include "vm/wasm/constant.h"

#include "vm/wasm/binary.h"

enum { CONSTANT_DEPTH = 64 /* values on the stack of a constant expression */ };

static bool read_gc_constant(struct vv_reader *reader, uint32_t *opcode)
{
    const uint32_t sub = vv_wasm_read_u32(reader);

    *opcode = 0xfb00 | (sub & 0xff);
    switch (sub) {
    case 0: /* struct.new, struct.new_default, array.new, array.new_default */
    case 1:
    case 6:
    case 7:
        (void)vv_wasm_read_u32(reader);
        return true;
    case 8: /* array.new_fixed */
        (void)vv_wasm_read_u32(reader);
        (void)vv_wasm_read_u32(reader);
        return true;
    case 26: /* any.convert_extern, extern.convert_any, ref.i31 */
    case 27:
    case 28:
        return true;
    default:
        return false;
    }
}

bool vv_wasm_read_constant(struct vv_reader *reader, struct vv_wasm_constant *constant)
{
    const size_t start = reader->offset;
    bool known = true;

    *constant = (struct vv_wasm_constant){ .opcode = vv_reader_u8(reader) };
    switch (constant->opcode) {
    case VV_WASM_END:
    case 0x6a: /* add, sub, mul of i32 and i64 */
    case 0x6b:
    case 0x6c:
    case 0x7c:
    case 0x7d:
    case 0x7e:
        break;
    case VV_WASM_GLOBAL_GET:
    case VV_WASM_REF_FUNC:
        constant->index = vv_wasm_read_u32(reader);
        break;
    case VV_WASM_I32_CONST:
        vv_put_u32(constant->bits, (uint32_t)vv_wasm_read_s32(reader));
        break;
    case VV_WASM_I64_CONST:
        vv_put_u64(constant->bits, (uint64_t)vv_wasm_read_s64(reader));
        break;
    case VV_WASM_F32_CONST:
        vv_reader_copy(reader, constant->bits, 4);
        break;
    case VV_WASM_F64_CONST:
        vv_reader_copy(reader, constant->bits, 8);
        break;
    case VV_WASM_REF_NULL:
        constant->heap = vv_wasm_read_s33(reader);
        break;
    case 0xfd:
        known = vv_wasm_read_u32(reader) == 12;
        constant->opcode = VV_WASM_V128_CONST;
        vv_reader_copy(reader, constant->bits, 16);
        break;
    case 0xfb:
        known = read_gc_constant(reader, &constant->opcode);
        break;
    default:
        known = false;
    }
    constant->raw = (struct vv_span){ .offset = start, .size = reader->offset - start };
    return known && !reader->bad;
}

/* The result of add, sub, mul on two integers of the same size; false when they are not. */
static bool calculate(uint32_t opcode, const struct vv_wasm_value *left, const struct vv_wasm_value *right,
                      struct vv_wasm_value *result)
{
    const bool wide = opcode >= 0x7c;
    const varve_type wanted = wide ? VARVE_I64 : VARVE_I32;
    const uint64_t a = vv_get_u64(left->bits), b = vv_get_u64(right->bits);
    uint64_t value = 0;

    if (left->type != wanted || right->type != wanted)
        return false;
    switch (opcode - (wide ? 0x7c : 0x6a)) {
    case 0:
        value = a + b;
        break;
    case 1:
        value = a - b;
        break;
    default:
        value = a * b;
    }
    *result = (struct vv_wasm_value){ .type = wanted, .function = VV_WASM_NONE };
    if (wide)
        vv_put_u64(result->bits, value);
    else
        vv_put_u32(result->bits, (uint32_t)value);
    return true;
}

static struct vv_wasm_value value_of_constant(const struct vv_wasm *module,
                                              const struct vv_wasm_constant *constant)
{
    struct vv_wasm_value value = { .function = VV_WASM_NONE };

    memcpy(value.bits, constant->bits, sizeof value.bits);
    switch (constant->opcode) {
    case VV_WASM_I32_CONST:
        value.type = VARVE_I32;
        break;
    case VV_WASM_I64_CONST:
        value.type = VARVE_I64;
        break;
    case VV_WASM_F32_CONST:
        value.type = VARVE_F32;
        break;
    case VV_WASM_F64_CONST:
        value.type = VARVE_F64;
        break;
    case VV_WASM_V128_CONST:
        value.type = VARVE_V128;
        break;
    case VV_WASM_REF_NULL:
        value.type = vv_wasm_class_of_heap(module, constant->heap);
        break;
    case VV_WASM_REF_FUNC:
        value.type = (varve_type)VV_WASM_FUNCREF;
        value.function = constant->index;
        break;
    default:
        break;
    }
    return value;
}

varve_status vv_wasm_evaluate(const struct vv_wasm *module, struct vv_span span,
                              const struct vv_wasm_value *globals, uint32_t known,
                              struct vv_wasm_value *value)
{
    struct vv_wasm_value stack[CONSTANT_DEPTH];
    struct vv_reader reader = vv_reader_of(module->bytes, span.offset + span.size);
    size_t depth = 0;

    reader.offset = span.offset;
    for (;;) {
        struct vv_wasm_constant constant;
        struct vv_wasm_value next;
        if (!vv_wasm_read_constant(&reader, &constant))
            break;
        if (constant.opcode == VV_WASM_END) {
            if (depth != 1)
                break;
            *value = stack[0];
            return VARVE_OK;
        }
        if (constant.opcode >> 8 == 0xfb)
            return vv_fail(VARVE_REFUSED, "offset %#zx: a constant expression of garbage collection",
                           constant.raw.offset);
        if (constant.opcode == VV_WASM_GLOBAL_GET) {
            if (constant.index >= known)
                break;
            next = globals[constant.index];
        } else if (constant.opcode < 0x80 && constant.opcode >= 0x6a) {
            if (depth < 2 || !calculate(constant.opcode, &stack[depth - 2], &stack[depth - 1], &next))
                break;
            depth -= 2;
        } else {
            next = value_of_constant(module, &constant);
        }
        if (depth == CONSTANT_DEPTH)
            return vv_fail(VARVE_REFUSED,
                           "offset %#zx: a constant expression with over %d values on its stack",
                           constant.raw.offset, CONSTANT_DEPTH);
        stack[depth++] = next;
    }
    return vv_fail(VARVE_INVALID, "not a valid module: offset %#zx: a constant expression without a value",
                   span.offset);
}
