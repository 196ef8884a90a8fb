//! Checkpoints on disk: safetensors shards, configuration, dialects.
