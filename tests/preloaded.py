"""What a process has done of which `warm.Program`s are forks: all that a sweep's server does before it forks, and no more, so
that no fork waits for a thread."""

from importlib import import_module

from colbert_research.sweep.server import warm_up

warm_up()
for _name in ("papermill.cli", "colbert_research.cli", "colbert_research.sweep", "tests.experiment.small", "tests.warm"):
    import_module(_name)
