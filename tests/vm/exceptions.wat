;; Refused: the exceptions that came before the standard's.
(module
  (tag $e)
  (func $guarded (try (do (throw $e)) (catch $e))))
