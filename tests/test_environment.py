"""pyproject.toml, constraints.txt and environment.yml say the same, and hold the packages that the project is built on."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
FIXED = {"jupyter", "papermill", "torch", "transformers", "numpy", "faiss-cpu", "datasets", "ir-measures", "cupy"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def name_of(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement.strip())
    assert found, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower().replace("cupy-cuda13x", "cupy").replace("cupy-cuda12x", "cupy")


def pins() -> dict[str, str]:
    lines = [line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    return {name_of(line): line.split("==")[1] for line in lines if line}


def conda_pip() -> list[str]:
    entries = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    return next(entry["pip"] for entry in entries if isinstance(entry, dict))


def test_pyproject_has_the_fixed_packages():
    requirements = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["cuda13"]
    assert {name_of(r) for r in requirements} >= FIXED


def test_conda_has_the_same():
    entries = conda_pip()
    assert "-c constraints.txt" in entries
    extras = re.fullmatch(r"-e \.\[(.+)\]", next(e for e in entries if e.startswith("-e")))
    assert extras
    assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])
    assert {name_of(e) for e in entries if not e.startswith("-")} == FIXED


def test_every_requirement_is_pinned_within_its_range():
    extras = PROJECT["optional-dependencies"]
    for requirement in PROJECT["dependencies"] + extras["dev"] + extras["docs"]:
        pinned = pins()[name_of(requirement)]
        lowest = re.search(r">=([0-9.]+)", requirement)
        if lowest:
            assert [int(x) for x in re.findall(r"\d+", pinned)] >= [int(x) for x in lowest[1].split(".")], requirement
    assert pins()["torch"] == "2.13.0"
    assert pins()["cupy"].startswith("14.2")


def test_one_cupy_only():
    text = (ROOT / "constraints.txt").read_text() + (ROOT / "environment.yml").read_text()
    assert "cupy-cuda13x" in text
    assert "cupy-cuda12x" not in text


def test_python_versions_agree():
    assert PROJECT["requires-python"] == ">=3.11"
    assert "python>=3.11" in yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
