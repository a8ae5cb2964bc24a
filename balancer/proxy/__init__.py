"""The exchange: from an accepted connection to an answered request."""
