;; first=1131 again=1131
;; (memory.grow ok, size, grow failing)
(module (import "ic0" "msg_reply" (func $reply)) (memory 1) (func (export "canister_update t")
  (drop (memory.grow (i32.const 3))) (drop (memory.size)) (drop (memory.grow (i32.const 65536))) call $reply))
