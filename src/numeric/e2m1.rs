//! E2M1, the 4-bit float of NVFP4 elements: one sign bit, two exponent bits, one mantissa bit.
//!
//! ```text
//! code  0   1   2   3   4   5   6   7        8..15: the same, negated (8 is −0)
//! value 0  0.5  1  1.5  2   3   4   6
//! ```

/// Value of each code.
pub const VALUES: [f32; 16] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// Twice the value of each code: the integers that make block products exact.
pub const DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Nearest code to `x`, ties to the even code, saturating at ±6. The sign is kept: a negative `x` (−0.0 included) gives a code ≥ 8.
pub fn encode(x: f32) -> u8 {
    let a = x.abs();
    let magnitude = u8::from(a > 0.25)
        + u8::from(a >= 0.75)
        + u8::from(a > 1.25)
        + u8::from(a >= 1.75)
        + u8::from(a > 2.5)
        + u8::from(a >= 3.5)
        + u8::from(a > 5.0);
    magnitude | (u8::from(x.is_sign_negative()) << 3)
}

/// Value of `code` (low four bits).
pub fn decode(code: u8) -> f32 {
    VALUES[usize::from(code & 15)]
}
