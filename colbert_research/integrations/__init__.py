"""Adapters to other libraries, one file each; each is imported by whoever has that library."""
