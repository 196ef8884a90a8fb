//! Keys and values on the device: pages of 128 positions that sequences hold and share.
//!
//! ```text
//! layer → page → keys, then values → head → position → head_dim elements        (kernels/rotate.cu)
//! ```
//!
//! A page has one number in all layers. Copies of a sequence share pages; before one writes into a page that others hold, it takes a copy.
//! Page 0 is nobody's: tables point there where a sequence has no page. Memory grows by doubling, layer by layer, as sequences need it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backend::cuda::buffer::Buffer;
use crate::backend::cuda::engine::queue::Queue;
use crate::backend::cuda::plan::PAGE;
use crate::backend::{KvFormat, KvSpec};
use crate::error::Result;

/// Pages at first, 1024 positions besides nobody's.
const FIRST_PAGES: usize = 9;

/// Numbers that nobody holds.
type Free = Mutex<Vec<u32>>;

/// Memory of all pages of a model's sequences.
#[derive(Debug)]
pub struct PagePool {
    page_bytes: usize,
    layers: usize,
    memory: Mutex<Memory>,
    free: Arc<Free>,
}

#[derive(Debug)]
struct Memory {
    layers: Vec<Buffer<u8>>,
    pages: usize, // that every layer has
    growths: u64,
}

/// A page, given back when the last holder goes.
#[derive(Debug)]
struct Page {
    number: u32,
    free: Arc<Free>,
}

impl Drop for Page {
    fn drop(&mut self) {
        lock(&self.free).push(self.number);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes of one page of one layer.
pub fn page_bytes(spec: &KvSpec) -> usize {
    let elements = 2 * spec.heads * PAGE * spec.head_dim.next_multiple_of(16);
    match spec.format {
        KvFormat::F32 => 4 * elements,
        KvFormat::Bf16 => 2 * elements,
        KvFormat::Fp8 => elements,
        KvFormat::Nvfp4 => elements / 2 + elements / 16,
    }
}

impl PagePool {
    /// No memory yet.
    pub fn new(spec: &KvSpec) -> Self {
        let memory = Mutex::new(Memory { layers: Vec::new(), pages: 0, growths: 0 });
        Self { page_bytes: page_bytes(spec), layers: spec.scales.len(), memory, free: Arc::default() }
    }

    /// Whether sequences of `spec` fit in.
    pub fn serves(&self, spec: &KvSpec) -> bool {
        (self.page_bytes, self.layers) == (page_bytes(spec), spec.scales.len())
    }

    /// Address of a layer's pages, and how often addresses changed.
    pub fn layer(&self, layer: usize) -> (u64, u64) {
        let memory = lock(&self.memory);
        (memory.layers.get(layer).map_or(0, Buffer::pointer), memory.growths)
    }

    /// A page of zeros.
    fn take(&self, queue: &Queue) -> Result<Arc<Page>> {
        let mut memory = lock(&self.memory);
        let spare = lock(&self.free).pop();
        let number = match spare {
            Some(number) => number,
            None => self.grow(queue, &mut memory)?,
        };
        let page = Arc::new(Page { number, free: Arc::clone(&self.free) });
        for layer in &mut memory.layers {
            layer.fill_range(&queue.stream, number as usize * self.page_bytes, self.page_bytes, 0)?;
        }
        Ok(page)
    }

    /// Doubles the memory; the first new number.
    fn grow(&self, queue: &Queue, memory: &mut Memory) -> Result<u32> {
        let (before, pages) = (memory.pages, (2 * memory.pages).max(FIRST_PAGES));
        for layer in 0..self.layers {
            if memory.layers.get(layer).is_some_and(|own| own.len() >= pages * self.page_bytes) {
                continue; // from an attempt that ran out of memory later on
            }
            let mut grown = Buffer::new(&queue.device, pages * self.page_bytes)?;
            grown.fill_range(&queue.stream, 0, self.page_bytes, 0)?;
            match memory.layers.get_mut(layer) {
                Some(own) => {
                    grown.copy_from(&queue.stream, 0, own, 0..before * self.page_bytes)?;
                    queue.stream.synchronize()?;
                    *own = grown;
                }
                None => memory.layers.push(grown),
            }
            memory.growths += 1;
        }
        memory.pages = pages;
        let first = before.max(1);
        lock(&self.free).extend((first + 1..pages).rev().map(|number| number as u32));
        Ok(first as u32)
    }
}

/// Keys and values of one sequence.
#[derive(Clone, Debug)]
pub struct Cache {
    /// Shape, format and scales.
    pub spec: Arc<KvSpec>,
    pool: Arc<PagePool>,
    pages: Vec<Arc<Page>>,
}

impl Cache {
    /// An empty one.
    pub fn new(spec: Arc<KvSpec>, pool: Arc<PagePool>) -> Self {
        Self { spec, pool, pages: Vec::new() }
    }

    /// Where its pages are.
    pub fn pool(&self) -> &Arc<PagePool> {
        &self.pool
    }

    /// Numbers of its pages, in order.
    pub fn pages(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        self.pages.iter().map(|page| page.number)
    }

    /// Makes pages for the positions up to `last`, and its own those from `first` on.
    pub fn reserve(&mut self, queue: &Queue, first: usize, last: usize) -> Result<()> {
        while self.pages.len() <= last / PAGE {
            self.pages.push(self.pool.take(queue)?);
        }
        for place in first / PAGE..=last / PAGE {
            if Arc::strong_count(&self.pages[place]) > 1 {
                let own = self.pool.take(queue)?;
                let bytes = self.pool.page_bytes;
                let from = self.pages[place].number as usize * bytes;
                for layer in &mut lock(&self.pool.memory).layers {
                    layer.copy_within(&queue.stream, own.number as usize * bytes, from..from + bytes)?;
                }
                self.pages[place] = own;
            }
        }
        Ok(())
    }
}
