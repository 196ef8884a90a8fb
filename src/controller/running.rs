//! Means of the entropies so far: of the sequence, of the current step, of a sliding window.
//!
//! All are plain sums in f64 of f32 values in token order, divided by counts. Until the first boundary the step and the
//! sequence hold the same tokens, and the same additions give the same bits, so the two means compare equal, as they should:
//! a compensated or incremental mean would differ in the last bit there and call every other step uncertain.

use crate::error::Error;
use crate::error::Result;

/// Largest window: more would only cost memory.
pub const MAX_WINDOW: usize = 1 << 20;

/// The running sums of one sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    include_current: bool,
    total: f64,
    count: u64,
    step_total: f64,
    step_count: u64,
    window: Window,
}

/// What [`Running::estimate`] knows before a token joins the sums.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// `Ĥ_step`.
    pub step_entropy: f64,
    /// `H̄`.
    pub global_mean: f64,
    /// Tokens of the current step before this one.
    pub step_position: u64,
}

impl Running {
    /// Empty sums with a sliding window of `window` tokens, at least one.
    pub fn new(window: usize, include_current: bool) -> Self {
        let window = Window::new(window);
        Self { include_current, total: 0.0, count: 0, step_total: 0.0, step_count: 0, window }
    }

    /// The means a token with entropy `entropy` is judged by; `boundary` says that it begins a step.
    pub fn estimate(&self, entropy: f64, boundary: bool) -> Estimate {
        let (step_total, step_count) = if boundary { (0.0, 0) } else { (self.step_total, self.step_count) };
        let short = step_count < self.window.size as u64;
        let step_entropy = match (self.count, short, self.include_current) {
            (0, _, _) => entropy,
            (_, true, false) => self.window.total / self.window.values.len() as f64,
            (_, false, false) => step_total / step_count as f64,
            (_, true, true) => {
                let (total, count) = self.window.with(entropy);
                total / count as f64
            }
            (_, false, true) => (step_total + entropy) / (step_count + 1) as f64,
        };
        let global_mean = if self.count == 0 { step_entropy } else { self.total / self.count as f64 };
        Estimate { step_entropy, global_mean, step_position: step_count }
    }

    /// Appends the token's entropy, after clearing the step's sums where it begins one. The window spans boundaries.
    pub fn push(&mut self, entropy: f64, boundary: bool) {
        if boundary {
            self.step_total = 0.0;
            self.step_count = 0;
        }
        self.total += entropy;
        self.count += 1;
        self.step_total += entropy;
        self.step_count += 1;
        self.window.push(entropy);
    }

    /// Tokens so far.
    pub fn position(&self) -> u64 {
        self.count
    }

    /// Tokens the sliding window holds when full.
    pub fn window(&self) -> usize {
        self.window.size
    }

    /// Forgets all tokens.
    pub fn clear(&mut self) {
        (self.total, self.count, self.step_total, self.step_count) = (0.0, 0, 0.0, 0);
        (self.window.total, self.window.oldest) = (0.0, 0);
        self.window.values.clear();
    }

    /// The sums as plain numbers: totals and counts of sequence and step, the window's total, its values from the oldest on.
    pub fn to_parts(&self) -> Parts {
        let (new, old) = self.window.values.split_at(self.window.oldest);
        Parts {
            window: self.window.size,
            include_current: self.include_current,
            total: self.total,
            count: self.count,
            step_total: self.step_total,
            step_count: self.step_count,
            window_total: self.window.total,
            window_values: old.iter().chain(new).copied().collect(),
        }
    }

    /// The reverse of [`Self::to_parts`], checked.
    pub fn from_parts(parts: &Parts) -> Result<Self> {
        let size = check_window(parts.window)?;
        let held = parts.window_values.len() as u64;
        let numbers = [parts.total, parts.step_total, parts.window_total];
        let consistent = parts.step_count <= parts.count && held == parts.count.min(size as u64);
        if !consistent || !numbers.iter().chain(&parts.window_values).all(|x| x.is_finite()) {
            let found = format!("{} values, {} tokens, {} in the step", held, parts.count, parts.step_count);
            let allowed = "the parts do not belong together; use what a snapshot holds, unchanged".to_owned();
            return Err(Error::Argument { option: "snapshot", found, allowed });
        }
        let mut window = Window::new(size);
        window.values.extend_from_slice(&parts.window_values);
        window.total = parts.window_total;
        Ok(Self {
            include_current: parts.include_current,
            total: parts.total,
            count: parts.count,
            step_total: parts.step_total,
            step_count: parts.step_count,
            window,
        })
    }
}

/// [`Running`] as plain numbers, for storage.
#[derive(Clone, Debug, PartialEq)]
pub struct Parts {
    /// Tokens the window holds when full.
    pub window: usize,
    /// Whether `H_t` joins step and window before the estimate.
    pub include_current: bool,
    /// Sum over the sequence.
    pub total: f64,
    /// Tokens of the sequence.
    pub count: u64,
    /// Sum over the step.
    pub step_total: f64,
    /// Tokens of the step.
    pub step_count: u64,
    /// Sum over the window.
    pub window_total: f64,
    /// The window, oldest first.
    pub window_values: Vec<f64>,
}

/// The last `size` values and their sum, which adds the new value and subtracts the one that falls out.
#[derive(Clone, Debug)]
struct Window {
    size: usize,
    values: Vec<f64>,
    oldest: usize,
    total: f64,
}

impl PartialEq for Window {
    /// Equal contents in equal order; where the ring starts does not matter.
    fn eq(&self, other: &Self) -> bool {
        fn ordered(w: &Window) -> impl Iterator<Item = &f64> {
            w.values[w.oldest..].iter().chain(&w.values[..w.oldest])
        }
        self.size == other.size && self.total == other.total && ordered(self).eq(ordered(other))
    }
}

impl Window {
    fn new(size: usize) -> Self {
        let size = size.clamp(1, MAX_WINDOW);
        Self { size, values: Vec::with_capacity(size), oldest: 0, total: 0.0 }
    }

    /// Sum and count with one more value, the oldest of a full window left out.
    fn with(&self, value: f64) -> (f64, usize) {
        if self.values.len() < self.size {
            return (self.total + value, self.values.len() + 1);
        }
        (self.total + value - self.values[self.oldest], self.size)
    }

    fn push(&mut self, value: f64) {
        (self.total, _) = self.with(value);
        if self.values.len() < self.size {
            self.values.push(value);
        } else {
            self.values[self.oldest] = value;
            self.oldest = (self.oldest + 1) % self.size;
        }
    }
}

/// A window of at least one token and at most [`MAX_WINDOW`].
pub fn check_window(window: usize) -> Result<usize> {
    if (1..=MAX_WINDOW).contains(&window) {
        return Ok(window);
    }
    let allowed = format!("it has to be a number of tokens from 1 to {MAX_WINDOW}; the paper uses 32");
    Err(Error::Argument { option: "window", found: window.to_string(), allowed })
}
