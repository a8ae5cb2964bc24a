"""The cases of the socket suite; each runs on the kernel and on the memory network."""
