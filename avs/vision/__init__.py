"""Frozen image encoders at several resolutions, what they cost, and the cache of their features."""
