//! Names of random streams: one per sequence, the same wherever the sequence sits in a batch.
//!
//! A stream is the 64-bit FNV-1a hash of bytes that say which sequence it is. Integers are little-endian, lengths are
//! written before what they measure:
//!
//! ```text
//! generate   "generate"  u64 number of prompt ids  u32 per prompt id                     u64 sample index
//! evaluate   "evaluate"  u64 bytes of task, task   u64 bytes of problem id, problem id   u64 sample index      (UTF-8)
//!
//! FNV-1a:    h = 0xcbf29ce484222325;   for each byte b:  h = (h xor b) · 0x100000001b3  mod 2⁶⁴
//! ```
//!
//! FNV-1a spreads bits slowly, which Philox makes good; what counts here is that anyone can write it down again.

struct Fnv(u64);

impl Fnv {
    fn new(domain: &str) -> Self {
        Self(0xcbf2_9ce4_8422_2325).bytes(domain.as_bytes())
    }

    fn bytes(self, bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(self.0, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)))
    }

    fn number(self, n: u64) -> Self {
        self.bytes(&n.to_le_bytes())
    }

    fn text(self, text: &str) -> Self {
        self.number(text.len() as u64).bytes(text.as_bytes())
    }
}

/// The stream of one sample of a prompt.
pub fn of_generate(prompt_ids: &[u32], sample_index: u64) -> u64 {
    let start = Fnv::new("generate").number(prompt_ids.len() as u64);
    prompt_ids.iter().fold(start, |h, id| h.bytes(&id.to_le_bytes())).number(sample_index).0
}

/// The stream of one sample of a task's problem, whatever the prompt says.
pub fn of_evaluate(task: &str, problem_id: &str, sample_index: u64) -> u64 {
    Fnv::new("evaluate").text(task).text(problem_id).number(sample_index).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        // Published: FNV-1a 64 of "" and "foobar".
        assert_eq!(Fnv::new("").0, 0xcbf2_9ce4_8422_2325);
        assert_eq!(Fnv::new("foobar").0, 0x8594_4171_f739_67e8);
    }

    #[test]
    fn neighbours_have_streams_of_their_own() {
        let mut seen = std::collections::BTreeSet::new();
        for prompt in [&[][..], &[0], &[0, 0], &[1], &[256], &[0, 1], &[1, 0]] {
            for sample in 0..4 {
                assert!(seen.insert(of_generate(prompt, sample)));
            }
        }
        assert_ne!(of_evaluate("ab", "c", 0), of_evaluate("a", "bc", 0));
        assert_ne!(of_evaluate("a", "b", 0), of_evaluate("a", "b", 1));
    }
}
