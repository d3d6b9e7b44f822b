"""From a model spec to a loaded model and its tokenizer."""
