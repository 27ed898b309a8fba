;; What compilers make: a stack pointer, active data, no instruction that names a segment.
(module
  (memory (export "memory") 1)
  (global $sp (mut i32) (i32.const 66560))
  (data (i32.const 1024) "hello")
  (data (i32.const 2048) "world")
  (func (export "count") (result i32)
    (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1)))
    (i32.load (i32.const 0))))
