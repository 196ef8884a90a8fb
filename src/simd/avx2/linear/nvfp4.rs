//! NVFP4 × NVFP4.
//!
//! Weights go through `pshufb` to doubled E2M1 + 12, unsigned 0..24, as `maddubs` wants its first operand. Two products add
//! up to at most 576 and a block's eight pairs per row, in two 16-bit lanes, to 2304: no 16-bit lane overflows, so one `madd`
//! per block widens them.

use std::arch::x86_64::*;

use crate::numeric::e2m1;
use crate::simd::linear::{ActivationTile, BLOCKS, Line, NVFP4_LINES, PanelSums, tiles};
use crate::simd::prefetch::prefetch;

/// Doubled E2M1 + 12 in both halves of a register.
const SHIFTED: [u8; 32] = {
    let mut table = [0; 32];
    let mut i = 0;
    while i < 32 {
        table[i] = (e2m1::DOUBLED[i % 16] + 12) as u8;
        i += 1;
    }
    table
};

pub fn nvfp4_nvfp4(panel: &[Line], x: &[ActivationTile], sums: &mut [PanelSums]) {
    let tiles = tiles(NVFP4_LINES, panel, x, sums);
    // SAFETY: this table exists only where AVX2, FMA and F16C do; `tiles` checked the lengths.
    unsafe {
        if let [sums] = sums {
            one(panel.as_ptr(), x.as_ptr(), tiles, sums);
        } else {
            many(panel.as_ptr(), x.as_ptr(), tiles, sums);
        }
    }
}

/// A block's codes of eight rows, ready for `maddubs`: columns 0..4, 4..8, 8..12, 12..16, four bytes per row.
type Codes = [__m256i; 4];

/// # Safety
/// `tile` has nine lines; `block < 4`, `half < 2`.
#[inline(always)]
unsafe fn codes(tile: *const Line, block: usize, half: usize) -> Codes {
    // SAFETY: the caller's promise.
    unsafe {
        let first = tile.add(2 * block).cast::<__m256i>().add(half);
        let (v, w, table) = (_mm256_load_si256(first), _mm256_load_si256(first.add(2)), _mm256_loadu_si256(SHIFTED.as_ptr().cast()));
        let low = _mm256_set1_epi8(15);
        [
            _mm256_shuffle_epi8(table, _mm256_and_si256(v, low)),
            _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16::<4>(v), low)),
            _mm256_shuffle_epi8(table, _mm256_and_si256(w, low)),
            _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16::<4>(w), low)),
        ]
    }
}

/// A block's scales of eight rows, times 2⁻⁸: E4M3 bits shifted left by seven are an f16, subnormals included.
///
/// # Safety
/// As [`codes`].
#[inline(always)]
pub(super) unsafe fn scales(tile: *const Line, block: usize, half: usize) -> __m256 {
    // SAFETY: the caller's promise.
    unsafe {
        let bytes = _mm_loadl_epi64(tile.add(8).cast::<u8>().add(16 * block + 8 * half).cast());
        _mm256_cvtph_ps(_mm_slli_epi16::<7>(_mm_cvtepu8_epi16(bytes)))
    }
}

/// `sum + f·d` for one block of one row of activations.
///
/// # Safety
/// `x` is valid; `block < 4`.
#[inline(always)]
unsafe fn add_block(sum: __m256, w: Codes, s: __m256, x: *const ActivationTile, block: usize) -> __m256 {
    // SAFETY: the caller's promise.
    unsafe {
        let a = (&raw const (*x).codes).cast::<i32>().add(4 * block);
        let a = [_mm256_set1_epi32(*a), _mm256_set1_epi32(*a.add(1)), _mm256_set1_epi32(*a.add(2)), _mm256_set1_epi32(*a.add(3))];
        let (offset, scale) = (_mm256_set1_epi32((*x).offsets[block]), _mm256_set1_ps((*x).scales[block]));
        let left = _mm256_add_epi16(_mm256_maddubs_epi16(w[0], a[0]), _mm256_maddubs_epi16(w[1], a[1]));
        let right = _mm256_add_epi16(_mm256_maddubs_epi16(w[2], a[2]), _mm256_maddubs_epi16(w[3], a[3]));
        let d = _mm256_add_epi32(_mm256_madd_epi16(_mm256_add_epi16(left, right), _mm256_set1_epi16(1)), offset);
        _mm256_fmadd_ps(_mm256_cvtepi32_ps(d), _mm256_mul_ps(s, scale), sum)
    }
}

/// # Safety
/// `panel` has `tiles` tiles, `x` as many.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn one(panel: *const Line, x: *const ActivationTile, tiles: usize, sums: &mut PanelSums) {
    let mut total = [_mm256_setzero_ps(); 2];
    for t in 0..tiles {
        // SAFETY: `t < tiles`.
        unsafe {
            let (tile, x) = (panel.add(NVFP4_LINES * t), x.add(t));
            prefetch(tile, NVFP4_LINES);
            for block in 0..BLOCKS {
                for (half, total) in total.iter_mut().enumerate() {
                    *total = add_block(*total, codes(tile, block, half), scales(tile, block, half), x, block);
                }
            }
        }
    }
    // SAFETY: sixteen results.
    unsafe {
        _mm256_storeu_ps(sums.as_mut_ptr(), total[0]);
        _mm256_storeu_ps(sums.as_mut_ptr().add(8), total[1]);
    }
}

/// A decoded tile, `[block][half]`.
struct Decoded {
    codes: [[Codes; 2]; BLOCKS],
    scales: [[__m256; 2]; BLOCKS],
}

/// # Safety
/// `panel` has `tiles` tiles, `x` as many for each row of `sums`.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn many(panel: *const Line, x: *const ActivationTile, tiles: usize, sums: &mut [PanelSums]) {
    let m = sums.len();
    sums.fill([0.0; 16]);
    let mut decoded = Decoded { codes: [[[_mm256_setzero_si256(); 4]; 2]; BLOCKS], scales: [[_mm256_setzero_ps(); 2]; BLOCKS] };
    for t in 0..tiles {
        // SAFETY: `t < tiles`, and the rows of each call are below `m`.
        unsafe {
            let tile = panel.add(NVFP4_LINES * t);
            prefetch(tile, NVFP4_LINES);
            for block in 0..BLOCKS {
                decoded.codes[block] = [codes(tile, block, 0), codes(tile, block, 1)];
                decoded.scales[block] = [scales(tile, block, 0), scales(tile, block, 1)];
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                add_tile(&decoded, x.add(t * m + row), sums);
            }
        }
    }
}

/// Adds a tile's products for one row.
///
/// # Safety
/// `x` is valid.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn add_tile(decoded: &Decoded, x: *const ActivationTile, sums: &mut PanelSums) {
    // SAFETY: the caller's promise.
    unsafe {
        let sums = sums.as_mut_ptr();
        let mut total = [_mm256_loadu_ps(sums), _mm256_loadu_ps(sums.add(8))];
        for block in 0..BLOCKS {
            let a = (&raw const (*x).codes).cast::<i32>().add(4 * block);
            let a = [_mm256_set1_epi32(*a), _mm256_set1_epi32(*a.add(1)), _mm256_set1_epi32(*a.add(2)), _mm256_set1_epi32(*a.add(3))];
            let (offset, scale) = (_mm256_set1_epi32((*x).offsets[block]), _mm256_set1_ps((*x).scales[block]));
            for half in 0..2 {
                let w = &decoded.codes[block][half];
                let left = _mm256_add_epi16(_mm256_maddubs_epi16(w[0], a[0]), _mm256_maddubs_epi16(w[1], a[1]));
                let right = _mm256_add_epi16(_mm256_maddubs_epi16(w[2], a[2]), _mm256_maddubs_epi16(w[3], a[3]));
                let d = _mm256_add_epi32(_mm256_madd_epi16(_mm256_add_epi16(left, right), _mm256_set1_epi16(1)), offset);
                total[half] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(d), _mm256_mul_ps(decoded.scales[block][half], scale), total[half]);
            }
        }
        _mm256_storeu_ps(sums, total[0]);
        _mm256_storeu_ps(sums.add(8), total[1]);
    }
}
