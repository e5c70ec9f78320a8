;; first=4419 again=3419
;; (debug_print 5 bytes = 360, time, self copy 10 bytes, is_controller 10 bytes)
(module (import "ic0" "msg_reply" (func $reply)) (import "ic0" "debug_print" (func $dp (param i32 i32))) (import "ic0" "time" (func $time (result i64)))
  (import "ic0" "is_controller" (func $isc (param i32 i32) (result i32))) (import "ic0" "canister_self_size" (func $css (result i32)))
  (import "ic0" "canister_self_copy" (func $csc (param i32 i32 i32))) (memory 1) (data (i32.const 0) "hello")
  (func (export "canister_update t") (call $dp (i32.const 0) (i32.const 5)) (drop (call $time))
    (call $csc (i32.const 100) (i32.const 0) (call $css)) (drop (call $isc (i32.const 100) (i32.const 10))) call $reply))
