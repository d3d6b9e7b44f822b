"""Runs over a grid of settings, and their rows."""
