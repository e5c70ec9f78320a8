;; first=558 again=558
;; (SIMD)
(module (import "ic0" "msg_reply" (func $reply)) (memory 1) (func (export "canister_update t") (local $v v128)
  (local.set $v (v128.load (i32.const 0))) (local.set $v (i8x16.shl (local.get $v) (i32.const 1)))
  (local.set $v (i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 (local.get $v) (local.get $v)))
  (local.set $v (i64x2.mul (local.get $v) (v128.const i64x2 3 4))) (local.set $v (f64x2.sqrt (local.get $v)))
  (drop (i32x4.extract_lane 0 (f32x4.div (local.get $v) (local.get $v)))) call $reply))
