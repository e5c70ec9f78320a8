//! The signal handler of the fault tracker.
//!
//! Wasmtime calls it first whenever a signal that it handles arrives on a thread with Wasm on the stack: also where the
//! faulting instruction is Rust's or libc's, which the host functions and Wasmtime's own bulk operations run. What it
//! refuses becomes a trap, if the instruction is one of Wasm's that may trap, and otherwise goes to the handler that the
//! process had before.
//!
//! Invariants:
//! - A fault is ours if it is a write that a protection refused, at a closed page of one of this instance's memories. Nothing
//!   else is: not an access beyond a length, not a null pointer, not a read.
//! - The handler allocates nothing, locks nothing, waits for nothing and leaves `errno` as it was.

use std::sync::Arc;

use wasmtime::Store;
use wasmtime::unix::StoreExt;

use super::Mapping;

/// Has the store's faults at closed pages of these memories open them.
pub(crate) fn handle_faults<T>(store: &mut Store<T>, memories: &[Arc<Mapping>]) {
    let memories: Vec<_> = memories.iter().filter(|memory| memory.is_protected()).cloned().collect();
    if memories.is_empty() {
        return;
    }
    let handler = move |signal, info: *const libc::siginfo_t, context: *const libc::c_void| {
        let Some(address) = refused_write(signal, info, context) else { return false };
        let errno = errno();
        let opened = memories.iter().any(|memory| memory.open_on_fault(address));
        set_errno(errno);
        opened
    };
    // SAFETY: the handler is async-signal-safe, by the invariants here and in `protect` and `images`.
    unsafe { store.set_signal_handler(handler) }
}

/// The address of a write that a page's protection refused.
fn refused_write(
    signal: libc::c_int,
    info: *const libc::siginfo_t,
    context: *const libc::c_void,
) -> Option<usize> {
    /// `si_code` of a page that is mapped and does not allow the access.
    const SEGV_ACCERR: libc::c_int = 2;
    // SAFETY: Wasmtime hands on what the kernel gave its handler, which was installed with `SA_SIGINFO`.
    let info = unsafe { &*info };
    if signal != libc::SIGSEGV || info.si_code != SEGV_ACCERR || !is_write(context) {
        return None;
    }
    // SAFETY: a `SIGSEGV` that the kernel raised has an address.
    Some(unsafe { info.si_addr() }.addr())
}

#[cfg(target_arch = "x86_64")]
fn is_write(context: *const libc::c_void) -> bool {
    /// Bit of a page fault's error code.
    const WRITE: libc::greg_t = 1 << 1;
    // SAFETY: as for the signal's information: the kernel's, of this type.
    let context = unsafe { &*context.cast::<libc::ucontext_t>() };
    context.uc_mcontext.gregs[libc::REG_ERR as usize] & WRITE != 0
}

/// Elsewhere the kernel does not tell. A page of ours that is closed can be read, so only a write faults there.
#[cfg(not(target_arch = "x86_64"))]
fn is_write(_: *const libc::c_void) -> bool {
    true
}

fn errno() -> libc::c_int {
    // SAFETY: the address is this thread's own and valid as long as it lives.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { place.read() }
}

fn set_errno(errno: libc::c_int) {
    // SAFETY: the address is this thread's own and valid as long as it lives.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { place.write(errno) }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use wasmtime::{Caller, Config, Engine, Extern, Func, Instance, Memory, Module, Trap};

    use super::*;
    use crate::sys::{Creator, PAGE, Protected, Shape, with_memories};

    const RESERVATION: usize = 4 << 30;
    const GUARD: usize = 32 << 20;
    const WASM_PAGE: usize = 65_536;

    const MODULE: &str = r#"(module
        (import "" "host" (func $host))
        (memory (export "memory") 2)
        (func (export "store") (param i32) (i64.store (local.get 0) (i64.const -1)))
        (func (export "load") (param i32) (drop (i64.load (local.get 0))))
        (func (export "fill") (param i32) (memory.fill (local.get 0) (i32.const 7) (i32.const 40000)))
        (func (export "copy") (param i32) (memory.copy (local.get 0) (i32.const 0) (i32.const 40000)))
        (func $deep (export "deep") (param i32) (call $deep (local.get 0)))
        (func (export "host") (param i32) call $host))"#;

    struct Subject {
        store: Store<()>,
        instance: Instance,
        mapping: Arc<Mapping>,
    }

    impl Subject {
        fn new(host: impl Fn(Caller<'_, ()>) + Send + Sync + 'static) -> Self {
            let mut config = Config::new();
            config.with_host_memory(Arc::new(Creator)).memory_init_cow(false);
            config.memory_reservation(RESERVATION as u64).memory_guard_size(GUARD as u64);
            let engine = Engine::new(&config).unwrap();
            let module = Module::new(&engine, wat::parse_str(MODULE).unwrap()).unwrap();
            let shape = Shape { capacity: RESERVATION, guard: GUARD, huge_pages: false, step: PAGE };
            let mapping = Mapping::with_len(shape, 2 * WASM_PAGE).unwrap();
            let mapping = Arc::new(mapping.with_protection(Protected::Compared).unwrap());
            let mut store = Store::new(&engine, ());
            let host = Func::wrap(&mut store, host).into();
            let memories = [Arc::clone(&mapping)];
            let instance = with_memories(&memories, || Instance::new(&mut store, &module, &[host])).unwrap();
            handle_faults(&mut store, &memories);
            mapping.close_if_all_open().unwrap();
            Self { store, instance, mapping }
        }

        fn call(&mut self, function: &str, at: i32) -> Result<(), Option<Trap>> {
            let function = self.instance.get_typed_func::<i32, ()>(&mut self.store, function).unwrap();
            function.call(&mut self.store, at).map_err(|error| error.downcast_ref().copied())
        }

        fn open(&self) -> Vec<usize> {
            (0..self.mapping.pages()).filter(|page| self.mapping.is_open(*page)).collect()
        }
    }

    fn nothing(_: Caller<'_, ()>) {}

    fn memory(caller: &mut Caller<'_, ()>) -> Memory {
        caller.get_export("memory").and_then(Extern::into_memory).unwrap()
    }

    #[test]
    fn writes_open_pages_and_nothing_else_does() {
        let mut subject = Subject::new(nothing);
        let pages = |range: std::ops::Range<usize>| range.collect::<Vec<_>>();
        subject.call("load", 0).unwrap();
        assert!(subject.open().is_empty());
        subject.call("store", 100).unwrap();
        subject.call("store", 108).unwrap();
        assert_eq!(subject.open(), [0]);
        // Straddling two pages.
        subject.call("store", 3 * PAGE as i32 - 4).unwrap();
        assert_eq!(subject.open(), [0, 2, 3]);
        subject.call("fill", 5 * PAGE as i32).unwrap();
        assert!(subject.open().starts_with(&[&[0, 2, 3][..], &pages(5..15)].concat()));
        for _ in 0..20 {
            subject.mapping.sweep(|_| false).unwrap();
        }
        assert!(subject.open().is_empty());
        subject.call("copy", 20 * PAGE as i32).unwrap();
        assert!(subject.open().starts_with(&pages(20..30)));
        assert_eq!(subject.mapping.byte(100), 0xff);
        assert_eq!(subject.mapping.byte(5 * PAGE), 7);
    }

    #[test]
    fn traps_stay_traps() {
        let mut subject = Subject::new(nothing);
        let end = 2 * WASM_PAGE as i32;
        for (function, at) in [("store", end), ("load", end), ("store", i32::MIN), ("store", end - 4)] {
            assert_eq!(subject.call(function, at), Err(Some(Trap::MemoryOutOfBounds)), "{function} {at}");
        }
        assert_eq!(subject.call("fill", end - 39_999), Err(Some(Trap::MemoryOutOfBounds)));
        assert_eq!(subject.call("deep", 0), Err(Some(Trap::StackOverflow)));
        // The last page may be opened by the store that begins in it; it did not change.
        assert_eq!(subject.mapping.read_vec(2 * WASM_PAGE - PAGE, PAGE), [0; PAGE]);
        subject.call("store", 0).unwrap();
        assert!(subject.mapping.is_open(0));
    }

    #[test]
    fn the_host_s_own_writes_open_pages_and_keep_errno() {
        let mut subject = Subject::new(|mut caller| {
            let memory = memory(&mut caller);
            let bytes = memory.data_mut(&mut caller);
            set_errno(77);
            bytes[2 * PAGE..3 * PAGE].fill(1);
            assert_eq!(errno(), 77);
        });
        subject.call("host", 0).unwrap();
        assert_eq!(subject.open(), [2]);
    }

    #[test]
    fn two_threads_fault_at_the_same_time() {
        let run = |value: u8| {
            let mut subject = Subject::new(nothing);
            for round in 0..200 {
                for page in [0, 3, 7, 8, 30] {
                    subject.call("store", page * PAGE as i32 + round).unwrap();
                }
                let mut open = Vec::new();
                subject
                    .mapping
                    .sweep(|page| {
                        open.push(page);
                        false
                    })
                    .unwrap();
                assert!([0, 3, 7, 8, 30].iter().all(|page| open.contains(page)), "{value}: {open:?}");
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| run(1));
            scope.spawn(|| run(2));
        });
    }

    /// Which foreign fault a process is to make.
    const CHILD: &str = "BEDSTONE_FOREIGN_FAULT";
    const HANDED_ON: i32 = 42;

    #[test]
    fn foreign_faults_are_handed_on() {
        for fault in ["null under Wasm", "null", "another's page under Wasm", "ours without Wasm"] {
            let status = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "sys::fault::tests::foreign_fault", "--test-threads=1"])
                .env(CHILD, fault)
                .output()
                .unwrap()
                .status;
            assert_eq!(status.code(), Some(HANDED_ON), "{fault}: {status}");
        }
    }

    /// Does nothing unless [`foreign_faults_are_handed_on`] started it.
    #[test]
    fn foreign_fault() {
        let Ok(fault) = std::env::var(CHILD) else { return };
        extern "C" fn foreign(_: libc::c_int) {
            // SAFETY: it ends the process and does nothing else.
            unsafe { libc::_exit(HANDED_ON) }
        }
        let handler = foreign as extern "C" fn(libc::c_int);
        // SAFETY: the handler only ends the process.
        unsafe { libc::signal(libc::SIGSEGV, handler as libc::sighandler_t) };
        let shape = Shape { capacity: PAGE, guard: PAGE, huge_pages: false, step: PAGE };
        // The guard's first byte, which belongs to no memory of the instance.
        let other = Mapping::with_len(shape, PAGE).unwrap();
        let address = match &*fault {
            "another's page under Wasm" => other.base().addr() + PAGE,
            _ => 0,
        };
        let write = move || {
            let address = std::hint::black_box(std::ptr::without_provenance_mut::<u8>(address));
            // SAFETY: nobody's memory: it faults, which is the test, and the process ends.
            unsafe { address.write_volatile(1) }
        };
        let mut subject = Subject::new(move |_| write());
        match &*fault {
            "null" => write(),
            "ours without Wasm" => {
                // SAFETY: inside the mapping, whose pages are closed: it faults, and the process ends.
                unsafe { subject.mapping.base().write_volatile(1) }
            }
            _ => subject.call("host", 0).unwrap(),
        }
        unreachable!("{fault} did not fault");
    }
}
