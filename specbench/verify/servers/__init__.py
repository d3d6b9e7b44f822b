"""Interfaces of servers: one small class each behind one protocol."""
