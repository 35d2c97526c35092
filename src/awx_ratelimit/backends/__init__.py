"""Where the state lives. Each backend decides a claim in one atomic step."""
