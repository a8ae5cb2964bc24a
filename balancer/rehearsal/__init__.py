"""The in-memory network and the virtual-time runner."""
