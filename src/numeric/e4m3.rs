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
