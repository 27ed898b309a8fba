;; A program that is placed by the globals that it imports.
(module
  (import "env" "base" (global $base i32))
  (import "env" "scale" (global $scale f64))
  (import "env" "count" (global $count (mut i64)))
  (memory (export "memory") 1)
  (data (global.get $base) "here")
  (func (export "base") (result i32) (i32.load (global.get $base)))
  (func (export "scale") (result f64) (global.get $scale))
  (func (export "next") (result i64)
    (global.set $count (i64.add (global.get $count) (i64.const 1)))
    (global.get $count))
)
