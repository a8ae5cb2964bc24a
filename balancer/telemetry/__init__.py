"""Access lines, events and metrics."""
