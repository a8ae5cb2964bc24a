"""The command line: one module a verb group, talking to an instance over its admin socket."""
