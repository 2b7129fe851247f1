"""The layout's promises: imports go one way, importing is cheap, hardware is touched in two subpackages, files stay small."""

import ast
import graphlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from colbert_research.experiment import imports

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "colbert_research"
# every subpackage may import from those with a smaller number only, and from itself
LAYERS = {
    **dict.fromkeys(
        (
            "settings",
            "config",
            "ragged",
            "ranking",
            "artifacts",
            "progress",
            "threads",
            "fingerprints",
            "texts",
            "locks",
            "cache",
            "store",
            "memory",
            "executors",
        ),
        0,
    ),
    "kernels": 1,
    **dict.fromkeys(("data", "encoders", "codecs"), 2),
    "index": 3,
    "search": 4,
    "evaluation": 5,
    "experiment": 6,
    **dict.fromkeys(("training", "integrations", "sweep", "ledger", "serving", "costs"), 7),
    **dict.fromkeys(("rag", "cli_cost", "cli_index", "cli_ledger", "cli_sweep"), 8),
    "cli_serve": 9,
    "cli": 10,
    "__main__": 11,
}


def imports_of(path: Path) -> list[tuple[str, bool]]:
    """`(module, at the top level)` of every import in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = {id(node) for node in tree.body}
    found = []
    for node in ast.walk(tree):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else names
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("colbert_research"):
            within = [f"{node.module}.{a.name}" for a in node.names]  # of a module, or a module of a package
            names = within if node.module == "colbert_research" else names + within
        found += [(name, id(node) in top) for name in names]
    return found


def subpackage(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def test_imports_go_one_way():
    for path in FILES:
        for name, _ in imports_of(path):
            if name.startswith("colbert_research."):
                target = name.split(".")[1]
                if target != subpackage(path):
                    assert LAYERS[target] <= LAYERS[subpackage(path)], f"{path.name} of {subpackage(path)} imports {name}"
                    neighbours = LAYERS[target] == LAYERS[subpackage(path)] > 0
                    assert not neighbours, f"{subpackage(path)} imports its neighbour {name}"


def module_of(path: Path) -> str:
    return ".".join(("colbert_research", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


def test_no_circle_of_imports():
    """Also none of imports for types alone, and none by way of a package whose `__init__` passes a name on."""
    known = {module_of(path): path for path in FILES}
    graph: dict[str, set[str]] = {}
    for module, path in known.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found |= {imports.definer(node.module, alias.name) for alias in node.names}
        graph[module] = {name for name in found if name in known and name != module}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_heavy_libraries_are_imported_where_they_are_used():
    heavy = {"torch", "cupy", "faiss", "ray", "datasets", "transformers", "sentence_transformers", "pandas", "matplotlib"}
    allowed = {PACKAGE / "kernels" / "torch_backend.py", PACKAGE / "kernels" / "cuda" / "autograd.py"}
    for path in set(FILES) - allowed:
        assert not {name.split(".")[0] for name, at_top in imports_of(path) if at_top} & heavy, path


def test_no_module_needs_a_system_to_be_imported():
    """What POSIX or Windows alone have is imported where it is used, behind a look at which system this is."""
    of_one_system = {"resource", "fcntl", "pwd", "grp", "termios", "msvcrt", "winreg", "_winapi"}
    for path in [*FILES, *sorted((ROOT / "experiments").rglob("*.py"))]:
        assert not {name.split(".")[0] for name, at_top in imports_of(path) if at_top} & of_one_system, path


def test_hardware_is_touched_in_kernels_and_encoders_alone():
    of_torch = PACKAGE / "index" / "importers" / "stanford.py"  # reads files that torch wrote
    for path in FILES:
        if subpackage(path) not in ("kernels", "encoders") and path != of_torch:
            assert not {name.split(".")[0] for name, _ in imports_of(path)} & {"torch", "cupy", "numba"}, path


def test_files_are_small():
    for path in FILES:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 350, path


def loaded_by(code: str) -> set[str]:
    """Modules that a fresh interpreter has after running `code`."""
    program = f"import sys, json; {code}; print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(json.loads(out.stdout))


def test_importing_the_package_is_cheap():
    modules = loaded_by("import colbert_research")
    assert {name for name in modules if name.startswith("colbert_research")} == {"colbert_research"}
    assert not {name.split(".")[0] for name in modules} & {"torch", "cupy", "faiss", "ray", "pandas", "transformers", "numpy"}


def test_kernels_need_numpy_alone():
    modules = loaded_by("import colbert_research.kernels")
    third_party = {name.split(".")[0] for name in modules} & {"torch", "cupy", "faiss", "pydantic", "yaml", "pandas", "scipy"}
    assert not third_party


def test_the_public_api_can_be_imported():
    import colbert_research

    for name in colbert_research.__all__:
        assert getattr(colbert_research, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = colbert_research.no_such_name
