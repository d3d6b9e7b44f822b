"""Edge and cloud apart: frames, channels, and what lies between them."""
