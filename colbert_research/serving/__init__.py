"""Serving: an index that answers many callers, from one process or from shards on a cluster, and its HTTP door."""
