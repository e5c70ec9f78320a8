;; first=20712 again=15712
;; (fill 10000 + copy 5000; 5 dirty heap pages)
(module (import "ic0" "msg_reply" (func $reply)) (memory 4) (func (export "canister_update t")
  (memory.fill (i32.const 0) (i32.const 0xAA) (i32.const 10000)) (memory.copy (i32.const 65536) (i32.const 0) (i32.const 5000)) call $reply))
