"""Forward passes and KV caches: eager, compiled, quantised, split over ranks, shared by several sequences."""
