;; first=2469 again=1469
;; (memory.init, data.drop, tables, refs; data.drop does not persist)
(module (import "ic0" "msg_reply" (func $reply)) (memory 1) (table 4 funcref) (data $d "hello world") (elem $e func $h) (func $h)
  (func (export "canister_update t") (memory.init $d (i32.const 100) (i32.const 0) (i32.const 11)) (data.drop $d)
    (drop (ref.is_null (table.get (i32.const 1)))) (drop (ref.is_null (ref.func $h))) (drop (table.size)) (elem.drop $e) call $reply))
