//! The generation loop: decoder, then controller, then sampler.
