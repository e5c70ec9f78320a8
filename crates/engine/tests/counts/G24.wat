;; first=12282 again=12282
;; (256 reads of 8 bytes, each on a fresh page: 48 per iteration)
(module (import "ic0" "msg_reply" (func $reply)) (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
  (import "ic0" "stable64_size" (func $size (result i64)))
  (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
  (import "ic0" "stable64_write" (func $write (param i64 i64 i64))) (memory 1) (func (export "canister_init") (drop (call $grow (i64.const 16))))
  (func (export "canister_update t") (local $i i64)
    (loop $l (call $read (i64.const 0) (i64.mul (local.get $i) (i64.const 4096)) (i64.const 8))
      (br_if $l (i64.lt_u (local.tee $i (i64.add (local.get $i) (i64.const 1))) (i64.const 256)))) call $reply))
