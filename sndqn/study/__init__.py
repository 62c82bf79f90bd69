"""Studies: many runs from one line, made wherever there are cores, and what they show together."""
