"""What a person sees: one console, tables, the live view."""
