"""What backends on a server have in common: batches, leases, settlements, and their maintenance."""
