//! Philox4x32-10: random numbers by counter, without state.
//!
//! A block of four 32-bit words is a function of a 128-bit counter and a 64-bit key: ten rounds of two multiplications
//! (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). Every id of every position of every sequence
//! has its own counter, so nothing depends on the order in which draws are made:
//!
//! ```text
//! key     = seed (low word, high word)
//! counter = (id >> 2, position, low word of stream, high word of stream)
//! r       = word (id & 3) of the block
//! v       = min((r + ½)·2⁻³², 1 − 2⁻²⁴), rounded to f32
//! E       = −log1p(−v), exponentially distributed
//! ```

/// What a draw's random numbers depend on, besides the id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DrawKey {
    /// The run's seed.
    pub seed: u64,
    /// The sequence: a hash of the prompt and the sample number, see [`super::stream`].
    pub stream: u64,
    /// Tokens generated before this one.
    pub position: u32,
}

impl DrawKey {
    /// Key and the upper three counter words of Philox.
    pub(super) fn words(&self) -> ([u32; 2], [u32; 3]) {
        ([self.seed as u32, (self.seed >> 32) as u32], [self.position, self.stream as u32, (self.stream >> 32) as u32])
    }

    /// The exponential draw of `id`, more than 0 and less than 16.7.
    pub fn exponential(&self, id: u32) -> f64 {
        let (key, [position, low, high]) = self.words();
        let r = philox4x32([id >> 2, position, low, high], key)[(id & 3) as usize];
        let v = (((f64::from(r) + 0.5) / 4_294_967_296.0) as f32).min(1.0 - f32::EPSILON / 2.0);
        -(-f64::from(v)).ln_1p()
    }
}

/// One block of Philox4x32-10.
pub fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let ([mut a, mut b, mut c, mut d], [mut k0, mut k1]) = (counter, key);
    for _ in 0..10 {
        let p = u64::from(a) * 0xD251_1F53;
        let q = u64::from(c) * 0xCD9E_8D57;
        (a, b, c, d) = ((q >> 32) as u32 ^ b ^ k0, q as u32, (p >> 32) as u32 ^ d ^ k1, p as u32);
        k0 = k0.wrapping_add(0x9E37_79B9);
        k1 = k1.wrapping_add(0xBB67_AE85);
    }
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_gives_the_published_known_answers() {
        let pi = ([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]);
        assert_eq!(philox4x32([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox4x32([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(philox4x32(pi.0, pi.1), [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    #[test]
    fn exponentials_have_mean_and_variance_one() {
        let key = DrawKey { seed: 7, stream: u64::MAX, position: 3 };
        let draws: Vec<f64> = (0..100_000).map(|id| key.exponential(id)).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|e| (e - mean).powi(2)).sum::<f64>() / draws.len() as f64;
        assert!((mean - 1.0).abs() < 0.015, "{mean}"); // standard error 0.003
        assert!((variance - 1.0).abs() < 0.05, "{variance}"); // standard error 0.009
        assert!(draws.iter().all(|&e| e > 0.0 && e < 16.7));
    }
}
