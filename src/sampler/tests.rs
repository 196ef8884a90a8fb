use super::*;
use crate::logits::LogitStats;
use crate::parallel::Pool;
use crate::simd;
use crate::simd::Table;
use crate::simd::logits::CHUNK;

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
    super::draw(&Pool::new(Some(1)), table, logits, &stats, temperature, filters, key, banned).expect("valid")
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

/// Logits of which most chunks matter, few do, or a run of them in the middle does; the last ones peak where two parts meet.
fn shapes(len: usize) -> Vec<Vec<f32>> {
    let flat = noise(len, 0.4, 17);
    let ties: Vec<f32> = noise(len, 2.0, 18).iter().map(|x| (x * 4.0).round() / 4.0).collect();
    let peaked: Vec<f32> = (0..len).map(|i| flat[i] * 5.0 + if i % 9001 == 5 { 20.0 - (i / 9001) as f32 } else { 0.0 }).collect();
    let hill: Vec<f32> = (0..len).map(|i| if (len / 3..len / 2).contains(&i) { 3.0 + flat[i] } else { flat[i] - 30.0 }).collect();
    let mut shapes = vec![flat, ties, peaked, hill];
    for logits in &mut shapes {
        logits.iter_mut().skip(4).step_by(5).for_each(|x| *x = f32::NEG_INFINITY);
        logits[len / 4..len / 4 + 3000].fill(f32::NEG_INFINITY);
    }
    let mut alone = vec![f32::NEG_INFINITY; len];
    (alone[len - 1], alone[8191], alone[8192]) = (1.0, 1.0, 1.0);
    shapes.push(alone);
    shapes
}

#[test]
fn threads_change_neither_token_nor_probability() {
    let pools = [1, 2, 3, 5].map(|threads| Pool::new(Some(threads)));
    // The largest vocabulary that is not shared out, the smallest that is, and one of three parts and a bit.
    for (case, len) in [SHARED - CHUNK, SHARED - CHUNK + 1, 31_000].into_iter().enumerate() {
        for (shape, logits) in shapes(len).iter().enumerate() {
            let best = LogitStats::of(simd::best(), logits).expect("a distribution").argmax;
            let bans = [Banned::none(), Banned::new((0..300).chain([best, 8190]).chain(9000..14_000))];
            for (n, filter) in filters().iter().enumerate() {
                let (temperature, banned) = ([0.6, 1.0, 3.0][(n + shape) % 3], &bans[(n + case) % 2]);
                let key = DrawKey { seed: n as u64, stream: shape as u64, position: case as u32 };
                let kept = kept_by_definition(logits, temperature, filter, banned);
                let expected = best_by_definition(logits, temperature, &kept, key);
                for table in simd::available() {
                    let stats = LogitStats::of(table, logits).expect("a distribution");
                    let draw = |pool| super::draw(pool, table, logits, &stats, temperature, filter, key, banned).expect("an id is left");
                    let drawn = pools.each_ref().map(draw);
                    let what = format!("{} {len}, shape {shape}, {filter:?} at {temperature}", table.name);
                    assert_eq!(drawn[0].token as usize, expected, "{what}");
                    assert!(drawn.iter().all(|d| *d == drawn[0]), "{what}: {drawn:?}");
                }
            }
        }
    }
}

#[test]
fn a_tail_in_chunks_without_a_listed_id_counts_in_top_p() {
    let (len, filter) = (15 * CHUNK, Filters::new(None, Some(0.5), None).expect("valid"));
    let below = -((len as f64 / 0.5).ln() + 0.01) as f32; // just too improbable to be listed
    // Masses 1 and 0.9, and 14 chunks of a tail that holds 0.46 and decides for both, or next to nothing and decides for one.
    for (step, expected) in [(1, vec![3, 9]), (CHUNK, vec![3])] {
        let mut logits = vec![f32::NEG_INFINITY; len];
        (logits[3], logits[9]) = (0.0, 0.9f32.ln());
        logits[CHUNK..].iter_mut().step_by(step).for_each(|x| *x = below);
        assert_eq!(kept_by_definition(&logits, 1.0, &filter, &Banned::none()), expected);
        for table in simd::available() {
            let key = |position| DrawKey { seed: 1, stream: 2, position };
            let drawn = |position| draw(table, &logits, 1.0, &filter, key(position), &Banned::none()).token as usize;
            let mut tokens: Vec<usize> = (0..40).map(drawn).collect();
            tokens.sort_unstable();
            tokens.dedup();
            assert_eq!(tokens, expected, "{}", table.name);
        }
    }
}

#[test]
fn parts_cover_what_is_in_reach_and_nothing_twice() {
    let (pool, len) = (Pool::new(Some(3)), 21 * CHUNK + 5);
    let mut logits = vec![0.0; len];
    for chunk in [0, 3, 4, 5, 6, 9, 12, 13, 14, 15, 21] {
        logits[chunk * CHUNK + 2] = 2.0;
    }
    let banned = Banned::new((3 * CHUNK - 1) as u32..(3 * CHUNK + 7) as u32);
    let stats = LogitStats::of(simd::best(), &logits).expect("a distribution");
    let (table, chunk_maxima) = (simd::best(), &stats.chunk_maxima);
    let kept = Kept { pool: &pool, table, logits: &logits, chunk_maxima, banned: &banned, temperature: 1.0, max: 2.0, from: f32::MIN };
    for (from, parts) in [(0.0, 6), (1.0, 3), (3.0, 0)] {
        let found = kept.on_parts(from, Vec::new(), |pieces_found, pieces| pieces_found.extend(pieces));
        assert_eq!(found.len(), parts);
        let pieces = found.concat();
        assert!(pieces.iter().all(|ids| ids.start / CHUNK == (ids.end - 1) / CHUNK));
        let ids: Vec<usize> = pieces.into_iter().flatten().collect();
        let expected: Vec<usize> = banned.allowed(len).flatten().filter(|id| chunk_maxima[id / CHUNK] >= from).collect();
        assert_eq!(ids, expected);
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
    let pool = Pool::new(Some(1));
    let drawn = |t, banned: &Banned| super::draw(&pool, simd::scalar(), &[0.0, 1.0], &stats, t, &Filters::default(), key, banned);
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
    for from in 0..9 {
        for to in from..10 {
            let expected: Vec<usize> = (from..to).filter(|&id| !banned.contains(id as u32)).collect();
            assert_eq!(banned.allowed_among(from..to).flatten().collect::<Vec<_>>(), expected);
        }
    }
    assert!(banned.contains(4) && !banned.contains(5) && !banned.contains(2));
}

#[test]
fn filters_apply_in_the_documented_order() {
    assert_eq!(FILTERS.iter().map(|f| f.name).collect::<Vec<_>>(), ["top_k", "top_p", "min_p"]);
    assert!(FILTERS.iter().all(|f| f.summary.ends_with('.')));
}
