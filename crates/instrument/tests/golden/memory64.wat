;; native global
(module
  (memory i64 1)
  (func $store (param $p i64)
    (v128.store offset=32 (local.get $p) (v128.const i64x2 1 2)))
  (func $grow (result i64)
    (memory.grow (i64.const 1))))
;; becomes
  (func $store (;0;) (type 0) (param i64)
    (local v128 i64)
    global.get 0
    i64.const 5
    i64.sub
    global.set 0
    global.get 0
    i64.const 0
    i64.lt_s
    if ;; label = @1
      call $bedstone:out_of_instructions
      unreachable
    end
    local.get 0
    v128.const i32x4 0x00000001 0x00000000 0x00000002 0x00000000
    local.set 1
    local.tee 2
    local.get 2
    i64.const 32
    i64.add
    i64.const 12
    i64.shr_u
    i32.wrap_i64
    i32.const 4194303
    i32.and
    i32.const 1
    i32.store8 2
    local.get 1
    v128.store offset=32
  )
  (func $grow (;1;) (type 1) (result i64)
    global.get 0
    i64.const 302
    i64.sub
    global.set 0
    global.get 0
    i64.const 0
    i64.lt_s
    if ;; label = @1
      call $bedstone:out_of_instructions
      unreachable
    end
    i64.const 1
    memory.grow
    call $bedstone:heap_grown
  )
