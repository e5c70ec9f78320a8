;; first=4343 again=3343
;; (reply = i64 LE 243, 943, 1143: counters include the whole block)
(module (import "ic0" "msg_reply" (func $reply)) (import "ic0" "msg_reply_data_append" (func $a (param i32 i32))) (import "ic0" "performance_counter" (func $pc (param i32) (result i64)))
  (import "ic0" "time" (func $time (result i64))) (memory 1)
  (func (export "canister_update t") (i64.store (i32.const 0) (call $pc (i32.const 0))) (drop (call $time)) (i64.store (i32.const 8) (call $pc (i32.const 0)))
    (i64.store (i32.const 16) (call $pc (i32.const 1))) (call $a (i32.const 0) (i32.const 24)) call $reply))
