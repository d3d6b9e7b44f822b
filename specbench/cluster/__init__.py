"""Runs and sweeps as jobs of this machine or of Slurm; results are ordinary runs."""
