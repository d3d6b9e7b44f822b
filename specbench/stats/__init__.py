"""From stored runs to a comparison."""
