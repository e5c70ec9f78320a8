//! `metadata.json` of a snapshot's directory, as the IC's tools write and read it.
//!
//! - Members that are not known are skipped: later tools may write more.
//! - JSON has no NaN and no infinity. Globals that hold one cannot be written; what other tools write for them, `null`, is
//!   refused rather than taken for 0.

use std::path::Path;

use anyhow::{Context, anyhow, bail};
use bedstone::{GlobalValue, LowWasmMemoryHook, SnapshotMetadata, SnapshotSource};
use serde_json::{Map, Value, json};

/// The file's bytes; or why there can be none, in words that go on after a colon.
pub fn encode(metadata: &SnapshotMetadata) -> Result<Vec<u8>, String> {
    let globals: Vec<Value> = (0_usize..)
        .zip(&metadata.globals)
        .map(|(index, value)| global_json(index, *value))
        .collect::<Result<_, _>>()?;
    let source = match metadata.source {
        SnapshotSource::TakenFromCanister => "taken_from_canister",
        SnapshotSource::MetadataUpload => "metadata_upload",
    };
    let chunks: Vec<Value> = metadata.wasm_chunks.iter().map(|hash| json!({"hash": hash})).collect();
    let members = [
        ("source", json!({source: null})),
        ("taken_at_timestamp", json!(metadata.taken_at_nanos)),
        ("wasm_module_size", json!(metadata.wasm_module_bytes)),
        ("globals", json!(globals)),
        ("wasm_memory_size", json!(metadata.wasm_memory_bytes)),
        ("stable_memory_size", json!(metadata.stable_memory_bytes)),
        ("wasm_chunk_store", json!(chunks)),
        ("canister_version", json!(metadata.canister_version)),
        ("certified_data", json!(metadata.certified_data)),
        ("global_timer", metadata.global_timer.map_or(Value::Null, timer_json)),
        ("on_low_wasm_memory_hook_status", json!(metadata.on_low_wasm_memory_hook.map(hook_word))),
    ];
    // A member to a line, in the order of the IC's own type.
    let lines: Vec<String> = members.iter().map(|(name, value)| format!("  \"{name}\": {value}")).collect();
    Ok(format!("{{\n{}\n}}\n", lines.join(",\n")).into_bytes())
}

fn timer_json(nanos: u64) -> Value {
    if nanos == 0 { json!("inactive") } else { json!({"active": nanos}) }
}

fn hook_word(hook: LowWasmMemoryHook) -> &'static str {
    match hook {
        LowWasmMemoryHook::ConditionNotSatisfied => "condition_not_satisfied",
        LowWasmMemoryHook::Ready => "ready",
        LowWasmMemoryHook::Executed => "executed",
    }
}

fn global_json(index: usize, value: GlobalValue) -> Result<Value, String> {
    // The shortest digits that are this `f32`, which those of the same number as an `f64` are not.
    let float = |value: f64, digits: String| match value.is_finite() {
        true => Ok(digits.parse::<f64>().expect("digits of a number")),
        false => Err(format!("global {index} is {value}, which JSON has no way to write")),
    };
    Ok(match value {
        GlobalValue::I32(value) => json!({"i32": value}),
        GlobalValue::I64(value) => json!({"i64": value}),
        GlobalValue::F32(bits) => {
            let value = f32::from_bits(bits);
            json!({"f32": float(value.into(), format!("{value:?}"))?})
        }
        GlobalValue::F64(bits) => {
            let value = f64::from_bits(bits);
            json!({"f64": float(value, format!("{value:?}"))?})
        }
        GlobalValue::V128(bits) => {
            // Digits of 32 bits, the lowest first, none above the highest that is not 0.
            let digits = (0..4).map(|digit| (bits >> (32 * digit)) as u32);
            let count = 4 - bits.leading_zeros() as usize / 32;
            json!({"v128": digits.take(count).collect::<Vec<_>>()})
        }
    })
}

/// Reads the file.
pub fn read(path: &Path) -> anyhow::Result<SnapshotMetadata> {
    let file = path.display();
    let text = std::fs::read(path).with_context(|| {
        format!("{file} cannot be read; a snapshot's directory has it once it is complete, check the path")
    })?;
    let value: Value =
        serde_json::from_slice(&text).map_err(|error| anyhow!("{file} is not JSON: {error}"))?;
    let Value::Object(members) = value else { bail!("{file} is not a JSON object") };
    decode(&members).with_context(|| format!("{file}"))
}

fn decode(members: &Map<String, Value>) -> anyhow::Result<SnapshotMetadata> {
    let member = |name: &str| members.get(name).filter(|value| !value.is_null());
    let number = |name: &str| match member(name) {
        None => bail!("{name} is missing"),
        Some(value) => value.as_u64().ok_or_else(|| anyhow!("{name} is {value}, which is no count")),
    };
    let list = |name: &str| match member(name) {
        None => Ok(&[][..]),
        Some(Value::Array(list)) => Ok(&list[..]),
        Some(_) => Err(anyhow!("{name} is not a list")),
    };
    if member("globals").is_none() {
        bail!("globals is missing");
    }
    let globals = list("globals")?
        .iter()
        .enumerate()
        .map(|(index, value)| global(value).with_context(|| format!("globals[{index}] is {value}")));
    let chunks = list("wasm_chunk_store")?.iter().map(|chunk| {
        let hash = chunk.get("hash").and_then(bytes);
        let hash = hash.and_then(|hash| <[u8; 32]>::try_from(hash).ok());
        hash.ok_or_else(|| anyhow!("wasm_chunk_store has {chunk}, which is no hash of 32 bytes"))
    });
    let certified_data = member("certified_data")
        .map(|value| bytes(value).ok_or_else(|| anyhow!("certified_data is not a list of bytes")));
    Ok(SnapshotMetadata {
        source: match member("source") {
            Some(source) if source.get("taken_from_canister").is_some() => SnapshotSource::TakenFromCanister,
            _ => SnapshotSource::MetadataUpload,
        },
        taken_at_nanos: number("taken_at_timestamp").unwrap_or_default(),
        wasm_module_bytes: number("wasm_module_size")?,
        globals: globals.collect::<anyhow::Result<_>>()?,
        wasm_memory_bytes: number("wasm_memory_size")?,
        stable_memory_bytes: number("stable_memory_size")?,
        wasm_chunks: chunks.collect::<anyhow::Result<_>>()?,
        canister_version: number("canister_version").unwrap_or_default(),
        certified_data: certified_data.transpose()?.unwrap_or_default(),
        global_timer: member("global_timer").map(timer).transpose()?,
        on_low_wasm_memory_hook: member("on_low_wasm_memory_hook_status").map(hook).transpose()?,
    })
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    value.as_array()?.iter().map(|byte| u8::try_from(byte.as_u64()?).ok()).collect()
}

fn timer(value: &Value) -> anyhow::Result<u64> {
    match (value.as_str(), value.get("active").and_then(Value::as_u64)) {
        (Some("inactive"), _) => Ok(0),
        (_, Some(nanos)) => Ok(nanos),
        _ => bail!("global_timer is {value}, neither \"inactive\" nor {{\"active\": nanoseconds}}"),
    }
}

fn hook(value: &Value) -> anyhow::Result<LowWasmMemoryHook> {
    use LowWasmMemoryHook::{ConditionNotSatisfied, Executed, Ready};
    let known = [ConditionNotSatisfied, Ready, Executed];
    let found = known.into_iter().find(|hook| value.as_str() == Some(hook_word(*hook)));
    found.ok_or_else(|| anyhow!("on_low_wasm_memory_hook_status is {value}, which is not known"))
}

fn global(value: &Value) -> anyhow::Result<GlobalValue> {
    let pair =
        value.as_object().filter(|members| members.len() == 1).and_then(|members| members.iter().next());
    let Some((ty, value)) = pair else { bail!("that is not one value with its type") };
    let fits = || anyhow!("that is no value of its type");
    let float = || match value.is_null() {
        true => Err(anyhow!("it was NaN or infinite when the snapshot was written, and JSON has lost which")),
        false => value.as_f64().ok_or_else(fits),
    };
    match ty.as_str() {
        "i32" => {
            value.as_i64().and_then(|value| i32::try_from(value).ok()).map(GlobalValue::I32).ok_or_else(fits)
        }
        "i64" => value.as_i64().map(GlobalValue::I64).ok_or_else(fits),
        #[expect(clippy::cast_possible_truncation, reason = "its digits are those of an `f32`")]
        "f32" => Ok(GlobalValue::F32((float()? as f32).to_bits())),
        "f64" => Ok(GlobalValue::F64(float()?.to_bits())),
        "v128" => v128(value).map(GlobalValue::V128).ok_or_else(fits),
        _ => bail!("globals have no type {ty:?}"),
    }
}

fn v128(value: &Value) -> Option<u128> {
    let digits = value.as_array().filter(|digits| digits.len() <= 4)?;
    let digit = |(index, digit): (usize, &Value)| {
        Some(u128::from(u32::try_from(digit.as_u64()?).ok()?) << (32 * index))
    };
    digits.iter().enumerate().map(digit).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(globals: Vec<GlobalValue>) -> SnapshotMetadata {
        SnapshotMetadata {
            source: SnapshotSource::TakenFromCanister,
            taken_at_nanos: 1_767_225_600_000_000_001,
            wasm_module_bytes: 1234,
            globals,
            wasm_memory_bytes: 65_536,
            stable_memory_bytes: 131_072,
            wasm_chunks: vec![[7; 32]],
            canister_version: 3,
            certified_data: vec![0, 255],
            global_timer: Some(0),
            on_low_wasm_memory_hook: Some(LowWasmMemoryHook::ConditionNotSatisfied),
        }
    }

    fn decoded(text: &[u8]) -> anyhow::Result<SnapshotMetadata> {
        decode(serde_json::from_slice::<Value>(text).unwrap().as_object().unwrap())
    }

    #[test]
    fn it_is_written_as_the_ics_tools_do() {
        let globals = vec![
            GlobalValue::I32(-5),
            GlobalValue::I64(i64::MIN),
            GlobalValue::F32(0.1_f32.to_bits()),
            GlobalValue::F64((-0.0_f64).to_bits()),
            GlobalValue::V128(1 << 32),
            GlobalValue::V128(0),
            GlobalValue::V128(u128::MAX),
        ];
        let text = encode(&metadata(globals.clone())).unwrap();
        let expected = r#"{
  "source": {"taken_from_canister":null},
  "taken_at_timestamp": 1767225600000000001,
  "wasm_module_size": 1234,
  "globals": [{"i32":-5},{"i64":-9223372036854775808},{"f32":0.1},{"f64":-0.0},{"v128":[0,1]},{"v128":[]},{"v128":[4294967295,4294967295,4294967295,4294967295]}],
  "wasm_memory_size": 65536,
  "stable_memory_size": 131072,
  "wasm_chunk_store": [{"hash":[7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7]}],
  "canister_version": 3,
  "certified_data": [0,255],
  "global_timer": "inactive",
  "on_low_wasm_memory_hook_status": "condition_not_satisfied"
}
"#;
        assert_eq!(String::from_utf8(text.clone()).unwrap(), expected);
        assert_eq!(decoded(&text).unwrap(), metadata(globals));
        let timed = SnapshotMetadata { global_timer: Some(u64::MAX), ..metadata(Vec::new()) };
        assert_eq!(decoded(&encode(&timed).unwrap()).unwrap(), timed);
        let silent = SnapshotMetadata { global_timer: None, on_low_wasm_memory_hook: None, ..timed };
        assert_eq!(decoded(&encode(&silent).unwrap()).unwrap(), silent);
    }

    #[test]
    fn every_f32_keeps_its_bits() {
        for bits in (0..u32::MAX).step_by(65_521).filter(|bits| f32::from_bits(*bits).is_finite()) {
            let written = encode(&metadata(vec![GlobalValue::F32(bits)])).unwrap();
            assert_eq!(decoded(&written).unwrap().globals, [GlobalValue::F32(bits)]);
        }
    }

    #[test]
    fn what_json_cannot_hold_is_said() {
        for value in [GlobalValue::F32(f32::NAN.to_bits()), GlobalValue::F64(f64::INFINITY.to_bits())] {
            let why = encode(&metadata(vec![GlobalValue::I32(1), value])).unwrap_err();
            assert!(why.starts_with("global 1 is ") && why.ends_with("JSON has no way to write"), "{why}");
        }
    }

    #[test]
    fn bad_members_are_named() {
        let with = |name: &str, value: Value| {
            let mut members: Map<String, Value> =
                serde_json::from_slice(&encode(&metadata(Vec::new())).unwrap()).unwrap();
            members.insert(name.to_owned(), value);
            decode(&members).map_err(|error| format!("{error:#}"))
        };
        assert!(with("new_member", json!({"any": 1})).is_ok());
        for (name, value, why) in [
            ("wasm_memory_size", Value::Null, "wasm_memory_size is missing"),
            ("wasm_memory_size", json!("1"), "wasm_memory_size is \"1\", which is no count"),
            ("globals", Value::Null, "globals is missing"),
            ("globals", json!([{"i32": 1}, null]), "globals[1] is null: that is not one value with its type"),
            ("globals", json!([{"i31": 1}]), "globals[0] is {\"i31\":1}: globals have no type \"i31\""),
            (
                "globals",
                json!([{"i32": 1_u64 << 31}]),
                "globals[0] is {\"i32\":2147483648}: that is no value of its type",
            ),
            ("globals", json!([{"f64": null}]), "NaN or infinite"),
            ("globals", json!([{"v128": [1, 2, 3, 4, 5]}]), "no value of its type"),
            ("wasm_chunk_store", json!([{"hash": [1]}]), "no hash of 32 bytes"),
            ("certified_data", json!([256]), "certified_data is not a list of bytes"),
            ("global_timer", json!("soon"), "global_timer is \"soon\""),
            ("on_low_wasm_memory_hook_status", json!("asleep"), "which is not known"),
        ] {
            let error = with(name, value).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
