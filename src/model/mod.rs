//! What a model is: its sizes, its weights, how each architecture names them.
