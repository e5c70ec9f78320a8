;; first=2515 again=515
;; (last store crosses a page border: 2 dirty pages)
(module (import "ic0" "msg_reply" (func $reply)) (memory 1) (func (export "canister_update t") (i32.store (i32.const 0) (i32.const 1)) (i32.store (i32.const 8) (i32.const 2))
  (i32.store (i32.const 4094) (i32.const -1)) call $reply))
