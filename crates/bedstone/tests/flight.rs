//! Calls in flight: between two rounds time passes, canisters are upgraded or deleted, the process ends. Whoever waits is
//! answered once, nothing is done twice, and no cycles come or go.
//!
//! A round ends when its 7 billion instructions are used up. The canister `hog` uses them in one message, so that a test
//! can stop where a call to it has been answered and nobody has looked at the answer.

use std::sync::Arc;

use bedstone::{Call, CallKind, InstallMode, Principal};
use bedstone_subnet::engine::EngineConfig;
use bedstone_subnet::engine::store::{Config, FileDisk, Store};
use bedstone_subnet::{Install, MessageId, Receipt, Reject, Subnet, SubnetConfig};

use crate::support::{Ask, Entry, Program, Room, script, scripted_wasm, to};

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_767_225_600 * SECOND;

/// Wasm needs a large stack.
fn on_a_large_stack(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(32 << 20).spawn_scoped(scope, test).unwrap();
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Uses up a round in no time (a conversion whose result nobody uses counts 20 and compiles to nothing), replies with `hog`, and counts in its heap how often it did.
fn hog_wasm() -> Vec<u8> {
    let busy = "(drop (i32.trunc_sat_f64_s (f64.const 1)))".repeat(1000);
    wat::parse_str(format!(
        r#"(module
          (import "ic0" "msg_reply" (func $reply)) (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
          (memory 1) (data (i32.const 0) "hog")
          (func (export "canister_query count") (call $append (i32.const 8) (i32.const 1)) call $reply)
          (func (export "canister_update update") (local $left i32)
            (local.set $left (i32.const 327300))
            (loop $l {busy} (br_if $l (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
            (i32.store (i32.const 8) (i32.add (i32.load (i32.const 8)) (i32.const 1)))
            (call $append (i32.const 0) (i32.const 3)) call $reply))"#
    ))
    .unwrap()
}

/// A subnet with the scripted canisters `a` and `b`, and `hog`.
struct World {
    subnet: Subnet,
    a: Principal,
    b: Principal,
    hog: Principal,
}

impl World {
    fn new() -> Self {
        Self::with(Subnet::new(&config()).unwrap())
    }

    fn in_room(room: &Room) -> Self {
        Self::with(open(room, &config()))
    }

    fn with(mut subnet: Subnet) -> Self {
        let wasm = scripted_wasm();
        let [a, b, hog] = [&wasm, &wasm, &hog_wasm()].map(|module| install(&mut subnet, module));
        Self { subnet, a, b, hog }
    }

    /// The same canisters, as another process finds them.
    fn reopened(&self, room: &Room, config: &SubnetConfig) -> Self {
        let lsn = self.subnet.appended().unwrap();
        self.subnet.store().unwrap().wait_durable(lsn).unwrap();
        let (a, b, hog) = (self.a, self.b, self.hog);
        Self { subnet: open(room, config), a, b, hog }
    }

    fn submit(&mut self, canister: Principal, program: &Program) -> MessageId {
        self.subnet.submit(&call(canister, "update", program.bytes())).unwrap().unwrap()
    }

    fn query(&mut self, canister: Principal, method: &str, arg: &[u8]) -> Vec<u8> {
        let call = Call { kind: CallKind::Query, ..call(canister, method, arg) };
        self.subnet.call(&call).unwrap().reply.unwrap()
    }

    fn traces(&mut self, canister: Principal) -> String {
        let program = script().load(0).reply();
        String::from_utf8(self.query(canister, "query", program.bytes())).unwrap()
    }

    fn hog_count(&mut self) -> u8 {
        self.query(self.hog, "count", &[])[0]
    }

    fn cycles(&mut self) -> u128 {
        [self.a, self.b, self.hog]
            .map(|id| self.subnet.status(id).unwrap().map_or(0, |s| s.cycles))
            .iter()
            .sum()
    }

    /// Runs rounds until nothing happens; how many did something.
    fn settle(&mut self) -> usize {
        (0..1000).take_while(|_| self.subnet.tick().unwrap().messages > 0).count()
    }

    /// A round that the hog ends.
    fn cut_off_round(&mut self) {
        assert!(self.subnet.tick().unwrap().is_cut_off);
    }

    fn take(&mut self, message: MessageId) -> Option<Result<Vec<u8>, Reject>> {
        self.subnet.take_receipt(message).map(|Receipt { reply, .. }| reply)
    }

    /// A call to `b`, which asks the hog.
    fn slow_call(&self) -> Ask {
        let hog = Ask::new(self.hog.as_slice(), "update").on_reply(trace("b2").reply_with_reply());
        to(self.b, &trace("b1").call(&hog))
    }
}

fn config() -> SubnetConfig {
    SubnetConfig::new(EngineConfig::default(), START)
}

fn open(room: &Room, config: &SubnetConfig) -> Subnet {
    let disk = Arc::new(FileDisk::new(room.0.clone()));
    let mut settings = Config::new([1; 32]);
    // Nobody else touches the files while a test copies them.
    settings.background = false;
    let (store, _) = Store::open_or_create(disk, &settings).unwrap();
    Subnet::open(config, store).unwrap()
}

fn install(subnet: &mut Subnet, module: &[u8]) -> Principal {
    let canister = subnet.create_canister(vec![Principal::anonymous()]).unwrap();
    change(subnet, canister, InstallMode::Install, module);
    canister
}

fn change(subnet: &mut Subnet, canister: Principal, mode: InstallMode, module: &[u8]) {
    let (module, arg, caller) = (module.to_vec(), Vec::new(), Principal::anonymous());
    let receipt = subnet.install(&Install { canister, mode, module, arg, caller }).unwrap();
    assert_eq!(receipt.reply, Ok(Vec::new()));
}

fn call(canister: Principal, method: &str, arg: &[u8]) -> Call {
    let (method, arg, caller) = (method.to_owned(), arg.to_vec(), Principal::anonymous());
    Call { canister, method, arg, caller, kind: CallKind::Update }
}

fn trace(text: &str) -> Program {
    script().push(text.as_bytes()).append(0)
}

/// What both callbacks do: leave a trace with the reject code.
fn noting(call: Ask) -> Ask {
    let back = trace("<").msg_reject_code().push_u32(u32::from(b'0')).add().append(0);
    call.on_reply(back.clone().reply_with_reply()).on_reject(back.reply_with_reject())
}

/// The trace of a callback's reject code.
fn noted(code: char) -> String {
    format!("<{code}\0\0\0")
}

#[test]
fn a_best_effort_call_that_takes_too_long_is_answered_with_code_6_and_once() {
    on_a_large_stack(|| {
        let mut world = World::new();
        let slow = noting(world.slow_call().best_effort(10).cycles(1_000_000));
        let message = world.submit(world.a, &trace("1").call(&slow));
        world.cut_off_round();
        assert_eq!(world.traces(world.a), "1");
        world.subnet.set_time(START + 10 * SECOND).unwrap();
        assert!(world.settle() > 0);
        let reply = world.take(message).unwrap().unwrap();
        assert_eq!((reply[0], std::str::from_utf8(&reply[4..]).unwrap()), (6, "IC0601: Call has timed out."));
        // The callee did not hear of it, and its late answer is nobody's.
        assert_eq!(world.traces(world.a), format!("1{}", noted('6')));
        assert_eq!((world.traces(world.b).as_str(), world.hog_count()), ("b1b2", 1));
    });
}

#[test]
fn a_call_without_a_deadline_waits_as_long_as_it_takes() {
    on_a_large_stack(|| {
        let mut world = World::new();
        let slow = noting(world.slow_call());
        let message = world.submit(world.a, &trace("1").call(&slow));
        world.cut_off_round();
        world.subnet.set_time(START + 1_000_000 * SECOND).unwrap();
        world.settle();
        assert_eq!(world.take(message), Some(Ok(b"hog".to_vec())));
        assert_eq!(world.take(message), None, "a receipt is there once");
    });
}

/// An answer that came in time is the answer, though it is looked at late.
#[test]
fn an_answer_that_waits_in_the_mailbox_at_the_deadline_counts() {
    on_a_large_stack(|| {
        let mut world = World::new();
        let direct = noting(Ask::new(world.hog.as_slice(), "update").best_effort(10));
        let message = world.submit(world.a, &script().call(&direct));
        world.cut_off_round();
        world.subnet.set_time(START + 60 * SECOND).unwrap();
        world.settle();
        assert_eq!(world.take(message), Some(Ok(b"hog".to_vec())));
        assert_eq!(world.traces(world.a), noted('0'));
    });
}

/// A request that nobody has looked at before its deadline is never looked at, and its cycles come back.
#[test]
fn an_expired_request_does_not_reach_its_callee() {
    on_a_large_stack(|| {
        let mut world = World::new();
        let before = world.cycles();
        let hog = Ask::new(world.hog.as_slice(), "update");
        let late = noting(to(world.b, &trace("reached").msg_reply()).best_effort(5).cycles(1 << 45));
        let message = world.submit(world.a, &script().call(&hog).call(&late));
        world.cut_off_round();
        world.subnet.set_time(START + 6 * SECOND).unwrap();
        world.settle();
        assert_eq!(world.take(message).unwrap().unwrap()[0], 6);
        assert_eq!((world.traces(world.a), world.traces(world.b)), (noted('6'), String::new()));
        // Instructions cost about 7 billion; what was attached is 35 trillion.
        assert!(before - world.cycles() < 1 << 40, "{}", before - world.cycles());
    });
}

#[test]
fn callbacks_after_an_upgrade_run_in_the_new_code() {
    let asker = |letter: &str| {
        wat::parse_str(format!(
            r#"(module
              (import "ic0" "msg_reply" (func $reply)) (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
              (import "ic0" "msg_arg_data_copy" (func $arg (param i32 i32 i32)))
              (import "ic0" "call_new" (func $call_new (param i32 i32 i32 i32 i32 i32 i32 i32)))
              (import "ic0" "call_perform" (func $perform (result i32)))
              (memory 1) (data (i32.const 0) "update{letter}") (table 1 funcref) (elem (i32.const 0) $back)
              (func $back (param i32) (call $append (i32.const 6) (i32.const 1)) call $reply)
              (func (export "canister_update ask") (call $arg (i32.const 100) (i32.const 0) (i32.const 10))
                (call $call_new (i32.const 100) (i32.const 10) (i32.const 0) (i32.const 6)
                  (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
                (drop (call $perform))))"#
        ))
        .unwrap()
    };
    on_a_large_stack(|| {
        let mut world = World::new();
        let canister = install(&mut world.subnet, &asker("o"));
        for (upgrade, expected) in [(false, b"o"), (true, b"n")] {
            let message = world.subnet.submit(&call(canister, "ask", world.hog.as_slice())).unwrap().unwrap();
            world.cut_off_round();
            if upgrade {
                let mode = InstallMode::Upgrade { skip_pre_upgrade: false, wasm_memory_persistence: None };
                change(&mut world.subnet, canister, mode, &asker("n"));
            }
            world.settle();
            assert_eq!(world.take(message), Some(Ok(expected.to_vec())));
        }
    });
}

#[test]
fn whoever_waits_for_a_deleted_canister_is_told() {
    on_a_large_stack(|| {
        let mut world = World::new();
        let before = world.cycles();
        let slow = noting(world.slow_call().cycles(1 << 45));
        let message = world.submit(world.a, &script().call(&slow));
        world.cut_off_round();
        let with_it = world.subnet.status(world.b).unwrap().unwrap().cycles;
        assert!(world.subnet.delete_canister(world.b).unwrap());
        world.settle();
        let reply = world.take(message).unwrap().unwrap();
        assert!((1..=5).contains(&reply[0]), "{reply:?}");
        let left = world.cycles();
        assert!(before - with_it - left < 1 << 40, "what was attached came back: {before} {with_it} {left}");
        // And somebody outside who waits for a canister that is gone.
        let message = world.submit(world.a, &script().call(&Ask::new(world.hog.as_slice(), "update")));
        world.cut_off_round();
        assert!(world.subnet.delete_canister(world.a).unwrap());
        world.settle();
        world.take(message).unwrap().unwrap_err();
        assert_eq!(world.hog_count(), 2, "the hog did not notice");
    });
}

#[test]
fn messages_from_outside_are_worked_on_in_their_order() {
    on_a_large_stack(|| {
        let mut world = World::new();
        let messages: Vec<MessageId> = (b'a'..=b'z')
            .map(|letter| world.submit(world.a, &trace(&char::from(letter).to_string()).msg_reply()))
            .collect();
        assert!(messages.iter().all(|message| !world.subnet.is_answered(*message)));
        world.settle();
        assert_eq!(world.traces(world.a), ('a'..='z').collect::<String>());
        for message in messages {
            assert_eq!(world.take(message), Some(Ok(Vec::new())));
        }
    });
}

#[test]
fn a_flood_from_outside_is_refused_at_10_000_waiting_messages() {
    on_a_large_stack(|| {
        let mut world = World::new();
        let module =
            r#"(module (import "ic0" "msg_reply" (func $r)) (func (export "canister_update m") call $r))"#;
        let small = install(&mut world.subnet, &wat::parse_str(module).unwrap());
        let last = (0..10_000).map(|_| world.subnet.submit(&call(small, "m", &[])).unwrap().unwrap()).last();
        let reject = world.subnet.submit(&call(small, "m", &[])).unwrap().unwrap_err();
        assert_eq!((reject.code, reject.error_code), (2, 202), "{reject}");
        // Others are not concerned, and the flood runs off.
        let message = world.submit(world.a, &script().reply_with(b"fine"));
        world.subnet.tick().unwrap();
        assert_eq!(world.take(message), Some(Ok(b"fine".to_vec())));
        world.settle();
        assert_eq!(world.take(last.unwrap()), Some(Ok(Vec::new())));
        world.subnet.submit(&call(small, "m", &[])).unwrap().unwrap();
    });
}

#[test]
fn the_low_memory_hook_runs_once_until_there_is_memory_again() {
    on_a_large_stack(|| {
        let mut world = World::new();
        let a = world.a;
        let message =
            world.submit(a, &script().set_program(Entry::OnLowWasmMemory, &trace("low")).msg_reply());
        world.settle();
        assert_eq!(world.take(message), Some(Ok(Vec::new())));
        let system = world.subnet.canister(a).unwrap().unwrap().system_mut();
        system.wasm_memory_limit_bytes = 100 << 20;
        system.settings.wasm_memory_threshold = 60 << 20;
        let mut grow = |pages: u32| {
            world.submit(a, &script().heap_grow(pages).msg_reply());
            world.settle();
            world.subnet.tick().unwrap();
            world.traces(a)
        };
        assert_eq!(grow(16), "");
        assert_eq!(grow(800), "low", "50 MiB more leave less than 60");
        assert_eq!(grow(16), "low", "once");
    });
}

/// A chain of slow calls, killed between any two rounds: the process that opens what is left comes to the same end.
#[test]
fn a_chain_that_is_killed_between_any_two_rounds_comes_to_the_same_end() {
    on_a_large_stack(|| {
        let room = Room::new();
        let mut world = World::in_room(&room);
        let third = noting(world.slow_call());
        let second = Ask::new(world.hog.as_slice(), "update").on_reply(trace("3").call(&third));
        let first = world.slow_call().cycles(1 << 40).on_reply(trace("2").call(&second));
        let message = world.submit(world.a, &trace("1").call(&first));
        let mut left_behind = Vec::new();
        while !world.subnet.is_answered(message) {
            world.subnet.tick().unwrap();
            let lsn = world.subnet.appended().unwrap();
            world.subnet.store().unwrap().wait_durable(lsn).unwrap();
            left_behind.push(room.as_after_a_kill());
        }
        assert_eq!(world.take(message), Some(Ok(b"hog".to_vec())));
        let end = |world: &mut World| {
            world.settle();
            let heap = world.traces(world.a) + &world.traces(world.b);
            (heap, world.hog_count(), world.cycles())
        };
        let expected = end(&mut world);
        assert_eq!((expected.0.as_str(), expected.1), ("123<0\0\0\0b1b2b1b2", 3));
        assert!(left_behind.len() >= 3, "{}", left_behind.len());
        for (round, left) in left_behind.iter().enumerate() {
            // With room for all canisters in memory, and for one.
            let mut config = config();
            if round % 2 == 0 {
                config.live_canisters_max = 1;
            }
            let mut other = world.reopened(left, &config);
            assert_eq!(end(&mut other), expected, "after round {round}");
        }
    });
}

#[test]
fn a_deadline_is_kept_when_the_process_ends_before_it() {
    on_a_large_stack(|| {
        let room = Room::new();
        let mut world = World::in_room(&room);
        let slow = noting(world.slow_call().best_effort(10).cycles(1_000_000));
        world.submit(world.a, &trace("1").call(&slow));
        world.cut_off_round();
        let lsn = world.subnet.appended().unwrap();
        world.subnet.store().unwrap().wait_durable(lsn).unwrap();
        let (in_time, late) = (room.as_after_a_kill(), room.as_after_a_kill());
        world.subnet.tick().unwrap();
        let mut other = world.reopened(&in_time, &config());
        other.settle();
        assert_eq!(other.traces(other.a), format!("1{}", noted('0')));
        assert_eq!(other.subnet.next_event_nanos(), None, "a deadline that was met is none");
        let mut other =
            world.reopened(&late, &SubnetConfig::new(EngineConfig::default(), START + 11 * SECOND));
        other.settle();
        assert_eq!(other.traces(other.a), format!("1{}", noted('6')));
        assert_eq!(other.traces(other.b), "b1b2");
    });
}

/// How many calls wait is known after a restart too: a full queue is still full.
#[test]
fn a_full_queue_is_full_after_a_restart() {
    on_a_large_stack(|| {
        let room = Room::new();
        let mut world = World::in_room(&room);
        let hog = Ask::new(world.hog.as_slice(), "update");
        // The hog works on one of them a round.
        let fill = script().repeat(500, &script().call(&hog).drop());
        world.submit(world.a, &fill.call(&hog).reply());
        world.cut_off_round();
        let lsn = world.subnet.appended().unwrap();
        world.subnet.store().unwrap().wait_durable(lsn).unwrap();
        let left = room.as_after_a_kill();
        let mut other = world.reopened(&left, &config());
        let probe = script().call(&hog).append(0).call(&hog).append(0).load(0).reply();
        let message = other.submit(other.a, &probe);
        while !other.subnet.is_answered(message) {
            other.subnet.tick().unwrap();
        }
        // One was answered in the meantime at the most, so at least the second one is too many.
        let results = other.take(message).unwrap().unwrap();
        assert_eq!(results[4], 2, "{results:?}");
    });
}

/// With room for one canister in memory, the one whose composite query waits stays there: what it did is nowhere else.
#[test]
fn a_canister_stays_in_memory_while_its_composite_query_waits() {
    let room = Room::new();
    let network = room.builder().live_canisters_max(1).build().unwrap();
    let [a, b, c] = [(); 3].map(|()| {
        let canister = network.create_canister().unwrap();
        crate::support::install_scripted(&network, canister, &script());
        canister
    });
    let below = Ask::new(c.as_slice(), "query").argument(&script().reply_with(b"c"));
    let callee = trace("b").call(&below.on_reply(script().load(0).msg_arg_data().concatenate().reply()));
    let call = Ask::new(b.as_slice(), "composite_query").argument(&callee);
    let call = call.on_reply(script().load(0).msg_arg_data().concatenate().reply());
    let receipt =
        crate::support::send(&network, a, "composite_query", trace("a").call(&call).bytes(), CallKind::Query);
    assert_eq!(receipt.reply, Ok(b"abc".to_vec()));
    assert_eq!(crate::support::register(&network, a, 0), b"");
}

/// Timers are in the store: a process that only opens the state directory and moves time on fires them, once.
#[test]
fn a_timer_fires_once_whichever_process_moves_time_on() {
    let room = Room::new();
    let network = room.builder().build().unwrap();
    let canister = network.create_canister().unwrap();
    crate::support::install_scripted(&network, canister, &script());
    let arm = script()
        .set_program(Entry::GlobalTimer, &trace("tick"))
        .push_u64(network.time_nanos() + 10 * SECOND)
        .global_timer_set()
        .reply();
    crate::support::run(&network, canister, &arm).unwrap();
    drop(network);
    let network = room.builder().build().unwrap();
    let pass = |seconds| network.advance_time(std::time::Duration::from_secs(seconds)).unwrap();
    pass(9);
    assert_eq!(crate::support::register(&network, canister, 0), b"");
    pass(1);
    assert_eq!(crate::support::register(&network, canister, 0), b"tick");
    drop(network);
    let network = room.builder().build().unwrap();
    network.advance_time(std::time::Duration::from_secs(100)).unwrap();
    assert_eq!(crate::support::register(&network, canister, 0), b"tick");
}
