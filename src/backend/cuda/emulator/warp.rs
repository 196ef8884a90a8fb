//! Registers and instructions of a warp.

use half::{bf16, f16};

/// Lanes of a warp.
pub const LANES: usize = 32;

/// One register of every lane.
pub type Register = [u32; LANES];

/// The two halves of a register as numbers.
pub fn halves(register: u32) -> [f16; 2] {
    [f16::from_bits(register as u16), f16::from_bits((register >> 16) as u16)]
}

/// `mul.rn.f16x2` of a register and one half of another, which both halves are multiplied by. The product of two f16 is exact in f32,
/// so there is one rounding.
fn multiply(a: u32, s: f16) -> u32 {
    let [low, high] = halves(a).map(|x| f16::from_f32(x.to_f32() * s.to_f32()).to_bits());
    u32::from(low) | u32::from(high) << 16
}

/// `multiply_low` of `instructions.cuh`.
pub fn multiply_low(a: u32, s: u32) -> u32 {
    multiply(a, halves(s)[0])
}

/// `multiply_high` of `instructions.cuh`.
pub fn multiply_high(a: u32, s: u32) -> u32 {
    multiply(a, halves(s)[1])
}

/// `mma_f16` of `instructions.cuh`.
pub fn mma_f16(c: &mut [[f32; LANES]; 4], a: &[Register; 4], b: &[Register; 2]) {
    mma(c, a, b, |bits| f16::from_bits(bits).to_f64());
}

/// `mma_bf16` of `instructions.cuh`.
pub fn mma_bf16(c: &mut [[f32; LANES]; 4], a: &[Register; 4], b: &[Register; 2]) {
    mma(c, a, b, |bits| bf16::from_bits(bits).to_f64());
}

/// `mma.sync.m16n8k16`: `c += a · b` with the fragments of PTX, stated in `instructions.cuh`.
fn mma(c: &mut [[f32; LANES]; 4], a: &[Register; 4], b: &[Register; 2], value: impl Fn(u16) -> f64) {
    let halves = |register: u32| [value(register as u16), value((register >> 16) as u16)];
    let mut left = [[0.0f64; 16]; 16]; // [row, k]
    let mut right = [[0.0f64; 8]; 16]; // [k, column]
    for lane in 0..LANES {
        let (g, t) = (lane / 4, lane % 4);
        for half in 0..2 {
            for (register, row, k) in [(0, g, 0), (1, g + 8, 0), (2, g, 8), (3, g + 8, 8)] {
                left[row][k + 2 * t + half] = halves(a[register][lane])[half];
            }
            for (register, k) in [(0, 0), (1, 8)] {
                right[k + 2 * t + half][g] = halves(b[register][lane])[half];
            }
        }
    }
    for lane in 0..LANES {
        let (g, t) = (lane / 4, lane % 4);
        for (register, row, column) in [(0, g, 2 * t), (1, g, 2 * t + 1), (2, g + 8, 2 * t), (3, g + 8, 2 * t + 1)] {
            let sum: f64 = (0..16).map(|k| left[row][k] * right[k][column]).sum();
            c[register][lane] = (f64::from(c[register][lane]) + sum) as f32;
        }
    }
}

/// `__shfl_xor_sync` over the whole warp.
pub fn shuffle_xor(register: &Register, mask: usize) -> Register {
    std::array::from_fn(|lane| register[lane ^ mask])
}
