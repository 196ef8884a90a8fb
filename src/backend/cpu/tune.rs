//! Chooses how far ahead weights are fetched, by two or three milliseconds of measurement on the first large matrix of the
//! process: it must not fit into a cache, or there is nothing to fetch.

use std::sync::Once;
use std::time::{Duration, Instant};

use crate::parallel::Pool;
use crate::simd::Table;
use crate::simd::linear::{ActivationTile, Line, NVFP4_LINES, PANEL};
use crate::simd::prefetch::{DISTANCES, distance, set_distance};

/// Bytes from which a matrix is measured on.
const LARGE: usize = 64 << 20;
/// Samples per distance, each on weights of its own; the fastest counts, since anything else on the machine only slows one.
const ROUNDS: usize = 5;
/// Another distance must be this much faster than the one in use: less is noise.
const WORTHWHILE: f64 = 0.95;

/// Measures once in a process, on NVFP4 panels of `tiles` tiles each.
pub fn prefetch_distance(pool: &Pool, table: &Table, panels: &[Line], tiles: usize) {
    static ONCE: Once = Once::new();
    if size_of_val(panels) >= LARGE {
        ONCE.call_once(|| set_distance(fastest(pool, table, panels, tiles)));
    }
}

fn fastest(pool: &Pool, table: &Table, panels: &[Line], tiles: usize) -> usize {
    let usual = distance();
    let x = vec![ActivationTile::ZERO; tiles];
    let panel_lines = NVFP4_LINES * tiles;
    let sample_lines = panels.len() / panel_lines / (ROUNDS * DISTANCES.len()) * panel_lines;
    let mut best = [Duration::MAX; DISTANCES.len()];
    for (number, sample) in panels.chunks_exact(sample_lines.max(panel_lines)).take(ROUNDS * DISTANCES.len()).enumerate() {
        let candidate = number % DISTANCES.len();
        set_distance(DISTANCES[candidate]);
        let started = Instant::now();
        pool.run(|index, count| {
            let panels = sample.len() / panel_lines;
            let mut sums = [[0.0; PANEL]];
            for panel in panels * index / count..panels * (index + 1) / count {
                (table.linear.nvfp4_nvfp4)(&sample[panel * panel_lines..][..panel_lines], &x, &mut sums);
            }
            std::hint::black_box(sums);
        });
        best[candidate] = best[candidate].min(started.elapsed());
    }
    choose(&best, usual)
}

/// The fastest distance, or the usual one where that is as good.
fn choose(best: &[Duration; DISTANCES.len()], usual: usize) -> usize {
    let fastest = (0..DISTANCES.len()).min_by_key(|&i| best[i]).unwrap_or(0);
    match DISTANCES.iter().position(|&d| d == usual) {
        Some(i) if best[fastest].as_secs_f64() >= WORTHWHILE * best[i].as_secs_f64() => usual,
        _ => DISTANCES[fastest],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd;

    fn times(milliseconds: [u64; DISTANCES.len()]) -> [Duration; DISTANCES.len()] {
        milliseconds.map(Duration::from_millis)
    }

    #[test]
    fn only_a_clear_gain_changes_the_distance() {
        let usual = DISTANCES[1];
        assert_eq!(choose(&times([100, 100, 96, 100, 100]), usual), usual);
        assert_eq!(choose(&times([100, 100, 90, 80, 100]), usual), DISTANCES[3]);
        assert_eq!(choose(&times([80, 79, 90, 80, 100]), usual), usual);
        assert_eq!(choose(&times([100, 90, 50, 80, 100]), 7), DISTANCES[2], "a distance that is not one of them is not measured");
    }

    #[test]
    fn every_table_finds_one_of_the_distances() {
        let tiles = 2;
        let panels = vec![Line([0x11; 64]); NVFP4_LINES * tiles * 100];
        let pool = Pool::new(Some(2));
        for table in simd::available() {
            assert!(DISTANCES.contains(&fastest(&pool, table, &panels, tiles)), "{}", table.name);
        }
    }
}
