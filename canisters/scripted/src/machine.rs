//! The machine that runs a program: a stack of byte strings, and what outlives a message.
//!
//! - A value is a byte string. A number is its bytes, little-endian, as many as it likes; missing ones are zero.
//! - An address stays valid until the entry point ends: what is pinned or reserved is neither moved nor freed before.
//! - Environments are never freed: which of its callbacks a call will use is not known before.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use crate::entry_points;
use crate::program::{Entry, Operation};
use crate::system;

thread_local! {
    static REGISTERS: RefCell<BTreeMap<u8, Vec<u8>>> = const { RefCell::new(BTreeMap::new()) };
    static STORED: RefCell<BTreeMap<u8, Vec<u8>>> = const { RefCell::new(BTreeMap::new()) };
    static ENVIRONMENTS: RefCell<BTreeMap<u32, Vec<u8>>> = const { RefCell::new(BTreeMap::new()) };
    static NEXT_ENVIRONMENT: Cell<u32> = const { Cell::new(1) };
}

/// The program stored for an entry point.
pub fn stored(entry: Entry) -> Option<Vec<u8>> {
    STORED.with_borrow(|stored| stored.get(&(entry as u8)).cloned())
}

/// The program of a callback.
pub fn environment(number: u32) -> Option<Vec<u8>> {
    ENVIRONMENTS.with_borrow(|environments| environments.get(&number).cloned())
}

/// A result that goes onto the stack, if it is one.
pub trait Value {
    fn push(self, stack: &mut Vec<Vec<u8>>);
}

impl Value for () {
    fn push(self, _: &mut Vec<Vec<u8>>) {}
}

impl Value for u32 {
    fn push(self, stack: &mut Vec<Vec<u8>>) {
        stack.push(self.to_le_bytes().to_vec());
    }
}

impl Value for u64 {
    fn push(self, stack: &mut Vec<Vec<u8>>) {
        stack.push(self.to_le_bytes().to_vec());
    }
}

/// Ends the message: the program cannot mean this.
pub fn mistake(text: &str) -> ! {
    system::trap_with(&format!("script: {text}"))
}

/// What a value is as a number.
pub fn number(value: Option<Vec<u8>>) -> u128 {
    let value = value.unwrap_or_else(|| mistake("the stack is empty"));
    if value.len() > 16 {
        mistake(&format!("a value of {} bytes is no number", value.len()));
    }
    let mut bytes = [0; 16];
    bytes[..value.len()].copy_from_slice(&value);
    u128::from_le_bytes(bytes)
}

/// The topmost values, the topmost last.
pub fn pop_many(stack: &mut Vec<Vec<u8>>, count: usize) -> Vec<Vec<u8>> {
    match stack.len().checked_sub(count) {
        Some(rest) => stack.split_off(rest),
        None => mistake("the stack has too few values"),
    }
}

/// What an entry point has while it runs.
#[derive(Default)]
pub struct Machine {
    stack: Vec<Vec<u8>>,
    /// Never read: that they are here keeps their addresses valid.
    pinned: Vec<Vec<u8>>,
    reserved: Vec<Vec<u8>>,
}

impl Machine {
    pub fn run(&mut self, program: &[u8]) {
        let mut rest = program;
        while let [operation, after @ ..] = rest {
            rest = after;
            match Operation::from_byte(*operation) {
                Some(operation) => self.perform(operation, &mut rest),
                None => mistake(&format!("there is no operation {operation}")),
            }
        }
    }

    fn perform(&mut self, operation: Operation, rest: &mut &[u8]) {
        match operation {
            Operation::Push => {
                let size = u32::from_le_bytes(*immediate::<4>(rest));
                self.stack.push(immediate_bytes(rest, size as usize).to_vec());
            }
            Operation::System => {
                let size = immediate::<1>(rest)[0];
                system::call(immediate_bytes(rest, size.into()), &mut self.stack);
            }
            Operation::Pick => {
                let depth = usize::from(immediate::<1>(rest)[0]);
                match self.stack.len().checked_sub(depth + 1) {
                    Some(index) => self.stack.push(self.stack[index].clone()),
                    None => mistake("the stack has too few values"),
                }
            }
            Operation::Load => {
                let register = immediate::<1>(rest)[0];
                let value = REGISTERS.with_borrow(|registers| registers.get(&register).cloned());
                self.stack.push(value.unwrap_or_default());
            }
            Operation::Store => {
                let register = immediate::<1>(rest)[0];
                let value = self.pop();
                REGISTERS.with_borrow_mut(|registers| registers.insert(register, value));
            }
            Operation::Append => {
                let register = immediate::<1>(rest)[0];
                let value = self.pop();
                REGISTERS.with_borrow_mut(|registers| registers.entry(register).or_default().extend(value));
            }
            Operation::SetProgram => {
                let entry = immediate::<1>(rest)[0];
                let program = self.pop();
                STORED.with_borrow_mut(|stored| stored.insert(entry, program));
            }
            Operation::Repeat => {
                let count = self.pop_number();
                let body = self.pop();
                for _ in 0..count {
                    self.run(&body);
                }
            }
            Operation::Drop => drop(self.pop()),
            Operation::Swap => {
                let (below, top) = self.pop_two();
                self.stack.extend([top, below]);
            }
            Operation::Pin => {
                let value = self.pop();
                (value.as_ptr() as u32).push(&mut self.stack);
                (value.len() as u32).push(&mut self.stack);
                self.pinned.push(value);
            }
            Operation::Reserve => {
                let size = self.pop_number() as u32;
                let value = vec![0; size as usize];
                (value.as_ptr() as u32).push(&mut self.stack);
                size.push(&mut self.stack);
                self.reserved.push(value);
            }
            Operation::Reserved => match self.reserved.pop() {
                // The system has written through the address, and the compiler must not think otherwise.
                Some(value) => {
                    let copy = read_heap(value.as_ptr() as u32, value.len() as u32);
                    self.stack.push(copy);
                    self.pinned.push(value);
                }
                None => mistake("nothing is reserved"),
            },
            Operation::CallbackFunction => entry_points::callback_index().push(&mut self.stack),
            Operation::CallbackEnvironment => {
                let number = NEXT_ENVIRONMENT.get();
                NEXT_ENVIRONMENT.set(number + 1);
                let program = self.pop();
                ENVIRONMENTS.with_borrow_mut(|environments| environments.insert(number, program));
                number.push(&mut self.stack);
            }
            bytes_or_heap => self.compute(bytes_or_heap),
        }
    }

    /// Operations on values and on the heap alone.
    fn compute(&mut self, operation: Operation) {
        match operation {
            Operation::Concatenate => {
                let (mut bytes, more) = self.pop_two();
                bytes.extend(more);
                self.stack.push(bytes);
            }
            Operation::Slice => {
                let (size, offset) = (self.pop_number() as usize, self.pop_number() as usize);
                let bytes = self.pop();
                match bytes.get(offset..).and_then(|tail| tail.get(..size)) {
                    Some(slice) => self.stack.push(slice.to_vec()),
                    None => mistake(&format!("{size} bytes from {offset} on are not in {}", bytes.len())),
                }
            }
            Operation::Length => (self.pop().len() as u32).push(&mut self.stack),
            Operation::Fill => {
                let (size, byte) = (self.pop_number() as usize, self.pop_number() as u8);
                self.stack.push(vec![byte; size]);
            }
            Operation::Add => self.arithmetic(u128::wrapping_add),
            Operation::Subtract => self.arithmetic(u128::wrapping_sub),
            Operation::Equal => {
                let (left, right) = self.pop_two();
                u32::from(left == right).push(&mut self.stack);
            }
            Operation::Less => {
                let (right, left) = (self.pop_number(), self.pop_number());
                u32::from(left < right).push(&mut self.stack);
            }
            Operation::Split => {
                let wide = self.pop_number();
                ((wide >> 64) as u64).push(&mut self.stack);
                (wide as u64).push(&mut self.stack);
            }
            Operation::HeapRead => {
                let (size, address) = (self.pop_number() as u32, self.pop_number() as u32);
                self.stack.push(read_heap(address, size));
            }
            Operation::HeapWrite => {
                let bytes = self.pop();
                let address = self.pop_number() as u32;
                write_heap(address, &bytes);
            }
            Operation::HeapSize => (core::arch::wasm32::memory_size::<0>() as u32).push(&mut self.stack),
            Operation::HeapGrow => {
                let pages = self.pop_number() as usize;
                (core::arch::wasm32::memory_grow::<0>(pages) as u32).push(&mut self.stack);
            }
            Operation::Unreachable => core::arch::wasm32::unreachable(),
            _ => unreachable!("`perform` has done all others"),
        }
    }

    /// The result is as wide as the wider of the two.
    fn arithmetic(&mut self, compute: fn(u128, u128) -> u128) {
        let (left, right) = self.pop_two();
        let width = left.len().max(right.len());
        let result = compute(number(Some(left)), number(Some(right)));
        self.stack.push(result.to_le_bytes()[..width].to_vec());
    }

    fn pop(&mut self) -> Vec<u8> {
        self.stack.pop().unwrap_or_else(|| mistake("the stack is empty"))
    }

    /// The topmost one last.
    fn pop_two(&mut self) -> (Vec<u8>, Vec<u8>) {
        let top = self.pop();
        (self.pop(), top)
    }

    fn pop_number(&mut self) -> u128 {
        number(self.stack.pop())
    }
}

fn immediate<'a, const N: usize>(rest: &mut &'a [u8]) -> &'a [u8; N] {
    match rest.split_first_chunk::<N>() {
        Some((bytes, after)) => {
            *rest = after;
            bytes
        }
        None => mistake("the program ends within an operation"),
    }
}

fn immediate_bytes<'a>(rest: &mut &'a [u8], size: usize) -> &'a [u8] {
    match rest.split_at_checked(size) {
        Some((bytes, after)) => {
            *rest = after;
            bytes
        }
        None => mistake("the program ends within an operation"),
    }
}

/// Byte by byte, so that the first one outside traps there.
fn read_heap(address: u32, size: u32) -> Vec<u8> {
    // SAFETY: any byte of the heap can be read, and reading beyond it traps.
    (0..size).map(|index| unsafe { (address.wrapping_add(index) as *const u8).read_volatile() }).collect()
}

fn write_heap(address: u32, bytes: &[u8]) {
    for (index, byte) in (0..).zip(bytes) {
        // SAFETY: writing beyond the heap traps. Programs are to write only to pages that they grew or reserved.
        unsafe { (address.wrapping_add(index) as *mut u8).write_volatile(*byte) };
    }
}
