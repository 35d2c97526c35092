"""The laws of a backend, by subject. `BackendContract` inherits them all."""
