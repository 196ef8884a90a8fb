//! Storage formats of dense and of NVFP4 weights: how their columns become f32.
//!
//! Everything here is `#[inline(always)]` and needs AVX2, FMA and F16C: it becomes part of functions that have them.

use std::arch::x86_64::*;

use crate::numeric::e2m1;
use crate::simd::avx2::linear::nvfp4::scales;
use crate::simd::linear::{F32_LINES, HALF_LINES, Line, NVFP4_LINES};

/// Columns that a register of NVFP4 codes holds.
pub const STEP: usize = 4;

/// A storage format.
pub trait Format {
    /// Lines of a tile.
    const LINES: usize;
    /// Whether blocks have scales.
    const SCALED: bool;
    /// Most rows that widen a tile on the way (measured).
    const FEW: usize;
    /// Four columns of sixteen rows on their way to f32.
    type Columns: Copy;
    /// Columns `4 step ..` of a tile.
    ///
    /// # Safety
    /// `tile` has `LINES` lines; `step < 16`.
    unsafe fn load(tile: *const Line, step: usize) -> Self::Columns;
    /// Column `j` of four, a register for each half of the rows.
    ///
    /// # Safety
    /// `columns` come from `load`, and the tile is still there.
    unsafe fn widen(columns: Self::Columns, j: usize) -> [__m256; 2];
    /// Scales of half a block.
    ///
    /// # Safety
    /// `tile` has `LINES` lines; `block < 4`, `half < 2`.
    #[inline(always)]
    unsafe fn scale(_tile: *const Line, _block: usize, _half: usize) -> __m256 {
        // SAFETY: a register.
        unsafe { _mm256_setzero_ps() }
    }
}

/// Doubled E2M1 in both halves of a register.
const DOUBLED: [i8; 32] = {
    let mut table = [0; 32];
    let mut i = 0;
    while i < 32 {
        table[i] = e2m1::DOUBLED[i % 16];
        i += 1;
    }
    table
};

/// For each byte of a dword, the shuffle that moves it to the top and clears the others.
const TO_TOP: [[u8; 32]; 4] = {
    let mut shuffles = [[0x80; 32]; 4];
    let mut i = 0;
    while i < 32 {
        shuffles[i % 4][i / 4 * 4 + 3] = (i % 16) as u8;
        i += 1;
    }
    shuffles
};

/// Four columns of eight rows as doubled E2M1, four bytes per row: the low or the high nibbles of half a line.
///
/// # Safety
/// `line` is valid; `half < 2`.
#[inline(always)]
unsafe fn doubled(line: *const Line, half: usize, high: bool) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        let (v, table) = (_mm256_load_si256(line.cast::<__m256i>().add(half)), _mm256_loadu_si256(DOUBLED.as_ptr().cast()));
        let nibbles = if high { _mm256_srli_epi16::<4>(v) } else { v };
        _mm256_shuffle_epi8(table, _mm256_and_si256(nibbles, _mm256_set1_epi8(15)))
    }
}

/// Column `j` of four, times 2²⁴: a byte at the top of a dword, converted. [`Nvfp4`]'s scales take the factor back; both are
/// exact.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn column(doubled: __m256i, j: usize) -> __m256 {
    // SAFETY: 32 bytes.
    unsafe { _mm256_cvtepi32_ps(_mm256_shuffle_epi8(doubled, _mm256_loadu_si256(TO_TOP[j].as_ptr().cast()))) }
}

pub struct Nvfp4;

impl Format for Nvfp4 {
    const LINES: usize = NVFP4_LINES;
    const SCALED: bool = true;
    const FEW: usize = 4;
    type Columns = [__m256i; 2];

    #[inline(always)]
    unsafe fn load(tile: *const Line, step: usize) -> [__m256i; 2] {
        // SAFETY: the caller's promise.
        unsafe { [doubled(tile.add(step / 2), 0, step % 2 == 1), doubled(tile.add(step / 2), 1, step % 2 == 1)] }
    }

    #[inline(always)]
    unsafe fn widen(columns: [__m256i; 2], j: usize) -> [__m256; 2] {
        // SAFETY: the caller's promise.
        unsafe { [column(columns[0], j), column(columns[1], j)] }
    }

    /// 2⁸ for the scales read as f16, ½ for doubled codes, 2⁻²⁴ for where [`column`] puts them.
    #[inline(always)]
    unsafe fn scale(tile: *const Line, block: usize, half: usize) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_mul_ps(scales(tile, block, half), _mm256_set1_ps(1.0 / (1 << 17) as f32)) }
    }
}

pub struct Bf16;

impl Format for Bf16 {
    const LINES: usize = HALF_LINES;
    const SCALED: bool = false;
    const FEW: usize = 8;
    type Columns = *const __m256i;

    #[inline(always)]
    unsafe fn load(tile: *const Line, step: usize) -> *const __m256i {
        // SAFETY: the caller's promise.
        unsafe { tile.add(2 * step).cast() }
    }

    /// bf16 is the upper half of an f32.
    #[inline(always)]
    unsafe fn widen(columns: *const __m256i, j: usize) -> [__m256; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            let upper = _mm256_set1_epi32(0xFFFF_0000_u32 as i32);
            let [low, high] = [_mm256_load_si256(columns.add(j / 2 * 2)), _mm256_load_si256(columns.add(j / 2 * 2 + 1))];
            if j.is_multiple_of(2) {
                [_mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)), _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high))]
            } else {
                [_mm256_castsi256_ps(_mm256_and_si256(low, upper)), _mm256_castsi256_ps(_mm256_and_si256(high, upper))]
            }
        }
    }
}

pub struct F16;

impl Format for F16 {
    const LINES: usize = HALF_LINES;
    const SCALED: bool = false;
    const FEW: usize = 8;
    type Columns = *const __m128i;

    #[inline(always)]
    unsafe fn load(tile: *const Line, step: usize) -> *const __m128i {
        // SAFETY: the caller's promise.
        unsafe { tile.add(2 * step).cast() }
    }

    #[inline(always)]
    unsafe fn widen(columns: *const __m128i, j: usize) -> [__m256; 2] {
        // SAFETY: the caller's promise.
        unsafe { [_mm256_cvtph_ps(_mm_load_si128(columns.add(2 * j))), _mm256_cvtph_ps(_mm_load_si128(columns.add(2 * j + 1)))] }
    }
}

pub struct F32;

impl Format for F32 {
    const LINES: usize = F32_LINES;
    const SCALED: bool = false;
    const FEW: usize = 8;
    type Columns = *const f32;

    #[inline(always)]
    unsafe fn load(tile: *const Line, step: usize) -> *const f32 {
        // SAFETY: the caller's promise.
        unsafe { tile.add(4 * step).cast() }
    }

    #[inline(always)]
    unsafe fn widen(columns: *const f32, j: usize) -> [__m256; 2] {
        // SAFETY: the caller's promise.
        unsafe { [_mm256_load_ps(columns.add(16 * j)), _mm256_load_ps(columns.add(16 * j + 8))] }
    }
}
