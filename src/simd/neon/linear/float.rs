//! Weights × f32: a tile is widened to f32 once, in the cache, and multiplied by four rows of activations at a time.

use std::arch::aarch64::*;
use std::arch::asm;

use crate::simd::linear::{BLOCK, BLOCKS, F32_LINES, HALF_LINES, Line, NVFP4_LINES, PanelSums, TILE, tiles};
use crate::simd::neon::linear::nvfp4::{doubled, scales};

/// A tile as f32: per column, sixteen rows in four registers.
type Wide = [[float32x4_t; 4]; TILE];
/// The block scales of a tile, `[block][quarter]`.
type Scales = [[float32x4_t; 4]; BLOCKS];

/// Declares the kernel of one format: `$widen(tile, &mut wide, &mut scales)`, and whether blocks have scales.
macro_rules! kernel {
    ($name:ident, $inner:ident, $lines:expr, $widen:ident, $scaled:literal) => {
        pub fn $name(panel: &[Line], x: &[[f32; TILE]], sums: &mut [PanelSums]) {
            let tiles = tiles($lines, panel, x, sums);
            // SAFETY: this table exists only where NEON and its dot products do; `tiles` checked the lengths.
            unsafe { $inner(panel.as_ptr(), x.as_ptr(), tiles, sums) };
        }

        /// # Safety
        /// `panel` has `tiles` tiles, `x` as many for each row of `sums`.
        #[target_feature(enable = "neon,dotprod")]
        unsafe fn $inner(panel: *const Line, x: *const [f32; TILE], tiles: usize, sums: &mut [PanelSums]) {
            let m = sums.len();
            sums.fill([0.0; 16]);
            let sums = sums.as_mut_ptr().cast::<f32>();
            let mut wide: Wide = [[vdupq_n_f32(0.0); 4]; TILE];
            let mut s: Scales = [[vdupq_n_f32(0.0); 4]; BLOCKS];
            for t in 0..tiles {
                // SAFETY: `t < tiles`, and the rows of each call are below `m`.
                unsafe {
                    let x = x.add(t * m);
                    $widen(panel.add($lines * t), &mut wide, &mut s);
                    let mut row = 0;
                    while row + 4 <= m {
                        rows::<4, $scaled>(&wide, &s, x.add(row), sums.add(16 * row));
                        row += 4;
                    }
                    match m - row {
                        1 => rows::<1, $scaled>(&wide, &s, x.add(row), sums.add(16 * row)),
                        2 => rows::<2, $scaled>(&wide, &s, x.add(row), sums.add(16 * row)),
                        3 => rows::<3, $scaled>(&wide, &s, x.add(row), sums.add(16 * row)),
                        _ => {}
                    }
                }
            }
        }
    };
}

kernel!(nvfp4_f32, nvfp4_inner, NVFP4_LINES, widen_nvfp4, true);
kernel!(bf16_f32, bf16_inner, HALF_LINES, widen_bf16, false);
kernel!(f16_f32, f16_inner, HALF_LINES, widen_f16, false);
kernel!(f32_f32, f32_inner, F32_LINES, widen_f32, false);

/// Adds one tile's products for `M` rows, in the order that `simd::linear` states.
///
/// # Safety
/// `x` has `M` tiles, `sums` `M · 16` results.
#[inline(never)]
#[target_feature(enable = "neon,dotprod")]
unsafe fn rows<const M: usize, const SCALED: bool>(wide: &Wide, s: &Scales, x: *const [f32; TILE], sums: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut pairs = [[[vdupq_n_f32(0.0); 4]; M]; 2];
        for (pair, joined) in pairs.iter_mut().enumerate() {
            for second in 0..2 {
                let block = 2 * pair + second;
                let mut c = [[vdupq_n_f32(0.0); 4]; M];
                for k in BLOCK * block..BLOCK * (block + 1) {
                    for (i, c) in c.iter_mut().enumerate() {
                        let x = (*x.add(i))[k];
                        for quarter in 0..4 {
                            c[quarter] = vfmaq_n_f32(c[quarter], wide[k][quarter], x);
                        }
                    }
                }
                for (joined, c) in joined.iter_mut().zip(c) {
                    for quarter in 0..4 {
                        joined[quarter] = match (SCALED, second) {
                            (true, 0) => vmulq_f32(s[block][quarter], c[quarter]),
                            (true, _) => vfmaq_f32(joined[quarter], s[block][quarter], c[quarter]),
                            (false, 0) => c[quarter],
                            (false, _) => vaddq_f32(joined[quarter], c[quarter]),
                        };
                    }
                }
            }
        }
        for i in 0..M {
            for quarter in 0..4 {
                let at = sums.add(16 * i + 4 * quarter);
                vst1q_f32(at, vaddq_f32(vld1q_f32(at), vaddq_f32(pairs[0][i][quarter], pairs[1][i][quarter])));
            }
        }
    }
}

/// Codes become their doubled values; scales take the factor back.
///
/// # Safety
/// `tile` has nine lines.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn widen_nvfp4(tile: *const Line, wide: &mut Wide, s: &mut Scales) {
    // SAFETY: the caller's promise.
    unsafe {
        for quarter in 0..4 {
            for (block, s) in s.iter_mut().enumerate() {
                s[quarter] = scales(tile, block, quarter, f32::from_bits((127 + 119) << 23)); // 2¹¹⁹: half the value
            }
            for (line, wide) in wide.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                for (high, codes) in doubled(tile.add(line), quarter).into_iter().enumerate() {
                    let codes = vreinterpretq_s32_s8(codes);
                    for j in 0..4 {
                        // Byte j of each dword to the top, and down again with its sign.
                        let top = vshlq_s32(codes, vdupq_n_s32(24 - 8 * j as i32));
                        wide[4 * high + j][quarter] = vcvtq_f32_s32(vshrq_n_s32::<24>(top));
                    }
                }
            }
        }
    }
}

/// bf16 is the upper half of an f32.
///
/// # Safety
/// `tile` has 32 lines.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn widen_bf16(tile: *const Line, wide: &mut Wide, _: &mut Scales) {
    for line in 0..HALF_LINES {
        for quarter in 0..4 {
            // SAFETY: the caller's promise.
            let v = unsafe { vld1q_u32(tile.add(line).cast::<u32>().add(4 * quarter)) };
            wide[2 * line][quarter] = vreinterpretq_f32_u32(vshlq_n_u32::<16>(v));
            wide[2 * line + 1][quarter] = vreinterpretq_f32_u32(vandq_u32(v, vdupq_n_u32(0xFFFF_0000)));
        }
    }
}

/// # Safety
/// `tile` has 32 lines.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn widen_f16(tile: *const Line, wide: &mut Wide, _: &mut Scales) {
    for (k, wide) in wide.iter_mut().enumerate() {
        for (quarter, wide) in wide.iter_mut().enumerate() {
            // SAFETY: the caller's promise; `fcvtl` widens four halves, exactly.
            unsafe {
                let v = vld1_u16(tile.cast::<u16>().add(16 * k + 4 * quarter));
                asm!("fcvtl {o:v}.4s, {v:v}.4h", o = lateout(vreg) *wide, v = in(vreg) v, options(pure, nomem, nostack, preserves_flags));
            }
        }
    }
}

/// # Safety
/// `tile` has 64 lines.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn widen_f32(tile: *const Line, wide: &mut Wide, _: &mut Scales) {
    for (line, wide) in wide.iter_mut().enumerate() {
        for (quarter, wide) in wide.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *wide = unsafe { vld1q_f32(tile.add(line).cast::<f32>().add(4 * quarter)) };
        }
    }
}
