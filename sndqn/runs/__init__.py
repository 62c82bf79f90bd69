"""A run: one training, one folder, and the files in it."""
