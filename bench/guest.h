/* guest.h - the modules that the benchmark runs, as text; Wasmtime turns it into binaries. */
#ifndef BENCH_GUEST_H
#define BENCH_GUEST_H

/* touch(first, stride, count): add one to a word in each of count pages. */
#define GUEST_TOUCH                                                                                  \
    " (func (export \"touch\") (param $at i32) (param $stride i32) (param $n i32) (local $mask i32)" \
    "  (local.set $mask (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 1)))"             \
    "  (loop $more"                                                                                  \
    "   (local.set $at (i32.and (local.get $at) (local.get $mask)))"                                 \
    "   (i32.store (local.get $at) (i32.add (i32.load (local.get $at)) (i32.const 1)))"              \
    "   (local.set $at (i32.add (local.get $at) (local.get $stride)))"                               \
    "   (br_if $more (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))"

/* "%u" is the memory's size in WASM pages. */
#define GUEST_CALLS                           \
    "(module (memory (export \"memory\") %u)" \
    " (func (export \"nop\"))"                \
    " (func (export \"get\") (result i32) (i32.load (i32.const 64)))" GUEST_TOUCH ")"

/* One dependency chain of integers; a sieve of Eratosthenes over 512 KiB; a chain of f64 as in a fractal. */
#define GUEST_LOOPS                                                                                          \
    "(module (memory (export \"memory\") 16)" GUEST_TOUCH                                                    \
    " (global $seed (mut i64) (i64.const 88172645463325252))"                                                \
    " (func (export \"lcg\") (param $n i32) (result i64) (local $x i64)"                                     \
    "  (local.set $x (global.get $seed))"                                                                    \
    "  (loop $more"                                                                                          \
    "   (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 13))))"                     \
    "   (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 7))))"                    \
    "   (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 17))))"                     \
    "   (br_if $more (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))"                                \
    "  (global.set $seed (local.get $x)) (local.get $x))"                                                    \
    " (func (export \"sieve\") (param $n i32) (result i64) (local $i i32) (local $j i32) (local $count i64)" \
    "  (loop $round"                                                                                         \
    "   (memory.fill (i32.const 0) (i32.const 1) (i32.const 524288))"                                        \
    "   (local.set $count (i64.const 0)) (local.set $i (i32.const 2))"                                       \
    "   (loop $next"                                                                                         \
    "    (if (i32.load8_u (local.get $i)) (then"                                                             \
    "     (local.set $count (i64.add (local.get $count) (i64.const 1)))"                                     \
    "     (local.set $j (i32.add (local.get $i) (local.get $i)))"                                            \
    "     (block $done (loop $strike"                                                                        \
    "      (br_if $done (i32.ge_u (local.get $j) (i32.const 524288)))"                                       \
    "      (i32.store8 (local.get $j) (i32.const 0))"                                                        \
    "      (local.set $j (i32.add (local.get $j) (local.get $i)))"                                           \
    "      (br $strike)))))"                                                                                 \
    "    (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 524288))))" \
    "   (br_if $round (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))"                               \
    "  (local.get $count))"                                                                                  \
    " (func (export \"f64\") (param $n i32) (result i64) (local $x f64) (local $y f64) (local $t f64)"       \
    "  (loop $more"                                                                                          \
    "   (local.set $t (f64.add (f64.sub (f64.mul (local.get $x) (local.get $x))"                             \
    "     (f64.mul (local.get $y) (local.get $y))) (f64.const -0.4)))"                                       \
    "   (local.set $y (f64.add (f64.mul (f64.mul (f64.const 2) (local.get $x)) (local.get $y)) (f64.const "  \
    "0.6)))"                                                                                                 \
    "   (local.set $x (local.get $t))"                                                                       \
    "   (br_if $more (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))"                                \
    "  (i64.reinterpret_f64 (f64.add (local.get $x) (local.get $y)))))"

#endif
