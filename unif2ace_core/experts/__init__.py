"""Frozen encoders F(X) of the photo, and what brings a photo into the training frame."""
