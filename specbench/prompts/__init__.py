"""Prompt files: made from what people have, and described."""
