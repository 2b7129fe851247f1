"""Whether a notebook can be a sweep's: papermill would execute one without these parameters as well, and ignore them."""

import logging
from pathlib import Path

from colbert_research.experiment.notebook import PARAMETERS
from colbert_research.settings import ConfigError


def check_notebook(path: str | Path) -> None:
    """Raise ConfigError for a file that is no notebook, or has no cell tagged `parameters` that assigns all of them."""
    import papermill

    logging.getLogger("papermill").setLevel(logging.WARNING)
    try:
        found = papermill.inspect_notebook(str(path))
    except Exception as error:
        raise ConfigError(f"{path} is no notebook: {error!s:.200}") from error
    if missing := [name for name in PARAMETERS if name not in found]:
        raise ConfigError(
            f"{path} has no {', '.join(missing)} in a cell tagged `parameters`, where a sweep sets {', '.join(PARAMETERS)}"
        )
