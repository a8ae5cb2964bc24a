"""Pure decisions: no await, no clock, no log, no socket; randomness only as a random.Random passed in."""
