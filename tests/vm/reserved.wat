;; Refused: names that are ours.
(module
  (memory (export "varve:m") 1)
  (func (export "varve:") (nop)))
