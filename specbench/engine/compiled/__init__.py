"""Whole passes compiled ahead of time or captured as CUDA graphs, over caches of fixed size."""
