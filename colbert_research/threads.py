"""How many threads the kernels may use."""

import os


def count() -> int:
    return int(os.environ.get("COLBERT_RESEARCH_THREADS") or len(os.sched_getaffinity(0)))
