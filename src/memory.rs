//! Memory that is asked for in large pages.
//!
//! A step of decoding reads hundreds of megabytes once. In pages of 4 KiB the address of every page has to be looked up, and
//! the prefetchers of most processors stop at its end; in pages of 2 MiB both become rare.

/// From here on, memory is asked for in huge pages: below, the padding would cost more than the look-ups.
pub const HUGE: usize = 4 << 20;

/// Asks for huge pages for the capacity of `memory`, before it is first touched. Advice only: where it fails, pages are small.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "madvise")]
pub fn advise_huge_pages<T>(memory: &Vec<T>) {
    const PAGE: usize = 4096;
    let bytes = memory.capacity() * size_of::<T>();
    if bytes >= HUGE {
        let start = memory.as_ptr().addr().next_multiple_of(PAGE) - memory.as_ptr().addr();
        let length = (bytes - start) / PAGE * PAGE;
        // SAFETY: the range lies inside the allocation, and the advice changes no content.
        unsafe { libc::madvise(memory.as_ptr().cast::<u8>().add(start).cast_mut().cast(), length, libc::MADV_HUGEPAGE) };
    }
}

/// See the function of this name for Linux; elsewhere the system decides.
#[cfg(not(target_os = "linux"))]
pub fn advise_huge_pages<T>(_: &Vec<T>) {}
