//! Random messages: each is done to the store and to the model of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::model::{ModelMemory, State};
use super::swarm::{Edit, Swarm};
use crate::page::ZERO_PAGE;
use crate::sim::Random;
use crate::{BlobId, Change, Class, Memory, MemoryId, PAGE_BYTES, Page, PageCount, PageIndex, Result, Store};

/// Gathers one message. The model is altered as if it were appended; the change is dropped, and the model is
/// of no use, when this fails.
pub(super) fn message(
    store: &Store,
    swarm: &Swarm,
    state: &mut State,
    random: &mut Random,
) -> Result<Change> {
    let mut change = store.begin();
    let share = |share: usize, random: &mut Random| random.below(100) < share;
    // What this message makes can be neither copied nor dropped by it.
    let (live, frozen) = (ids(state, Class::Live), ids(state, Class::Frozen));
    if live.is_empty() || live.len() < swarm.memories && share(20, random) || share(swarm.create, random) {
        let capacity = 1 + random.below(swarm.pages_max) as u32;
        let memory = change.create(PageCount::new(capacity))?;
        let mut model = ModelMemory { class: Class::Live, capacity, pages: 0, content: Arc::default() };
        grow(&mut change, &memory, &mut model, random);
        change_pages(&mut change, &memory, &mut model, swarm, random);
        state.memories.insert(memory.id(), model);
    }
    if share(swarm.copy, random) && state.memories.len() < 8 {
        copy(store, &mut change, state, [&live, &frozen], random)?;
    }
    let mut changed = Vec::new();
    for _ in 0..if swarm.pages > 0 { 1 + random.below(swarm.memories) } else { 0 } {
        let Some(id) = any(&live, random) else { break };
        // A page is given to a change once, so each memory is visited once.
        if changed.contains(&id) {
            continue;
        }
        changed.push(id);
        let memory = store.memory(id)?;
        let model = state.memories.get_mut(&id).expect("live memories are in the state");
        if share(swarm.grow, random) || model.pages == 0 {
            grow(&mut change, &memory, model, random);
        }
        change_pages(&mut change, &memory, model, swarm, random);
    }
    if share(swarm.drop, random) {
        let all: Vec<_> = live.iter().chain(&frozen).copied().filter(|id| !changed.contains(id)).collect();
        if let Some(id) = any(&all, random) {
            change.drop_memory(store.memory(id)?);
            state.memories.remove(&id);
        }
    }
    if share(swarm.metadata, random) {
        for _ in 0..1 + random.below(3) {
            let key = vec![random.below(8) as u8; 1 + random.below(2)];
            put(&mut change, state, key, random.below(4) > 0, [0, 8, 70, 900][random.below(4)], random);
        }
    }
    if share(swarm.oversized, random) {
        let bytes = usize::try_from(swarm.segment_bytes).expect("segments are small") + random.below(9_000);
        put(&mut change, state, b"oversized".to_vec(), true, bytes, random);
    }
    if share(swarm.blobs, random) {
        blobs(store, &mut change, state, random)?;
    }
    Ok(change)
}

fn ids(state: &State, class: Class) -> Vec<MemoryId> {
    state.memories.iter().filter(|(_, memory)| memory.class == class).map(|(id, _)| *id).collect()
}

fn any(ids: &[MemoryId], random: &mut Random) -> Option<MemoryId> {
    if ids.is_empty() { None } else { Some(ids[random.below(ids.len())]) }
}

fn put(change: &mut Change, state: &mut State, key: Vec<u8>, keep: bool, bytes: usize, random: &mut Random) {
    if keep {
        let mut value = vec![random.number() as u8; bytes];
        if let Some(byte) = value.last_mut() {
            *byte = random.number() as u8;
        }
        change.put(&key, &value);
        state.metadata.insert(key, value);
    } else {
        change.delete(&key);
        state.metadata.remove(&key);
    }
}

fn grow(change: &mut Change, memory: &Memory, model: &mut ModelMemory, random: &mut Random) {
    if model.pages < model.capacity {
        model.pages += 1 + random.below((model.capacity - model.pages).min(4) as usize) as u32;
        change.grow(memory, PageCount::new(model.pages));
    }
}

fn change_pages(
    change: &mut Change,
    memory: &Memory,
    model: &mut ModelMemory,
    swarm: &Swarm,
    random: &mut Random,
) {
    if model.pages == 0 {
        return;
    }
    let mut afters = BTreeMap::new();
    for _ in 0..random.below(swarm.pages + 1).max(usize::from(swarm.pages == 1)) {
        let index = random.below(model.pages as usize) as u32;
        afters.insert(index, edited(model.page(index), swarm.edit, random));
    }
    for (index, after) in afters {
        let before = *model.page(index);
        if random.below(8) == 0 {
            change.image(memory, PageIndex::new(index), &after);
        } else {
            change.page(memory, PageIndex::new(index), &before, &after);
        }
        model.set_page(index, after);
    }
}

fn edited(before: &Page, edit: Edit, random: &mut Random) -> Page {
    let mut page = *before;
    match edit {
        Edit::Edges => {
            for _ in 0..1 + random.below(3) {
                let block = random.below(PAGE_BYTES / 64) * 64;
                let at = block + [0, 63, 31][random.below(3)];
                page[at] = random.number() as u8;
            }
            page
        }
        Edit::Equal => [random.below(3) as u8; PAGE_BYTES],
        Edit::Whole => {
            let number = random.number();
            for (index, chunk) in page.chunks_exact_mut(8).enumerate() {
                chunk.copy_from_slice(&(number ^ (index as u64) << 40).to_le_bytes());
            }
            page
        }
        Edit::Any => match random.below(8) {
            0 => *ZERO_PAGE,
            1 | 2 => edited(before, Edit::Whole, random),
            3 => edited(before, Edit::Equal, random),
            4 => {
                let (at, bytes) = (random.below(PAGE_BYTES), random.below(700));
                let end = PAGE_BYTES.min(at + bytes);
                page[at..end].fill(random.number() as u8);
                page
            }
            _ => edited(before, Edit::Edges, random),
        },
    }
}

/// A snapshot of a live memory, or a live copy of a frozen one.
fn copy(
    store: &Store,
    change: &mut Change,
    state: &mut State,
    [live, frozen]: [&[MemoryId]; 2],
    random: &mut Random,
) -> Result<()> {
    let class = if random.below(2) == 0 { Class::Live } else { Class::Frozen };
    let sources = if class == Class::Live { frozen } else { live };
    let Some(source) = any(sources, random) else { return Ok(()) };
    let copied = match class {
        Class::Live => store.fork(source)?,
        Class::Frozen => store.snapshot(&[source])?.pop().expect("one copy of one memory"),
    };
    let memory = change.create_copy(copied, class);
    let model = ModelMemory { class, ..state.memories[&source].clone() };
    state.memories.insert(memory.id(), model);
    Ok(())
}

/// A blob gets a reference, or loses one.
fn blobs(store: &Store, change: &mut Change, state: &mut State, random: &mut Random) -> Result<()> {
    let bytes = blob(random.below(5) as u8);
    let id = BlobId::of(&bytes);
    let count = state.blobs.get(&id).copied().unwrap_or(0);
    if count > 0 && random.below(2) == 0 {
        change.blob_references(id, -1);
        state.blobs.insert(id, count - 1);
        state.blobs.retain(|_, count| *count > 0);
    } else {
        assert_eq!(store.put_blob(&bytes)?, id);
        change.blob_references(id, 1);
        state.blobs.insert(id, count + 1);
    }
    Ok(())
}

/// One of the few blobs that there are.
fn blob(number: u8) -> Vec<u8> {
    vec![number; 100 + 700 * usize::from(number)]
}
