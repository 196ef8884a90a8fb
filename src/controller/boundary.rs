//! Where a reasoning step begins, decided on token ids.
//!
//! A blank line ends a step. It comes as one token whose text holds two newlines in a row (`"\n\n"`, `".\n\n"`), or as two
//! single-newline tokens in a row. Three of those in a row are two boundaries. Only generated tokens count.

/// The token ids that make blank lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boundaries {
    newline_ids: Vec<u32>,
    double_newline_ids: Vec<u32>,
}

impl Boundaries {
    /// `newline_ids` decode to exactly `"\n"`; the text of `double_newline_ids` contains `"\n\n"`. Any order.
    pub fn new(newline_ids: impl IntoIterator<Item = u32>, double_newline_ids: impl IntoIterator<Item = u32>) -> Self {
        fn sorted(ids: impl IntoIterator<Item = u32>) -> Vec<u32> {
            let mut ids: Vec<u32> = ids.into_iter().collect();
            ids.sort_unstable();
            ids.dedup();
            ids
        }
        Self { newline_ids: sorted(newline_ids), double_newline_ids: sorted(double_newline_ids) }
    }

    /// No token ends a step: for token ids without a tokenizer, and for boundaries decided on text.
    pub fn none() -> Self {
        Self::default()
    }

    /// Whether the token after `token` begins a step. `after_newline` says whether the token before `token` was a single
    /// newline, and leaves with the same fact about `token`.
    pub fn begins_step(&self, token: u32, after_newline: &mut bool) -> bool {
        let newline = self.newline_ids.binary_search(&token).is_ok();
        let pair = newline && std::mem::replace(after_newline, newline);
        *after_newline = newline;
        pair || self.double_newline_ids.binary_search(&token).is_ok()
    }

    /// Ids of single newlines, ascending.
    pub fn newline_ids(&self) -> &[u32] {
        &self.newline_ids
    }

    /// Ids of blank lines, ascending.
    pub fn double_newline_ids(&self) -> &[u32] {
        &self.double_newline_ids
    }
}
