//! Settings, by the management canister: what is kept, and what is refused.

use bedstone::Network;
use candid::Nat;
use ic_management_canister_types::*;

use crate::management::*;

#[test]
fn every_setting_is_kept() {
    let network = Network::new().unwrap();
    let id = create(&network);
    let variable = |name: &str, value: &str| EnvironmentVariable { name: name.into(), value: value.into() };
    let viewers = vec![user(1), user(2)];
    settings(
        &network,
        id,
        CanisterSettings {
            controllers: Some(vec![ANYBODY, ANYBODY]),
            compute_allocation: Some(1_u8.into()),
            memory_allocation: Some((1_u64 << 30).into()),
            freezing_threshold: Some(100_u8.into()),
            reserved_cycles_limit: Some(200_u8.into()),
            log_visibility: Some(LogVisibility::AllowedViewers(viewers.clone())),
            snapshot_visibility: Some(SnapshotVisibility::Public),
            wasm_memory_limit: Some(300_u16.into()),
            wasm_memory_threshold: Some(400_u16.into()),
            environment_variables: Some(vec![variable("b", "2"), variable("a", "1")]),
            ..CanisterSettings::default()
        },
    )
    .unwrap();
    let status = status(&network, id);
    let now = status.settings;
    let mut sorted = viewers;
    sorted.sort();
    assert_eq!(now.controllers, [ANYBODY]);
    assert_eq!([now.compute_allocation, now.memory_allocation], [Nat::from(1_u8), Nat::from(1_u64 << 30)]);
    assert_eq!([now.freezing_threshold, now.reserved_cycles_limit], [100_u8, 200].map(Nat::from));
    assert_eq!([now.wasm_memory_limit, now.wasm_memory_threshold], [300_u16, 400].map(Nat::from));
    assert_eq!(now.log_visibility, LogVisibility::AllowedViewers(sorted));
    assert_eq!(now.snapshot_visibility, SnapshotVisibility::Public);
    assert_eq!(now.environment_variables, [variable("a", "1"), variable("b", "2")]);
    assert_eq!(status.version, 1);
    // What is not named stays.
    settings(&network, id, CanisterSettings::default()).unwrap();
    assert_eq!(self::status(&network, id).settings.freezing_threshold, Nat::from(100_u8));
}

#[test]
fn settings_have_limits_and_are_refused_as_a_whole() {
    let network = Network::new().unwrap();
    let id = create(&network);
    let set = |settings| self::settings(&network, id, settings);
    let huge = || Some(Nat(candid::Nat::from(u128::MAX).0 + 1_u8));
    let eleven = (0..11).map(user).collect::<Vec<_>>();
    refused(
        set(CanisterSettings {
            controllers: Some(eleven),
            freezing_threshold: Some(1_u8.into()),
            ..Default::default()
        }),
        408,
        "Error decoding candid: Deserialize error: The number of elements exceeds maximum allowed 10",
    );
    refused(
        set(CanisterSettings {
            freezing_threshold: Some(1_u8.into()),
            compute_allocation: Some(101_u8.into()),
            ..Default::default()
        }),
        504,
        "ComputeAllocation expected to be in the range [0..100], got 101",
    );
    refused(
        set(CanisterSettings { memory_allocation: huge(), ..Default::default() }),
        504,
        "MemoryAllocation expected to be in the range [0..281474976710656]",
    );
    refused(
        set(CanisterSettings { freezing_threshold: huge(), ..Default::default() }),
        504,
        "Freezing threshold",
    );
    refused(
        set(CanisterSettings { reserved_cycles_limit: huge(), ..Default::default() }),
        504,
        "Reserved cycles",
    );
    refused(
        set(CanisterSettings { wasm_memory_limit: huge(), ..Default::default() }),
        504,
        "Wasm memory limit",
    );
    let variables = |list: Vec<(String, String)>| CanisterSettings {
        environment_variables: Some(
            list.into_iter().map(|(name, value)| EnvironmentVariable { name, value }).collect(),
        ),
        ..Default::default()
    };
    let many = (0..21).map(|number| (number.to_string(), String::new())).collect();
    refused(set(variables(many)), 408, "Too many environment variables: 21 (max: 20)");
    let long = "x".repeat(129);
    refused(set(variables(vec![(long.clone(), String::new())])), 408, "maximum allowed length of 128");
    refused(set(variables(vec![("a".into(), long)])), 408, "Environment variable value");
    let twice = vec![("a".into(), "1".into()), ("a".into(), "2".into())];
    refused(set(variables(twice)), 408, "Duplicate environment variables are not allowed");
    let status = status(&network, id);
    assert_eq!((status.settings.freezing_threshold, status.version), (Nat::from(2_592_000_u32), 0));
}
