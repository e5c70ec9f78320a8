;; first=9506 again=9506
;; (9 per iteration x 1000)
(module (import "ic0" "msg_reply" (func $reply)) (func (export "canister_update t") (local $i i32)
  (loop $l (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $l (i32.lt_u (local.get $i) (i32.const 1000)))) call $reply))
