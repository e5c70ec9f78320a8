;; native threaded all several
(module
  (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
  (memory $m i64 1)
  (memory $n 1)
  (data (memory $n) (i32.const 8) "applied once")
  (global $g (mut i32) (i32.const 0))
  (func (export "canister_update t")
    ;; system functions reach memory 0
    (call $read (i64.const 0) (i64.const 0) (i64.const 8))
    (memory.fill $n (i32.const 0) (i32.const 1) (i32.const 100))
    (global.set $g (memory.grow $n (i32.const 1)))))
;; becomes
(module
  (type (;0;) (func (param i64 i64 i64)))
  (type (;1;) (func))
  (type (;2;) (func (param i32)))
  (type (;3;) (func (param i64 i64)))
  (type (;4;) (func (param i64 i64) (result i64)))
  (type (;5;) (func (param i64)))
  (type (;6;) (func (param i64) (result i64)))
  (type (;7;) (func (param i64 i64 i64 i64) (result i64)))
  (type (;8;) (func))
  (type (;9;) (func (param i64 i64 i64) (result i64)))
  (type (;10;) (func (param i64 i64) (result i64 i64)))
  (type (;11;) (func (result i32)))
  (type (;12;) (func (param i64 i64 i64 i32)))
  (type (;13;) (func (param i64 i64 i64 i32 i64) (result i64)))
  (type (;14;) (func (param i32 i64) (result i32 i64)))
  (import "ic0" "stable64_read" (func $read (;0;) (type 0)))
  (table (;0;) 4 4 funcref)
  (memory $m (;0;) i64 1)
  (memory $n (;1;) 1)
  (memory (;2;) i64 0 8192000)
  (memory (;3;) 2145 2145)
  (global $g (;0;) (mut i32) i32.const 0)
  (global (;1;) (mut i64) i64.const 0)
  (global (;2;) (mut i32) i32.const 0)
  (export "canister_update t" (func $bedstone:entry))
  (export "bedstone:counter" (global 1))
  (export "bedstone:heap" (memory $m))
  (export "bedstone:heap 1" (memory $n))
  (export "bedstone:stable" (memory 2))
  (export "bedstone:tracking" (memory 3))
  (export "bedstone:slow" (table 0))
  (export "bedstone:save_globals" (func $bedstone:save_globals))
  (export "bedstone:restore_globals" (func $bedstone:restore_globals))
  (func (;1;) (type 6) (param i64) (result i64)
    (local i64 i64 i64 i32 i32 i32)
    local.get 0
    i64.const 415
    i64.sub
    local.set 0
    local.get 0
    i64.const 0
    i64.lt_s
    if ;; label = @1
      local.get 0
      global.set 1
      call $bedstone:out_of_instructions
      unreachable
    end
    block ;; label = @1
      i64.const 0
      i64.const 0
      i64.const 8
      drop
      local.set 1
      local.set 2
      block ;; label = @2
        block ;; label = @3
          local.get 0
          i64.const 28
          i64.sub
          local.tee 3
          i64.const 63
          i64.shr_u
          local.get 1
          i64.const 39
          i64.shr_u
          i64.or
          local.get 2
          i64.const 40
          i64.shr_u
          i64.or
          i64.const 0
          i64.ne
          br_if 0 (;@3;)
          local.get 1
          i64.const 12
          i64.shr_u
          i32.wrap_i64
          i32.load8_u 3 offset=6291456
          local.get 1
          i64.const 7
          i64.add
          i64.const 12
          i64.shr_u
          i32.wrap_i64
          i32.load8_u 3 offset=6291456
          i32.and
          i32.eqz
          br_if 0 (;@3;)
          local.get 3
          local.set 0
          local.get 2
          i64.const 12
          i64.shr_u
          i32.wrap_i64
          i32.const 4194303
          i32.and
          i32.const 1
          i32.store8 3
          local.get 2
          local.get 1
          i64.load 2 align=1
          i64.store align=1
          br 1 (;@2;)
        end
        local.get 2
        local.get 1
        i64.const 8
        local.get 0
        call $"#func10 bedstone:stable64_read"
        local.set 0
      end
      i32.const 0
      i32.const 1
      i32.const 100
      local.set 4
      local.set 5
      local.tee 6
      i64.extend_i32_u
      local.get 4
      i64.extend_i32_u
      memory.size $n
      i64.extend_i32_u
      i64.const 16
      i64.shl
      i32.const 4194304
      local.get 0
      call $bedstone:bulk_elsewhere
      local.set 0
      local.get 6
      local.get 5
      local.get 4
      memory.fill $n
      i32.const 1
      memory.grow $n
      local.get 0
      call $bedstone:grown_elsewhere
      local.set 0
      global.set $g
    end
    local.get 0
  )
  (func $bedstone:out_of_instructions (;2;) (type 8)
    i32.const 1
    i32.const 0
    call_indirect (type 2)
  )
  (func $bedstone:mark_range (;3;) (type 3) (param i64 i64)
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
      i32.store8 3
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
      memory.fill 3
    end
  )
  (func $bedstone:bulk (;4;) (type 9) (param i64 i64 i64) (result i64)
    local.get 2
    local.get 1
    i64.or
    local.get 2
    local.get 1
    i64.sub
    local.set 2
    local.get 2
    i64.or
    i64.const 0
    i64.lt_s
    if ;; label = @1
      local.get 2
      global.set 1
      call $bedstone:out_of_instructions
      unreachable
    end
    local.get 0
    local.get 1
    call $bedstone:mark_range
    local.get 2
  )
  (func $bedstone:heap_grown (;5;) (type 10) (param i64 i64) (result i64 i64)
    local.get 0
    i64.const -1
    i64.ne
    if ;; label = @1
      local.get 1
      global.set 1
      local.get 0
      i32.const 3
      call_indirect (type 5)
    end
    local.get 0
    local.get 1
  )
  (func $bedstone:save_globals (;6;) (type 11) (result i32)
    i32.const 0
    global.get $g
    i32.store 3 offset=5242880
    global.get 2
  )
  (func $bedstone:restore_globals (;7;) (type 11) (result i32)
    i32.const 0
    i32.load 3 offset=5242880
    global.set $g
    global.get 2
  )
  (func $bedstone:stable64_read (;8;) (type 7) (param i64 i64 i64 i64) (result i64)
    (local i64)
    block ;; label = @1
      local.get 3
      local.get 2
      i64.sub
      i64.const 20
      i64.sub
      local.tee 4
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
      i64.const 40
      i64.shr_u
      i64.or
      i64.const 0
      i64.ne
      br_if 0 (;@1;)
      local.get 1
      i64.const 12
      i64.shr_u
      i32.wrap_i64
      i32.load8_u 3 offset=6291456
      local.get 1
      local.get 2
      i64.add
      i64.const 1
      i64.sub
      i64.const 12
      i64.shr_u
      i32.wrap_i64
      i32.load8_u 3 offset=6291456
      i32.and
      i32.eqz
      br_if 0 (;@1;)
      local.get 4
      local.set 3
      local.get 0
      i64.const 12
      i64.shr_u
      i32.wrap_i64
      i32.const 4194303
      i32.and
      i32.const 1
      i32.store8 3
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
              local.get 2
              memory.copy $m 2
            else
              local.get 0
              local.get 1
              v128.load 2 align=1
              local.get 0
              local.get 1
              v128.load 2 offset=16 align=1
              local.get 0
              local.get 2
              i64.add
              i64.const 32
              i64.sub
              local.get 1
              local.get 2
              i64.add
              i64.const 32
              i64.sub
              v128.load 2 align=1
              local.get 0
              local.get 2
              i64.add
              i64.const 16
              i64.sub
              local.get 1
              local.get 2
              i64.add
              i64.const 16
              i64.sub
              v128.load 2 align=1
              v128.store align=1
              v128.store align=1
              v128.store offset=16 align=1
              v128.store align=1
            end
          else
            local.get 0
            local.get 1
            v128.load 2 align=1
            local.get 0
            local.get 2
            i64.add
            i64.const 16
            i64.sub
            local.get 1
            local.get 2
            i64.add
            i64.const 16
            i64.sub
            v128.load 2 align=1
            v128.store align=1
            v128.store align=1
          end
        else
          local.get 0
          local.get 1
          i64.load 2 align=1
          local.get 0
          local.get 2
          i64.add
          i64.const 8
          i64.sub
          local.get 1
          local.get 2
          i64.add
          i64.const 8
          i64.sub
          i64.load 2 align=1
          i64.store align=1
          i64.store align=1
        end
      else
        local.get 2
        i64.const 4
        i64.ge_u
        if ;; label = @3
          local.get 0
          local.get 1
          i32.load 2 align=1
          local.get 0
          local.get 2
          i64.add
          i64.const 4
          i64.sub
          local.get 1
          local.get 2
          i64.add
          i64.const 4
          i64.sub
          i32.load 2 align=1
          i32.store align=1
          i32.store align=1
        else
          local.get 2
          i64.const 2
          i64.ge_u
          if ;; label = @4
            local.get 0
            local.get 1
            i32.load16_u 2 align=1
            local.get 0
            local.get 2
            i64.add
            i64.const 2
            i64.sub
            local.get 1
            local.get 2
            i64.add
            i64.const 2
            i64.sub
            i32.load16_u 2 align=1
            i32.store16 align=1
            i32.store16 align=1
          else
            local.get 0
            local.get 1
            i32.load8_u 2
            i32.store8
          end
        end
      end
      local.get 3
      return
    end
    local.get 0
    local.get 1
    local.get 2
    local.get 3
    call $"#func10 bedstone:stable64_read"
    local.set 3
    local.get 3
  )
  (func $bedstone:stable64_write (;9;) (type 7) (param i64 i64 i64 i64) (result i64)
    (local i64)
    block ;; label = @1
      local.get 3
      local.get 2
      i64.sub
      i64.const 20
      i64.sub
      local.tee 4
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
      i64.const 40
      i64.shr_u
      i64.or
      i64.const 0
      i64.ne
      br_if 0 (;@1;)
      local.get 0
      i64.const 12
      i64.shr_u
      i32.wrap_i64
      i32.load8_u 3 offset=6291456
      local.get 0
      local.get 2
      i64.add
      i64.const 1
      i64.sub
      i64.const 12
      i64.shr_u
      i32.wrap_i64
      i32.load8_u 3 offset=6291456
      i32.and
      i32.const 1
      i32.and
      i32.eqz
      br_if 0 (;@1;)
      local.get 4
      local.set 3
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
              local.get 2
              memory.copy 2 $m
            else
              local.get 0
              local.get 1
              v128.load align=1
              local.get 0
              local.get 1
              v128.load offset=16 align=1
              local.get 0
              local.get 2
              i64.add
              i64.const 32
              i64.sub
              local.get 1
              local.get 2
              i64.add
              i64.const 32
              i64.sub
              v128.load align=1
              local.get 0
              local.get 2
              i64.add
              i64.const 16
              i64.sub
              local.get 1
              local.get 2
              i64.add
              i64.const 16
              i64.sub
              v128.load align=1
              v128.store 2 align=1
              v128.store 2 align=1
              v128.store 2 offset=16 align=1
              v128.store 2 align=1
            end
          else
            local.get 0
            local.get 1
            v128.load align=1
            local.get 0
            local.get 2
            i64.add
            i64.const 16
            i64.sub
            local.get 1
            local.get 2
            i64.add
            i64.const 16
            i64.sub
            v128.load align=1
            v128.store 2 align=1
            v128.store 2 align=1
          end
        else
          local.get 0
          local.get 1
          i64.load align=1
          local.get 0
          local.get 2
          i64.add
          i64.const 8
          i64.sub
          local.get 1
          local.get 2
          i64.add
          i64.const 8
          i64.sub
          i64.load align=1
          i64.store 2 align=1
          i64.store 2 align=1
        end
      else
        local.get 2
        i64.const 4
        i64.ge_u
        if ;; label = @3
          local.get 0
          local.get 1
          i32.load align=1
          local.get 0
          local.get 2
          i64.add
          i64.const 4
          i64.sub
          local.get 1
          local.get 2
          i64.add
          i64.const 4
          i64.sub
          i32.load align=1
          i32.store 2 align=1
          i32.store 2 align=1
        else
          local.get 2
          i64.const 2
          i64.ge_u
          if ;; label = @4
            local.get 0
            local.get 1
            i32.load16_u align=1
            local.get 0
            local.get 2
            i64.add
            i64.const 2
            i64.sub
            local.get 1
            local.get 2
            i64.add
            i64.const 2
            i64.sub
            i32.load16_u align=1
            i32.store16 2 align=1
            i32.store16 2 align=1
          else
            local.get 0
            local.get 1
            i32.load8_u
            i32.store8 2
          end
        end
      end
      local.get 3
      return
    end
    local.get 0
    local.get 1
    local.get 2
    local.get 3
    call $"#func11 bedstone:stable64_write"
    local.set 3
    local.get 3
  )
  (func $"#func10 bedstone:stable64_read" (@name "bedstone:stable64_read") (;10;) (type 7) (param i64 i64 i64 i64) (result i64)
    (local i64)
    local.get 2
    i64.const 20
    i64.add
    local.set 4
    local.get 3
    local.get 4
    i64.or
    local.get 3
    local.get 4
    i64.sub
    local.set 3
    local.get 3
    i64.or
    i64.const 0
    i64.lt_s
    if ;; label = @1
      local.get 3
      global.set 1
      call $bedstone:out_of_instructions
      unreachable
    end
    local.get 2
    i64.eqz
    if ;; label = @1
      local.get 3
      return
    end
    local.get 1
    local.get 2
    i64.add
    local.tee 4
    local.get 1
    i64.lt_u
    local.get 4
    memory.size 2
    i64.const 16
    i64.shl
    i64.gt_u
    i32.or
    if ;; label = @1
      local.get 3
      global.set 1
      i32.const 2
      i32.const 0
      call_indirect (type 2)
      unreachable
    end
    local.get 0
    i64.const 6442450944
    i64.gt_u
    local.get 2
    i64.const 6442450944
    i64.gt_u
    i32.or
    if ;; label = @1
      local.get 3
      global.set 1
      i32.const 3
      i32.const 0
      call_indirect (type 2)
      unreachable
    end
    local.get 3
    global.set 1
    local.get 1
    i64.const 12
    i64.shr_u
    local.get 4
    i64.const 1
    i64.sub
    i64.const 12
    i64.shr_u
    i32.const 1
    call_indirect (type 3)
    local.get 0
    local.get 2
    call $bedstone:mark_range
    local.get 0
    local.get 1
    local.get 2
    memory.copy $m 2
    local.get 3
  )
  (func $"#func11 bedstone:stable64_write" (@name "bedstone:stable64_write") (;11;) (type 7) (param i64 i64 i64 i64) (result i64)
    (local i64)
    local.get 2
    i64.const 20
    i64.add
    local.set 4
    local.get 3
    local.get 4
    i64.or
    local.get 3
    local.get 4
    i64.sub
    local.set 3
    local.get 3
    i64.or
    i64.const 0
    i64.lt_s
    if ;; label = @1
      local.get 3
      global.set 1
      call $bedstone:out_of_instructions
      unreachable
    end
    local.get 2
    i64.eqz
    if ;; label = @1
      local.get 3
      return
    end
    local.get 0
    local.get 2
    i64.add
    local.tee 4
    local.get 0
    i64.lt_u
    local.get 4
    memory.size 2
    i64.const 16
    i64.shl
    i64.gt_u
    i32.or
    if ;; label = @1
      local.get 3
      global.set 1
      i32.const 2
      i32.const 0
      call_indirect (type 2)
      unreachable
    end
    local.get 1
    i64.const 6442450944
    i64.gt_u
    local.get 2
    i64.const 6442450944
    i64.gt_u
    i32.or
    if ;; label = @1
      local.get 3
      global.set 1
      i32.const 3
      i32.const 0
      call_indirect (type 2)
      unreachable
    end
    local.get 3
    global.set 1
    local.get 0
    i64.const 12
    i64.shr_u
    local.get 4
    i64.const 1
    i64.sub
    i64.const 12
    i64.shr_u
    i32.const 2
    call_indirect (type 4)
    i64.const 1000
    i64.mul
    local.set 4
    local.get 3
    local.get 4
    i64.or
    local.get 3
    local.get 4
    i64.sub
    local.set 3
    local.get 3
    i64.or
    i64.const 0
    i64.lt_s
    if ;; label = @1
      local.get 3
      global.set 1
      call $bedstone:out_of_instructions
      unreachable
    end
    local.get 0
    local.get 1
    local.get 2
    memory.copy 2 $m
    local.get 3
  )
  (func $bedstone:mark_range_elsewhere (;12;) (type 12) (param i64 i64 i64 i32)
    (local i64)
    local.get 1
    i64.eqz
    if ;; label = @1
      return
    end
    local.get 0
    local.get 1
    i64.add
    local.tee 4
    local.get 0
    i64.lt_u
    if ;; label = @1
      return
    end
    local.get 4
    local.get 2
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
      local.get 3
      i32.add
      i32.const 1
      i32.store8 3
    else
      local.get 0
      i64.const 12
      i64.shr_u
      i32.wrap_i64
      local.get 3
      i32.add
      i32.const 1
      local.get 4
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
      memory.fill 3
    end
  )
  (func $bedstone:bulk_elsewhere (;13;) (type 13) (param i64 i64 i64 i32 i64) (result i64)
    local.get 4
    local.get 1
    i64.or
    local.get 4
    local.get 1
    i64.sub
    local.set 4
    local.get 4
    i64.or
    i64.const 0
    i64.lt_s
    if ;; label = @1
      local.get 4
      global.set 1
      call $bedstone:out_of_instructions
      unreachable
    end
    local.get 0
    local.get 1
    local.get 2
    local.get 3
    call $bedstone:mark_range_elsewhere
    local.get 4
  )
  (func $bedstone:grown_elsewhere (;14;) (type 14) (param i32 i64) (result i32 i64)
    local.get 0
    i32.const -1
    i32.ne
    if ;; label = @1
      local.get 1
      global.set 1
      local.get 0
      i64.extend_i32_u
      i32.const 3
      call_indirect (type 5)
    end
    local.get 0
    local.get 1
  )
  (func $"#func15 bedstone:stable64_read" (@name "bedstone:stable64_read") (;15;) (type 7) (param i64 i64 i64 i64) (result i64)
    local.get 0
    local.get 1
    local.get 2
    local.get 3
    call $bedstone:stable64_read
    local.set 3
    local.get 3
  )
  (func $bedstone:entry (;16;) (type 8)
    global.get 1
    call 1
    global.set 1
  )
  (data (;0;) "")
)
