//! NVFP4 × NVFP4.
//!
//! Weights go through a table look-up to doubled E2M1, and `sdot` multiplies them by one dword of activations: four columns
//! of four rows in one instruction. A quarter of a tile (four rows) fills sixteen registers, and stays there for all rows of
//! activations.

use std::arch::aarch64::*;
use std::arch::asm;

use crate::numeric::e2m1;
use crate::simd::linear::{ActivationTile, BLOCKS, Line, NVFP4_LINES, PanelSums, tiles};

pub fn nvfp4_nvfp4(panel: &[Line], x: &[ActivationTile], sums: &mut [PanelSums]) {
    let tiles = tiles(NVFP4_LINES, panel, x, sums);
    // SAFETY: this table exists only where NEON and its dot products do; `tiles` checked the lengths.
    unsafe { multiply(panel.as_ptr(), x.as_ptr(), tiles, sums) };
}

/// Four columns of four rows as doubled E2M1, four bytes per row: the low and the high nibbles of a quarter of a line.
///
/// # Safety
/// `line` is valid; `quarter < 4`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn doubled(line: *const Line, quarter: usize) -> [int8x16_t; 2] {
    // SAFETY: the caller's promise; the table has sixteen bytes.
    let (v, table) = unsafe { (vld1q_u8(line.cast::<u8>().add(16 * quarter)), vld1q_s8(e2m1::DOUBLED.as_ptr())) };
    [vqtbl1q_s8(table, vandq_u8(v, vdupq_n_u8(15))), vqtbl1q_s8(table, vshrq_n_u8::<4>(v))]
}

/// A block's scales of four rows, times `2⁻¹²⁰ · factor`. E4M3 bits shifted left by twenty are an f32 of 2⁻¹²⁰ times the
/// value, subnormals included.
///
/// # Safety
/// `tile` has nine lines; `block < 4`, `quarter < 4`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn scales(tile: *const Line, block: usize, quarter: usize, factor: f32) -> float32x4_t {
    // SAFETY: the caller's promise; four bytes at a multiple of four.
    let bytes = unsafe { *tile.add(8).cast::<u32>().add(4 * block + quarter) };
    let wide = vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(u64::from(bytes)))));
    vmulq_n_f32(vreinterpretq_f32_u32(vshlq_n_u32::<20>(wide)), factor)
}

/// `d + Σ w·a` over the four bytes of each lane of `w` and lane `LANE` of `a`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot<const LANE: i32>(mut d: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t {
    // SAFETY: arithmetic on registers; the feature is enabled. The intrinsic is not stable yet.
    unsafe {
        asm!(
            "sdot {d:v}.4s, {w:v}.16b, {a:v}.4b[{lane}]",
            d = inout(vreg) d,
            w = in(vreg) w,
            a = in(vreg) a,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    d
}

/// # Safety
/// `panel` has `tiles` tiles, `x` as many for each row of `sums`.
#[target_feature(enable = "neon,dotprod")]
unsafe fn multiply(panel: *const Line, x: *const ActivationTile, tiles: usize, sums: &mut [PanelSums]) {
    let m = sums.len();
    sums.fill([0.0; 16]);
    for t in 0..tiles {
        for quarter in 0..4 {
            // SAFETY: `t < tiles`, blocks and quarters are below four, rows below `m`.
            unsafe {
                let tile = panel.add(NVFP4_LINES * t);
                let mut w = [[[vdupq_n_s8(0); 2]; 2]; BLOCKS]; // [block][line][nibble]
                let mut s = [vdupq_n_f32(0.0); BLOCKS];
                for block in 0..BLOCKS {
                    w[block] = [doubled(tile.add(2 * block), quarter), doubled(tile.add(2 * block + 1), quarter)];
                    s[block] = scales(tile, block, quarter, f32::from_bits((127 + 112) << 23)); // 2¹¹²: times 2⁻⁸ in all
                }
                for (i, sums) in sums.iter_mut().enumerate() {
                    let x = &*x.add(t * m + i);
                    let at = sums.as_mut_ptr().add(4 * quarter);
                    let mut total = vld1q_f32(at);
                    for block in 0..BLOCKS {
                        let a = vld1q_s8(x.codes.as_ptr().add(16 * block));
                        let [[w0, w1], [w2, w3]] = w[block];
                        let d = dot::<1>(dot::<0>(vdupq_n_s32(0), w0, a), w1, a);
                        let d = dot::<3>(dot::<2>(d, w2, a), w3, a);
                        total = vfmaq_f32(total, vcvtq_f32_s32(d), vmulq_n_f32(s[block], x.scales[block]));
                    }
                    vst1q_f32(at, total);
                }
            }
        }
    }
}
