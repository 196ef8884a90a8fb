//! NVIDIA devices. The driver and the run-time compiler are found while the program runs: a build with this gate works on
//! machines that have neither, and says so.

pub mod probe;
