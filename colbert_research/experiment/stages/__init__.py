"""The kinds of stages, one module each: `plan` makes the value, `compute` fills a folder, `check` recomputes a sample."""
