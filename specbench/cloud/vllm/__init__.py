"""A target that a vLLM server runs, over its HTTP interface."""
