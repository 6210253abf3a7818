"""Token ids in, token ids out: one thread owns the device, one batch holds rows of every adapter kind."""
