;; native threaded
(module ;; code that can never run is left out, up to the `else` or `end` that can be reached again
  (memory 1)
  (func $g (result i32)
    (block $out
      (br $out)
      (i32.store (i32.const 0) (i32.const 1))
      (loop (drop (memory.grow (i32.const 1)))))
    (if (i32.const 1)
      (then (return (i32.const 2)) (drop (call $g)))
      (else (nop)))
    (unreachable)
    (block (result i32) (i32.const 7))))
;; becomes
  (func $g (;0;) (type 6) (param i64) (result i32 i64)
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
    block (result i32) ;; label = @1
      block ;; label = @2
        br 0 (;@2;)
      end
      local.get 0
      i64.const 3
      i64.sub
      local.set 0
      i32.const 1
      if ;; label = @2
        local.get 0
        i64.const 2
        i64.sub
        local.set 0
        i32.const 2
        local.get 0
        return
      else
        local.get 0
        i64.const 1
        i64.sub
        local.set 0
        nop
      end
      local.get 0
      i64.const 1
      i64.sub
      local.set 0
      unreachable
    end
    local.get 0
  )
