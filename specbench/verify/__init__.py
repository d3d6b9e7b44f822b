"""Servers of any engine, judged over their public interfaces: identity, distribution, speed, acceptance."""
