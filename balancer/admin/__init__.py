"""The HTTP API that operators and the command line talk to."""
