;; host global all
(module
  (import "ic0" "msg_reply" (func $reply))
  (table $t 3 funcref)
  (elem (table $t) (i32.const 0) func $reply $own)
  (elem declare func $reply)
  (func $own (drop (ref.func $reply)))
  (export "canister_update forward" (func $reply)))
;; becomes
(module
  (type (;0;) (func))
  (type (;1;) (func (param i32)))
  (type (;2;) (func (param i64 i64)))
  (type (;3;) (func (param i64 i64) (result i64)))
  (type (;4;) (func (param i64)))
  (type (;5;) (func (param i64) (result i64)))
  (type (;6;) (func (param i64 i64 i64)))
  (type (;7;) (func))
  (type (;8;) (func (param i32) (result i32)))
  (type (;9;) (func (result i32)))
  (import "ic0" "msg_reply" (func $reply (;0;) (type 0)))
  (table $t (;0;) 3 funcref)
  (table (;1;) 4 4 funcref)
  (memory (;0;) 2129 2129)
  (global (;0;) (mut i64) i64.const 0)
  (global (;1;) (mut i32) i32.const 0)
  (export "canister_update forward" (func $bedstone:msg_reply))
  (export "bedstone:counter" (global 0))
  (export "bedstone:tracking" (memory 0))
  (export "bedstone:slow" (table 1))
  (export "bedstone:table" (table $t))
  (export "bedstone:callback" (func $bedstone:callback))
  (export "bedstone:save_globals" (func $bedstone:save_globals))
  (export "bedstone:restore_globals" (func $bedstone:restore_globals))
  (elem (;0;) (table $t) (i32.const 0) func $bedstone:msg_reply $own)
  (elem (;1;) declare func $bedstone:msg_reply)
  (func $own (;1;) (type 0)
    global.get 0
    i64.const 132
    i64.sub
    global.set 0
    global.get 0
    i64.const 0
    i64.lt_s
    if ;; label = @1
      call $bedstone:out_of_instructions
      unreachable
    end
    ref.func $bedstone:msg_reply
    drop
  )
  (func $bedstone:out_of_instructions (;2;) (type 7)
    i32.const 1
    i32.const 0
    call_indirect 1 (type 1)
  )
  (func $bedstone:mark_range (;3;) (type 2) (param i64 i64)
    (local i64)
  )
  (func $bedstone:bulk (;4;) (type 2) (param i64 i64)
    global.get 0
    local.get 1
    i64.or
    global.get 0
    local.get 1
    i64.sub
    global.set 0
    global.get 0
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
  (func $bedstone:heap_grown (;5;) (type 8) (param i32) (result i32)
    local.get 0
    i32.const -1
    i32.ne
    if ;; label = @1
      local.get 0
      i64.extend_i32_u
      i32.const 3
      call_indirect 1 (type 4)
    end
    local.get 0
  )
  (func $bedstone:save_globals (;6;) (type 9) (result i32)
    global.get 1
  )
  (func $bedstone:restore_globals (;7;) (type 9) (result i32)
    global.get 1
  )
  (func $bedstone:stable64_read (;8;) (type 6) (param i64 i64 i64))
  (func $bedstone:stable64_write (;9;) (type 6) (param i64 i64 i64))
  (func $"#func10 bedstone:stable64_read" (@name "bedstone:stable64_read") (;10;) (type 6) (param i64 i64 i64))
  (func $"#func11 bedstone:stable64_write" (@name "bedstone:stable64_write") (;11;) (type 6) (param i64 i64 i64))
  (func $bedstone:msg_reply (;12;) (type 0)
    (local i64)
    i64.const 500
    local.set 0
    global.get 0
    local.get 0
    i64.or
    global.get 0
    local.get 0
    i64.sub
    global.set 0
    global.get 0
    i64.or
    i64.const 0
    i64.lt_s
    if ;; label = @1
      call $bedstone:out_of_instructions
      unreachable
    end
    call $reply
  )
  (func $bedstone:callback (;13;) (type 2) (param i64 i64)
    local.get 1
    i32.wrap_i64
    local.get 0
    i32.wrap_i64
    call_indirect (type 1)
  )
)
