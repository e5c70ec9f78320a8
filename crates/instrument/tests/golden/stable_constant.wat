;; native threaded
(module
  (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
  (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
  (memory 1)
  (func (param $dst i64) (param $off i64)
    (call $read (local.get $dst) (local.get $off) (i64.const 8))
    (call $write (local.get $off) (local.get $dst) (i64.const 11)))
  ;; Longer than the fast path, and not known.
  (func (param $at i64) (param $len i64)
    (call $read (local.get $at) (local.get $at) (i64.const 65))
    (call $read (local.get $at) (local.get $at) (local.get $len))))
;; becomes
  (func (;2;) (type 7) (param i64 i64 i64) (result i64)
    (local i64 i64 i64)
    local.get 2
    i64.const 17
    i64.sub
    local.set 2
    local.get 2
    i64.const 0
    i64.lt_s
    if ;; label = @1
      local.get 2
      global.set 0
      call $bedstone:out_of_instructions
      unreachable
    end
    block ;; label = @1
      local.get 0
      local.get 1
      i64.const 8
      drop
      local.set 3
      local.set 4
      block ;; label = @2
        block ;; label = @3
          local.get 2
          i64.const 28
          i64.sub
          local.tee 5
          i64.const 63
          i64.shr_u
          local.get 3
          i64.const 39
          i64.shr_u
          i64.or
          local.get 4
          i64.const 32
          i64.shr_u
          i64.or
          i64.const 0
          i64.ne
          br_if 0 (;@3;)
          local.get 3
          i64.const 12
          i64.shr_u
          i32.wrap_i64
          i32.load8_u 2 offset=5242880
          local.get 3
          i64.const 7
          i64.add
          i64.const 12
          i64.shr_u
          i32.wrap_i64
          i32.load8_u 2 offset=5242880
          i32.and
          i32.eqz
          br_if 0 (;@3;)
          local.get 5
          local.set 2
          local.get 4
          i64.const 12
          i64.shr_u
          i32.wrap_i64
          i32.const 1
          i32.store8 2
          local.get 4
          i32.wrap_i64
          local.get 3
          i64.load 1 align=1
          i64.store align=1
          br 1 (;@2;)
        end
        local.get 4
        local.get 3
        i64.const 8
        local.get 2
        call $"#func12 bedstone:stable64_read"
        local.set 2
      end
      local.get 1
      local.get 0
      i64.const 11
      drop
      local.set 4
      local.set 3
      block ;; label = @2
        block ;; label = @3
          local.get 2
          i64.const 31
          i64.sub
          local.tee 5
          i64.const 63
          i64.shr_u
          local.get 3
          i64.const 39
          i64.shr_u
          i64.or
          local.get 4
          i64.const 32
          i64.shr_u
          i64.or
          i64.const 0
          i64.ne
          br_if 0 (;@3;)
          local.get 3
          i64.const 12
          i64.shr_u
          i32.wrap_i64
          i32.load8_u 2 offset=5242880
          local.get 3
          i64.const 10
          i64.add
          i64.const 12
          i64.shr_u
          i32.wrap_i64
          i32.load8_u 2 offset=5242880
          i32.and
          i32.const 1
          i32.and
          i32.eqz
          br_if 0 (;@3;)
          local.get 5
          local.set 2
          local.get 3
          local.get 4
          i32.wrap_i64
          i64.load align=1
          local.get 3
          local.get 4
          i32.wrap_i64
          i64.load offset=3 align=1
          i64.store 1 offset=3 align=1
          i64.store 1 align=1
          br 1 (;@2;)
        end
        local.get 3
        local.get 4
        i64.const 11
        local.get 2
        call $"#func13 bedstone:stable64_write"
        local.set 2
      end
    end
    local.get 2
  )
  (func (;3;) (type 7) (param i64 i64 i64) (result i64)
    local.get 2
    i64.const 17
    i64.sub
    local.set 2
    local.get 2
    i64.const 0
    i64.lt_s
    if ;; label = @1
      local.get 2
      global.set 0
      call $bedstone:out_of_instructions
      unreachable
    end
    block ;; label = @1
      local.get 0
      local.get 0
      i64.const 65
      local.get 2
      call $bedstone:stable64_read
      local.set 2
      local.get 0
      local.get 0
      local.get 1
      local.get 2
      call $bedstone:stable64_read
      local.set 2
    end
    local.get 2
  )
