"""Stored runs as evidence: bundles of raw rounds with claims, rechecked from them and reproduced."""
