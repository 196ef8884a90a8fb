//! Rows of a weight matrix times activations.

/// The functions of this family.
#[derive(Clone, Copy, Debug)]
pub struct Ops {}
