"""A laboratory for late interaction."""
