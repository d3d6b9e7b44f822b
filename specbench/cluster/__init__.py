"""Runs and sweeps as jobs; what they measure lands in the store where all runs are."""
