//! Sixteen f32 lanes: one block of NVFP4 is one vector.
//!
//! [`Lanes`] is what an instruction set gives to the generic block loops of [`super::blocks`]: AVX-512 in one register,
//! AVX2 in two, NEON in four. Every method is one IEEE operation per lane (or moves bits), so what the loops compute does
//! not depend on the instruction set.

use half::{bf16, f16};

/// Sixteen lanes of f32 (`F`) and of 32-bit integers (`I`).
///
/// An implementing type is named only by functions that were reached through a [`super::Table`], which exists only where
/// the CPU has the features: that is why these methods are safe to call.
pub trait Lanes: 'static {
    /// Sixteen f32.
    type F: Copy;
    /// Sixteen i32.
    type I: Copy;

    /// The same number in all lanes.
    fn splat(x: f32) -> Self::F;
    /// The same integer in all lanes.
    fn splat_int(x: i32) -> Self::I;
    /// Lanes from memory.
    fn load_f32(x: &[f32; 16]) -> Self::F;
    /// Lanes from memory, widened.
    fn load_f16(x: &[f16; 16]) -> Self::F;
    /// Lanes from memory, widened.
    fn load_bf16(x: &[bf16; 16]) -> Self::F;
    /// Lanes to memory.
    fn store_f32(x: Self::F, out: &mut [f32; 16]);
    /// Lanes to memory; each is an f16 already.
    fn store_f16(x: Self::F, out: &mut [f16; 16]);
    /// Lanes to memory; each is a bf16 already.
    fn store_bf16(x: Self::F, out: &mut [bf16; 16]);
    /// Nearest f16, ties to even.
    fn round_f16(x: Self::F) -> Self::F;

    /// `x + y`
    fn add(x: Self::F, y: Self::F) -> Self::F;
    /// `x − y`
    fn sub(x: Self::F, y: Self::F) -> Self::F;
    /// `x · y`
    fn mul(x: Self::F, y: Self::F) -> Self::F;
    /// `x / y`
    fn div(x: Self::F, y: Self::F) -> Self::F;
    /// The smaller, `limit` where `x` is NaN.
    fn min(x: Self::F, limit: Self::F) -> Self::F;
    /// The larger of numbers.
    fn max(x: Self::F, y: Self::F) -> Self::F;
    /// Magnitude.
    fn abs(x: Self::F) -> Self::F;

    /// The bits.
    fn bits(x: Self::F) -> Self::I;
    /// The number with these bits.
    fn float(x: Self::I) -> Self::F;
    /// Nearest integer, ties to even.
    fn to_int(x: Self::F) -> Self::I;
    /// The integer as a number.
    fn to_float(x: Self::I) -> Self::F;
    /// `x + y`, wrapping.
    fn add_int(x: Self::I, y: Self::I) -> Self::I;
    /// `x − y`, wrapping.
    fn sub_int(x: Self::I, y: Self::I) -> Self::I;
    /// The larger, signed.
    fn max_int(x: Self::I, y: Self::I) -> Self::I;
    /// Bits of both.
    fn and(x: Self::I, y: Self::I) -> Self::I;
    /// Bits of either.
    fn or(x: Self::I, y: Self::I) -> Self::I;
    /// Shift towards the low bits, zeros in.
    fn shr<const N: i32>(x: Self::I) -> Self::I;
    /// Shift towards the high bits.
    fn shl<const N: i32>(x: Self::I) -> Self::I;
    /// `then` where `x < y`, else `other`.
    fn select_lt(x: Self::F, y: Self::F, then: Self::I, other: Self::I) -> Self::I;

    /// Largest lane.
    fn largest(x: Self::F) -> f32;
    /// Smallest lane and the first place where it stands.
    fn first_smallest(x: Self::F) -> (f32, usize);
    /// Sum by halving: `i + (i+8)`, then `i + (i+4)`, `i + (i+2)`, `i + (i+1)`.
    fn fold(x: Self::F) -> f32;
    /// Sixteen integers below 16 as eight bytes, the even ones in the low nibbles.
    fn pack_nibbles(x: Self::I) -> [u8; 8];
    /// The reverse.
    fn unpack_nibbles(x: [u8; 8]) -> Self::I;
    /// Sixteen integers below 256 as bytes.
    fn pack_bytes(x: Self::I) -> [u8; 16];
    /// Entry of `table` (lanes 0 to 7) named by the low three bits of each index.
    fn lookup(table: Self::F, index: Self::I) -> Self::F;

    /// Largest of the bits without their sign: magnitudes compare as integers, NaN above infinity.
    fn absmax_f32(x: &[f32]) -> u32;
    /// Largest of the bits without their sign.
    fn absmax_16(x: &[u16]) -> u16;
}
