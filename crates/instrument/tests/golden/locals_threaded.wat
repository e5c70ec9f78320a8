;; native threaded
(module ;; the counter takes the place of the first local, which becomes the last; the others stay
  (memory 1)
  (func (export "f") (param i32) (result i64) (local i64 f32) (local i64 i64)
    (local.set 1 (i64.const 5))
    (local.set 2 (f32.const 1))
    (local.set 3 (local.tee 1 (i64.extend_i32_u (local.get 0))))
    (i64.store offset=8 (local.get 0) (local.get 4))
    (i64.add (local.get 1) (local.get 3))))
;; becomes
  (func (;0;) (type 6) (param i32 i64) (result i64 i64)
    (local f32 i64 i64 i64 i64 i32)
    local.get 1
    i64.const 15
    i64.sub
    local.set 1
    local.get 1
    i64.const 0
    i64.lt_s
    if ;; label = @1
      local.get 1
      global.set 0
      call $bedstone:out_of_instructions
      unreachable
    end
    block (result i64) ;; label = @1
      i64.const 5
      local.set 5
      f32.const 0x1p+0 (;=1;)
      local.set 2
      local.get 0
      i64.extend_i32_u
      local.tee 5
      local.set 3
      local.get 0
      local.get 4
      local.set 6
      local.tee 7
      local.get 7
      i32.const 8
      i32.add
      i32.const 12
      i32.shr_u
      i32.const 1
      i32.store8 2
      local.get 6
      i64.store offset=8
      local.get 5
      local.get 3
      i64.add
    end
    local.get 1
  )
