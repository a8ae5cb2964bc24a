"""Knows everything of one instance: pool state, operator commands, state on disk, start and stop."""
