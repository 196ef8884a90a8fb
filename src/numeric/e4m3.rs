//! E4M3FN, the 8-bit float of NVFP4 block scales: one sign bit, four exponent bits (bias 7), three mantissa bits.
//!
//! No infinities; `0x7F` and `0xFF` are NaN; the largest value is 448 (`0x7E`); subnormals are multiples of 2⁻⁹.
//! Valid NVFP4 scales have the sign bit clear.

/// Largest finite value.
pub const MAX: f32 = 448.0;
/// Smallest positive value, 2⁻⁹.
pub const MIN_POSITIVE: f32 = 0.001_953_125;

/// Value of `bits`; NaN for `0x7F` and `0xFF`.
pub const fn decode(bits: u8) -> f32 {
    let magnitude = bits & 0x7F;
    if magnitude == 0x7F {
        return f32::NAN;
    }
    let exponent = (magnitude >> 3) as i32;
    let mantissa = (magnitude & 7) as f32;
    let value =
        if exponent == 0 { mantissa * MIN_POSITIVE } else { (1.0 + mantissa / 8.0) * f32::from_bits(((exponent - 7 + 127) as u32) << 23) };
    if bits & 0x80 == 0 { value } else { -value }
}

/// Nearest bits to `x`, ties to even, saturating at ±448 (infinities included); NaN gives `0x7F`.
pub fn encode(x: f32) -> u8 {
    if x.is_nan() {
        return 0x7F;
    }
    let sign = u8::from(x.is_sign_negative()) << 7;
    let a = x.abs().min(MAX);
    let magnitude = if a < 0.015_625 {
        // Below 2⁻⁶ the grid is 2⁻⁹: scaling by a power of two is exact, so one rounding remains.
        (a / MIN_POSITIVE).round_ties_even() as u8
    } else {
        // Keep three mantissa bits of the f32 pattern, round to nearest even; a carry moves into the exponent as it should.
        let bits = a.to_bits();
        let rounded = bits + 0x0007_FFFF + ((bits >> 20) & 1);
        ((rounded >> 20) - ((127 - 7) << 3)) as u8
    };
    sign | magnitude
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::{MAX, MIN_POSITIVE, decode, encode};

    /// The nearest value by bisection and exact distances (f64 holds them), the even bits among equals.
    fn by_search(x: f32) -> u8 {
        let a = f64::from(x.abs().min(MAX));
        // The bits of positive numbers order as the numbers do.
        let value = |bits: usize| f64::from(decode(bits as u8));
        let mut low = 0;
        let mut high = 0x7E;
        while high - low > 1 {
            let middle = usize::midpoint(low, high);
            if value(middle) <= a { low = middle } else { high = middle }
        }
        let (below, above) = (a - value(low), value(high) - a);
        let bits = if below < above || (below == above && low % 2 == 0) { low } else { high };
        bits as u8 | u8::from(x.is_sign_negative()) << 7
    }

    #[test]
    fn every_value_encodes_to_its_bits() {
        for bits in 0..=255 {
            let value = decode(bits);
            assert_eq!(value.is_nan(), bits & 0x7F == 0x7F);
            if !value.is_nan() {
                assert_eq!(encode(value), bits);
            }
        }
        assert_eq!([decode(1), decode(8), decode(0x38), decode(0x7E), decode(0xFE)], [MIN_POSITIVE, 0.015_625, 1.0, MAX, -MAX]);
    }

    #[test]
    fn midpoints_go_to_the_even_bits_and_their_neighbours_do_not() {
        for bits in 0..0x7E {
            let midpoint = f32::midpoint(decode(bits), decode(bits + 1));
            assert_eq!(encode(midpoint), bits + bits % 2);
            assert_eq!([encode(midpoint.next_down()), encode(midpoint.next_up())], [bits, bits + 1]);
        }
    }

    #[test]
    fn all_16_bit_floats_encode_to_the_nearest() {
        for bits in 0..=u16::MAX {
            for x in [f16::from_bits(bits).to_f32(), bf16::from_bits(bits).to_f32()] {
                if !x.is_nan() {
                    assert_eq!(encode(x), by_search(x), "{x}");
                }
            }
        }
        assert_eq!([encode(f32::INFINITY), encode(f32::NEG_INFINITY), encode(f32::MAX), encode(f32::NAN)], [0x7E, 0xFE, 0x7E, 0x7F]);
    }

    #[test]
    #[ignore = "all floats: a minute"]
    fn all_floats_encode_to_the_nearest() {
        for bits in 0..=u32::MAX {
            let x = f32::from_bits(bits);
            if !x.is_nan() {
                assert_eq!(encode(x), by_search(x), "{x}");
            }
        }
    }
}
