//! The host's patience: tokens that come late, and a device that does not come to an end.

use std::time::{Duration, Instant};

use crate::backend::cuda::engine::Cuda;
use crate::backend::cuda::engine::step::Step;
use crate::backend::cuda::records::Outcome;
use crate::error::{Error, Result};

/// A record that takes longer than this to come is lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long work that is to be given up may take to come to an end.
const FAREWELL: Duration = Duration::from_secs(3);
/// How long the ring alone is looked at, before the device is asked as well whether it still runs.
const UNASKED: Duration = Duration::from_millis(20);

impl Step {
    /// The next token of `row`, number `token` of `whom`, waited for. An error if the device gave up, or does not come to an end.
    pub fn wait(&mut self, cuda: &Cuda, row: usize, token: u64, whom: &dyn Fn() -> String) -> Result<Outcome> {
        let begun = Instant::now();
        loop {
            for _ in 0..1000 {
                if let Some(outcome) = self.take(row)? {
                    return Ok(outcome);
                }
                std::hint::spin_loop();
            }
            let waited = begun.elapsed();
            if waited < UNASKED {
                continue;
            }
            let ended = self.launched.is_done()?;
            // What the device wrote before it was done is there afterwards.
            if let Some(outcome) = self.take(row)? {
                return Ok(outcome);
            }
            let how = match (ended, waited > PATIENCE) {
                (true, _) => "although every step has run",
                (false, true) => "within ten seconds: a kernel hangs",
                _ => continue,
            };
            let problem = format!("token {token} of {} did not come back {how}", whom());
            return Err(Error::Device { device: cuda.label().to_owned(), problem });
        }
    }

    /// Waits a while for what was launched. False if it does not come to an end: then nothing of this step, and nothing that it uses, may be
    /// dropped, because the driver would wait for the device for ever.
    pub fn comes_to_rest(&self) -> bool {
        let begun = Instant::now();
        // A device that gave up waits for nothing.
        while !self.launched.is_done().unwrap_or(true) {
            if begun.elapsed() > FAREWELL {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }
}
