"""Composition root of the data path: one process that moves bytes."""
