;; Refused: a shared memory, and a second one.
(module
  (memory 1 2 shared)
  (memory 1))
