//! The arithmetic of `kernels/logits.cu`, `narrow.cu` and `draw.cu`, written down again on the CPU with the kernels' names, against the
//! engine's own statistics, policies, filters and draws. What this cannot show is what blocks do to each other.

use reset::controller::{Boundaries, Controller, EntropyThreshold, Fixed, Policy, StepAware};
use reset::logits::LogitStats;
use reset::parallel::Pool;
use reset::sampler::{self, Banned, DrawKey, Filters};
use reset::simd;
use reset::simd::logits::{CHUNK, Mass, Partial};

fn noise(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn logits(seed: u64, len: usize, spread: f32) -> Vec<f32> {
    let mut next = noise(seed);
    (0..len).map(|_| ((next() + next() + next()) as f32 - 1.5) * spread).collect()
}

// ------------------------------------------------------------------------------------------------------------------- logits.cu

fn exp_logit(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    #[expect(clippy::approx_constant, clippy::excessive_precision, reason = "the kernels' spelling")]
    let (log2_e, ln_2) = (1.442_695_04_f32, 0.693_147_181_f32);
    let shifted = x.mul_add(log2_e, ROUND);
    let r = (shifted - ROUND).mul_add(-ln_2, x);
    let q = 1.381_459_9e-3_f32.mul_add(r, 8.368_717e-3);
    let q = q.mul_add(r, 4.166_839e-2);
    let q = q.mul_add(r, 1.666_652_1e-1);
    let q = q.mul_add(r, 4.999_999_4e-1);
    let e = q.mul_add(r, 1.0).mul_add(r, 1.0);
    e * f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3F80_0000))
}

/// `half_sum`: lane 0 of `__shfl_down_sync` by halves.
fn half_sum<const N: usize>(mut lanes: [f64; N]) -> f64 {
    let mut d = N / 2;
    while d > 0 {
        for i in 0..d {
            lanes[i] += lanes[i + d];
        }
        d /= 2;
    }
    lanes[0]
}

/// What one block finds: its partial sums, and what lies beside its maximum.
fn chunk_sums(x: &[f32]) -> (Partial, u32, f64) {
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (mut terms, mut products) = ([0.0f32; CHUNK], [0.0f32; CHUNK]);
    for at in 0..CHUNK {
        let d = x.get(at).copied().unwrap_or(f32::NEG_INFINITY) - max;
        let d = if d >= -88.0 { d } else { -88.0 };
        (terms[at], products[at]) = (exp_logit(d), d);
    }
    let (mut sum, mut weighted, mut rest) = ([0.0f32; 16], [0.0f32; 16], [0.0f32; 64]);
    for at in 0..CHUNK {
        sum[at % 16] += terms[at];
        weighted[at % 16] = products[at].mul_add(terms[at], weighted[at % 16]);
        rest[at % 64] += if products[at] < 0.0 { terms[at] } else { 0.0 };
    }
    let upper: [f64; 32] = std::array::from_fn(|i| f64::from(rest[i]) + f64::from(rest[i + 32]));
    let (sum, weighted) =
        if max == f32::NEG_INFINITY { (0.0, 0.0) } else { (half_sum(sum.map(f64::from)), half_sum(weighted.map(f64::from))) };
    let ties = x.iter().filter(|&&v| v == max).count() as u32;
    (Partial { max, sum, weighted }, ties, half_sum(upper))
}

#[test]
fn sums_of_a_chunk_are_the_cpus_bit_for_bit() {
    for table in simd::available().into_iter().filter(|t| t.name != "scalar") {
        for len in [1, 15, 16, 17, 63, 64, 65, 1000, 2047, CHUNK] {
            for spread in [0.1, 3.0, 40.0, 1e4] {
                let mut x = logits(len as u64, len, spread);
                if len > 20 {
                    x[7] = f32::NEG_INFINITY;
                    x[9] = x[3];
                }
                let (partial, ties, rest) = chunk_sums(&x);
                assert_eq!(partial, (table.logits.partial)(&x), "{} {len} {spread}", table.name);
                let whole = Mass { max: partial.max, scale: 1.0, from: f32::MIN, below: f32::INFINITY };
                assert_eq!((u64::from(ties), rest), (table.logits.mass)(&x, &whole), "{} {len} {spread}", table.name);
            }
        }
        assert_eq!(chunk_sums(&[f32::NEG_INFINITY; 40]).0, (table.logits.partial)(&[f32::NEG_INFINITY; 40]));
    }
}

/// The joining of chunks by a row's last block, and its sums by warp: `warp_sum_f64` over lanes that hold every 32nd chunk.
fn entropy(x: &[f32]) -> f64 {
    let parts: Vec<_> = x.chunks(CHUNK).map(chunk_sums).collect();
    let max = parts.iter().map(|p| p.0.max).fold(f32::NEG_INFINITY, f32::max);
    let peak = parts.iter().position(|p| p.0.max == max).expect("a chunk");
    let (mut others, mut weighted) = ([0.0f64; 32], [0.0f64; 32]);
    for (i, (part, ..)) in parts.iter().enumerate().filter(|&(i, _)| i != peak) {
        let d = f64::from(part.max) - f64::from(max);
        let scale = d.exp();
        if scale != 0.0 && part.sum != 0.0 {
            others[i % 32] += scale * part.sum;
            weighted[i % 32] += scale * (part.weighted + d * part.sum);
        }
    }
    let (top, ties, rest) = &parts[peak];
    let excess = half_sum(others) + (f64::from(*ties) - 1.0) + rest;
    (excess.ln_1p() - (half_sum(weighted) + top.weighted) / (1.0 + excess)).max(0.0)
}

#[test]
fn entropies_round_to_the_cpus_f32() {
    for (seed, (len, spread)) in
        [(1, 1.0), (2048, 2.0), (2049, 5.0), (40_000, 3.0), (151_936, 6.0), (151_936, 30.0)].into_iter().enumerate()
    {
        let x = logits(seed as u64 + 1, len, spread);
        for table in simd::available().into_iter().filter(|t| t.name != "scalar") {
            let stats = LogitStats::of(table, &x).expect("finite logits");
            assert_eq!(entropy(&x) as f32, stats.entropy as f32, "{len} {spread}");
        }
    }
}

// --------------------------------------------------------------------------------------------------------- the step of the policy

#[derive(Clone, Copy)]
struct Parameters {
    kind: u32, // 0 fixed, 1 threshold, 2 ReSET
    t_low: f64,
    t_high: f64,
    tau_0: f64,
    window: u64,
    include_current: bool,
}

#[derive(Default)]
struct State {
    total: f64,
    step_total: f64,
    window_total: f64,
    count: u64,
    step_count: u64,
    step_index: u64,
    boundary_ahead: bool,
    after_newline: bool,
}

/// Temperature, threshold and boundary, as `take_step`.
fn take_step(policy: &Parameters, state: &mut State, window: &mut [f64], h: f64) -> (f64, f64, bool) {
    let boundary = state.boundary_ahead;
    state.step_index += u64::from(boundary);
    let step_count = if boundary { 0 } else { state.step_count };
    let step_total = if boundary { 0.0 } else { state.step_total };
    let size = policy.window;
    let held = state.count.min(size);
    let oldest = if held == size { window[(state.count % size) as usize] } else { 0.0 };
    let window_next = if held < size { state.window_total + h } else { state.window_total + h - oldest };
    let step_entropy = if state.count == 0 {
        h
    } else if step_count < size {
        if policy.include_current {
            window_next / (if held < size { held + 1 } else { size }) as f64
        } else {
            state.window_total / held as f64
        }
    } else if policy.include_current {
        (step_total + h) / (step_count + 1) as f64
    } else {
        step_total / step_count as f64
    };
    let global_mean = if state.count == 0 { step_entropy } else { state.total / state.count as f64 };
    let (temperature, threshold) = match policy.kind {
        0 => (policy.t_high, f64::NAN),
        1 => (if h >= policy.tau_0 { policy.t_high } else { policy.t_low }, policy.tau_0),
        _ => {
            let threshold = if step_entropy > global_mean { step_entropy } else { policy.tau_0 };
            (if h >= threshold { policy.t_high } else { policy.t_low }, threshold)
        }
    };
    state.total += h;
    state.step_total = step_total + h;
    state.step_count = step_count + 1;
    state.window_total = window_next;
    window[(state.count % size) as usize] = h;
    state.count += 1;
    state.boundary_ahead = false;
    (temperature, threshold, boundary)
}

/// The end of `draw`: what a token means for the next step.
fn observe(state: &mut State, flags: u8) {
    let newline = flags & 1 != 0;
    let pair = newline && state.after_newline;
    state.after_newline = newline;
    state.boundary_ahead |= pair || flags & 2 != 0;
}

#[test]
fn policies_step_as_the_controller_does() {
    let mut next = noise(77);
    for kind in 0..3 {
        for include_current in [false, true] {
            for window in [1, 2, 32] {
                let p = Parameters { kind, t_low: 0.3, t_high: 1.0, tau_0: 0.5, window, include_current };
                let policy: Box<dyn Policy> = match kind {
                    0 => Box::new(Fixed::new(p.t_high).expect("a temperature")),
                    1 => Box::new(EntropyThreshold::new(p.t_low, p.tau_0, p.t_high).expect("parameters")),
                    _ => Box::new(StepAware::new(p.t_low, p.tau_0, p.t_high, window as usize, include_current).expect("parameters")),
                };
                let mut controller = Controller::new(policy, Boundaries::new([1, 3], [2, 3]));
                let (mut state, mut ring) = (State::default(), vec![f64::NAN; window as usize]);
                for token in 0..3000 {
                    let h = (next() * 2.0) as f32;
                    let decision = controller.step(h).expect("a finite entropy");
                    let (temperature, threshold, boundary) = take_step(&p, &mut state, &mut ring, f64::from(h));
                    assert_eq!((temperature, boundary), (decision.temperature, decision.boundary), "{kind} {window} token {token}");
                    assert_eq!(threshold.to_bits() << 1, decision.threshold.to_bits() << 1, "{kind} {window} token {token}");
                    assert_eq!(state.step_index, decision.step_index);
                    let id = if next() < 0.3 { (next() * 4.0) as u32 } else { 9 };
                    controller.observe(id);
                    observe(&mut state, [0, 1, 2, 3].get(id as usize).copied().unwrap_or(0));
                }
            }
        }
    }
}

// --------------------------------------------------------------------------------------------------------------- narrow.cu, draw.cu

fn key_of(x: f32) -> u32 {
    let bits = x.to_bits();
    if bits & 0x8000_0000 != 0 { !bits } else { bits | 0x8000_0000 }
}

fn value_of(key: u32) -> f32 {
    f32::from_bits(if key & 0x8000_0000 != 0 { key ^ 0x8000_0000 } else { !key })
}

fn select(candidates: &[f32], least: u32, target: u64, weight: impl Fn(f32) -> u64) -> u32 {
    let (mut prefix, mut above) = (0u32, 0u64);
    for shift in [24, 16, 8, 0] {
        let mut bins = [0u64; 256];
        for &x in candidates {
            let key = key_of(x);
            if (shift == 24 || key >> (shift + 8) == prefix >> (shift + 8)) && key >= least {
                bins[(key >> shift & 255) as usize] += weight(x) << 1;
                bins[(key >> shift & 255) as usize] |= 1;
            }
        }
        let (mut chosen, mut lowest, mut sum) = (256, 0, above);
        for bin in (0..256).rev().filter(|&bin| bins[bin] != 0) {
            lowest = bin;
            if sum + (bins[bin] >> 1) >= target {
                chosen = bin;
                break;
            }
            sum += bins[bin] >> 1;
        }
        if chosen == 256 {
            chosen = lowest;
            sum -= bins[lowest] >> 1;
        }
        above = sum;
        prefix |= (chosen as u32) << shift;
    }
    prefix
}

fn behind(max: f32, temperature: f64, nats: f64) -> f32 {
    ((f64::from(max) - temperature * nats) as f32).next_down().max(f32::MIN)
}

struct Request {
    temperature: f64,
    top_k: usize,
    top_p: f64,
    min_p: f64,
}

/// The smallest kept logit, as `narrow` finds it; `logits_decide` gives the bound for top-k.
fn narrow(x: &[f32], banned: &Banned, request: &Request, max: f32) -> f32 {
    const UNIT: f64 = 17_592_186_044_416.0;
    let Request { temperature, top_k, top_p, min_p } = *request;
    let allowed = |id: usize| if banned.contains(id as u32) { f32::NEG_INFINITY } else { x[id] };
    let maxima: Vec<f32> =
        (0..x.len()).step_by(CHUNK).map(|c| (c..x.len().min(c + CHUNK)).map(allowed).fold(f32::NEG_INFINITY, f32::max)).collect();
    let mut bound = f32::MIN;
    if top_k != 0 && top_k <= maxima.len() {
        for (i, &own) in maxima.iter().enumerate() {
            let above = maxima.iter().enumerate().filter(|&(j, &other)| other > own || other == own && j < i).count();
            if above == top_k - 1 {
                bound = bound.max(own);
            }
        }
    }
    let (by_rank, by_mass) = (top_k != 0 && top_k < x.len(), top_p < 1.0 && top_p > 0.0);
    let depth = (x.len() as f64 / (1.0 - top_p)).ln() + 1e-3;
    let least = if by_rank {
        bound
    } else if by_mass {
        behind(max, temperature, depth)
    } else {
        f32::MIN
    };
    let mut from = f32::MIN;
    if by_rank || by_mass {
        let list: Vec<f32> = (0..x.len()).map(allowed).filter(|&v| v >= least).collect();
        let scale = (1.0 / temperature) as f32;
        let tail: f64 = (0..x.len())
            .map(allowed)
            .filter(|&v| v >= f32::MIN && v < least)
            .map(|v| f64::from(exp_logit(((v - max) * scale).max(-88.0))))
            .sum();
        if by_rank && top_k <= list.len() {
            from = from.max(value_of(select(&list, 0, top_k as u64, |_| 1)));
        }
        if by_mass {
            let weight = |v: f32| (((f64::from(v) - f64::from(max)) * (1.0 / temperature)).exp() * UNIT).round_ties_even() as u64;
            let kept = key_of(from);
            let total: u64 = list.iter().filter(|&&v| key_of(v) >= kept).map(|&v| weight(v)).sum();
            let rest = if by_rank { 0.0 } else { tail };
            let target = (top_p * (total as f64 + rest * UNIT)).ceil() as u64;
            from = from.max(value_of(select(&list, kept, target, weight)));
        }
    }
    if top_p <= 0.0 {
        from = max;
    }
    if min_p > 0.0 {
        let exact = f64::from(max) + temperature * min_p.ln();
        let near = exact as f32;
        from = from.max(if f64::from(near) < exact { near.next_up() } else { near });
    }
    from.min(max)
}

fn philox([mut a, mut b, mut c, mut d]: [u32; 4], key: u64) -> [u32; 4] {
    let (mut k0, mut k1) = (key as u32, (key >> 32) as u32);
    for _ in 0..10 {
        let (p, q) = (u64::from(a) * 0xD251_1F53, u64::from(c) * 0xCD9E_8D57);
        (a, b, c, d) = ((q >> 32) as u32 ^ b ^ k0, q as u32, (p >> 32) as u32 ^ d ^ k1, p as u32);
        k0 = k0.wrapping_add(0x9E37_79B9);
        k1 = k1.wrapping_add(0xBB67_AE85);
    }
    [a, b, c, d]
}

fn score_of(x: f32, max: f32, temperature: f64, r: u32) -> f64 {
    let v = (((f64::from(r) + 0.5) * (1.0 / 4_294_967_296.0)) as f32).min(1.0 - f32::EPSILON / 2.0);
    (f64::from(x) - f64::from(max)) / temperature - (-(-f64::from(v)).ln_1p()).ln()
}

fn log2_below(r: u32) -> f32 {
    let v = (r >> 1) as f32 * (1.0 / 2_147_483_648.0);
    (v.to_bits() as i32) as f32 * (1.0 / 8_388_608.0) - 127.0
}

/// The token that `draw` takes, blocks in any order.
fn draw(x: &[f32], banned: &Banned, temperature: f64, from: f32, max: f32, argmax: u32, key: DrawKey) -> u32 {
    if temperature <= 1e-6 {
        return argmax;
    }
    let words = |id: u32| philox([id >> 2, key.position, key.stream as u32, (key.stream >> 32) as u32], key.seed);
    let first = (score_of(max, max, temperature, words(argmax)[(argmax & 3) as usize]), argmax);
    let from = from.max(behind(max, temperature, 22.88 - first.0));
    let (scale, octaves) = ((std::f64::consts::LOG2_E / temperature) as f32, (first.0 * std::f64::consts::LOG2_E - 1e-3) as f32);
    let mut best = first;
    for id in (0..x.len() as u32).rev() {
        let v = if banned.contains(id) { f32::NEG_INFINITY } else { x[id as usize] };
        let r = words(id)[(id & 3) as usize];
        if v >= from && log2_below(r) + octaves < (v - max).max(f32::MIN) * scale {
            let score = score_of(v, max, temperature, r);
            if score > best.0 || score == best.0 && id < best.1 {
                best = (score, id);
            }
        }
    }
    best.1
}

#[test]
fn filters_and_draws_give_the_samplers_token() {
    let table = simd::best();
    let pool = Pool::new(Some(1));
    let banned = Banned::new([3, 4, 5, 2500, 4999]);
    let mut next = noise(3);
    for len in [8, 300, 5000] {
        for spread in [0.0, 0.5, 3.0, 12.0] {
            for (round, (top_k, top_p, min_p)) in [
                (0, 1.0, 0.0),
                (0, 0.95, 0.0),
                (0, 0.3, 0.0),
                (1, 1.0, 0.0),
                (2, 1.0, 0.0),
                (20, 0.95, 0.0),
                (7, 0.5, 0.2),
                (0, 1.0, 0.1),
                (0, 0.0, 0.0),
                (400, 0.9, 0.0),
            ]
            .into_iter()
            .enumerate()
            {
                for temperature in [1e-7, 0.1, 0.6, 1.0, 4.0] {
                    let mut x = logits(len as u64 + round as u64, len, spread);
                    x[len - 1] = f32::NEG_INFINITY;
                    x[len / 2] = x[len / 3]; // a tie
                    let none = Banned::none();
                    let banned = if round % 2 == 0 { &banned } else { &none };
                    let stats = LogitStats::of(table, &x).expect("finite logits");
                    let allowed = |id: usize| !banned.contains(id as u32);
                    let max = (0..len).filter(|&id| allowed(id)).map(|id| x[id]).fold(f32::NEG_INFINITY, f32::max);
                    let argmax = (0..len).find(|&id| allowed(id) && x[id] == max).expect("an id") as u32;
                    let filters =
                        Filters::new((top_k > 0).then_some(top_k), (top_p < 1.0).then_some(top_p), (min_p > 0.0).then_some(min_p))
                            .expect("valid");
                    let from = narrow(&x, banned, &Request { temperature, top_k, top_p, min_p }, max);
                    for position in 0..4 {
                        let key = DrawKey { seed: (next() * 1e15) as u64, stream: u64::MAX - position * 977, position: position as u32 };
                        let theirs = sampler::draw(&pool, table, &x, &stats, temperature, &filters, key, banned).expect("a token");
                        let ours = draw(&x, banned, temperature, from, max, argmax, key);
                        assert_eq!(ours, theirs.token, "{len} {spread} {temperature} {top_k} {top_p} {min_p}");
                    }
                }
            }
        }
    }
}

#[test]
fn keys_order_as_floats_do() {
    let mut x: Vec<f32> = vec![f32::MIN, -1.0, -1e-40, -0.0, 0.0, 1e-40, 1.0, f32::MAX];
    x.extend(logits(1, 500, 10.0));
    for a in &x {
        assert_eq!(value_of(key_of(*a)).to_bits(), a.to_bits());
        for b in &x {
            assert!(a >= b || key_of(*a) < key_of(*b));
        }
    }
}
