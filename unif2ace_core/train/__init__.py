"""Training: one loop, one checkpoint format, one recipe per stage."""
