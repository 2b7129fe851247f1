"""Serving: an index that answers many callers, from one process or from shards on the workers of a cluster, and its HTTP door."""
