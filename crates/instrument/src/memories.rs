//! Memories that a canister declares for itself: what the manifest says of them.
//!
//! The IC accepts one memory, the heap. With [`Config::allow_multi_memory`](crate::Config::allow_multi_memory) a module may
//! declare more; each is tracked, rolled back and saved like the heap. Invariants:
//! - A memory keeps its index; injected memories come after all of them.
//! - Memory 0 is what the system API reads and writes, stable reads and writes included.

use crate::abi::{DeclaredMemory, Lifetime};
use crate::info::ModuleInfo;

/// The declared memories, by index.
pub(crate) fn declared(info: &ModuleInfo<'_>) -> Vec<DeclaredMemory> {
    (0..)
        .zip(&info.memories)
        .map(|(index, memory)| DeclaredMemory {
            index,
            lifetime: Lifetime::Heap,
            memory64: memory.memory64,
            wasm_pages_min: memory.initial,
            wasm_pages_max: memory.maximum,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::abi::tracking::TrackingLayout;

    fn layout(memories: &str) -> TrackingLayout {
        let wasm = wat::parse_str(format!("(module {memories})")).unwrap();
        TrackingLayout::new(&super::declared(&crate::parse::parse(&wasm).unwrap()))
    }

    #[test]
    fn one_memory_or_none_has_the_usual_addresses() {
        for memories in ["", "(memory 1)", "(memory i64 1)", "(memory i64 1 98304)"] {
            let layout = layout(memories);
            assert!(layout.heap_maps.iter().all(|map| *map == 0), "{memories}");
            assert_eq!((layout.globals, layout.stable_map, layout.wasm_pages), (0x40_0000, 0x50_0000, 2129));
        }
    }

    #[test]
    fn maps_do_not_overlap() {
        let small = layout("(memory 1) (memory 1 1) (memory 1)");
        assert_eq!(small.heap_maps, [0, 0x10_0000, 0x20_0000]);
        assert_eq!((small.globals, small.stable_map), (0x40_0000, 0x50_0000));
        let mixed = layout("(memory i64 1) (memory 1) (memory i64 1 1)");
        assert_eq!(mixed.heap_maps, [0, 0x40_0000, 0x50_0000]);
        assert_eq!((mixed.globals, mixed.stable_map, mixed.wasm_pages), (0x90_0000, 0xa0_0000, 2209));
        let most = layout(&"(memory i64 0)".repeat(98));
        assert!(most.wasm_pages * 65_536 < 4 << 30);
    }
}
