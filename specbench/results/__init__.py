"""What is measured and kept: records, the store, and where figures come from."""
