"""What stands around a backend: each module says which laws it relaxes, and when."""
