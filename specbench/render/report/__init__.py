"""A report in every format: a page, Markdown, CSV and JSON; its charts also as files."""
