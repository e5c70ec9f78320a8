//! Makes a state directory of the present format and packs it into one file, for the tests in `golden.rs`: once for each
//! format that is released. Half of what happened is in its files, half in the log only.
//!
//!     cargo run --example golden --features golden -- crates/cli/tests/golden/format-1.gz
#![allow(clippy::unwrap_used, reason = "it stops at the first surprise")]

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use bedstone::{Call, CallKind, Network, Principal};
use flate2::Compression;
use flate2::write::GzEncoder;

const CANISTERS: [(&str, &str); 2] = [
    ("tiny", include_str!("../tests/golden/tiny.wat")),
    ("counter", include_str!("../tests/golden/counter.wat")),
];

fn main() {
    let target = std::env::args().nth(1).expect("the file to write");
    let state = std::env::temp_dir().join(format!("bedstone-golden-{}", std::process::id()));
    let network = Network::builder().state_dir(&state).build().unwrap();
    for (name, wat) in CANISTERS {
        let canister = network.create_canister().unwrap();
        network.name_canister(name, canister).unwrap();
        network.install(canister, &wat::parse_str(wat).unwrap(), ()).unwrap();
    }
    let call = |name, method: &str| {
        let (canister, caller) = (network.canister_named(name).unwrap(), Principal::anonymous());
        let (method, kind) = (method.to_owned(), CallKind::Update);
        let receipt = network.call(Call { canister, method, arg: Vec::new(), caller, kind }).unwrap();
        assert!(receipt.reply.is_ok(), "{receipt:?}");
    };
    let some = || {
        call("tiny", "hello");
        (0..20).for_each(|_| call("counter", "count"));
    };
    call("tiny", "put");
    some();
    network.save().unwrap();
    some();
    network.abandon();
    let packed = GzEncoder::new(File::create(target).unwrap(), Compression::best());
    pack(&state, Path::new(""), packed).finish().unwrap();
    fs::remove_dir_all(state).unwrap();
}

/// Files in order of their paths.
fn pack<W: Write>(root: &Path, directory: &Path, mut to: W) -> W {
    let mut names: Vec<_> =
        fs::read_dir(root.join(directory)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let path = directory.join(name);
        if root.join(&path).is_dir() {
            to = pack(root, &path, to);
            continue;
        }
        let text = path.to_str().unwrap();
        let bytes = fs::read(root.join(&path)).unwrap();
        let blocks = bytes.chunks(4096).enumerate().filter(|(_, block)| block.iter().any(|byte| *byte != 0));
        let blocks: Vec<_> = blocks.collect();
        for number in [text.len(), bytes.len(), blocks.len()] {
            to.write_all(&(number as u64).to_le_bytes()).unwrap();
        }
        to.write_all(text.as_bytes()).unwrap();
        for (index, block) in blocks {
            to.write_all(&(index as u64).to_le_bytes()).unwrap();
            to.write_all(block).unwrap();
        }
    }
    to
}
