"""Many edges on one server, measured."""
