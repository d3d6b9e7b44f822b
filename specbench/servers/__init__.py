"""LLM servers of any engine: what they can be asked, one small class per interface, over HTTP."""
