//! Matrices read piece by piece, so that one in a mapped file never lies in memory as a whole.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::nvfp4::{Nvfp4Matrix, TensorScale};
use crate::quantize::{Dialect, Method, Options, Source, absmax, quantize, tensor_scale};
use crate::tensor::Matrix;

/// Elements read at a time: of a matrix in a mapped file, the pages of one piece are given back before the next is read.
const PIECE: usize = 8 << 20;

/// The rows of a matrix in pieces.
fn pieces(matrix: &Matrix) -> impl Iterator<Item = Range<usize>> + use<> {
    let (rows, step) = (matrix.rows(), (PIECE / matrix.cols().max(1)).max(1));
    (0..rows).step_by(step).map(move |begin| begin..rows.min(begin + step))
}

/// Rows of floats.
fn source<'a>(matrix: &'a Matrix, rows: &Range<usize>) -> Option<Source<'a>> {
    let range = rows.start * matrix.cols()..rows.end * matrix.cols();
    match matrix {
        Matrix::F32(m) => Some(Source::F32(&m.data[range])),
        Matrix::F16(m) => Some(Source::F16(&m.data[range])),
        Matrix::Bf16(m) => Some(Source::Bf16(&m.data[range])),
        Matrix::Nvfp4(_) => None,
    }
}

/// Largest magnitude of a dense matrix; 0 of one that is NVFP4 already.
pub fn matrix_absmax(matrix: &Matrix) -> Result<f32> {
    let mut largest = 0.0f32;
    for rows in pieces(matrix) {
        let Some(floats) = source(matrix, &rows) else { break };
        largest = largest.max(absmax(floats).map_err(|error| match error {
            Error::NonFinite { what, index, value } => Error::NonFinite { what, index: index + rows.start * matrix.cols(), value },
            other => other,
        })?);
        matrix.forget_rows(rows);
    }
    Ok(largest)
}

/// A dense matrix as NVFP4, with the tensor scale of a group of matrices whose largest magnitude is `amax`.
pub fn quantize_matrix(matrix: &Matrix, amax: f32, method: Method, dialect: Dialect) -> Result<Nvfp4Matrix> {
    let (rows, cols) = (matrix.rows(), matrix.cols());
    let (mut codes, mut block_scales) = (Vec::with_capacity(rows * cols / 2), Vec::with_capacity(rows * cols / 16));
    let mut shared = None;
    for rows in pieces(matrix) {
        let Some(floats) = source(matrix, &rows) else { break };
        let scale = *shared.get_or_insert_with(|| tensor_scale(amax, method, dialect, floats.dtype()));
        let options = Options { method, dialect, tensor_scale: Some(scale) };
        let piece = quantize(floats, rows.len(), cols, &options)?;
        codes.extend_from_slice(piece.codes());
        block_scales.extend_from_slice(piece.block_scales());
        matrix.forget_rows(rows);
    }
    Nvfp4Matrix::new(codes, block_scales, shared.unwrap_or(TensorScale::Multiplier(1.0)), rows, cols)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use half::bf16;

    use super::*;
    use crate::tensor::{Dense, Lender, Storage};

    #[derive(Default)]
    struct Lent {
        elements: Vec<bf16>,
        forgotten: Mutex<Vec<Range<usize>>>,
    }

    impl Lender<bf16> for Lent {
        fn elements(&self) -> &[bf16] {
            &self.elements
        }

        fn forget(&self, range: Range<usize>) {
            self.forgotten.lock().unwrap().push(range);
        }
    }

    #[test]
    fn pieces_give_what_the_whole_gives_and_are_given_back() {
        let (rows, cols) = (PIECE / 4096 * 2 + 3, 4096);
        let mut elements: Vec<bf16> = (0..rows * cols).map(|i| bf16::from_f32(((i * 7919) % 1009) as f32 / 100.0 - 5.0)).collect();
        let lent = |elements: &[bf16]| {
            let lender = Arc::new(Lent { elements: elements.to_vec(), ..Lent::default() });
            (Arc::clone(&lender), Matrix::Bf16(Dense { data: Storage::Shared(lender), rows, cols }))
        };
        let (lender, matrix) = lent(&elements);
        let amax = matrix_absmax(&matrix).unwrap();
        assert_eq!(amax, absmax(Source::Bf16(&elements)).unwrap());
        let third = PIECE / 4096;
        let pieces = [0..third, third..2 * third, 2 * third..rows].map(|r| r.start * cols..r.end * cols);
        assert_eq!(std::mem::take(&mut *lender.forgotten.lock().unwrap()), pieces);
        let whole = quantize(Source::Bf16(&elements), rows, cols, &Options::default()).unwrap();
        assert_eq!(quantize_matrix(&matrix, amax, Method::Nearest, Dialect::ModelOpt).unwrap(), whole);
        assert_eq!(*lender.forgotten.lock().unwrap(), pieces);

        let wrong = third * cols + 5;
        elements[wrong] = bf16::NAN;
        let error = matrix_absmax(&lent(&elements).1).unwrap_err();
        assert!(matches!(error, Error::NonFinite { index, .. } if index == wrong), "{error}");
    }
}
