;; first=506 again=506
;; (entry 1 + call 5 + msg_reply 500)
(module (import "ic0" "msg_reply" (func $reply)) (func (export "canister_update t") call $reply))
