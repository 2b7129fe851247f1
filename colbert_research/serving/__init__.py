"""Serving: an index that answers many callers, from one process or from shards on workers, and its HTTP door."""
