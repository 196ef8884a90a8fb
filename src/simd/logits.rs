//! Passes over the logits of one position.

/// The functions of this family.
#[derive(Clone, Copy, Debug)]
pub struct Ops {}
