"""Pure decisions about health: verdicts, probe state, ejection, schedule."""
