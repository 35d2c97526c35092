"""What the limits did: listeners, a log of refusals, and counts of shadow limits."""
