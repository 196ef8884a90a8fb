//! Cost of choosing a token at a vocabulary of 151,936: statistics, policy, filters and the draw.
//!
//!     cargo bench --bench sampler [-- milliseconds per decode step]
//!
//! Every case is checked before it is timed. Times are the median and the 10th and 90th percentile of single runs on the
//! fastest table of this CPU, on one thread except for the last rows, which show a whole token on two.

use std::hint::black_box;
use std::time::Instant;

use reset::controller::Boundaries;
use reset::controller::Controller;
use reset::controller::StepAware;
use reset::logits::LogitStats;
use reset::parallel::Pool;
use reset::sampler;
use reset::sampler::Banned;
use reset::sampler::DrawKey;
use reset::sampler::Filters;
use reset::simd;

const VOCAB: usize = 151_936;
const RUNS: usize = 401;

/// Logits like a model's: a bell of width `spread`, and ten ids that stand out by `lead`.
fn logits(spread: f32, lead: f32) -> Vec<f32> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32) / 16_777_216.0 - 0.5
    };
    let mut x: Vec<f32> = (0..VOCAB).map(|_| spread * 1.732 * (0..4).map(|_| uniform()).sum::<f32>()).collect();
    for rank in 0..10u16 {
        x[usize::from(rank) * 15_013] = lead - 1.5 * f32::from(rank);
    }
    x
}

/// Median, 10th and 90th percentile of a run in microseconds; `many` calls make a run.
fn time(many: usize, mut run: impl FnMut(usize)) -> [f64; 3] {
    let mut times: Vec<f64> = (0..RUNS)
        .map(|i| {
            let start = Instant::now();
            for j in 0..many {
                run(i * many + j);
            }
            start.elapsed().as_secs_f64() * 1e6 / many as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    [times[RUNS / 2], times[RUNS / 10], times[RUNS * 9 / 10]]
}

fn report(name: &str, [median, low, high]: [f64; 3]) {
    println!("{name:<44} {median:>10.2} µs   ({low:.2} to {high:.2})");
}

fn main() {
    let step_ms: f64 = std::env::args().filter_map(|a| a.parse().ok()).next_back().unwrap_or(33.3);
    let table = simd::best();
    println!("table {}, vocabulary {VOCAB}, {RUNS} runs", table.name);
    let peaked = logits(2.5, 24.0);
    let flat = logits(0.5, 1.0);

    let stats = LogitStats::of(table, &peaked).expect("a distribution");
    let spec = LogitStats::of(simd::scalar(), &peaked).expect("a distribution");
    assert!((stats.entropy - spec.entropy).abs() < 1e-6 && stats.argmax == spec.argmax);
    println!("entropy: peaked {:.3} nats, flat {:.3} nats", stats.entropy, LogitStats::of(table, &flat).expect("a distribution").entropy);

    let pass = time(1, |_| {
        black_box(LogitStats::of(table, black_box(&peaked)).expect("a distribution"));
    });
    report("entropy and log-sum-exp, one pass", pass);

    let policy = StepAware::new(0.3, 0.6, 1.0, 32, false).expect("valid");
    let mut controller = Controller::new(Box::new(policy), Boundaries::new([198], (271..836).step_by(5)));
    let step = time(1000, |i| {
        controller.observe(if i % 50 == 0 { 271 } else { (i % 1000) as u32 });
        black_box(controller.step(black_box((i % 17) as f32 * 0.1)).expect("finite"));
    });
    report("policy step", step);
    let share = (pass[0] + step[0]) / (step_ms * 1e3) * 100.0;
    println!("{:<44} {share:>10.3} %    of a decode step of {step_ms} ms (below 0.5 % wanted)", "policy with its entropy pass");

    let (single, pool) = (Pool::new(Some(1)), Pool::new(Some(2)));
    let padding = Banned::new(151_669..VOCAB as u32);
    let filters = [
        ("no filter", Filters::new(None, None, None)),
        ("top_p 0.95", Filters::new(None, Some(0.95), None)),
        ("top_k 20", Filters::new(Some(20), None, None)),
        ("top_k 20, top_p 0.95", Filters::new(Some(20), Some(0.95), None)),
        ("min_p 0.05", Filters::new(None, None, Some(0.05))),
    ];
    for (shape, logits) in [("peaked", &peaked), ("flat", &flat)] {
        let stats = LogitStats::of(table, logits).expect("a distribution");
        for (name, filters) in &filters {
            let filters = filters.as_ref().expect("valid");
            let draw = |pool, table, position| {
                let key = DrawKey { seed: 1, stream: 2, position };
                sampler::draw(pool, table, logits, &stats, 0.6, filters, key, &padding).expect("something to draw")
            };
            for position in 0..20 {
                let drawn = draw(&single, table, position);
                assert_eq!(drawn, draw(&pool, table, position));
                assert_eq!(drawn.token, draw(&single, simd::scalar(), position).token);
            }
            report(
                &format!("draw, {shape}, {name}"),
                time(1, |i| {
                    black_box(draw(&single, table, i as u32));
                }),
            );
        }
    }
    let mut partials = Vec::new();
    let top_p = filters[1].1.as_ref().expect("valid");
    for (shape, logits) in [("peaked", &peaked), ("flat", &flat)] {
        report(
            &format!("entropy, policy, top_p 0.95, draw, {shape}"),
            time(1, |i| {
                let stats = sampler::statistics(&pool, table, &[black_box(logits)], &mut partials).remove(0).expect("a distribution");
                black_box(controller.step(stats.entropy as f32).expect("finite"));
                let key = DrawKey { seed: 1, stream: 2, position: i as u32 };
                let drawn = sampler::draw(&pool, table, logits, &stats, 0.6, top_p, key, &padding).expect("something to draw");
                controller.observe(black_box(drawn).token);
            }),
        );
    }
}
