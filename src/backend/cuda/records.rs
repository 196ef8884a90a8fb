//! The structures that host and kernels share, field by field those of `kernels/common.cuh` and `kernels/sampling.cuh`.

#![allow(unsafe_code, reason = "promises about layout")]

use crate::backend::cuda::launch::Structure;
use crate::backend::cuda::plan::Form;

/// Where and how a kernel writes a linear layer's operand.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct Prepared {
    /// Address of the operand.
    pub operand: u64,
    /// Address of the row scales, `[tokens]`; not used by [`Form::Bf16x3`].
    pub row_scales: u64,
    /// Address of the factors of the input before everything else, `[cols]`, or 0.
    pub pre_scale: u64,
    /// Tensor scale of [`Form::Static`].
    pub input_scale: f32,
    /// A [`Form`].
    pub form: u32,
    /// Operand columns of a group.
    pub columns: u32,
    /// 0.
    pub reserved: u32,
}

impl Prepared {
    /// No operand is made.
    pub const NONE: Self =
        Self { operand: 0, row_scales: 0, pre_scale: 0, input_scale: 0.0, form: Form::None as u32, columns: 0, reserved: 0 };
}

// SAFETY: six fields of 8, 8, 8, 4, 4, 4, 4 bytes without gaps, as the kernels declare it.
unsafe impl Structure for Prepared {}

/// What a request asks of policy, filters and draw; constant over a sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct Policy {
    /// Temperature below the threshold.
    pub t_low: f64,
    /// Temperature from the threshold on; the temperature of a fixed policy.
    pub t_high: f64,
    /// Threshold of a step that is not uncertain, in nats.
    pub tau_0: f64,
    /// Probability mass kept; 1 keeps all.
    pub top_p: f64,
    /// Smallest probability kept, relative to the largest; 0 keeps all.
    pub min_p: f64,
    /// Of the draws.
    pub seed: u64,
    /// Of the sequence.
    pub stream: u64,
    /// 0 fixed, 1 entropy threshold, 2 `ReSET`, 3 idle: nobody's row.
    pub kind: u32,
    /// Tokens of the sliding window.
    pub window: u32,
    /// 1: `H_t` joins step and window before the estimate.
    pub include_current: u32,
    /// Most probable ids kept; 0 keeps all.
    pub top_k: u32,
    /// 0.
    pub reserved: u64,
}

impl Policy {
    /// [`Self::kind`] of a fixed temperature.
    pub const FIXED: u32 = 0;
    /// Of an entropy threshold.
    pub const THRESHOLD: u32 = 1;
    /// Of `ReSET`.
    pub const RESET: u32 = 2;
    /// Of nobody's row.
    pub const IDLE: u32 = 3;

    /// The bytes, as the device reads them.
    pub fn words(&self) -> [u64; 10] {
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        [
            self.t_low.to_bits(),
            self.t_high.to_bits(),
            self.tau_0.to_bits(),
            self.top_p.to_bits(),
            self.min_p.to_bits(),
            self.seed,
            self.stream,
            pair(self.kind, self.window),
            pair(self.include_current, self.top_k),
            self.reserved,
        ]
    }
}

/// What changes from token to token; zeros before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct State {
    /// Sum of all entropies.
    pub total: f64,
    /// Sum of the step's.
    pub step_total: f64,
    /// Sum of the window's.
    pub window_total: f64,
    /// Tokens decided.
    pub count: u64,
    /// Tokens of the step.
    pub step_count: u64,
    /// Boundaries so far.
    pub step_index: u64,
    /// The next token begins a reasoning step.
    pub boundary_ahead: u32,
    /// The last token was a single newline.
    pub after_newline: u32,
    /// Tokens drawn.
    pub position: u64,
}

/// One token of one sequence, as it comes through the [`Ring`](crate::backend::cuda::ring::Ring).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct Outcome {
    /// Under the raw distribution, in nats.
    pub logprob: f64,
    /// Under the distribution drawn from.
    pub sampling_logprob: f64,
    /// Of the draw.
    pub temperature: f64,
    /// `H_t`, in nats.
    pub entropy: f64,
    /// `Ĥ_step`; NaN where the policy has none, as in the next two.
    pub step_entropy: f64,
    /// `H̄`.
    pub global_mean: f64,
    /// `τ_t`.
    pub threshold: f64,
    /// Boundaries up to this token.
    pub step_index: u64,
    /// The token's id.
    pub token: u32,
    /// 1: it began a reasoning step; 2: the step was uncertain.
    pub flags: u32,
    /// 0 drawn, 1 NaN or infinity among the logits, 2 nothing left to draw.
    pub status: u32,
    /// Its number plus one.
    pub serial: u32,
}

impl Outcome {
    /// From a record of the ring.
    pub fn of(words: [u64; 10]) -> Self {
        let real = |at: usize| f64::from_bits(words[at]);
        let [low, high] = [|word: u64| word as u32, |word: u64| (word >> 32) as u32];
        Self {
            logprob: real(0),
            sampling_logprob: real(1),
            temperature: real(2),
            entropy: real(3),
            step_entropy: real(4),
            global_mean: real(5),
            threshold: real(6),
            step_index: words[7],
            token: low(words[8]),
            flags: high(words[8]),
            status: low(words[9]),
            serial: high(words[9]),
        }
    }

    /// Why there is no token; None where there is one.
    pub fn fault(&self) -> Option<&'static str> {
        match self.status {
            0 => None,
            1 => Some("NaN or infinity among them; the weights or scales of this checkpoint overflow"),
            _ => Some("no id with a probability left; at least one that is not banned has to have a finite logit"),
        }
    }
}

/// Bytes of a chunk's sums on the device (`Partial`).
pub const PARTIAL_BYTES: usize = 48;
/// Bytes of a decision on the device (`Decision`).
pub const DECISION_BYTES: usize = 96;

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields of a structure in the kernels' text, as names in order.
    fn fields(text: &str, name: &str) -> Vec<String> {
        let start = text.find(&format!("struct {name} {{")).unwrap_or_else(|| panic!("struct {name}"));
        let body = &text[start..][text[start..].find('{').expect("a body") + 1..];
        let body = &body[..body.find("};").expect("its end")];
        let code: String = body.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join(" ");
        let declared = |part: &str| {
            part.split(',').map(|n| n.split_whitespace().last().unwrap_or("").trim_start_matches('*').to_owned()).collect::<Vec<_>>()
        };
        code.split(';').filter(|part| !part.trim().is_empty()).flat_map(declared).collect()
    }

    #[test]
    fn fields_are_those_of_the_kernels_in_their_order() {
        let (common, sampling) = (include_str!("../../../kernels/common.cuh"), include_str!("../../../kernels/sampling.cuh"));
        let prepared = ["x", "row_scales", "pre_scale", "input_scale", "form", "columns", "reserved"];
        assert_eq!(fields(common, "Prepared"), prepared);
        let of = |debug: String| -> Vec<String> {
            let inside = debug[debug.find('{').expect("fields") + 1..].trim_end_matches('}').to_owned();
            inside.split(',').map(|field| field.split(':').next().unwrap_or("").trim().to_owned()).collect()
        };
        assert_eq!(fields(sampling, "Policy").len(), of(format!("{:?}", Policy::default())).len());
        for (name, debug) in [("State", format!("{:?}", State::default())), ("Outcome", format!("{:?}", Outcome::default()))] {
            assert_eq!(fields(sampling, name), of(debug), "{name}");
        }
        assert_eq!(fields(sampling, "Policy"), of(format!("{:?}", Policy::default())));
    }

    #[test]
    fn words_are_the_structures_bytes() {
        let policy = Policy { t_low: 0.25, kind: Policy::RESET, window: 32, include_current: 1, top_k: 7, seed: 9, ..Policy::default() };
        let words = policy.words();
        assert_eq!(words.map(|w| w.to_le_bytes()).concat().len(), size_of::<Policy>());
        assert_eq!((words[0], words[5], words[7], words[8]), (0.25_f64.to_bits(), 9, 32 << 32 | 2, 7 << 32 | 1));
        let at = |field: usize| (0..10).map(|i| i * 100 + field as u64).collect::<Vec<u64>>();
        let outcome = Outcome::of(at(3).try_into().expect("ten words"));
        assert_eq!((outcome.step_index, outcome.token, outcome.flags, outcome.status, outcome.serial), (703, 803, 0, 903, 0));
        assert_eq!(outcome.threshold.to_bits(), 603);
    }

    #[test]
    fn sizes_are_those_the_kernels_state() {
        assert_eq!([size_of::<Prepared>(), size_of::<Policy>(), size_of::<State>(), size_of::<Outcome>()], [40, 80, 64, 80]);
    }
}
