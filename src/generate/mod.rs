//! The generation loop: decoder, then controller, then sampler.
//!
//! A [`Session`] runs many sequences at once. Requests join a queue, take a place in the batch when one is free, and leave when they are
//! finished; each [`Session::advance`] gives one [`Step`] for every active sequence:
//!
//! ```text
//! logits ─ LogitStats ─ H_t ─ Controller ─ T_t ─ Sampler ─ token ─┐
//!    ▲                                                            │ observed by the controller, fed to the decoder
//!    └───────────────────────────── Decoder ◄─────────────────────┘
//! ```
//!
//! A sequence's tokens depend on its own request alone: the draw is keyed by (seed, stream, position), the decoder's arithmetic does not
//! depend on the batch, and each sequence has a controller of its own.

#[cfg(feature = "cuda")]
mod device;
mod host;
mod request;
mod score;
mod step;
pub mod timing;

#[cfg(feature = "cuda")]
pub use device::DeviceSession;
pub use host::HostSession;
pub use request::Request;
pub use score::score;
pub use step::{Finish, Step};

use crate::error::Result;

/// Sequences in generation, one step at a time. The seam between the loop and what runs it: the host (this crate's [`HostSession`]), or a
/// device that keeps logits, policy state and draw to itself.
pub trait Session {
    /// Queues `request` and returns its number, counted from 0. Requests are admitted in the order of their numbers.
    fn add(&mut self, request: Request) -> Result<usize>;

    /// Fills the batch from the queue, then draws one token for every active sequence. Empty when nothing is left.
    ///
    /// `go_on` is asked between chunks of long prompts. If it says no, the prompt at hand goes back to the queue and the result is empty:
    /// the session is as if it had not been called, and may be called again.
    fn advance(&mut self, go_on: &mut dyn FnMut() -> bool) -> Result<Vec<Step>>;

    /// Says whether a reasoning step begins before the next token of `request`, for callers that decide boundaries on text.
    fn set_boundary(&mut self, request: usize, boundary: bool);

    /// Ends `request` (a stop string was met). Unknown or finished numbers are ignored.
    fn finish(&mut self, request: usize);

    /// Requests that are active or queued.
    fn remaining(&self) -> usize;
}
