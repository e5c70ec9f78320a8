//! Entry points that nobody calls: inspection, heartbeats, timers, upgrades. What they may do, and what is left if they fail.

use std::time::Duration;

use bedstone::{CallKind, InstallMode, Network, Principal};

use crate::support::{
    Entry, Program, ask, change_scripted, install_scripted, register, run, script, scripts, send, to, wasm,
};

const UPGRADE: InstallMode = InstallMode::Upgrade { skip_pre_upgrade: false, wasm_memory_persistence: None };
const SKIP: InstallMode = InstallMode::Upgrade { skip_pre_upgrade: true, wasm_memory_persistence: None };

fn set(network: &Network, canister: Principal, entry: Entry, program: &Program) {
    run(network, canister, &script().set_program(entry, program).msg_reply()).unwrap();
}

/// A network whose time may be moved, with one scripted canister.
fn alone() -> (Network, Principal) {
    let network = Network::new().unwrap();
    let canister = network.create_canister().unwrap();
    install_scripted(&network, canister, &script());
    (network, canister)
}

fn u64_of(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().unwrap())
}

#[test]
fn inspection_sees_the_argument_and_is_for_updates_from_outside_only() {
    let stage = scripts();
    let (a, b) = (stage.scripted(), stage.scripted());
    let ping = script().push(b"x").append(0).reply_with(b"pong");
    assert_eq!(run(&stage, a, &ping), Ok(b"pong".to_vec()));
    // By its caller's argument, in this case: what begins with another byte than `ping` is refused.
    let is_ping = script().push_u32(0).push_u32(1).msg_arg_data_copy().push(&ping.bytes()[..1]).equal();
    set(&stage, a, Entry::InspectMessage, &is_ping.when(&script().accept_message()));
    assert_eq!(run(&stage, a, &ping), Ok(b"pong".to_vec()));
    let reject = run(&stage, a, &script().time().reply()).unwrap_err();
    assert_eq!((reject.code, reject.error_code), (4, 406), "{reject}");
    assert!(ask(&stage, a, &script().time().reply()).is_ok(), "queries are not inspected");
    let call = to(a, &script().time().reply()).passing_on();
    assert!(run(&stage, b, &script().call(&call)).is_ok(), "nor are canisters' calls");
}

#[test]
fn what_an_inspection_writes_is_gone_and_its_trap_refuses() {
    let stage = scripts();
    let a = stage.scripted();
    let version = || stage.status(a).unwrap().unwrap().version;
    set(&stage, a, Entry::InspectMessage, &script().push(b"y").append(0).accept_message());
    let before = version();
    assert_eq!(run(&stage, a, &script().load(0).reply()), Ok(vec![]));
    assert_eq!(version(), before + 1, "the update's own");
    set(&stage, a, Entry::InspectMessage, &script().trap_with("go away"));
    let reject = run(&stage, a, &script().msg_reply()).unwrap_err();
    assert_eq!(reject.error_code, 503, "{reject}");
    assert!(reject.message.contains("go away"), "{reject}");
    // What it sees: who, which method.
    let b = stage.scripted();
    let tell =
        script().msg_method_name().msg_caller().concatenate().operation(crate::support::Operation::Pin);
    set(&stage, b, Entry::InspectMessage, &tell.system("trap"));
    let reject = run(&stage, b, &script().msg_reply()).unwrap_err();
    assert!(reject.message.contains("update\u{4}"), "{reject}");
}

#[test]
fn accepting_twice_is_a_mistake_and_never_accepting_a_refusal() {
    let stage = scripts();
    let (a, b) = (stage.scripted(), stage.scripted());
    set(&stage, a, Entry::InspectMessage, &script().accept_message().accept_message());
    let reject = run(&stage, a, &script().msg_reply()).unwrap_err();
    assert_eq!(reject.error_code, 504, "{reject}");
    set(&stage, b, Entry::InspectMessage, &script());
    let reject = run(&stage, b, &script().msg_reply()).unwrap_err();
    assert_eq!((reject.code, reject.error_code), (4, 406), "{reject}");
}

#[test]
fn time_stands_still_in_a_message_and_moves_only_when_it_is_moved() {
    let (network, a) = alone();
    let start = network.time_nanos();
    let program = script().time().fill(1, 1_000_000).drop().time().concatenate().reply();
    let reply = run(&network, a, &program).unwrap();
    assert_eq!(reply, [start.to_le_bytes(), start.to_le_bytes()].concat());
    network.advance_time(Duration::from_nanos(1)).unwrap();
    assert_eq!(run(&network, a, &script().time().reply()), Ok((start + 1).to_le_bytes().to_vec()));
    // A callback of a call that took no time.
    let call = to(a, &script().time().reply()).on_reply(script().msg_arg_data().time().concatenate().reply());
    let reply = run(&network, a, &script().call(&call)).unwrap();
    assert_eq!(u64_of(&reply[..8]), u64_of(&reply[8..]));
}

#[test]
fn a_heartbeat_runs_once_a_round_and_a_trap_does_not_stop_it() {
    let network = Network::new().unwrap();
    let a = network.create_canister().unwrap();
    network
        .install_code(bedstone::Install {
            canister: a,
            mode: InstallMode::Install,
            module: wasm("scripted"),
            arg: Vec::new(),
            caller: Principal::anonymous(),
        })
        .unwrap()
        .reply
        .unwrap();
    let tick = || network.advance_time(Duration::ZERO).unwrap();
    set(&network, a, Entry::Heartbeat, &script().push(b"h").append(0));
    let before = register(&network, a, 0).len();
    for _ in 0..5 {
        tick();
    }
    assert_eq!(register(&network, a, 0).len(), before + 5);
    // The last thing it does is to trap: nothing of it stays, and the next round runs it again.
    set(&network, a, Entry::Heartbeat, &script().push(b"h").append(1).print("beat").trap_with("faint"));
    tick();
    tick();
    assert_eq!(register(&network, a, 1), b"");
    let log = network.log(a).unwrap();
    assert!(log.iter().filter(|record| record.content == b"beat").count() >= 2);
    assert!(log.iter().any(|record| record.content.starts_with(b"[TRAP]: ")));
}

/// A heartbeat may call others; its callbacks run as any other's.
#[test]
fn a_task_can_call_and_has_nobody_to_answer() {
    let (network, a) = alone();
    let caller = script().msg_caller().append(2);
    let call = to(a, &caller.reply_with(b"hi")).on_reply(script().msg_arg_data().append(0));
    set(&network, a, Entry::GlobalTimer, &script().call(&call));
    run(&network, a, &script().push_u64(1).global_timer_set().reply()).unwrap();
    network.advance_time(Duration::from_secs(1)).unwrap();
    assert_eq!(register(&network, a, 0), b"hi");
    assert_eq!(register(&network, a, 2), a.as_slice());
    // Nobody called, so nobody can be answered.
    set(&network, a, Entry::GlobalTimer, &script().push(b"tried").append(3).reply_with(b"to whom?"));
    run(&network, a, &script().push_u64(1).global_timer_set().reply()).unwrap();
    network.advance_time(Duration::from_secs(1)).unwrap();
    assert_eq!(register(&network, a, 3), b"");
    let log = network.log(a).unwrap();
    let line = String::from_utf8_lossy(&log.last().unwrap().content).into_owned();
    assert!(line.contains("cannot be executed in global timer mode"), "{line}");
}

#[test]
fn a_timer_fires_once_at_its_time_and_is_cleared_before_its_handler() {
    let (network, a) = alone();
    let now = network.time_nanos();
    // In the handler no timer is set.
    set(&network, a, Entry::GlobalTimer, &script().time().append(0).push_u64(0).global_timer_set().append(1));
    let arm = |at: u64| u64_of(&run(&network, a, &script().push_u64(at).global_timer_set().reply()).unwrap());
    assert_eq!(arm(now + 1000), 0);
    assert_eq!(arm(now + 2000), now + 1000, "the one before comes back");
    network.advance_time(Duration::from_nanos(1999)).unwrap();
    assert_eq!(register(&network, a, 0), b"");
    network.advance_time(Duration::from_nanos(1)).unwrap();
    assert_eq!(u64_of(&register(&network, a, 0)), now + 2000);
    assert_eq!(u64_of(&register(&network, a, 1)), 0);
    network.advance_time(Duration::from_secs(100)).unwrap();
    assert_eq!(register(&network, a, 0).len(), 8, "once");
    // A time that is past is due at once; 0 is never.
    arm(1);
    network.advance_time(Duration::ZERO).unwrap();
    assert_eq!(register(&network, a, 0).len(), 16);
    arm(network.time_nanos() + 5);
    assert_ne!(arm(0), 0);
    network.advance_time(Duration::from_secs(1)).unwrap();
    assert_eq!(register(&network, a, 0).len(), 16);
}

#[test]
fn a_timer_whose_handler_traps_stays_cleared_and_one_that_sets_itself_again_fires_again() {
    let (network, a) = alone();
    let arm = script().push_u64(1).global_timer_set().reply();
    set(
        &network,
        a,
        Entry::GlobalTimer,
        &script().print("tick").push_u64(2).global_timer_set().unreachable(),
    );
    run(&network, a, &arm).unwrap();
    for _ in 0..3 {
        network.advance_time(Duration::from_secs(1)).unwrap();
    }
    let ticks = |line: &[u8]| network.log(a).unwrap().iter().filter(|record| record.content == line).count();
    assert_eq!(ticks(b"tick"), 1);
    set(&network, a, Entry::GlobalTimer, &script().print("tock").push_u64(2).global_timer_set().drop());
    run(&network, a, &arm).unwrap();
    for _ in 0..3 {
        network.advance_time(Duration::from_secs(1)).unwrap();
    }
    // The round of the call may have had its turn too.
    assert!((3..=4).contains(&ticks(b"tock")), "{}", ticks(b"tock"));
}

#[test]
fn pre_upgrade_hands_on_what_it_writes_to_stable_memory() {
    let stage = scripts();
    let a = stage.scripted();
    let save = script().push_u64(1).stable64_grow().drop().push_u64(0).load(0).stable64_write();
    let save = save.push_u64(8).canister_version().stable64_write();
    set(&stage, a, Entry::PreUpgrade, &save);
    run(&stage, a, &script().push(b"treasure").store(0).push(b"lost").store(5).msg_reply()).unwrap();
    let version = stage.status(a).unwrap().unwrap().version;
    let restore = script().push_u64(0).push_u64(8).stable64_read().store(0);
    let restore = restore.push_u64(8).push_u64(8).stable64_read().store(1).canister_version().store(2);
    assert_eq!(change_scripted(&stage, a, UPGRADE, &restore).reply, Ok(vec![]));
    assert_eq!(register(&stage, a, 0), b"treasure");
    assert_eq!(register(&stage, a, 5), b"", "the heap is new");
    // `pre_upgrade` sees the old version, `post_upgrade` the next one.
    let seen = [1, 2].map(|index| u64_of(&register(&stage, a, index)));
    assert_eq!(seen, [version, version + 1]);
    assert_eq!(stage.status(a).unwrap().unwrap().version, version + 1);
}

#[test]
fn an_upgrade_that_fails_leaves_everything_as_it_was() {
    let stage = scripts();
    let a = stage.scripted();
    let spoil = script().push_u64(1).stable64_grow().drop().push(b"spoiled").store(0).push(b"s").store(1);
    run(&stage, a, &script().push(b"good").store(0).msg_reply()).unwrap();
    let before = stage.status(a).unwrap();
    // `post_upgrade` traps.
    let receipt = change_scripted(&stage, a, UPGRADE, &spoil.clone().trap_with("post"));
    assert_eq!(receipt.reply.unwrap_err().error_code, 503);
    let after = stage.status(a).unwrap();
    let still = |status: &Option<bedstone::CanisterStatus>| {
        let status = status.as_ref().unwrap();
        (status.version, status.heap_bytes, status.stable_bytes, status.module_hash)
    };
    assert_eq!((register(&stage, a, 0), still(&after)), (b"good".to_vec(), still(&before)));
    // `pre_upgrade` traps, after `post_upgrade` would have been fine.
    set(&stage, a, Entry::PreUpgrade, &spoil.trap_with("pre"));
    let receipt = change_scripted(&stage, a, UPGRADE, &script());
    assert!(receipt.reply.unwrap_err().message.contains("'pre'"));
    assert_eq!(register(&stage, a, 0), b"good");
    assert_eq!(stage.status(a).unwrap().unwrap().stable_bytes, 0);
    // Who cannot repair the old code skips it.
    assert_eq!(change_scripted(&stage, a, SKIP, &script()).reply, Ok(vec![]));
    assert_eq!(register(&stage, a, 0), b"");
}

#[test]
fn upgrade_hooks_may_neither_call_nor_answer() {
    let stage = scripts();
    let (a, b) = (stage.scripted(), stage.scripted());
    let call = to(b, &script().push(b"called").append(0).msg_reply());
    for forbidden in
        [script().call(&call), script().msg_reply(), script().push_u64(1).msg_cycles_available128()]
    {
        let reject = change_scripted(&stage, a, UPGRADE, &forbidden).reply.unwrap_err();
        assert!(reject.message.contains("cannot be executed in init mode"), "{reject}");
        set(&stage, a, Entry::PreUpgrade, &forbidden);
        let reject = change_scripted(&stage, a, UPGRADE, &script()).reply.unwrap_err();
        assert!(reject.message.contains("cannot be executed in pre upgrade mode"), "{reject}");
        set(&stage, a, Entry::PreUpgrade, &script());
    }
    assert_eq!(register(&stage, b, 0), b"");
}

#[test]
fn an_upgrade_puts_the_timer_out_unless_post_upgrade_sets_it_anew() {
    let (network, a) = alone();
    let due = network.time_nanos() + 1_000_000_000;
    let arm = script().push_u64(due).global_timer_set().drop();
    let handler = script().set_program(Entry::GlobalTimer, &script().push(b"t").append(0));
    for (init, ticks) in [(handler.clone(), 0), (handler.clone(), 0), (arm.clone().repeat(1, &handler), 1)] {
        run(&network, a, &arm.clone().msg_reply()).unwrap();
        assert_eq!(change_scripted(&network, a, UPGRADE, &init).reply, Ok(vec![]));
        network.advance_time(Duration::from_millis(200)).unwrap();
        assert_eq!(register(&network, a, 0).len(), 0);
        if ticks == 1 {
            network.advance_time(Duration::from_secs(1)).unwrap();
            assert_eq!(register(&network, a, 0).len(), 1);
        }
    }
}

#[test]
fn init_sees_its_argument_and_its_caller_and_a_trap_leaves_the_canister_empty() {
    let stage = scripts();
    let (a, b) = (stage.empty(), stage.empty());
    install_scripted(&stage, a, &script().msg_caller().store(0).canister_version().store(1));
    assert_eq!(register(&stage, a, 0), Principal::anonymous().as_slice());
    assert_eq!(u64_of(&register(&stage, a, 1)), stage.status(a).unwrap().unwrap().version);
    let receipt = change_scripted(&stage, b, InstallMode::Install, &script().unreachable());
    assert_eq!(receipt.reply.unwrap_err().error_code, 502);
    assert_eq!(stage.status(b).unwrap().unwrap().module_hash, None);
    let reply = send(&stage, b, "update", &[], CallKind::Update).reply;
    assert_eq!(reply.unwrap_err().error_code, 537);
}
