//! Statistics of one position's logits: maximum, log-sum-exp, entropy in nats.
