;; first=10111 again=2111
;; (wasm64: load/store 2, dirty heap page 4000, stable page 1000)
(module (import "ic0" "msg_reply" (func $reply)) (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
  (import "ic0" "stable64_size" (func $size (result i64)))
  (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
  (import "ic0" "stable64_write" (func $write (param i64 i64 i64))) (memory i64 1) (func (export "canister_init") (drop (call $grow (i64.const 1))))
  (func (export "canister_update t") (i64.store (i64.const 16) (i64.add (i64.load (i64.const 8)) (i64.const 5)))
    (memory.fill (i64.const 4096) (i32.const 1) (i64.const 100)) (drop (memory.grow (i64.const 1)))
    (call $write (i64.const 0) (i64.const 0) (i64.const 64)) call $reply))
