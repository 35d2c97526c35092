"""Whether a key is accepted: from memory, else by one look-up in the store."""
