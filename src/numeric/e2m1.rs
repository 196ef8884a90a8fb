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

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::{VALUES, decode, encode};

    /// The nearest of the sixteen values by exact distances (f64 holds them), the even code among equals.
    fn by_search(x: f32) -> u8 {
        let distance = |code: u8| (f64::from(x.abs().min(6.0)) - f64::from(decode(code))).abs();
        let mut best = 0;
        for code in 1..8 {
            let closer = distance(code) < distance(best);
            let even = distance(code) == distance(best) && code % 2 == 0;
            if closer || even {
                best = code;
            }
        }
        best | u8::from(x.is_sign_negative()) << 3
    }

    #[test]
    fn every_value_encodes_to_its_code() {
        for (code, &value) in VALUES.iter().enumerate() {
            assert_eq!(usize::from(encode(value)), code);
        }
    }

    #[test]
    fn midpoints_go_to_the_even_code_and_their_neighbours_do_not() {
        for (midpoint, below, above) in [(0.25_f32, 0, 1), (0.75, 1, 2), (1.25, 2, 3), (1.75, 3, 4), (2.5, 4, 5), (3.5, 5, 6), (5.0, 6, 7)]
        {
            assert_eq!(encode(midpoint) % 2, 0);
            assert_eq!(encode(midpoint.next_down()), below);
            assert_eq!(encode(midpoint.next_up()), above);
            assert_eq!(encode(-midpoint), encode(midpoint) | 8);
        }
    }

    #[test]
    fn all_16_bit_floats_encode_to_the_nearest() {
        for bits in 0..=u16::MAX {
            for x in [f16::from_bits(bits).to_f32(), bf16::from_bits(bits).to_f32()] {
                if x.is_finite() {
                    assert_eq!(encode(x), by_search(x), "{x}");
                }
            }
        }
        assert_eq!([encode(f32::INFINITY), encode(f32::NEG_INFINITY), encode(f32::MAX)], [7, 15, 7]);
    }

    #[test]
    #[ignore = "all floats: a minute"]
    fn all_floats_encode_to_the_nearest() {
        for bits in 0..=u32::MAX {
            let x = f32::from_bits(bits);
            if x.is_finite() {
                assert_eq!(encode(x), by_search(x), "{x}");
            }
        }
    }
}
