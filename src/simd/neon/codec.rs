//! Quantize and dequantize rows of 16-element blocks: sixteen lanes in four registers.
//!
//! NEON's f16 conversions need a feature of their own: f16 goes through the scalar conversion, lane by lane.

#![allow(clippy::wildcard_imports, reason = "dozens of intrinsics")]

use std::arch::aarch64::*;

use half::{bf16, f16};

use crate::simd::codec::Ops;
use crate::simd::lanes::Lanes;

pub const OPS: Ops = crate::simd::codec::block_ops!("neon,dotprod", Neon);

/// Lanes 0 to 3, 4 to 7, 8 to 11 and 12 to 15.
struct Neon;

/// Calls intrinsics. NEON belongs to every AArch64 CPU this crate is built for.
macro_rules! call {
    ($($body:tt)*) => {
        // SAFETY: the table exists only where the features do, and no expression passed here touches memory.
        unsafe { $($body)* }
    };
}

/// Applies an intrinsic to all four quarters.
macro_rules! quarters {
    ($f:ident($x:expr)) => {{
        let x = $x;
        call!([$f(x[0]), $f(x[1]), $f(x[2]), $f(x[3])])
    }};
    ($f:ident($x:expr, $y:expr)) => {{
        let (x, y) = ($x, $y);
        call!([$f(x[0], y[0]), $f(x[1], y[1]), $f(x[2], y[2]), $f(x[3], y[3])])
    }};
}

/// Sixteen 32-bit integers below 256 as bytes.
#[inline(always)]
fn narrow(x: [int32x4_t; 4]) -> uint8x16_t {
    call! {
        let low = vcombine_u16(vmovn_u32(vreinterpretq_u32_s32(x[0])), vmovn_u32(vreinterpretq_u32_s32(x[1])));
        let high = vcombine_u16(vmovn_u32(vreinterpretq_u32_s32(x[2])), vmovn_u32(vreinterpretq_u32_s32(x[3])));
        vcombine_u8(vmovn_u16(low), vmovn_u16(high))
    }
}

/// Sixteen bytes as 32-bit integers.
#[inline(always)]
fn widen(x: uint8x16_t) -> [int32x4_t; 4] {
    call! {
        let (low, high) = (vmovl_u8(vget_low_u8(x)), vmovl_u8(vget_high_u8(x)));
        [
            vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(low))),
            vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(low))),
            vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(high))),
            vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(high))),
        ]
    }
}

impl Lanes for Neon {
    type F = [float32x4_t; 4];
    type I = [int32x4_t; 4];

    #[inline(always)]
    fn splat(x: f32) -> Self::F {
        call!([vdupq_n_f32(x); 4])
    }
    #[inline(always)]
    fn splat_int(x: i32) -> Self::I {
        call!([vdupq_n_s32(x); 4])
    }
    #[inline(always)]
    fn load_f32(x: &[f32; 16]) -> Self::F {
        let x = x.as_ptr();
        // SAFETY: the four reads cover the sixteen elements.
        unsafe { [vld1q_f32(x), vld1q_f32(x.add(4)), vld1q_f32(x.add(8)), vld1q_f32(x.add(12))] }
    }
    #[inline(always)]
    fn load_f16(x: &[f16; 16]) -> Self::F {
        Self::load_f32(&x.map(f16::to_f32))
    }
    #[inline(always)]
    fn load_bf16(x: &[bf16; 16]) -> Self::F {
        let x = x.as_ptr().cast::<u16>();
        // SAFETY: the two reads cover the sixteen elements, which are 16-bit patterns.
        let (low, high) = unsafe { (vld1q_u16(x), vld1q_u16(x.add(8))) };
        call! {
            [
                vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_low_u16(low))),
                vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_high_u16(low))),
                vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_low_u16(high))),
                vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_high_u16(high))),
            ]
        }
    }
    #[inline(always)]
    fn store_f32(x: Self::F, out: &mut [f32; 16]) {
        let out = out.as_mut_ptr();
        // SAFETY: the four writes cover the sixteen elements.
        unsafe {
            vst1q_f32(out, x[0]);
            vst1q_f32(out.add(4), x[1]);
            vst1q_f32(out.add(8), x[2]);
            vst1q_f32(out.add(12), x[3]);
        }
    }
    #[inline(always)]
    fn store_f16(x: Self::F, out: &mut [f16; 16]) {
        let mut wide = [0.0; 16];
        Self::store_f32(x, &mut wide);
        *out = wide.map(f16::from_f32);
    }
    #[inline(always)]
    fn store_bf16(x: Self::F, out: &mut [bf16; 16]) {
        let x = quarters!(vreinterpretq_u32_f32(x));
        let (low, high) = call! {(
            vcombine_u16(vshrn_n_u32::<16>(x[0]), vshrn_n_u32::<16>(x[1])),
            vcombine_u16(vshrn_n_u32::<16>(x[2]), vshrn_n_u32::<16>(x[3])),
        )};
        let out = out.as_mut_ptr().cast::<u16>();
        // SAFETY: the two writes cover the sixteen elements, which are 16-bit patterns.
        unsafe {
            vst1q_u16(out, low);
            vst1q_u16(out.add(8), high);
        }
    }
    #[inline(always)]
    fn round_f16(x: Self::F) -> Self::F {
        let mut wide = [0.0; 16];
        Self::store_f32(x, &mut wide);
        Self::load_f32(&wide.map(|x| f16::from_f32(x).to_f32()))
    }

    #[inline(always)]
    fn add(x: Self::F, y: Self::F) -> Self::F {
        quarters!(vaddq_f32(x, y))
    }
    #[inline(always)]
    fn sub(x: Self::F, y: Self::F) -> Self::F {
        quarters!(vsubq_f32(x, y))
    }
    #[inline(always)]
    fn mul(x: Self::F, y: Self::F) -> Self::F {
        quarters!(vmulq_f32(x, y))
    }
    #[inline(always)]
    fn div(x: Self::F, y: Self::F) -> Self::F {
        quarters!(vdivq_f32(x, y))
    }
    #[inline(always)]
    fn min(x: Self::F, limit: Self::F) -> Self::F {
        // The number where one operand is NaN.
        quarters!(vminnmq_f32(x, limit))
    }
    #[inline(always)]
    fn max(x: Self::F, y: Self::F) -> Self::F {
        quarters!(vmaxnmq_f32(x, y))
    }
    #[inline(always)]
    fn abs(x: Self::F) -> Self::F {
        quarters!(vabsq_f32(x))
    }

    #[inline(always)]
    fn bits(x: Self::F) -> Self::I {
        quarters!(vreinterpretq_s32_f32(x))
    }
    #[inline(always)]
    fn float(x: Self::I) -> Self::F {
        quarters!(vreinterpretq_f32_s32(x))
    }
    #[inline(always)]
    fn to_int(x: Self::F) -> Self::I {
        quarters!(vcvtnq_s32_f32(x))
    }
    #[inline(always)]
    fn to_float(x: Self::I) -> Self::F {
        quarters!(vcvtq_f32_s32(x))
    }
    #[inline(always)]
    fn add_int(x: Self::I, y: Self::I) -> Self::I {
        quarters!(vaddq_s32(x, y))
    }
    #[inline(always)]
    fn sub_int(x: Self::I, y: Self::I) -> Self::I {
        quarters!(vsubq_s32(x, y))
    }
    #[inline(always)]
    fn max_int(x: Self::I, y: Self::I) -> Self::I {
        quarters!(vmaxq_s32(x, y))
    }
    #[inline(always)]
    fn and(x: Self::I, y: Self::I) -> Self::I {
        quarters!(vandq_s32(x, y))
    }
    #[inline(always)]
    fn or(x: Self::I, y: Self::I) -> Self::I {
        quarters!(vorrq_s32(x, y))
    }
    #[inline(always)]
    fn shr<const BITS: i32>(x: Self::I) -> Self::I {
        call!(x.map(|x| vreinterpretq_s32_u32(vshrq_n_u32::<BITS>(vreinterpretq_u32_s32(x)))))
    }
    #[inline(always)]
    fn shl<const BITS: i32>(x: Self::I) -> Self::I {
        call!([vshlq_n_s32::<BITS>(x[0]), vshlq_n_s32::<BITS>(x[1]), vshlq_n_s32::<BITS>(x[2]), vshlq_n_s32::<BITS>(x[3])])
    }
    #[inline(always)]
    fn select_lt(x: Self::F, y: Self::F, then: Self::I, other: Self::I) -> Self::I {
        let below = quarters!(vcltq_f32(x, y));
        call! {
            [
                vbslq_s32(below[0], then[0], other[0]),
                vbslq_s32(below[1], then[1], other[1]),
                vbslq_s32(below[2], then[2], other[2]),
                vbslq_s32(below[3], then[3], other[3]),
            ]
        }
    }

    #[inline(always)]
    fn largest(x: Self::F) -> f32 {
        call!(vmaxvq_f32(vmaxq_f32(vmaxq_f32(x[0], x[1]), vmaxq_f32(x[2], x[3]))))
    }
    #[inline(always)]
    fn first_smallest(x: Self::F) -> (f32, usize) {
        let least = call!(vminvq_f32(vminq_f32(vminq_f32(x[0], x[1]), vminq_f32(x[2], x[3]))));
        let mut lanes = [0.0; 16];
        Self::store_f32(x, &mut lanes);
        (least, lanes.iter().position(|&lane| lane == least).unwrap_or(0))
    }
    #[inline(always)]
    fn fold(x: Self::F) -> f32 {
        call! {
            // i + (i+8), then i + (i+4), then i + (i+2), then the last two.
            let four = vaddq_f32(vaddq_f32(x[0], x[2]), vaddq_f32(x[1], x[3]));
            let two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
            vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
        }
    }
    #[inline(always)]
    fn pack_nibbles(x: Self::I) -> [u8; 8] {
        let codes = narrow(x);
        // SAFETY: the write covers the eight bytes.
        unsafe {
            // Even and odd codes side by side.
            let (even, odd) = (vuzp1q_u8(codes, codes), vuzp2q_u8(codes, codes));
            let mut out = [0; 8];
            vst1_u8(out.as_mut_ptr(), vget_low_u8(vorrq_u8(even, vshlq_n_u8::<4>(odd))));
            out
        }
    }
    #[inline(always)]
    fn unpack_nibbles(x: [u8; 8]) -> Self::I {
        // SAFETY: the read covers the eight bytes.
        unsafe {
            let bytes = vld1_u8(x.as_ptr());
            let (low, high) = (vand_u8(bytes, vdup_n_u8(15)), vshr_n_u8::<4>(bytes));
            widen(vcombine_u8(vzip1_u8(low, high), vzip2_u8(low, high)))
        }
    }
    #[inline(always)]
    fn pack_bytes(x: Self::I) -> [u8; 16] {
        let mut out = [0; 16];
        // SAFETY: the write covers the sixteen bytes.
        unsafe { vst1q_u8(out.as_mut_ptr(), narrow(x)) }
        out
    }
    #[inline(always)]
    fn lookup(table: Self::F, index: Self::I) -> Self::F {
        call! {
            let bytes = uint8x16x2_t(vreinterpretq_u8_f32(table[0]), vreinterpretq_u8_f32(table[1]));
            // Byte k of lane i reads byte k of entry i: indices 4·i in every byte, plus 0, 1, 2, 3.
            let step = vreinterpretq_s32_u32(vdupq_n_u32(0x0302_0100));
            let all = |i: int32x4_t| vmlaq_n_s32(step, vandq_s32(i, vdupq_n_s32(7)), 0x0404_0404);
            let read = |i: int32x4_t| vreinterpretq_f32_u8(vqtbl2q_u8(bytes, vreinterpretq_u8_s32(all(i))));
            [read(index[0]), read(index[1]), read(index[2]), read(index[3])]
        }
    }

    #[inline(always)]
    fn absmax_f32(x: &[f32]) -> u32 {
        let (blocks, rest) = x.as_chunks::<16>();
        let mut chains = Self::splat_int(0);
        for block in blocks {
            chains = Self::max_int(chains, Self::bits(Self::abs(Self::load_f32(block))));
        }
        let run = call!(vmaxvq_s32(vmaxq_s32(vmaxq_s32(chains[0], chains[1]), vmaxq_s32(chains[2], chains[3])))) as u32;
        rest.iter().map(|x| x.to_bits() & 0x7FFF_FFFF).fold(run, u32::max)
    }
    #[inline(always)]
    fn absmax_16(x: &[u16]) -> u16 {
        let (runs, rest) = x.as_chunks::<32>();
        // SAFETY: the four reads of a run cover its 32 elements.
        let run = unsafe {
            let mask = vdupq_n_u16(0x7FFF);
            let mut chains = [vdupq_n_u16(0); 4];
            for run in runs {
                for (i, chain) in chains.iter_mut().enumerate() {
                    *chain = vmaxq_u16(*chain, vandq_u16(vld1q_u16(run.as_ptr().add(i * 8)), mask));
                }
            }
            vmaxvq_u16(vmaxq_u16(vmaxq_u16(chains[0], chains[1]), vmaxq_u16(chains[2], chains[3])))
        };
        rest.iter().map(|x| x & 0x7FFF).fold(run, u16::max)
    }
}
