;; native global
(module
  (memory 1)
  (func $same_base (param $p i32)
    ;; one mark at offset 8 covers all three
    (i32.store offset=16 (local.get $p) (i32.const 1))
    (i64.store offset=8 (local.get $p) (i64.const 2))
    (i32.store8 offset=4000 (local.get $p) (i32.const 3)))
  (func $too_far (param $p i32)
    (i32.store (local.get $p) (i32.const 1))
    (i32.store offset=8192 (local.get $p) (i32.const 2)))
  (func $another_value (param $p i32)
    (i32.store (local.get $p) (i32.const 1))
    (local.set $p (i32.add (local.get $p) (i32.const 4)))
    (i32.store (local.get $p) (i32.const 2)))
  (func $only_one_arm (param $p i32)
    (if (local.get $p) (then (i32.store (local.get $p) (i32.const 1))))
    (i32.store (local.get $p) (i32.const 2)))
  (func $left_early (param $p i32)
    (block $b
      (br_if $b (local.get $p))
      (i32.store (local.get $p) (i32.const 1)))
    (i32.store (local.get $p) (i32.const 2)))
  (func $in_a_loop (param $p i32)
    (i32.store (local.get $p) (i32.const 1))
    (loop $l
      (i32.store (local.get $p) (i32.const 2))
      (local.set $p (i32.add (local.get $p) (i32.const 4)))
      (br_if $l (local.get $p))))
  (func $bulk
    (memory.fill (i32.const 0) (i32.const 1) (i32.const 100))))
;; becomes
  (func $same_base (;0;) (type 0) (param i32)
    (local i32 i32)
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
    i32.const 8
    i32.add
    i32.const 12
    i32.shr_u
    i32.const 1
    i32.store8 2
    local.get 1
    i32.store offset=16
    local.get 0
    i64.const 2
    i64.store offset=8
    local.get 0
    i32.const 3
    i32.store8 offset=4000
  )
  (func $too_far (;1;) (type 0) (param i32)
    (local i32 i32)
    global.get 0
    i64.const 7
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
    i32.store8 2
    local.get 1
    i32.store
    local.get 0
    i32.const 2
    local.set 1
    local.tee 2
    local.get 2
    i32.const 8192
    i32.add
    i32.const 12
    i32.shr_u
    i32.const 1
    i32.store8 2
    local.get 1
    i32.store offset=8192
  )
  (func $another_value (;2;) (type 0) (param i32)
    (local i32 i32)
    global.get 0
    i64.const 11
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
    i32.store8 2
    local.get 1
    i32.store
    local.get 0
    i32.const 4
    i32.add
    local.set 0
    local.get 0
    i32.const 2
    local.set 1
    local.tee 2
    local.get 2
    i32.const 12
    i32.shr_u
    i32.const 1
    i32.store8 2
    local.get 1
    i32.store
  )
  (func $only_one_arm (;3;) (type 0) (param i32)
    (local i32 i32)
    global.get 0
    i64.const 4
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
    if ;; label = @1
      global.get 0
      i64.const 3
      i64.sub
      global.set 0
      local.get 0
      i32.const 1
      local.set 1
      local.tee 2
      local.get 2
      i32.const 12
      i32.shr_u
      i32.const 1
      i32.store8 2
      local.get 1
      i32.store
    end
    global.get 0
    i64.const 3
    i64.sub
    global.set 0
    local.get 0
    i32.const 2
    local.set 1
    local.tee 2
    local.get 2
    i32.const 12
    i32.shr_u
    i32.const 1
    i32.store8 2
    local.get 1
    i32.store
  )
  (func $left_early (;4;) (type 0) (param i32)
    (local i32 i32)
    global.get 0
    i64.const 4
    i64.sub
    global.set 0
    global.get 0
    i64.const 0
    i64.lt_s
    if ;; label = @1
      call $bedstone:out_of_instructions
      unreachable
    end
    block ;; label = @1
      local.get 0
      br_if 0 (;@1;)
      global.get 0
      i64.const 3
      i64.sub
      global.set 0
      local.get 0
      i32.const 1
      local.set 1
      local.tee 2
      local.get 2
      i32.const 12
      i32.shr_u
      i32.const 1
      i32.store8 2
      local.get 1
      i32.store
    end
    global.get 0
    i64.const 3
    i64.sub
    global.set 0
    local.get 0
    i32.const 2
    local.set 1
    local.tee 2
    local.get 2
    i32.const 12
    i32.shr_u
    i32.const 1
    i32.store8 2
    local.get 1
    i32.store
  )
  (func $in_a_loop (;5;) (type 0) (param i32)
    (local i32 i32)
    global.get 0
    i64.const 4
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
    i32.store8 2
    local.get 1
    i32.store
    loop ;; label = @1
      global.get 0
      i64.const 10
      i64.sub
      global.set 0
      global.get 0
      i64.const 0
      i64.lt_s
      if ;; label = @2
        call $bedstone:out_of_instructions
        unreachable
      end
      local.get 0
      i32.const 2
      local.set 1
      local.tee 2
      local.get 2
      i32.const 12
      i32.shr_u
      i32.const 1
      i32.store8 2
      local.get 1
      i32.store
      local.get 0
      i32.const 4
      i32.add
      local.set 0
      local.get 0
      br_if 0 (;@1;)
    end
  )
  (func $bulk (;6;) (type 1)
    (local i32 i32 i32)
    global.get 0
    i64.const 104
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
  )
