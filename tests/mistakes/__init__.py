"""A newcomer's mistakes are refused early, and the error says in one sentence what to write instead."""
