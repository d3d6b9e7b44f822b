"""The timed core: caches, sampling, verification, and the two models as a method sees them."""
