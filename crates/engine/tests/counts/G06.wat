;; first=540 again=540
;; (call_indirect)
(module (import "ic0" "msg_reply" (func $reply)) (type $f (func (param i32) (result i32))) (table 2 funcref) (elem (i32.const 0) $inc $dbl)
  (func $inc (type $f) (i32.add (local.get 0) (i32.const 1))) (func $dbl (type $f) (i32.shl (local.get 0) (i32.const 1)))
  (func (export "canister_update t") (drop (call_indirect (type $f) (i32.const 5) (i32.const 0)))
    (drop (call_indirect (type $f) (i32.const 5) (i32.const 1))) call $reply))
