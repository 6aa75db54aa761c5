"""What the sound says, second by second."""
