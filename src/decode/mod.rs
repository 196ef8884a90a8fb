//! From token ids to logits: prefill, decode, the key-value cache.
