"""Audio-visual studies that anyone can rerun: equal-budget visual sampling (AVS) and speech recognition (AVSR)."""
