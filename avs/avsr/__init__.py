"""Audio-visual speech recognition: one speaker out of a mixture, and what they say."""
