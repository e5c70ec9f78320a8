;; native global several
(module
  (memory $m 1)
  (memory $n i64 1)
  (data $p "passive")
  (func $a_mark_for_each_memory (param $p i32)
    ;; a mark counts in its own memory only
    (i32.store $m (local.get $p) (i32.const 1))
    (i32.store $n (i64.const 8) (i32.const 2))
    (i32.store $m offset=4 (local.get $p) (i32.const 3)))
  (func $same_value (param $p i64)
    (v128.store $n offset=16 (local.get $p) (v128.const i64x2 1 2))
    (f64.store $n offset=40 (local.get $p) (f64.const 3))
    (v128.store8_lane $n 5 (local.get $p) (v128.const i64x2 4 5)))
  (func $copies (param $p i32) (param $q i64)
    (memory.copy $n $n (i64.const 1) (i64.const 2) (i64.const 3))
    (memory.copy $n $m (local.get $q) (local.get $p) (i32.const 100))
    (memory.copy $m $n (local.get $p) (local.get $q) (i32.const 100)))
  (func $fills
    (memory.fill $m (i32.const 0) (i32.const 1) (i32.const 100))
    (memory.fill $n (i64.const 0) (i32.const 1) (i64.const 100)))
  (func $inits
    (memory.init $m $p (i32.const 0) (i32.const 1) (i32.const 2))
    (memory.init $n $p (i64.const 0) (i32.const 1) (i32.const 2)))
  (func $grows (result i64)
    (drop (memory.grow $m (i32.const 1)))
    (memory.grow $n (i64.const 1))))
;; becomes
  (func $a_mark_for_each_memory (;0;) (type 0) (param i32)
    (local i32 i32 i64)
    global.get 0
    i64.const 10
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
    i32.const 1
    local.set 1
    local.tee 2
    local.get 2
    i32.const 12
    i32.shr_u
    i32.const 1
    i32.store8 3
    local.get 1
    i32.store
    i64.const 8
    i32.const 2
    local.set 1
    local.tee 3
    local.get 3
    i64.const 12
    i64.shr_u
    i32.wrap_i64
    i32.const 4194303
    i32.and
    i32.const 1
    i32.store8 3 offset=1048576
    local.get 1
    i32.store $n
    local.get 0
    i32.const 3
    i32.store offset=4
  )
  (func $same_value (;1;) (type 1) (param i64)
    (local v128 i64)
    global.get 0
    i64.const 10
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
    i64.const 12
    i64.shr_u
    i32.wrap_i64
    i32.const 4194303
    i32.and
    i32.const 1
    i32.store8 3 offset=1048576
    local.get 1
    v128.store $n offset=16
    local.get 0
    f64.const 0x1.8p+1 (;=3;)
    f64.store $n offset=40
    local.get 0
    v128.const i32x4 0x00000004 0x00000000 0x00000005 0x00000000
    v128.store8_lane $n 5
  )
  (func $copies (;2;) (type 2) (param i32 i64)
    (local i64 i64 i64 i32 i32 i32)
    global.get 0
    i64.const 310
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
    i64.const 2
    i64.const 3
    local.set 2
    local.set 3
    local.tee 4
    local.get 2
    memory.size $n
    i64.const 16
    i64.shl
    i32.const 1048576
    call $bedstone:bulk_elsewhere
    local.get 4
    local.get 3
    local.get 2
    memory.copy $n $n
    local.get 1
    local.get 0
    i32.const 100
    local.set 5
    local.set 6
    local.tee 4
    local.get 5
    i64.extend_i32_u
    memory.size $n
    i64.const 16
    i64.shl
    i32.const 1048576
    call $bedstone:bulk_elsewhere
    local.get 4
    local.get 6
    local.get 5
    memory.copy $n $m
    local.get 0
    local.get 1
    i32.const 100
    local.set 5
    local.set 3
    local.tee 7
    i64.extend_i32_u
    local.get 5
    i64.extend_i32_u
    call $bedstone:bulk
    local.get 7
    local.get 3
    local.get 5
    memory.copy $m $n
  )
  (func $fills (;3;) (type 3)
    (local i32 i32 i32 i64 i64)
    global.get 0
    i64.const 207
    i64.sub
    global.set 0
    global.get 0
    i64.const 0
    i64.lt_s
    if ;; label = @1
      call $bedstone:out_of_instructions
      unreachable
    end
    i32.const 0
    i32.const 1
    i32.const 100
    local.set 0
    local.set 1
    local.tee 2
    i64.extend_i32_u
    local.get 0
    i64.extend_i32_u
    call $bedstone:bulk
    local.get 2
    local.get 1
    local.get 0
    memory.fill
    i64.const 0
    i32.const 1
    i64.const 100
    local.set 3
    local.set 1
    local.tee 4
    local.get 3
    memory.size $n
    i64.const 16
    i64.shl
    i32.const 1048576
    call $bedstone:bulk_elsewhere
    local.get 4
    local.get 1
    local.get 3
    memory.fill $n
  )
  (func $inits (;4;) (type 3)
    (local i32 i32 i32 i64)
    global.get 0
    i64.const 207
    i64.sub
    global.set 0
    global.get 0
    i64.const 0
    i64.lt_s
    if ;; label = @1
      call $bedstone:out_of_instructions
      unreachable
    end
    i32.const 0
    i32.const 1
    i32.const 2
    local.set 0
    local.set 1
    local.tee 2
    i64.extend_i32_u
    local.get 0
    i64.extend_i32_u
    call $bedstone:bulk
    local.get 2
    local.get 1
    local.get 0
    memory.init $p
    i64.const 0
    i32.const 1
    i32.const 2
    local.set 0
    local.set 1
    local.tee 3
    local.get 0
    i64.extend_i32_u
    memory.size $n
    i64.const 16
    i64.shl
    i32.const 1048576
    call $bedstone:bulk_elsewhere
    local.get 3
    local.get 1
    local.get 0
    memory.init $n $p
  )
  (func $grows (;5;) (type 4) (result i64)
    global.get 0
    i64.const 604
    i64.sub
    global.set 0
    global.get 0
    i64.const 0
    i64.lt_s
    if ;; label = @1
      call $bedstone:out_of_instructions
      unreachable
    end
    i32.const 1
    memory.grow
    call $bedstone:heap_grown
    drop
    i64.const 1
    memory.grow $n
    call $bedstone:grown_elsewhere
  )
