"""What a process has imported of which `warm.Program`s are forks; it computes nothing, so that no fork waits for a thread."""

from importlib import import_module

from colbert_research.sweep.server import import_everything

import_everything()
for _name in ("papermill.cli", "colbert_research.cli", "colbert_research.sweep", "tests.experiment.small", "tests.warm"):
    import_module(_name)
