"""What HTTP makes of a decision, without a framework: statuses, headers, bodies, callers, rules, the gate."""
