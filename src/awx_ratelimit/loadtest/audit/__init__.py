"""The audit: pure functions from timed observations to verdicts."""
