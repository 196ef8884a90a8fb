//! Launches: shapes to grids as pure functions, arguments, and the call.
//!
//! A [`Plan`] says how many blocks of how many threads run with how much shared memory. Plans are computed from shapes and the card's
//! facts alone, so they are tested without a card. `overlap` is programmatic dependent launch (compute capability 9.0 on): the kernel may
//! begin while the one ahead of it in the stream still runs, and must execute `griddepcontrol.wait` before it touches what that one reads
//! or writes.

#![allow(unsafe_code, reason = "calls into the CUDA driver")]

use std::ffi::c_void;
use std::mem::{align_of, size_of, zeroed};
use std::ptr;

use cudarc::driver::sys::{self, CUlaunchAttribute, CUlaunchAttributeID};

use crate::backend::cuda::buffer::Element;
use crate::backend::cuda::device::Card;
use crate::backend::cuda::module::Function;
use crate::backend::cuda::problem::Problem;
use crate::backend::cuda::stream::Stream;
use crate::error::Result;

/// Dynamic shared memory a kernel may use without asking, in bytes.
pub const SHARED_UNASKED: u32 = 48 << 10;
const LARGEST_GRID: [u32; 3] = [i32::MAX as u32, 65535, 65535];
const LARGEST_BLOCK: u32 = 1024;

/// Size of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Blocks along x, y, z.
    pub blocks: [u32; 3],
    /// Threads of a block.
    pub threads: u32,
    /// Dynamic shared memory of a block, in bytes.
    pub shared_bytes: u32,
    /// The kernel may begin before the one ahead of it has ended.
    pub overlap: bool,
}

impl Plan {
    /// A grid of `blocks` blocks along x.
    pub fn line(blocks: u32, threads: u32) -> Self {
        Self { blocks: [blocks.max(1), 1, 1], threads, shared_bytes: 0, overlap: false }
    }

    /// One thread per `per_thread` of `items`, in blocks of `threads`, at most `waves` times what the card can hold at once: for kernels
    /// that step through the items by the grid's size.
    pub fn stride(items: u64, per_thread: u32, threads: u32, waves: u32, card: &Card) -> Self {
        let wanted = items.div_ceil(u64::from(per_thread.max(1)) * u64::from(threads));
        let per_multiprocessor = (2048 / threads).max(1);
        let most = u64::from(card.multiprocessors) * u64::from(per_multiprocessor * waves.max(1));
        Self::line(wanted.min(most).max(1) as u32, threads)
    }

    /// With `bytes` of dynamic shared memory.
    #[must_use]
    pub fn with_shared(self, bytes: u32) -> Self {
        Self { shared_bytes: bytes, ..self }
    }

    /// With or without overlap; a card that has none gets none.
    #[must_use]
    pub fn with_overlap(self, overlap: bool, card: &Card) -> Self {
        Self { overlap: overlap && card.overlaps(), ..self }
    }

    /// Whether the card can run it.
    pub fn check(&self, card: &Card) -> Result<(), Problem> {
        let fault = |found: String, most: String| Err(Problem::new(format!("a launch of {found}"), format!("{most} is the most")));
        if let Some(axis) = (0..3).find(|&axis| self.blocks[axis] == 0 || self.blocks[axis] > LARGEST_GRID[axis]) {
            return fault(format!("{} blocks along axis {axis}", self.blocks[axis]), format!("1 to {}", LARGEST_GRID[axis]));
        }
        if self.threads == 0 || self.threads > LARGEST_BLOCK {
            return fault(format!("{} threads a block", self.threads), format!("1 to {LARGEST_BLOCK}"));
        }
        if self.shared_bytes > card.shared_per_block {
            let most = format!("{} on {}", card.shared_per_block, card.name);
            return fault(format!("{} bytes of shared memory a block", self.shared_bytes), most);
        }
        Ok(())
    }
}

/// A structure that a kernel takes by value.
///
/// # Safety
/// `#[repr(C)]`, laid out as the kernel's own, with an alignment of at most 8 and no bytes that belong to no field.
pub unsafe trait Structure: Copy + 'static {}

/// A kernel's arguments, in order: addresses as `u64`, numbers and structures as the kernel declares them.
#[derive(Clone, Debug, Default)]
pub struct Arguments {
    words: Vec<u64>,
    starts: Vec<usize>, // where each argument begins; the driver reads as many bytes of it as the kernel declares
}

impl Arguments {
    /// No arguments.
    pub fn new() -> Self {
        Self::default()
    }

    /// One more number.
    #[must_use]
    pub fn with<T: Element>(self, value: T) -> Self {
        // SAFETY: a number has no bytes that belong to nothing.
        unsafe { self.with_bytes_of(value) }
    }

    /// One more structure.
    #[must_use]
    pub fn with_structure<T: Structure>(self, value: T) -> Self {
        // SAFETY: the trait promises it.
        unsafe { self.with_bytes_of(value) }
    }

    /// # Safety
    /// Every byte of a `T` belongs to a field.
    unsafe fn with_bytes_of<T: Copy>(mut self, value: T) -> Self {
        const { assert!(align_of::<T>() <= align_of::<u64>() && size_of::<T>() > 0) };
        let start = self.words.len();
        self.words.resize(start + size_of::<T>().div_ceil(size_of::<u64>()), 0);
        // SAFETY: the words from `start` on hold at least a `T`, and are aligned for one.
        unsafe { self.words[start..].as_mut_ptr().cast::<T>().write(value) };
        self.starts.push(start);
        self
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }
}

impl Function {
    /// Puts the kernel into `stream`. Does not wait; while the stream captures, it becomes a node of the graph.
    ///
    /// # Safety
    /// `arguments` are of the number and the types that the kernel declares, its addresses cover what it reads and writes with `plan`, and
    /// their memory stays until the kernel has run: as often as the graph runs, if this is captured.
    pub unsafe fn launch(&self, stream: &Stream, plan: Plan, arguments: &Arguments) -> Result<()> {
        plan.check(self.device().card()).map_err(|problem| self.device().error(problem))?;
        let context = self.device().context();
        context.bind()?;
        // SAFETY: a union of numbers: all zero is a value.
        let mut attribute: CUlaunchAttribute = unsafe { zeroed() };
        attribute.id = CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
        attribute.value.programmaticStreamSerializationAllowed = 1;
        let config = sys::CUlaunchConfig {
            gridDimX: plan.blocks[0],
            gridDimY: plan.blocks[1],
            gridDimZ: plan.blocks[2],
            blockDimX: plan.threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: plan.shared_bytes,
            hStream: stream.raw(),
            attrs: &raw mut attribute,
            numAttrs: u32::from(plan.overlap),
        };
        let word = |&start: &usize| ptr::from_ref(&arguments.words[start]).cast_mut().cast();
        let mut pointers: Vec<*mut c_void> = arguments.starts.iter().map(word).collect();
        // SAFETY: configuration and arguments live through the call, which copies them; the rest is the caller's promise.
        let code = unsafe { sys::cuLaunchKernelEx(&raw const config, self.raw(), pointers.as_mut_ptr(), ptr::null_mut()) };
        context.check(&format!("launching {} ({:?} × {}, {} B shared)", self.entry(), plan.blocks, plan.threads, plan.shared_bytes), code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(major: i32) -> Card {
        Card {
            name: "a card".to_owned(),
            compute_capability: (major, 0),
            multiprocessors: 132,
            shared_per_block: 227 << 10,
            shared_per_multiprocessor: 228 << 10,
            l2_bytes: 60 << 20,
            memory_bytes: 141 << 30,
        }
    }

    #[test]
    fn a_stride_covers_its_items_and_stops_at_what_the_card_holds() {
        let card = card(9);
        for items in (0..5000).chain([1 << 20, 1 << 33, u64::MAX / 2]) {
            for (per_thread, threads) in [(1, 256), (4, 128), (3, 1024), (1, 32)] {
                let plan = Plan::stride(items, per_thread, threads, 1, &card);
                plan.check(&card).expect("a launch that fits");
                let threads_in_all = u64::from(plan.blocks[0]) * u64::from(threads);
                let most = 132 * u64::from(2048 / threads);
                let covered = threads_in_all.saturating_mul(u64::from(per_thread)) >= items;
                assert!(covered || u64::from(plan.blocks[0]) == most, "{items} items, {plan:?}");
                assert!(u64::from(plan.blocks[0]) <= most && u64::from(plan.blocks[0] - 1) * u64::from(threads * per_thread) <= items);
            }
        }
    }

    #[test]
    fn a_plan_that_no_card_runs_is_refused_in_words() {
        let card = card(9);
        let good = Plan::line(7, 256);
        assert_eq!(good.check(&card), Ok(()));
        let wrong = [
            (Plan { blocks: [1, 70000, 1], ..good }, "70000 blocks along axis 1"),
            (Plan { blocks: [0, 1, 1], ..good }, "0 blocks along axis 0"),
            (Plan { threads: 2048, ..good }, "2048 threads"),
            (Plan { threads: 0, ..good }, "0 threads"),
            (good.with_shared(300 << 10), "307200 bytes of shared memory"),
        ];
        for (plan, words) in wrong {
            let problem = plan.check(&card).unwrap_err().to_string();
            assert!(problem.contains(words), "{problem}");
        }
    }

    #[test]
    fn overlap_is_for_cards_that_have_it() {
        assert!(Plan::line(1, 32).with_overlap(true, &card(9)).overlap);
        assert!(!Plan::line(1, 32).with_overlap(true, &card(8)).overlap);
        assert!(!Plan::line(1, 32).with_overlap(false, &card(9)).overlap);
    }

    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Three(u64, u32, f32, u32, u32);
    // SAFETY: 24 bytes, all of them fields.
    unsafe impl Structure for Three {}

    #[test]
    fn an_argument_keeps_its_bytes() {
        let arguments = Arguments::new().with(0x1234_5678_9abc_def0_u64).with(1.5_f32).with(-1_i32).with(7_u8);
        let expected = [0x1234_5678_9abc_def0, u64::from(1.5_f32.to_bits()), u64::from(u32::MAX), 7];
        assert_eq!(arguments.words, expected);
        assert_eq!((arguments.len(), arguments.is_empty(), Arguments::new().is_empty()), (4, false, true));

        let arguments = Arguments::new().with(9_u16).with_structure(Three(1, 2, 1.0, 3, 4)).with(5_u32);
        assert_eq!(arguments.words, [9, 1, 0x3F80_0000 << 32 | 2, 4 << 32 | 3, 5]);
        assert_eq!(arguments.starts, [0, 1, 4]);
    }
}
