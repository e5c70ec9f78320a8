;; native global all
(module
  (import "ic0" "stable64_size" (func $size (result i64)))
  (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
  (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
  (memory 1)
  (global $g (mut i32) (i32.const 0))
  (data (i32.const 8) "applied once")
  (func $start (global.set $g (i32.const 1)))
  (start $start)
  (func (export "canister_update t")
    (drop (call $size))
    (call $write (i64.const 0) (i64.const 8) (i64.const 12))
    (call $read (i64.const 0) (i64.const 0) (i64.const 8))))
;; becomes
(module
  (type (;0;) (func (result i64)))
  (type (;1;) (func (param i64 i64 i64)))
  (type (;2;) (func))
  (type (;3;) (func (param i32)))
  (type (;4;) (func (param i64 i64)))
  (type (;5;) (func (param i64 i64) (result i64)))
  (type (;6;) (func (param i64)))
  (type (;7;) (func (param i64) (result i64)))
  (type (;8;) (func (param i64 i64 i64)))
  (type (;9;) (func))
  (type (;10;) (func (param i32) (result i32)))
  (type (;11;) (func (result i32)))
  (import "ic0" "stable64_size" (func $size (;0;) (type 0)))
  (import "ic0" "stable64_write" (func $write (;1;) (type 1)))
  (import "ic0" "stable64_read" (func $read (;2;) (type 1)))
  (table (;0;) 4 4 funcref)
  (memory (;0;) 1)
  (memory (;1;) i64 0 8192000)
  (memory (;2;) 2129 2129)
  (global $g (;0;) (mut i32) i32.const 0)
  (global (;1;) (mut i64) i64.const 0)
  (global (;2;) (mut i32) i32.const 0)
  (export "canister_update t" (func 4))
  (export "bedstone:counter" (global 1))
  (export "bedstone:heap" (memory 0))
  (export "bedstone:stable" (memory 1))
  (export "bedstone:tracking" (memory 2))
  (export "bedstone:slow" (table 0))
  (export "bedstone:start" (func $start))
  (export "bedstone:save_globals" (func $bedstone:save_globals))
  (export "bedstone:restore_globals" (func $bedstone:restore_globals))
  (func $start (;3;) (type 2)
    global.get 1
    i64.const 4
    i64.sub
    global.set 1
    global.get 1
    i64.const 0
    i64.lt_s
    if ;; label = @1
      call $bedstone:out_of_instructions
      unreachable
    end
    i32.const 1
    global.set $g
  )
  (func (;4;) (type 2)
    global.get 1
    i64.const 23
    i64.sub
    global.set 1
    global.get 1
    i64.const 0
    i64.lt_s
    if ;; label = @1
      call $bedstone:out_of_instructions
      unreachable
    end
    memory.size 1
    drop
    i64.const 0
    i64.const 8
    i64.const 12
    call $bedstone:stable64_write
    i64.const 0
    i64.const 0
    i64.const 8
    call $bedstone:stable64_read
  )
  (func $bedstone:out_of_instructions (;5;) (type 9)
    i32.const 1
    i32.const 0
    call_indirect (type 3)
  )
  (func $bedstone:mark_range (;6;) (type 4) (param i64 i64)
    (local i64)
    local.get 1
    i64.eqz
    if ;; label = @1
      return
    end
    local.get 0
    local.get 1
    i64.add
    local.tee 2
    local.get 0
    i64.lt_u
    if ;; label = @1
      return
    end
    local.get 2
    memory.size
    i64.extend_i32_u
    i64.const 16
    i64.shl
    i64.gt_u
    if ;; label = @1
      return
    end
    local.get 1
    i64.const 4096
    i64.le_u
    if ;; label = @1
      local.get 0
      i64.const 12
      i64.shr_u
      i32.wrap_i64
      i32.const 1
      i32.store8 2
    else
      local.get 0
      i64.const 12
      i64.shr_u
      i32.wrap_i64
      i32.const 0
      i32.add
      i32.const 1
      local.get 2
      i64.const 1
      i64.sub
      i64.const 12
      i64.shr_u
      local.get 0
      i64.const 12
      i64.shr_u
      i64.sub
      i64.const 1
      i64.add
      i32.wrap_i64
      memory.fill 2
    end
  )
  (func $bedstone:bulk (;7;) (type 4) (param i64 i64)
    global.get 1
    local.get 1
    i64.or
    global.get 1
    local.get 1
    i64.sub
    global.set 1
    global.get 1
    i64.or
    i64.const 0
    i64.lt_s
    if ;; label = @1
      call $bedstone:out_of_instructions
      unreachable
    end
    local.get 0
    local.get 1
    call $bedstone:mark_range
  )
  (func $bedstone:heap_grown (;8;) (type 10) (param i32) (result i32)
    local.get 0
    i32.const -1
    i32.ne
    if ;; label = @1
      local.get 0
      i64.extend_i32_u
      i32.const 3
      call_indirect (type 6)
    end
    local.get 0
  )
  (func $bedstone:save_globals (;9;) (type 11) (result i32)
    i32.const 0
    global.get $g
    i32.store 2 offset=4194304
    global.get 2
  )
  (func $bedstone:restore_globals (;10;) (type 11) (result i32)
    i32.const 0
    i32.load 2 offset=4194304
    global.set $g
    global.get 2
  )
  (func $bedstone:stable64_read (;11;) (type 8) (param i64 i64 i64)
    (local i64)
    block ;; label = @1
      global.get 1
      local.get 2
      i64.sub
      i64.const 20
      i64.sub
      local.tee 3
      i64.const 63
      i64.shr_u
      local.get 1
      i64.const 39
      i64.shr_u
      i64.or
      local.get 2
      i64.const 1
      i64.sub
      i64.const 12
      i64.shr_u
      i64.or
      local.get 0
      i64.const 32
      i64.shr_u
      i64.or
      i64.const 0
      i64.ne
      br_if 0 (;@1;)
      local.get 1
      i64.const 12
      i64.shr_u
      i32.wrap_i64
      i32.load8_u 2 offset=5242880
      local.get 1
      local.get 2
      i64.add
      i64.const 1
      i64.sub
      i64.const 12
      i64.shr_u
      i32.wrap_i64
      i32.load8_u 2 offset=5242880
      i32.and
      i32.eqz
      br_if 0 (;@1;)
      local.get 3
      global.set 1
      local.get 0
      i64.const 12
      i64.shr_u
      i32.wrap_i64
      i32.const 1
      i32.store8 2
      local.get 2
      i64.const 8
      i64.ge_u
      if ;; label = @2
        local.get 2
        i64.const 17
        i64.ge_u
        if ;; label = @3
          local.get 2
          i64.const 33
          i64.ge_u
          if ;; label = @4
            local.get 2
            i64.const 65
            i64.ge_u
            if ;; label = @5
              local.get 0
              i32.wrap_i64
              local.get 1
              local.get 2
              i32.wrap_i64
              memory.copy 0 1
            else
              local.get 0
              i32.wrap_i64
              local.get 1
              v128.load 1 align=1
              local.get 0
              i32.wrap_i64
              local.get 1
              v128.load 1 offset=16 align=1
              local.get 0
              i32.wrap_i64
              local.get 2
              i32.wrap_i64
              i32.add
              i32.const 32
              i32.sub
              local.get 1
              local.get 2
              i64.add
              i64.const 32
              i64.sub
              v128.load 1 align=1
              local.get 0
              i32.wrap_i64
              local.get 2
              i32.wrap_i64
              i32.add
              i32.const 16
              i32.sub
              local.get 1
              local.get 2
              i64.add
              i64.const 16
              i64.sub
              v128.load 1 align=1
              v128.store align=1
              v128.store align=1
              v128.store offset=16 align=1
              v128.store align=1
            end
          else
            local.get 0
            i32.wrap_i64
            local.get 1
            v128.load 1 align=1
            local.get 0
            i32.wrap_i64
            local.get 2
            i32.wrap_i64
            i32.add
            i32.const 16
            i32.sub
            local.get 1
            local.get 2
            i64.add
            i64.const 16
            i64.sub
            v128.load 1 align=1
            v128.store align=1
            v128.store align=1
          end
        else
          local.get 0
          i32.wrap_i64
          local.get 1
          i64.load 1 align=1
          local.get 0
          i32.wrap_i64
          local.get 2
          i32.wrap_i64
          i32.add
          i32.const 8
          i32.sub
          local.get 1
          local.get 2
          i64.add
          i64.const 8
          i64.sub
          i64.load 1 align=1
          i64.store align=1
          i64.store align=1
        end
      else
        local.get 2
        i64.const 4
        i64.ge_u
        if ;; label = @3
          local.get 0
          i32.wrap_i64
          local.get 1
          i32.load 1 align=1
          local.get 0
          i32.wrap_i64
          local.get 2
          i32.wrap_i64
          i32.add
          i32.const 4
          i32.sub
          local.get 1
          local.get 2
          i64.add
          i64.const 4
          i64.sub
          i32.load 1 align=1
          i32.store align=1
          i32.store align=1
        else
          local.get 2
          i64.const 2
          i64.ge_u
          if ;; label = @4
            local.get 0
            i32.wrap_i64
            local.get 1
            i32.load16_u 1 align=1
            local.get 0
            i32.wrap_i64
            local.get 2
            i32.wrap_i64
            i32.add
            i32.const 2
            i32.sub
            local.get 1
            local.get 2
            i64.add
            i64.const 2
            i64.sub
            i32.load16_u 1 align=1
            i32.store16 align=1
            i32.store16 align=1
          else
            local.get 0
            i32.wrap_i64
            local.get 1
            i32.load8_u 1
            i32.store8
          end
        end
      end
      return
    end
    local.get 0
    local.get 1
    local.get 2
    call $"#func13 bedstone:stable64_read"
  )
  (func $bedstone:stable64_write (;12;) (type 8) (param i64 i64 i64)
    (local i64)
    block ;; label = @1
      global.get 1
      local.get 2
      i64.sub
      i64.const 20
      i64.sub
      local.tee 3
      i64.const 63
      i64.shr_u
      local.get 0
      i64.const 39
      i64.shr_u
      i64.or
      local.get 2
      i64.const 1
      i64.sub
      i64.const 12
      i64.shr_u
      i64.or
      local.get 1
      i64.const 32
      i64.shr_u
      i64.or
      i64.const 0
      i64.ne
      br_if 0 (;@1;)
      local.get 0
      i64.const 12
      i64.shr_u
      i32.wrap_i64
      i32.load8_u 2 offset=5242880
      local.get 0
      local.get 2
      i64.add
      i64.const 1
      i64.sub
      i64.const 12
      i64.shr_u
      i32.wrap_i64
      i32.load8_u 2 offset=5242880
      i32.and
      i32.const 1
      i32.and
      i32.eqz
      br_if 0 (;@1;)
      local.get 3
      global.set 1
      local.get 2
      i64.const 8
      i64.ge_u
      if ;; label = @2
        local.get 2
        i64.const 17
        i64.ge_u
        if ;; label = @3
          local.get 2
          i64.const 33
          i64.ge_u
          if ;; label = @4
            local.get 2
            i64.const 65
            i64.ge_u
            if ;; label = @5
              local.get 0
              local.get 1
              i32.wrap_i64
              local.get 2
              i32.wrap_i64
              memory.copy 1 0
            else
              local.get 0
              local.get 1
              i32.wrap_i64
              v128.load align=1
              local.get 0
              local.get 1
              i32.wrap_i64
              v128.load offset=16 align=1
              local.get 0
              local.get 2
              i64.add
              i64.const 32
              i64.sub
              local.get 1
              i32.wrap_i64
              local.get 2
              i32.wrap_i64
              i32.add
              i32.const 32
              i32.sub
              v128.load align=1
              local.get 0
              local.get 2
              i64.add
              i64.const 16
              i64.sub
              local.get 1
              i32.wrap_i64
              local.get 2
              i32.wrap_i64
              i32.add
              i32.const 16
              i32.sub
              v128.load align=1
              v128.store 1 align=1
              v128.store 1 align=1
              v128.store 1 offset=16 align=1
              v128.store 1 align=1
            end
          else
            local.get 0
            local.get 1
            i32.wrap_i64
            v128.load align=1
            local.get 0
            local.get 2
            i64.add
            i64.const 16
            i64.sub
            local.get 1
            i32.wrap_i64
            local.get 2
            i32.wrap_i64
            i32.add
            i32.const 16
            i32.sub
            v128.load align=1
            v128.store 1 align=1
            v128.store 1 align=1
          end
        else
          local.get 0
          local.get 1
          i32.wrap_i64
          i64.load align=1
          local.get 0
          local.get 2
          i64.add
          i64.const 8
          i64.sub
          local.get 1
          i32.wrap_i64
          local.get 2
          i32.wrap_i64
          i32.add
          i32.const 8
          i32.sub
          i64.load align=1
          i64.store 1 align=1
          i64.store 1 align=1
        end
      else
        local.get 2
        i64.const 4
        i64.ge_u
        if ;; label = @3
          local.get 0
          local.get 1
          i32.wrap_i64
          i32.load align=1
          local.get 0
          local.get 2
          i64.add
          i64.const 4
          i64.sub
          local.get 1
          i32.wrap_i64
          local.get 2
          i32.wrap_i64
          i32.add
          i32.const 4
          i32.sub
          i32.load align=1
          i32.store 1 align=1
          i32.store 1 align=1
        else
          local.get 2
          i64.const 2
          i64.ge_u
          if ;; label = @4
            local.get 0
            local.get 1
            i32.wrap_i64
            i32.load16_u align=1
            local.get 0
            local.get 2
            i64.add
            i64.const 2
            i64.sub
            local.get 1
            i32.wrap_i64
            local.get 2
            i32.wrap_i64
            i32.add
            i32.const 2
            i32.sub
            i32.load16_u align=1
            i32.store16 1 align=1
            i32.store16 1 align=1
          else
            local.get 0
            local.get 1
            i32.wrap_i64
            i32.load8_u
            i32.store8 1
          end
        end
      end
      return
    end
    local.get 0
    local.get 1
    local.get 2
    call $"#func14 bedstone:stable64_write"
  )
  (func $"#func13 bedstone:stable64_read" (@name "bedstone:stable64_read") (;13;) (type 8) (param i64 i64 i64)
    (local i64)
    local.get 2
    i64.const 20
    i64.add
    local.set 3
    global.get 1
    local.get 3
    i64.or
    global.get 1
    local.get 3
    i64.sub
    global.set 1
    global.get 1
    i64.or
    i64.const 0
    i64.lt_s
    if ;; label = @1
      call $bedstone:out_of_instructions
      unreachable
    end
    local.get 2
    i64.eqz
    if ;; label = @1
      return
    end
    local.get 1
    local.get 2
    i64.add
    local.tee 3
    local.get 1
    i64.lt_u
    local.get 3
    memory.size 1
    i64.const 16
    i64.shl
    i64.gt_u
    i32.or
    if ;; label = @1
      i32.const 2
      i32.const 0
      call_indirect (type 3)
      unreachable
    end
    local.get 0
    i64.const 4294967295
    i64.gt_u
    local.get 2
    i64.const 4294967295
    i64.gt_u
    i32.or
    if ;; label = @1
      i32.const 3
      i32.const 0
      call_indirect (type 3)
      unreachable
    end
    local.get 1
    i64.const 12
    i64.shr_u
    local.get 3
    i64.const 1
    i64.sub
    i64.const 12
    i64.shr_u
    i32.const 1
    call_indirect (type 4)
    local.get 0
    local.get 2
    call $bedstone:mark_range
    local.get 0
    i32.wrap_i64
    local.get 1
    local.get 2
    i32.wrap_i64
    memory.copy 0 1
  )
  (func $"#func14 bedstone:stable64_write" (@name "bedstone:stable64_write") (;14;) (type 8) (param i64 i64 i64)
    (local i64)
    local.get 2
    i64.const 20
    i64.add
    local.set 3
    global.get 1
    local.get 3
    i64.or
    global.get 1
    local.get 3
    i64.sub
    global.set 1
    global.get 1
    i64.or
    i64.const 0
    i64.lt_s
    if ;; label = @1
      call $bedstone:out_of_instructions
      unreachable
    end
    local.get 2
    i64.eqz
    if ;; label = @1
      return
    end
    local.get 0
    local.get 2
    i64.add
    local.tee 3
    local.get 0
    i64.lt_u
    local.get 3
    memory.size 1
    i64.const 16
    i64.shl
    i64.gt_u
    i32.or
    if ;; label = @1
      i32.const 2
      i32.const 0
      call_indirect (type 3)
      unreachable
    end
    local.get 1
    i64.const 4294967295
    i64.gt_u
    local.get 2
    i64.const 4294967295
    i64.gt_u
    i32.or
    if ;; label = @1
      i32.const 3
      i32.const 0
      call_indirect (type 3)
      unreachable
    end
    local.get 0
    i64.const 12
    i64.shr_u
    local.get 3
    i64.const 1
    i64.sub
    i64.const 12
    i64.shr_u
    i32.const 2
    call_indirect (type 5)
    i64.const 1000
    i64.mul
    local.set 3
    global.get 1
    local.get 3
    i64.or
    global.get 1
    local.get 3
    i64.sub
    global.set 1
    global.get 1
    i64.or
    i64.const 0
    i64.lt_s
    if ;; label = @1
      call $bedstone:out_of_instructions
      unreachable
    end
    local.get 0
    local.get 1
    i32.wrap_i64
    local.get 2
    i32.wrap_i64
    memory.copy 1 0
  )
  (func $bedstone:stable64_size (;15;) (type 0) (result i64)
    memory.size 1
  )
  (func $"#func16 bedstone:stable64_write" (@name "bedstone:stable64_write") (;16;) (type 1) (param i64 i64 i64)
    local.get 0
    local.get 1
    local.get 2
    call $bedstone:stable64_write
  )
  (func $"#func17 bedstone:stable64_read" (@name "bedstone:stable64_read") (;17;) (type 1) (param i64 i64 i64)
    local.get 0
    local.get 1
    local.get 2
    call $bedstone:stable64_read
  )
  (data (;0;) "")
)
