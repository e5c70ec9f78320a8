;; first=52025 again=52025
;; (reply payload of 1000 bytes)
(module (import "ic0" "msg_reply" (func $reply)) (import "ic0" "msg_reply_data_append" (func $a (param i32 i32))) (import "ic0" "msg_arg_data_size" (func $n (result i32)))
  (import "ic0" "msg_arg_data_copy" (func $c (param i32 i32 i32))) (memory 1)
  (func (export "canister_update t") (call $c (i32.const 0) (i32.const 0) (call $n)) (call $a (i32.const 0) (i32.const 1000)) call $reply))
