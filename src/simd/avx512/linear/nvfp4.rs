//! NVFP4 × NVFP4.
//!
//! Weights go through a look-up to doubled E2M1 + 12, unsigned 0..24, as the 8-bit products want their first operand; what
//! the shift adds, 12 · Σ activations, is taken back by an offset that comes with the activations.
//!
//! With VNNI, `vpdpbusd` starts at that offset, so the shift costs nothing, and four of them are a block. Without it,
//! `vpmaddubsw` adds pairs of products (at most 576) and a block's eight pairs of a row, in two 16-bit lanes, come to 2304 at
//! most: no lane overflows, so one `vpmaddwd` per block widens them.

use std::arch::x86_64::*;

use crate::numeric::e2m1;
use crate::simd::avx512::linear::repeated;
use crate::simd::linear::{ActivationTile, BLOCKS, Line, NVFP4_LINES, PanelSums, tiles};
use crate::simd::prefetch::prefetch;

/// Doubled E2M1 + 12.
static SHIFTED: [i8; 64] = repeated(e2m1::DOUBLED, 12);

/// A block's codes of sixteen rows: columns 0..4, 4..8, 8..12, 12..16, four bytes per row.
type Codes = [__m512i; 4];

/// A decoded tile.
struct Decoded {
    codes: [Codes; BLOCKS],
    scales: [__m512; BLOCKS],
}

/// What instruction sets differ in.
trait Dot {
    /// Looks up the low nibble of each byte in [`SHIFTED`]; what is above it is a neighbour's.
    ///
    /// # Safety
    /// The features are there.
    unsafe fn look_up(nibbles: __m512i) -> __m512i;

    /// `offset + Σ w·a` of a block: for each of sixteen rows, sixteen codes by the sixteen at `a`.
    ///
    /// # Safety
    /// The features are there, and sixteen codes at `a`.
    unsafe fn block(w: Codes, a: *const i32, offset: i32) -> __m512i;
}

/// VNNI, and VBMI: `vpermb` reads six bits of an index, which a table that repeats itself forgives.
struct Vnni;

impl Dot for Vnni {
    #[inline(always)]
    unsafe fn look_up(nibbles: __m512i) -> __m512i {
        // SAFETY: the caller's promise; 64 values.
        unsafe { _mm512_permutexvar_epi8(nibbles, _mm512_loadu_si512(SHIFTED.as_ptr().cast())) }
    }

    #[inline(always)]
    unsafe fn block(w: Codes, a: *const i32, offset: i32) -> __m512i {
        // SAFETY: the caller's promise; sixteen codes are four dwords.
        unsafe {
            let mut d = _mm512_set1_epi32(offset);
            for (i, w) in w.into_iter().enumerate() {
                d = _mm512_dpbusd_epi32(d, w, _mm512_set1_epi32(*a.add(i)));
            }
            d
        }
    }
}

/// Without them.
struct Maddubs;

impl Dot for Maddubs {
    #[inline(always)]
    unsafe fn look_up(nibbles: __m512i) -> __m512i {
        // SAFETY: the caller's promise; 64 values.
        unsafe {
            let nibbles = _mm512_and_si512(nibbles, _mm512_set1_epi8(15));
            _mm512_shuffle_epi8(_mm512_loadu_si512(SHIFTED.as_ptr().cast()), nibbles)
        }
    }

    #[inline(always)]
    unsafe fn block(w: Codes, a: *const i32, offset: i32) -> __m512i {
        // SAFETY: the caller's promise; sixteen codes are four dwords.
        unsafe {
            let pairs: Codes = std::array::from_fn(|i| _mm512_maddubs_epi16(w[i], _mm512_set1_epi32(*a.add(i))));
            let sums = _mm512_add_epi16(_mm512_add_epi16(pairs[0], pairs[1]), _mm512_add_epi16(pairs[2], pairs[3]));
            _mm512_add_epi32(_mm512_madd_epi16(sums, _mm512_set1_epi16(1)), _mm512_set1_epi32(offset))
        }
    }
}

/// A block's codes.
///
/// # Safety
/// The features are there; `tile` has nine lines; `block < 4`.
#[inline(always)]
unsafe fn codes<D: Dot>(tile: *const Line, block: usize) -> Codes {
    // SAFETY: the caller's promise.
    unsafe {
        let line = tile.add(2 * block);
        let (v, w) = (_mm512_load_si512(line.cast()), _mm512_load_si512(line.add(1).cast()));
        [D::look_up(v), D::look_up(_mm512_srli_epi16::<4>(v)), D::look_up(w), D::look_up(_mm512_srli_epi16::<4>(w))]
    }
}

/// A block's scales of sixteen rows, times 2⁻⁸: E4M3 bits shifted left by seven are an f16, subnormals included.
///
/// # Safety
/// As [`codes`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) unsafe fn scales(tile: *const Line, block: usize) -> __m512 {
    // SAFETY: the caller's promise.
    let bytes = unsafe { _mm_load_si128(tile.add(8).cast::<__m128i>().add(block)) };
    _mm512_cvtph_ps(_mm256_slli_epi16::<7>(_mm256_cvtepu8_epi16(bytes)))
}

/// `sum + f·d` for one block of one row of activations.
///
/// # Safety
/// The features are there; `x` is valid; `block < 4`.
#[inline(always)]
unsafe fn add_block<D: Dot>(sum: __m512, w: Codes, s: __m512, x: *const ActivationTile, block: usize) -> __m512 {
    // SAFETY: the caller's promise; sixteen codes are four dwords.
    unsafe {
        let a = (&raw const (*x).codes).cast::<i32>().add(4 * block);
        let d = D::block(w, a, (*x).offsets[block]);
        _mm512_fmadd_ps(_mm512_cvtepi32_ps(d), _mm512_mul_ps(s, _mm512_set1_ps((*x).scales[block])), sum)
    }
}

/// Declares the kernel of one instruction set: the same loops, compiled for its features.
macro_rules! kernel {
    ($name:ident, $dot:ty, $features:literal) => {
        pub mod $name {
            use super::*;

            pub fn nvfp4_nvfp4(panel: &[Line], x: &[ActivationTile], sums: &mut [PanelSums]) {
                let tiles = tiles(NVFP4_LINES, panel, x, sums);
                // SAFETY: a table with this kernel exists only where the features do; `tiles` checked the lengths.
                unsafe {
                    if let [sums] = sums {
                        one(panel.as_ptr(), x.as_ptr(), tiles, sums);
                    } else {
                        many(panel.as_ptr(), x.as_ptr(), sums.len(), tiles, sums);
                    }
                }
            }

            /// # Safety
            /// `panel` has `tiles` tiles, `x` as many.
            #[target_feature(enable = $features)]
            unsafe fn one(panel: *const Line, x: *const ActivationTile, tiles: usize, sums: &mut PanelSums) {
                let mut total = _mm512_setzero_ps();
                for t in 0..tiles {
                    // SAFETY: `t < tiles`.
                    unsafe {
                        let (tile, x) = (panel.add(NVFP4_LINES * t), x.add(t));
                        prefetch(tile, NVFP4_LINES);
                        for block in 0..BLOCKS {
                            total = add_block::<$dot>(total, codes::<$dot>(tile, block), scales(tile, block), x, block);
                        }
                    }
                }
                // SAFETY: sixteen results.
                unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), total) };
            }

            /// The rows of `sums`; from one tile of a row of activations to its next there are `stride`.
            ///
            /// # Safety
            /// `panel` has `tiles` tiles, `x` as many for each row of `sums`.
            #[target_feature(enable = $features)]
            pub unsafe fn many(panel: *const Line, x: *const ActivationTile, stride: usize, tiles: usize, sums: &mut [PanelSums]) {
                let m = sums.len();
                sums.fill([0.0; 16]);
                let sums = sums.as_mut_ptr().cast::<f32>();
                let mut decoded = Decoded { codes: [[_mm512_setzero_si512(); 4]; BLOCKS], scales: [_mm512_setzero_ps(); BLOCKS] };
                for t in 0..tiles {
                    // SAFETY: `t < tiles`, and the rows of each call are below `m`.
                    unsafe {
                        let (tile, x) = (panel.add(NVFP4_LINES * t), x.add(t * stride));
                        prefetch(tile, NVFP4_LINES);
                        for block in 0..BLOCKS {
                            decoded.codes[block] = codes::<$dot>(tile, block);
                            decoded.scales[block] = scales(tile, block);
                        }
                        let mut row = 0;
                        while row + 8 <= m {
                            rows::<8>(&decoded, x.add(row), sums.add(16 * row));
                            row += 8;
                        }
                        if row + 4 <= m {
                            rows::<4>(&decoded, x.add(row), sums.add(16 * row));
                            row += 4;
                        }
                        match m - row {
                            1 => rows::<1>(&decoded, x.add(row), sums.add(16 * row)),
                            2 => rows::<2>(&decoded, x.add(row), sums.add(16 * row)),
                            3 => rows::<3>(&decoded, x.add(row), sums.add(16 * row)),
                            _ => {}
                        }
                    }
                }
            }

            /// Adds one tile's products for `M` rows.
            ///
            /// # Safety
            /// `x` has `M` tiles, `sums` `M · 16` results.
            #[inline(never)]
            #[target_feature(enable = $features)]
            unsafe fn rows<const M: usize>(decoded: &Decoded, x: *const ActivationTile, sums: *mut f32) {
                // SAFETY: the caller's promise.
                unsafe {
                    let mut total = [_mm512_setzero_ps(); M];
                    for (i, total) in total.iter_mut().enumerate() {
                        *total = _mm512_loadu_ps(sums.add(16 * i));
                    }
                    for block in 0..BLOCKS {
                        let (w, s) = (decoded.codes[block], decoded.scales[block]);
                        for (i, total) in total.iter_mut().enumerate() {
                            *total = add_block::<$dot>(*total, w, s, x.add(i), block);
                        }
                    }
                    for (i, total) in total.iter().enumerate() {
                        _mm512_storeu_ps(sums.add(16 * i), *total);
                    }
                }
            }
        }
    };
}

kernel!(vnni, Vnni, "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi");
kernel!(maddubs, Maddubs, "avx512f,avx512bw,avx512vl");
