//! One row-major matrix, its columns shared out to several threads.

use std::marker::PhantomData;
use std::ops::Range;
use std::slice;

use crate::parallel::Pool;

/// A row-major matrix of results whose columns several threads fill at once.
#[derive(Debug)]
pub struct Columns<'a> {
    data: *mut f32, // [rows, cols]
    rows: usize,
    cols: usize,
    lifetime: PhantomData<&'a mut [f32]>,
}

// SAFETY: the pointer stands for a `&mut [f32]`; `Pool::fill` is the only user and gives each column to one thread.
unsafe impl Sync for Columns<'_> {}
// SAFETY: as above.
unsafe impl Send for Columns<'_> {}

impl<'a> Columns<'a> {
    /// `data` as `[rows, data.len() / rows]`.
    pub fn new(data: &'a mut [f32], rows: usize) -> Self {
        let cols = data.len().checked_div(rows).unwrap_or(0);
        assert_eq!(rows * cols, data.len(), "rows of equal length");
        Self { data: data.as_mut_ptr(), rows, cols, lifetime: PhantomData }
    }

    /// Columns.
    pub fn cols(&self) -> usize {
        self.cols
    }
}

/// Some neighbouring columns of a matrix, all rows: one thread's share.
#[derive(Debug)]
pub struct ColumnsMut<'a> {
    data: *mut f32, // of the whole matrix
    rows: usize,
    stride: usize,
    range: Range<usize>,
    lifetime: PhantomData<&'a mut [f32]>,
}

impl ColumnsMut<'_> {
    /// The columns held.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Row `row` of the columns held, `[range.len()]`.
    pub fn row_mut(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        // SAFETY: the row and the range lie inside the matrix; no other thread holds these columns, and `&mut self` keeps
        // this thread from holding two rows' slices at once.
        unsafe { slice::from_raw_parts_mut(self.data.add(row * self.stride + self.range.start), self.range.len()) }
    }
}

impl Pool {
    /// Shares out the columns of `matrices`, in units of `unit` neighbouring columns, and calls `fill(matrix, columns)` for
    /// each thread's share of each matrix. All matrices are filled in one section; every thread gets the same number of
    /// units (± 1), so equal units make equal work.
    pub fn fill(&self, matrices: &mut [Columns<'_>], unit: usize, fill: impl Fn(usize, ColumnsMut<'_>) + Sync) {
        let matrices = &*matrices; // borrowed mutably by the caller: nobody else fills them
        let total: usize = matrices.iter().map(|m| m.cols.div_ceil(unit)).sum();
        self.run(|index, count| {
            let (mut from, mut to) = (total * index / count, total * (index + 1) / count);
            for (number, m) in matrices.iter().enumerate() {
                let units = m.cols.div_ceil(unit);
                let range = (from.min(units) * unit).min(m.cols)..(to.min(units) * unit).min(m.cols);
                (from, to) = (from.saturating_sub(units), to.saturating_sub(units));
                if !range.is_empty() {
                    fill(number, ColumnsMut { data: m.data, rows: m.rows, stride: m.cols, range, lifetime: PhantomData });
                }
            }
        });
    }

    /// Shares out `items` in one run of neighbours per thread and calls `fill(number of the first, items)` for each.
    pub fn fill_items<T: Send>(&self, items: &mut [T], fill: impl Fn(usize, &mut [T]) + Sync) {
        let (total, base) = (items.len(), Shared(items.as_mut_ptr()));
        self.run(|index, count| {
            let (from, to) = (total * index / count, total * (index + 1) / count);
            // SAFETY: the ranges of the parts lie inside `items`, which is borrowed mutably, and do not overlap.
            fill(from, unsafe { slice::from_raw_parts_mut(base.get().add(from), to - from) });
        });
    }
}

/// A pointer that parts of one section share.
struct Shared<T>(*mut T);

// SAFETY: each part uses it for elements of its own, and the elements may be sent.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    fn get(&self) -> *mut T {
        self.0
    }
}
