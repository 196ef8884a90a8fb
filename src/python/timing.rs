//! What choosing a token costs on this machine, for `reset-nvfp4 bench sampler`. `benches/sampler.rs` measures more.

use std::hint::black_box;
use std::time::Instant;

use pyo3::prelude::*;

use crate::controller::{Boundaries, Controller, StepAware};
use crate::error::Error;
use crate::logits::LogitStats;
use crate::parallel::Pool;
use crate::sampler::{self, Banned, DrawKey, Filters};
use crate::simd;

/// Adds the function to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(sampler_timings, m)?)
}

/// A case's name, and its median, 10th and 90th percentile in microseconds.
type Timing = (&'static str, f64, f64, f64);

/// Times `runs` runs of each part at a vocabulary of `vocab`, on the fastest table: the entropy pass, the policy's step, draws
/// from peaked and flat logits at temperature 0.6, and all of it together, which is what a token costs after its logits.
#[pyfunction]
fn sampler_timings(py: Python<'_>, vocab: usize, runs: usize) -> PyResult<Vec<Timing>> {
    if vocab == 0 || runs == 0 {
        let found = format!("vocab {vocab}, runs {runs}");
        return Err(Error::Argument { option: "bench", found, allowed: "both have to be at least 1".into() }.into());
    }
    Ok(py.detach(|| timings(vocab, runs))?)
}

fn timings(vocab: usize, runs: usize) -> Result<Vec<Timing>, Error> {
    let table = simd::best();
    let (peaked, flat) = (bell(vocab, 2.5, 24.0), bell(vocab, 0.5, 1.0));
    let mut found = Vec::new();

    LogitStats::of(table, &peaked)?;
    found.push(time("entropy pass", runs, 1, |_| {
        let _ = black_box(LogitStats::of(table, black_box(&peaked)));
    }));
    let (single, pool, mut partials) = (Pool::new(Some(1)), Pool::new(None), Vec::new());
    let mut statistics = |logits: &[f32]| sampler::statistics(&pool, table, &[black_box(logits)], &mut partials).remove(0);
    found.push(time("entropy pass, all threads", runs, 1, |_| {
        let _ = black_box(statistics(&peaked));
    }));
    let mut controller = Controller::new(Box::new(StepAware::new(0.3, 0.6, 1.0, 32, false)?), Boundaries::new([198], [271]));
    let mut step = |token: usize, entropy| {
        controller.observe(if token.is_multiple_of(50) { 271 } else { 1 });
        controller.step(entropy)
    };
    found.push(time("policy step", runs, 1000, |i| {
        let _ = black_box(step(i, black_box((i % 17) as f32 * 0.1)));
    }));
    let top_p = Filters::new(None, Some(0.95), None)?;
    let draw = |pool, logits: &[f32], stats: &LogitStats, filters: Filters, position| {
        let key = DrawKey { seed: 1, stream: 2, position };
        sampler::draw(pool, table, logits, stats, 0.6, &filters, key, &Banned::none())
    };
    for (name, pool, logits, filters) in [
        ("draw, peaked", &single, &peaked, Filters::default()),
        ("draw, peaked, top_p 0.95", &single, &peaked, top_p),
        ("draw, peaked, top_p 0.95, all threads", &pool, &peaked, top_p),
        ("draw, flat", &single, &flat, Filters::default()),
        ("draw, flat, top_p 0.95", &single, &flat, top_p),
        ("draw, flat, top_p 0.95, all threads", &pool, &flat, top_p),
    ] {
        let stats = LogitStats::of(table, logits)?;
        draw(pool, logits, &stats, filters, 0)?;
        found.push(time(name, runs, 1, |i| {
            let _ = black_box(draw(pool, logits, &stats, filters, i as u32));
        }));
    }
    for (name, logits) in [
        ("entropy, policy, top_p 0.95 and draw, peaked, all threads", &peaked),
        ("entropy, policy, top_p 0.95 and draw, flat, all threads", &flat),
    ] {
        found.push(time(name, runs, 1, |i| {
            if let Ok(stats) = statistics(logits)
                && let Ok(decision) = step(i, stats.entropy as f32)
            {
                // Not the temperature decided, so that rows compare and no draw is greedy.
                black_box(decision);
                let _ = black_box(draw(&pool, logits, &stats, top_p, i as u32));
            }
        }));
    }
    Ok(found)
}

/// Logits like a model's: a bell of width `spread`, and up to ten ids that stand out from `lead` downwards.
fn bell(vocab: usize, spread: f32, lead: f32) -> Vec<f32> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32) / 16_777_216.0 - 0.5
    };
    let mut logits: Vec<f32> = (0..vocab).map(|_| spread * 1.732 * (0..4).map(|_| uniform()).sum::<f32>()).collect();
    for (rank, x) in logits.iter_mut().step_by(vocab.div_ceil(10)).enumerate() {
        *x = lead - 1.5 * rank as f32;
    }
    logits
}

/// `runs` runs of `many` calls each.
fn time(name: &'static str, runs: usize, many: usize, mut call: impl FnMut(usize)) -> Timing {
    let mut times: Vec<f64> = (0..runs)
        .map(|run| {
            let start = Instant::now();
            for i in 0..many {
                call(run * many + i);
            }
            start.elapsed().as_secs_f64() * 1e6 / many as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (name, times[runs / 2], times[runs / 10], times[(runs * 9 / 10).min(runs - 1)])
}
