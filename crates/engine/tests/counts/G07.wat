;; first=1618 again=1618
;; (100 tail calls)
(module (import "ic0" "msg_reply" (func $reply)) (func $f (param $n i32) (if (i32.eqz (local.get $n)) (then return)) (return_call $f (i32.sub (local.get $n) (i32.const 1))))
  (func (export "canister_update t") (call $f (i32.const 100)) call $reply))
