"""TOML into typed, frozen settings, with errors that name file and line."""
