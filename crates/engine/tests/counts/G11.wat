;; first=598 again=598
;; (floats)
(module (import "ic0" "msg_reply" (func $reply)) (func (export "canister_update t") (local $d f64) (local $s f32)
  (local.set $d (f64.sqrt (f64.div (f64.const 2) (f64.const 3)))) (local.set $d (f64.min (local.get $d) (f64.mul (local.get $d) (f64.const 4))))
  (local.set $s (f32.demote_f64 (f64.convert_i64_u (i64.const 5)))) (drop (i32.trunc_sat_f32_s (f32.copysign (local.get $s) (f32.const -1))))
  (drop (f64.lt (local.get $d) (f64.floor (local.get $d)))) call $reply))
