;; first=726 again=726
;; (stable64_grow ok, size, grow failing)
(module (import "ic0" "msg_reply" (func $reply)) (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
  (import "ic0" "stable64_size" (func $size (result i64)))
  (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
  (import "ic0" "stable64_write" (func $write (param i64 i64 i64))) (memory 1) (func (export "canister_update t")
  (drop (call $grow (i64.const 2))) (drop (call $size)) (drop (call $grow (i64.const 0x7fffffffff))) call $reply))
