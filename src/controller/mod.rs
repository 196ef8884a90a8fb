//! Temperature policies: an entropy and a boundary flag in, a temperature out.
