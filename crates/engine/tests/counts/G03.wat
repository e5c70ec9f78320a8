;; first=514 again=514
;; (untaken branches cost nothing)
(module (import "ic0" "msg_reply" (func $reply)) (func (export "canister_update t") (local $x i32)
  (if (i32.const 1) (then (local.set $x (i32.const 7))) (else (local.set $x (i32.div_u (i32.const 7) (i32.const 2)))))
  (block $b (br_if $b (i32.const 1)) (drop (i64.rem_u (i64.const 9) (i64.const 4)))) call $reply))
