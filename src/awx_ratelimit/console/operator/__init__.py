"""The console for the operator of the service: all accounts, their usage, their limits, and the audit trail."""
