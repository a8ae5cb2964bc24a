"""Bytes to messages and back, and the raw sockets they travel on."""
