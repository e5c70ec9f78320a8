;; first=657 again=657
;; (calls)
(module (import "ic0" "msg_reply" (func $reply)) (func $sq (param i64) (result i64) (i64.mul (local.get 0) (local.get 0))) (func $nop)
  (func (export "canister_update t") (local $i i32) (drop (call $sq (i64.const 12)))
    (loop $l call $nop (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 10)))) call $reply))
