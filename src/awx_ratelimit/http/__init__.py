"""The HTTP side of a decision, without a framework: callers, rules, headers, error bodies, and the gate."""
