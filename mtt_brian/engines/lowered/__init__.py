"""A circuit as flat numpy arrays, which the exact engines read."""
