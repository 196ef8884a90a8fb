//! Memory of a device, and host memory that a device can reach, both typed and with checked copies.

#![allow(unsafe_code, reason = "calls into the CUDA driver")]

use std::ffi::c_void;
use std::marker::PhantomData;
use std::mem::size_of;
use std::ops::Range;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use cudarc::driver::sys::{self, CUresult};
use half::{bf16, f16};

use crate::backend::cuda::device::{Context, Device};
use crate::backend::cuda::problem::{Problem, help};
use crate::backend::cuda::stream::Stream;
use crate::error::{Error, Result};

/// Numbers that may lie in a buffer.
///
/// # Safety
/// Every pattern of bits is a value, and the type has no padding.
pub unsafe trait Element: Copy + Default + Send + 'static {}

macro_rules! element {
    ($($type:ty),*) => {
        // SAFETY: plain numbers.
        $(unsafe impl Element for $type {})*
    };
}
element!(u8, i8, u16, u32, i32, u64, i64, f32, f64, f16, bf16);

/// `len` elements in a device's memory, freed when it goes.
#[derive(Debug)]
pub struct Buffer<T: Element> {
    context: Arc<Context>,
    pointer: u64, // 0 for no elements
    len: usize,
    element: PhantomData<T>,
}

impl<T: Element> Buffer<T> {
    /// A buffer whose contents are whatever the memory held.
    pub fn new(device: &Device, len: usize) -> Result<Self> {
        let context = Arc::clone(device.context());
        let bytes = len.checked_mul(size_of::<T>()).filter(|bytes| isize::try_from(*bytes).is_ok()).ok_or_else(|| Error::Shape {
            what: "a device buffer".to_owned(),
            found: format!("{len} elements of {} bytes", size_of::<T>()),
            expected: "a size that fits the address space".to_owned(),
        })?;
        let mut pointer = 0;
        if bytes > 0 {
            context.bind()?;
            // SAFETY: the driver writes one pointer; dropped below.
            let code = unsafe { sys::cuMemAlloc_v2(&raw mut pointer, bytes) };
            check_allocation(&context, "cuMemAlloc", bytes, code)?;
        }
        Ok(Self { context, pointer, len, element: PhantomData })
    }

    /// A buffer of zeros.
    pub fn zeros(device: &Device, stream: &Stream, len: usize) -> Result<Self> {
        let mut buffer = Self::new(device, len)?;
        buffer.fill(stream, 0)?;
        Ok(buffer)
    }

    /// A buffer with a copy of `data`.
    pub fn from_slice(device: &Device, stream: &Stream, data: &[T]) -> Result<Self> {
        let mut buffer = Self::new(device, data.len())?;
        buffer.upload(stream, 0, data)?;
        Ok(buffer)
    }

    /// Elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes.
    pub fn nbytes(&self) -> usize {
        self.len * size_of::<T>()
    }

    /// The address on the device, for a kernel's argument.
    pub fn pointer(&self) -> u64 {
        self.pointer
    }

    /// The address of element `at`, for a kernel's argument.
    pub fn pointer_at(&self, at: usize) -> u64 {
        assert!(at <= self.len, "element {at} of {}", self.len);
        self.pointer + (at * size_of::<T>()) as u64
    }

    /// Sets every byte (255 makes floats NaN: what a kernel forgot to write shows).
    pub fn fill(&mut self, stream: &Stream, byte: u8) -> Result<()> {
        if self.len == 0 {
            return Ok(());
        }
        self.context.bind()?;
        // SAFETY: the buffer has that many bytes.
        self.context.check("cuMemsetD8Async", unsafe { sys::cuMemsetD8Async(self.pointer, byte, self.nbytes(), stream.raw()) })
    }

    /// Sets every byte of the `len` elements from `at` on.
    pub fn fill_range(&mut self, stream: &Stream, at: usize, len: usize, byte: u8) -> Result<()> {
        let Some((to, bytes)) = self.place(at, len)? else { return Ok(()) };
        // SAFETY: the range has that many bytes.
        self.context.check("cuMemsetD8Async", unsafe { sys::cuMemsetD8Async(to, byte, bytes, stream.raw()) })
    }

    /// Copies elements of `range` to those from `at` on, which must not be among them, in the order of `stream`; does not wait.
    pub fn copy_within(&mut self, stream: &Stream, at: usize, range: Range<usize>) -> Result<()> {
        let len = range.end.saturating_sub(range.start);
        assert!(at + len <= range.start || range.end <= at, "ranges apart");
        let (Some((to, bytes)), Some((source, _))) = (self.place(at, len)?, self.place(range.start, len)?) else { return Ok(()) };
        // SAFETY: both ranges have that many bytes and do not overlap.
        let code = unsafe { sys::cuMemcpyDtoDAsync_v2(to, source, bytes, stream.raw()) };
        self.context.check("cuMemcpyDtoDAsync", code)
    }

    /// Copies `data` to the elements from `at` on, after what `stream` holds; returns when it is there.
    pub fn upload(&mut self, stream: &Stream, at: usize, data: &[T]) -> Result<()> {
        let Some((to, bytes)) = self.place(at, data.len())? else { return Ok(()) };
        // SAFETY: both ranges have that many bytes, and `data` outlives the copy, which the call below waits for.
        let code = unsafe { sys::cuMemcpyHtoDAsync_v2(to, data.as_ptr().cast::<c_void>(), bytes, stream.raw()) };
        self.context.check("cuMemcpyHtoDAsync", code)?;
        stream.synchronize()
    }

    /// Copies the elements from `at` on to `out`, after what `stream` holds; returns when they are there.
    pub fn download(&self, stream: &Stream, at: usize, out: &mut [T]) -> Result<()> {
        let Some((from, bytes)) = self.place(at, out.len())? else { return Ok(()) };
        // SAFETY: both ranges have that many bytes, every pattern of bits is a `T`, and `out` outlives the copy.
        let code = unsafe { sys::cuMemcpyDtoHAsync_v2(out.as_mut_ptr().cast::<c_void>(), from, bytes, stream.raw()) };
        self.context.check("cuMemcpyDtoHAsync", code)?;
        stream.synchronize()
    }

    /// All elements.
    pub fn to_vec(&self, stream: &Stream) -> Result<Vec<T>> {
        let mut out = vec![T::default(); self.len];
        self.download(stream, 0, &mut out)?;
        Ok(out)
    }

    /// Copies `range` of `from` to the elements from `at` on, in the order of `stream`; does not wait.
    pub fn copy_from(&mut self, stream: &Stream, at: usize, from: &Buffer<T>, range: Range<usize>) -> Result<()> {
        let len = range.end.saturating_sub(range.start);
        let (Some((to, bytes)), Some((source, _))) = (self.place(at, len)?, from.place(range.start, len)?) else { return Ok(()) };
        // SAFETY: both ranges have that many bytes; `self` and `from` are different buffers.
        let code = unsafe { sys::cuMemcpyDtoDAsync_v2(to, source, bytes, stream.raw()) };
        self.context.check("cuMemcpyDtoDAsync", code)
    }

    /// Address and bytes of `len` elements from `at` on, with the context bound; `None` for none.
    fn place(&self, at: usize, len: usize) -> Result<Option<(u64, usize)>> {
        if at.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(Error::Shape {
                what: "a copy between host and device".to_owned(),
                found: format!("{len} elements from element {at} on"),
                expected: format!("a range inside the buffer's {} elements", self.len),
            });
        }
        self.context.bind()?;
        Ok((len > 0).then(|| (self.pointer_at(at), len * size_of::<T>())))
    }
}

impl<T: Element> Drop for Buffer<T> {
    fn drop(&mut self) {
        if self.pointer != 0 && self.context.bind().is_ok() {
            // SAFETY: allocated in `new`, freed once; the driver waits for work that uses it.
            unsafe { sys::cuMemFree_v2(self.pointer) };
        }
    }
}

/// An allocation's answer; out of memory says how much there was.
fn check_allocation(context: &Context, call: &str, bytes: usize, code: CUresult) -> Result<()> {
    if code != CUresult::CUDA_ERROR_OUT_OF_MEMORY {
        return context.check(call, code);
    }
    let gib = |bytes: u64| bytes as f64 / (1_u64 << 30) as f64;
    let state = match context.memory() {
        Ok((free, total)) => format!("{:.1} of {:.1} GiB are free", gib(free), gib(total)),
        Err(_) => "how much is free is not known".to_owned(),
    };
    let size = if bytes < 1 << 30 { format!("{:.1} MiB", 1024.0 * gib(bytes as u64)) } else { format!("{:.1} GiB", gib(bytes as u64)) };
    let found = format!("out of memory: {call} of {size} failed, {state}");
    Err(Problem::new(found, help(code)).on(context.label()))
}

/// Words in the host's memory that a device reads and writes directly. Both sides may touch them at the same time, so the host sees
/// them as atomics.
#[derive(Debug)]
pub struct Pinned {
    context: Arc<Context>,
    host: *mut u64,
    pointer: u64,
    len: usize,
}

// SAFETY: the memory is reached through atomics alone.
unsafe impl Send for Pinned {}
// SAFETY: as above.
unsafe impl Sync for Pinned {}

impl Pinned {
    /// `len` words, all zero.
    pub fn new(device: &Device, len: usize) -> Result<Self> {
        let context = Arc::clone(device.context());
        context.bind()?;
        let bytes = len.max(1).saturating_mul(size_of::<u64>());
        let mut host = ptr::null_mut();
        let flags = sys::CU_MEMHOSTALLOC_DEVICEMAP | sys::CU_MEMHOSTALLOC_PORTABLE;
        // SAFETY: the driver writes one pointer, aligned to a page; freed below.
        check_allocation(&context, "cuMemHostAlloc", bytes, unsafe { sys::cuMemHostAlloc(&raw mut host, bytes, flags) })?;
        let mut pinned = Self { context, host: host.cast(), pointer: 0, len };
        // SAFETY: the allocation has that many bytes and nobody else knows it yet.
        unsafe { ptr::write_bytes(pinned.host, 0, len.max(1)) };
        // SAFETY: the memory was allocated with a mapping.
        let code = unsafe { sys::cuMemHostGetDevicePointer_v2(&raw mut pinned.pointer, host, 0) };
        pinned.context.check("cuMemHostGetDevicePointer", code)?;
        Ok(pinned)
    }

    /// The words.
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: `len` zeroed words, aligned, alive as long as `self`; an atomic may be shared with another writer.
        unsafe { std::slice::from_raw_parts(self.host.cast(), self.len) }
    }

    /// The address on the device, for a kernel's argument.
    pub fn pointer(&self) -> u64 {
        self.pointer
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if self.context.bind().is_ok() {
            // SAFETY: allocated in `new`, freed once.
            unsafe { sys::cuMemFreeHost(self.host.cast()) };
        }
    }
}
