"""Public names of regionpairs."""
