"""The registry of executors; a notebook cell may add to it."""

from colbert_research.config import Config
from colbert_research.executors.inline import InlineConfig
from colbert_research.executors.on_ray import RayConfig
from colbert_research.executors.processes import ProcessesConfig

EXECUTORS: dict[str, type[Config]] = {"inline": InlineConfig, "processes": ProcessesConfig, "ray": RayConfig}
