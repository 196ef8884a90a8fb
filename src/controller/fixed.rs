//! The same temperature for every token.

use super::Entry;
use super::Policy;
use super::Signal;
use super::Verdict;
use super::non_negative;
use crate::error::Result;

/// [`Fixed`]'s line in [`super::POLICIES`].
pub const FIXED: Entry = Entry { name: "fixed", summary: "One temperature for every token; the paper's baseline is 0.6." };

/// [`Greedy`]'s line in [`super::POLICIES`].
pub const GREEDY: Entry = Entry { name: "greedy", summary: "The most probable token, always." };

/// One temperature.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fixed {
    /// The temperature.
    pub temperature: f64,
}

impl Fixed {
    /// A checked temperature.
    pub fn new(temperature: f64) -> Result<Self> {
        Ok(Self { temperature: non_negative("temperature", temperature)? })
    }
}

impl Policy for Fixed {
    fn decide(&mut self, _signal: &Signal) -> Result<Verdict> {
        Ok(Verdict::plain(self.temperature))
    }

    fn duplicate(&self) -> Result<Box<dyn Policy>> {
        Ok(Box::new(*self))
    }
}

/// Temperature 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Greedy;

impl Policy for Greedy {
    fn decide(&mut self, _signal: &Signal) -> Result<Verdict> {
        Ok(Verdict::plain(0.0))
    }

    fn duplicate(&self) -> Result<Box<dyn Policy>> {
        Ok(Box::new(*self))
    }
}
