"""A training: its settings, where they come from and what they mean; a run of it, and resuming."""
