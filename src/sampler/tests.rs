use super::*;
use crate::logits::LogitStats;
use crate::simd;
use crate::simd::Table;

fn noise(len: usize, spread: f32, seed: u64) -> Vec<f32> {
    let mut state = seed | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32) / 8_388_608.0 - 1.0
    };
    (0..len).map(|_| spread * (next() + next() + next())).collect()
}

fn draw(table: &Table, logits: &[f32], temperature: f64, filters: &Filters, key: DrawKey, banned: &Banned) -> Draw {
    let stats = LogitStats::of(table, logits).expect("a distribution");
    Sampler::new().draw(table, logits, &stats, temperature, filters, key, banned).expect("valid")
}

/// Ids that stay, by sorting and adding up in f64.
fn kept_by_definition(logits: &[f32], temperature: f64, filters: &Filters, banned: &Banned) -> Vec<usize> {
    let mut ids: Vec<usize> = (0..logits.len()).filter(|&i| logits[i] > f32::NEG_INFINITY && !banned.contains(i as u32)).collect();
    ids.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    if let Some(k) = filters.top_k().filter(|&k| k < ids.len()) {
        let last = logits[ids[k - 1]];
        ids.retain(|&i| logits[i] >= last);
    }
    let weight = |i: usize| ((f64::from(logits[i]) - f64::from(logits[ids[0]])) / temperature).exp();
    let mut from = f32::MIN;
    if let Some(p) = filters.top_p().filter(|&p| p < 1.0) {
        let total: f64 = ids.iter().map(|&i| weight(i)).sum();
        let mut sum = 0.0;
        for &i in &ids {
            sum += weight(i);
            if sum >= p * total {
                from = logits[i];
                break;
            }
        }
    }
    let share = filters.min_p().unwrap_or(0.0);
    let mut kept: Vec<usize> = ids.iter().copied().filter(|&i| logits[i] >= from && weight(i) >= share * (1.0 - 1e-12)).collect();
    kept.sort_unstable();
    kept
}

fn best_by_definition(logits: &[f32], temperature: f64, kept: &[usize], key: DrawKey) -> usize {
    let score = |i: usize| f64::from(logits[i]) / temperature - key.exponential(i as u32).ln();
    kept.iter().copied().fold(kept[0], |best, i| if score(i) > score(best) { i } else { best })
}

fn filters() -> Vec<Filters> {
    let f = |k, p, m| Filters::new(k, p, m).expect("valid");
    vec![
        f(None, None, None),
        f(Some(1), None, None),
        f(Some(5), None, None),
        f(Some(400), None, None),
        f(Some(1_000_000), None, None),
        f(None, Some(0.0), None),
        f(None, Some(0.3), None),
        f(None, Some(0.95), None),
        f(None, Some(0.999_999), None),
        f(None, Some(1.0), None),
        f(None, None, Some(0.0)),
        f(None, None, Some(0.05)),
        f(None, None, Some(1.0)),
        f(Some(40), Some(0.9), Some(0.02)),
        f(Some(3000), Some(0.7), None),
    ]
}

#[test]
fn draws_equal_the_definition_without_pruning() {
    let bans = [Banned::none(), Banned::new([0, 1, 2, 77, 78, 500]), Banned::new(1500..9999)];
    for table in simd::available() {
        for (case, len) in [1, 2, 3, 33, 1000, 1024, 1025, 3001, 9000].into_iter().enumerate() {
            for spread in [0.001, 1.0, 5.0, 40.0] {
                let mut logits = noise(len, spread, case as u64 + 5);
                if spread == 1.0 {
                    logits = logits.iter().map(|x| (x * 4.0).round() / 4.0).collect(); // many ties
                }
                for x in logits.iter_mut().skip(4).step_by(5) {
                    *x = f32::NEG_INFINITY;
                }
                for banned in bans.iter().filter(|b| b.allowed(len).flatten().any(|i| logits[i] > f32::NEG_INFINITY)) {
                    for (n, filter) in filters().iter().enumerate() {
                        for temperature in [0.05, 0.6, 1.0, 3.0] {
                            let kept = kept_by_definition(&logits, temperature, filter, banned);
                            let key = DrawKey { seed: n as u64 * 7 + 1, stream: 0x0100_0000_0063, position: case as u32 };
                            let drawn = draw(table, &logits, temperature, filter, key, banned);
                            let expected = best_by_definition(&logits, temperature, &kept, key);
                            assert_eq!(drawn.token as usize, expected, "{} {len} {spread} {filter:?} {temperature}", table.name);
                            let top = kept.iter().map(|&i| logits[i]).fold(f32::NEG_INFINITY, f32::max);
                            let relative = |i: usize| (f64::from(logits[i]) - f64::from(top)) / temperature;
                            let partition: f64 = kept.iter().map(|&i| relative(i).exp()).sum();
                            let logprob = relative(expected) - partition.ln();
                            assert!((drawn.sampling_logprob - logprob).abs() < 2e-6, "{} {logprob}", drawn.sampling_logprob);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn the_vocabulary_of_a_real_model_draws_by_the_definition() {
    let len = 151_936;
    let key = |position| DrawKey { seed: 42, stream: 0xdead_beef_0123_4567, position };
    for table in simd::available() {
        for (spread, filter) in [(0.0, filters()[0]), (0.3, filters()[7]), (1.0, filters()[3]), (4.0, filters()[0]), (1.5, filters()[14])] {
            let logits = noise(len, spread, 3);
            let kept = kept_by_definition(&logits, 0.8, &filter, &Banned::none());
            for position in 0..3 {
                let drawn = draw(table, &logits, 0.8, &filter, key(position), &Banned::none());
                assert_eq!(drawn.token as usize, best_by_definition(&logits, 0.8, &kept, key(position)), "{} {spread}", table.name);
            }
        }
    }
}

#[test]
fn low_temperatures_take_the_most_probable_lowest_id() {
    let logits = [1.0, 3.0, 3.0, f32::NEG_INFINITY];
    let key = DrawKey { seed: 1, stream: 2, position: 3 };
    for table in simd::available() {
        for temperature in [0.0, 1e-7, GREEDY_TEMPERATURE] {
            let drawn = draw(table, &logits, temperature, &filters()[0], key, &Banned::none());
            assert_eq!((drawn.token, drawn.sampling_logprob), (1, 0.0));
            assert_eq!(draw(table, &logits, temperature, &filters()[0], key, &Banned::new([1])).token, 2);
            let raw = -(2.0 + (-2f64).exp()).ln();
            assert!((drawn.logprob - raw).abs() < 1e-7);
        }
    }
}

#[test]
fn extreme_temperatures_and_logits_do_not_break_the_race() {
    let key = |position| DrawKey { seed: 5, stream: 6, position };
    for table in simd::available() {
        for logits in [vec![f32::MAX, f32::MIN, 0.0, f32::MIN], vec![-1e30, -1e30, f32::NEG_INFINITY], noise(3000, 1e-30, 8)] {
            for temperature in [1.1e-6, 1e-3, 1e10, 1e38, 1e45, 1e300] {
                for (n, filter) in filters().iter().enumerate() {
                    let drawn = draw(table, &logits, temperature, filter, key(n as u32), &Banned::none());
                    assert!(logits[drawn.token as usize] > f32::NEG_INFINITY);
                    assert!(drawn.sampling_logprob <= 0.0 && drawn.sampling_logprob.is_finite(), "{temperature} {filter:?}");
                }
            }
        }
        let mut hits = [0; 2];
        for position in 0..200 {
            hits[draw(table, &[0.0, -9.0], 1e45, &filters()[0], key(position), &Banned::none()).token as usize] += 1;
        }
        assert!(hits[0] > 60 && hits[1] > 60, "an immense temperature is uniform: {hits:?}");
    }
}

#[test]
fn padding_a_vocabulary_changes_no_draw() {
    for table in simd::available() {
        let logits = noise(2000, 2.0, 21);
        let mut padded = logits.clone();
        padded.extend([9.0; 53]);
        for position in 0..50 {
            let key = DrawKey { seed: 3, stream: 4, position };
            let filter = filters()[13];
            let (a, b) = (
                draw(table, &logits, 0.9, &filter, key, &Banned::none()),
                draw(table, &padded, 0.9, &filter, key, &Banned::new(2000..2053)),
            );
            assert_eq!((a.token, a.sampling_logprob), (b.token, b.sampling_logprob));
        }
    }
}

#[test]
fn options_outside_their_range_are_named() {
    let message = |r: Result<Filters>| r.expect_err("impossible").to_string();
    assert!(message(Filters::new(Some(0), None, None)).starts_with("top_k = 0"));
    assert!(message(Filters::new(None, Some(1.01), None)).starts_with("top_p = 1.01"));
    assert!(message(Filters::new(None, None, Some(f64::NAN))).starts_with("min_p = NaN"));
    let stats = LogitStats::of(simd::scalar(), &[0.0, 1.0]).expect("a distribution");
    let key = DrawKey { seed: 0, stream: 0, position: 0 };
    let mut sampler = Sampler::new();
    let mut drawn = |t, banned: &Banned| sampler.draw(simd::scalar(), &[0.0, 1.0], &stats, t, &Filters::default(), key, banned);
    for temperature in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(drawn(temperature, &Banned::none()).expect_err("impossible").to_string().starts_with("temperature"));
    }
    for temperature in [0.0, 1.0] {
        assert!(drawn(temperature, &Banned::new([0, 1])).expect_err("nothing left").to_string().starts_with("banned"));
    }
}

#[test]
fn banned_ids_leave_ascending_ranges() {
    let banned = Banned::new([7, 3, 4, 3, u32::MAX]);
    assert_eq!(banned.allowed(9).collect::<Vec<_>>(), [0..3, 5..7, 8..9]);
    assert_eq!(banned.allowed(4).collect::<Vec<_>>(), vec![0..3]);
    assert_eq!(Banned::none().allowed(5).collect::<Vec<_>>(), vec![0..5]);
    assert_eq!(Banned::new(0..5).allowed(5).count(), 0);
    assert!(banned.contains(4) && !banned.contains(5) && !banned.contains(2));
}

#[test]
fn filters_apply_in_the_documented_order() {
    assert_eq!(FILTERS.iter().map(|f| f.name).collect::<Vec<_>>(), ["top_k", "top_p", "min_p"]);
    assert!(FILTERS.iter().all(|f| f.summary.ends_with('.')));
}
