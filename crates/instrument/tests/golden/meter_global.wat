;; native global
(module
  (func $f (param $x i32) (result i32)
    (block $out
      (loop $again
        (br_if $out (i32.eqz (local.get $x)))
        (local.set $x (i32.sub (local.get $x) (i32.const 1)))
        (br $again)))
    (if (result i32) (local.get $x) (then (i32.const 1)) (else (return (i32.const 2))))))
;; becomes
  (func $f (;0;) (type 0) (param i32) (result i32)
    global.get 0
    i64.const 1
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
      loop ;; label = @2
        global.get 0
        i64.const 4
        i64.sub
        global.set 0
        global.get 0
        i64.const 0
        i64.lt_s
        if ;; label = @3
          call $bedstone:out_of_instructions
          unreachable
        end
        local.get 0
        i32.eqz
        br_if 1 (;@1;)
        global.get 0
        i64.const 6
        i64.sub
        global.set 0
        local.get 0
        i32.const 1
        i32.sub
        local.set 0
        br 0 (;@2;)
      end
    end
    global.get 0
    i64.const 3
    i64.sub
    global.set 0
    local.get 0
    if (result i32) ;; label = @1
      global.get 0
      i64.const 1
      i64.sub
      global.set 0
      i32.const 1
    else
      global.get 0
      i64.const 2
      i64.sub
      global.set 0
      i32.const 2
      return
    end
  )
