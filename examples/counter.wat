;; A counter that keeps its number in a global that nobody can see from outside.
(module
  (global $total (mut i32) (i32.const 0))
  (func (export "add") (param $by i32) (result i32)
    (global.set $total (i32.add (global.get $total) (local.get $by)))
    (global.get $total)))
