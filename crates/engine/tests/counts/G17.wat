;; first=2187 again=2187
;; (32-bit API)
(module (import "ic0" "msg_reply" (func $reply)) (import "ic0" "stable_grow" (func $g (param i32) (result i32))) (import "ic0" "stable_size" (func $s (result i32)))
  (import "ic0" "stable_read" (func $r (param i32 i32 i32))) (import "ic0" "stable_write" (func $w (param i32 i32 i32))) (memory 1)
  (func (export "canister_update t") (drop (call $g (i32.const 1))) (drop (call $s)) (call $w (i32.const 100) (i32.const 0) (i32.const 256))
    (call $r (i32.const 0) (i32.const 100) (i32.const 256)) call $reply))
