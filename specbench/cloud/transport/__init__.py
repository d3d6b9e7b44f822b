"""The same target, elsewhere: frames, channels that carry them, and both ends."""
