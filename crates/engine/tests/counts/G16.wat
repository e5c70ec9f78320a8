;; first=40432 again=40432
;; (writes 1, 8 same page, 8 across, 4 pages, 4 pages + 1 byte: 7 first-touch pages)
(module (import "ic0" "msg_reply" (func $reply)) (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
  (import "ic0" "stable64_size" (func $size (result i64)))
  (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
  (import "ic0" "stable64_write" (func $write (param i64 i64 i64))) (memory 1) (func (export "canister_init") (drop (call $grow (i64.const 4))))
  (func (export "canister_update t") (call $write (i64.const 0) (i64.const 0) (i64.const 1)) (call $write (i64.const 8) (i64.const 0) (i64.const 8))
    (call $write (i64.const 4092) (i64.const 0) (i64.const 8)) (call $write (i64.const 65536) (i64.const 0) (i64.const 16384))
    (call $write (i64.const 65536) (i64.const 0) (i64.const 16385)) call $reply))
