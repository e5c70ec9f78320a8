;; native threaded
(module
  (func $f (param $x i32) (result i32)
    (block $out
      (loop $again
        (br_if $out (i32.eqz (local.get $x)))
        (local.set $x (i32.sub (local.get $x) (i32.const 1)))
        (br $again)))
    (if (result i32) (local.get $x) (then (i32.const 1)) (else (return (i32.const 2))))))
;; becomes
  (func $f (;0;) (type 6) (param i32 i64) (result i32 i64)
    local.get 1
    i64.const 1
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
      block ;; label = @2
        loop ;; label = @3
          local.get 1
          i64.const 4
          i64.sub
          local.set 1
          local.get 1
          i64.const 0
          i64.lt_s
          if ;; label = @4
            local.get 1
            global.set 0
            call $bedstone:out_of_instructions
            unreachable
          end
          local.get 0
          i32.eqz
          br_if 1 (;@2;)
          local.get 1
          i64.const 6
          i64.sub
          local.set 1
          local.get 0
          i32.const 1
          i32.sub
          local.set 0
          br 0 (;@3;)
        end
      end
      local.get 1
      i64.const 3
      i64.sub
      local.set 1
      local.get 0
      if (result i32) ;; label = @2
        local.get 1
        i64.const 1
        i64.sub
        local.set 1
        i32.const 1
      else
        local.get 1
        i64.const 2
        i64.sub
        local.set 1
        i32.const 2
        local.get 1
        return
      end
    end
    local.get 1
  )
