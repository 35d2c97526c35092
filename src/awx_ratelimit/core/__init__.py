"""The pure centre: what may be used, what is asked, what is answered. No clock, lock, network or file."""
