;; native threaded
(module
  (type $unary (func (param i32) (result i32)))
  (import "ic0" "msg_reply" (func $reply))
  (table 2 funcref)
  (elem (i32.const 0) $twice $reply)
  (func $twice (type $unary) (local $t i32)
    (local.set $t (local.get 0))
    (i32.add (local.get 0) (local.get $t)))
  (func $pair (result i32 i64) (i32.const 1) (i64.const 2))
  (func $tail (param i32) (result i32) (return_call $twice (local.get 0)))
  (func (export "canister_update t")
    (drop (call_indirect (type $unary) (i32.const 5) (i32.const 0)))
    (drop (drop (call $pair)))
    (call $reply)))
;; becomes
  (func $twice (;1;) (type 9) (param i32 i64) (result i32 i64)
    (local i32)
    local.get 1
    i64.const 6
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
    block (result i32) ;; label = @1
      local.get 0
      local.set 2
      local.get 0
      local.get 2
      i32.add
    end
    local.get 1
  )
  (func $pair (;2;) (type 10) (param i64) (result i32 i64 i64)
    local.get 0
    i64.const 3
    i64.sub
    local.set 0
    local.get 0
    i64.const 0
    i64.lt_s
    if ;; label = @1
      local.get 0
      global.set 0
      call $bedstone:out_of_instructions
      unreachable
    end
    block (type 8) (result i32 i64) ;; label = @1
      i32.const 1
      i64.const 2
    end
    local.get 0
  )
  (func $tail (;3;) (type 9) (param i32 i64) (result i32 i64)
    local.get 1
    i64.const 5
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
    block (result i32) ;; label = @1
      local.get 0
      local.get 1
      return_call $twice
    end
    local.get 1
  )
  (func (;4;) (type 7) (param i64) (result i64)
    (local i32)
    local.get 0
    i64.const 26
    i64.sub
    local.set 0
    local.get 0
    i64.const 0
    i64.lt_s
    if ;; label = @1
      local.get 0
      global.set 0
      call $bedstone:out_of_instructions
      unreachable
    end
    block ;; label = @1
      i32.const 5
      i32.const 0
      local.set 1
      local.get 0
      local.get 1
      call_indirect (type 9)
      local.set 0
      drop
      local.get 0
      call $pair
      local.set 0
      drop
      drop
      local.get 0
      call $bedstone:msg_reply
      local.set 0
    end
    local.get 0
  )
