"""What the limits did: listeners, a log of refusals, and counts of limits in shadow."""
