"""Precision profiles, one YAML file each."""
