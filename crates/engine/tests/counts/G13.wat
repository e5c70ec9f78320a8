;; first=519 again=519
;; (globals, select)
(module (import "ic0" "msg_reply" (func $reply)) (global $g (mut i64) (i64.const 0)) (func (export "canister_update t")
  (global.set $g (i64.add (global.get $g) (i64.const 1))) (global.set $g (select (global.get $g) (i64.const 0) (i32.const 1))) call $reply))
