"""Training and judging the per-second event localisation of the AVS study."""
