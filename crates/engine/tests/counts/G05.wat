;; first=1246 again=1246
;; (br_table)
(module (import "ic0" "msg_reply" (func $reply)) (func (export "canister_update t") (local $i i32)
  (loop $next
    (block $c (block $b (block $a (br_table $a $b $c (i32.rem_u (local.get $i) (i32.const 3)))) nop (br $c)) nop nop)
    (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $next (i32.lt_u (local.get $i) (i32.const 30)))) call $reply))
