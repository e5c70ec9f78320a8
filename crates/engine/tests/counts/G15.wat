;; first=17110 again=17110
;; (reads 8, 100, 16384, 0 bytes; no page charge; zeros onto zeros: no dirty heap)
(module (import "ic0" "msg_reply" (func $reply)) (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
  (import "ic0" "stable64_size" (func $size (result i64)))
  (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
  (import "ic0" "stable64_write" (func $write (param i64 i64 i64))) (memory 1) (func (export "canister_init") (drop (call $grow (i64.const 4))))
  (func (export "canister_update t") (call $read (i64.const 0) (i64.const 0) (i64.const 8)) (call $read (i64.const 0) (i64.const 4090) (i64.const 100))
    (call $read (i64.const 0) (i64.const 8192) (i64.const 16384)) (call $read (i64.const 0) (i64.const 9999999) (i64.const 0)) call $reply))
