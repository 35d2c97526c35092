"""The laws of an adapter, by subject. `AdapterContract` inherits them all."""
