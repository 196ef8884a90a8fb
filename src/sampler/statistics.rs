//! Entropy and what else the draw needs to know of logits, on all threads.

use crate::logits::{InvalidLogits, LogitStats, chunks, partial};
use crate::parallel::Pool;
use crate::simd::Table;
use crate::simd::logits::Partial;

/// [`LogitStats::of`] each of `rows`, logits of one vocabulary. The chunks of all rows are shared out in one parallel section; `partials` is
/// room that is used again.
pub fn statistics(pool: &Pool, table: &Table, rows: &[&[f32]], partials: &mut Vec<Partial>) -> Vec<Result<LogitStats, InvalidLogits>> {
    let per_row = chunks(rows.first().map_or(0, |row| row.len()));
    debug_assert!(rows.iter().all(|row| chunks(row.len()) == per_row), "one vocabulary");
    partials.resize(rows.len() * per_row, Partial::default());
    pool.fill_items(partials, |first, items| {
        for (item, index) in items.iter_mut().zip(first..) {
            *item = partial(table, rows[index / per_row], index % per_row);
        }
    });
    rows.iter().zip(partials.chunks(per_row.max(1))).map(|(row, partials)| LogitStats::of_partials(table, row, partials)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd;

    #[test]
    fn every_row_has_the_statistics_that_it_has_alone() {
        let rows: Vec<Vec<f32>> = (0..5).map(|row| (0..5000).map(|i| ((i * 31 + row * 7) % 97) as f32 / 9.0).collect()).collect();
        let mut rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let bad = vec![f32::NAN; 5000];
        rows.push(&bad);
        let mut partials = Vec::new();
        for threads in [1, 3] {
            for count in [6, 1, 3] {
                let found = statistics(&Pool::new(Some(threads)), simd::best(), &rows[..count], &mut partials);
                let alone: Vec<_> = rows[..count].iter().map(|row| LogitStats::of(simd::best(), row)).collect();
                assert_eq!(format!("{found:?}"), format!("{alone:?}"), "{threads} threads, {count} rows");
            }
        }
        assert!(statistics(&Pool::new(Some(2)), simd::best(), &[], &mut partials).is_empty());
    }
}
