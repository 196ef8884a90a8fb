//! NVFP4 × NVFP4.
//!
//! Weights go through `vpermb` to doubled E2M1 + 12, unsigned 0..24, as `vpdpbusd` wants its first operand; its accumulator
//! starts at −12 · Σ activations, so the shift costs nothing. Four of them are a block.

use std::arch::x86_64::*;

use crate::numeric::e2m1;
use crate::simd::avx512::linear::{prefetch, repeated};
use crate::simd::linear::{ActivationTile, BLOCKS, Line, NVFP4_LINES, PanelSums, tiles};

/// Doubled E2M1 + 12.
static SHIFTED: [i8; 64] = repeated(e2m1::DOUBLED, 12);

pub fn nvfp4_nvfp4(panel: &[Line], x: &[ActivationTile], sums: &mut [PanelSums]) {
    let tiles = tiles(NVFP4_LINES, panel, x, sums);
    // SAFETY: this table exists only where AVX-512 F, BW, VL, VNNI and VBMI do; `tiles` checked the lengths.
    unsafe {
        if let [sums] = sums {
            one(panel.as_ptr(), x.as_ptr(), tiles, sums);
        } else {
            many(panel.as_ptr(), x.as_ptr(), tiles, sums);
        }
    }
}

/// A block's codes of sixteen rows: columns 0..4, 4..8, 8..12, 12..16, four bytes per row.
type Codes = [__m512i; 4];

/// # Safety
/// `tile` has nine lines; `block < 4`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi")]
unsafe fn codes(tile: *const Line, block: usize) -> Codes {
    // SAFETY: the caller's promise.
    let (v, w, table) = unsafe {
        let line = tile.add(2 * block);
        (_mm512_load_si512(line.cast()), _mm512_load_si512(line.add(1).cast()), _mm512_loadu_si512(SHIFTED.as_ptr().cast()))
    };
    [
        _mm512_permutexvar_epi8(v, table),
        _mm512_permutexvar_epi8(_mm512_srli_epi16::<4>(v), table),
        _mm512_permutexvar_epi8(w, table),
        _mm512_permutexvar_epi8(_mm512_srli_epi16::<4>(w), table),
    ]
}

/// A block's scales of sixteen rows, times 2⁻⁸: E4M3 bits shifted left by seven are an f16, subnormals included.
///
/// # Safety
/// As [`codes`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi")]
pub(super) unsafe fn scales(tile: *const Line, block: usize) -> __m512 {
    // SAFETY: the caller's promise.
    let bytes = unsafe { _mm_load_si128(tile.add(8).cast::<__m128i>().add(block)) };
    _mm512_cvtph_ps(_mm256_slli_epi16::<7>(_mm256_cvtepu8_epi16(bytes)))
}

/// `sum + f·d` for one block of one row of activations.
///
/// # Safety
/// `x` is valid; `block < 4`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi")]
unsafe fn add_block(sum: __m512, w: Codes, s: __m512, x: *const ActivationTile, block: usize) -> __m512 {
    // SAFETY: the caller's promise.
    let (a, mut d, scale) = unsafe {
        let a = (&raw const (*x).codes).cast::<i32>().add(4 * block);
        (a, _mm512_set1_epi32((*x).offsets[block]), _mm512_set1_ps((*x).scales[block]))
    };
    for (i, w) in w.into_iter().enumerate() {
        // SAFETY: sixteen codes are four dwords.
        d = _mm512_dpbusd_epi32(d, w, _mm512_set1_epi32(unsafe { *a.add(i) }));
    }
    _mm512_fmadd_ps(_mm512_cvtepi32_ps(d), _mm512_mul_ps(s, scale), sum)
}

/// # Safety
/// `panel` has `tiles` tiles, `x` as many.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi")]
unsafe fn one(panel: *const Line, x: *const ActivationTile, tiles: usize, sums: &mut PanelSums) {
    let mut total = _mm512_setzero_ps();
    for t in 0..tiles {
        // SAFETY: `t < tiles`.
        unsafe {
            let (tile, x) = (panel.add(NVFP4_LINES * t), x.add(t));
            prefetch(tile, NVFP4_LINES);
            for block in 0..BLOCKS {
                total = add_block(total, codes(tile, block), scales(tile, block), x, block);
            }
        }
    }
    // SAFETY: sixteen results.
    unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), total) };
}

/// A decoded tile.
struct Decoded {
    codes: [Codes; BLOCKS],
    scales: [__m512; BLOCKS],
}

/// # Safety
/// `panel` has `tiles` tiles, `x` as many for each row of `sums`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi")]
unsafe fn many(panel: *const Line, x: *const ActivationTile, tiles: usize, sums: &mut [PanelSums]) {
    let m = sums.len();
    sums.fill([0.0; 16]);
    let sums = sums.as_mut_ptr().cast::<f32>();
    let mut decoded = Decoded { codes: [[_mm512_setzero_si512(); 4]; BLOCKS], scales: [_mm512_setzero_ps(); BLOCKS] };
    for t in 0..tiles {
        // SAFETY: `t < tiles`, and the rows of each call are below `m`.
        unsafe {
            let (tile, x) = (panel.add(NVFP4_LINES * t), x.add(t * m));
            prefetch(tile, NVFP4_LINES);
            for block in 0..BLOCKS {
                decoded.codes[block] = codes(tile, block);
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
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi")]
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
                *total = add_block(*total, w, s, x.add(i), block);
            }
        }
        for (i, total) in total.iter().enumerate() {
            _mm512_storeu_ps(sums.add(16 * i), *total);
        }
    }
}
