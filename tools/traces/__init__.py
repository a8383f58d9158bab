"""Traces as a person looks at them: what a span is, what is usual, its log lines, and why it was slow."""
