"""The code behind a stage is part of its key: what is edited is computed again, and nothing else is."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from colbert_research.experiment import imports, sources
from colbert_research.experiment.imports import strip
from colbert_research.experiment.sources import NEUTRAL, STAGE_MODULES, closure, sources_of
from tests.experiment.small import ROOT, make

OVERRIDES = "reducer={kind: svd, dim: 8} pooling={kind: prune_idf} search={kind: warp, nprobe: 4} latency={}"
ALL = [
    "encode documents",
    "encode queries",
    "reduce",
    "pool",
    "cluster",
    "index",
    "structure tokens_by_cell",
    "rank",
    "latency",
]


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    """A copy of the package, to be edited."""
    folder = tmp_path_factory.mktemp("copy") / "colbert_research"
    return shutil.copytree(ROOT / "colbert_research", folder, ignore=shutil.ignore_patterns("__pycache__"))


@pytest.fixture
def keys(package, cache, folder, monkeypatch):
    """The keys that a new process would plan with, had it loaded the copy."""
    real = imports._locations
    monkeypatch.setattr(imports, "_locations", lambda top: (package,) if top == "colbert_research" else real(top))
    monkeypatch.setattr(sources, "check_loaded", lambda name, file: None)

    def forget():
        for cached in (imports.own_file, imports.definer, sources.closure):  # others ask whether a file was changed
            cached.cache_clear()

    def planned() -> dict[str, str]:
        forget()
        return {name: stage.key for name, stage in make(cache, folder, OVERRIDES).stages.items()}

    yield planned
    monkeypatch.undo()
    forget()


@pytest.fixture(scope="module")
def before() -> dict[str, str]:
    """The keys of what nobody edited, when a test has asked for them."""
    return {}


@pytest.mark.parametrize(
    ("module", "first"),
    [
        ("encoders/hashing.py", "encode documents"),
        ("encoders/store.py", "encode documents"),
        ("encoders/reduce.py", "reduce"),
        ("encoders/pooling/prune.py", "pool"),
        ("codecs/clustering.py", "cluster"),
        ("kernels/cpu/nearest.py", "cluster"),
        ("encoders/anisotropy.py", "index"),
        ("codecs/residual.py", "index"),
        ("index/segment.py", "index"),
        ("index/column_files.py", "index"),
        ("index/filters.py", None),
        ("index/column.py", None),
        ("search/cells.py", "structure tokens_by_cell"),
        ("search/warp.py", "rank"),
        ("ranking.py", "rank"),
        ("evaluation/timing.py", "latency"),
        ("evaluation/alignment.py", None),
        ("evaluation/timing_plot.py", None),
        ("encoders/multivector.py", None),
        ("encoders/processor.py", None),
        ("kernels/cuda/codes.cu", None),
        ("codecs/product.py", None),
        ("search/emvb.py", None),
        ("search/registry.py", None),
        ("experiment/record.py", None),
        ("experiment/notebook.py", None),
        ("cli.py", None),
        ("config.py", None),
        ("progress.py", None),
        ("executors/loop.py", None),
        ("experiment/elsewhere.py", None),
        ("experiment/building.py", None),
        ("data/beir.py", None),
    ],
)
def test_an_edited_module_changes_the_keys_from_the_first_stage_that_it_decides(package, keys, before, module, first):
    if not before:
        before |= keys()
    assert list(before) == ALL
    file = package / module
    text = file.read_text()
    try:
        file.write_text(text + "\nEDITED = True\n")
        after = keys()
    finally:
        file.write_text(text)
    changed = [name for name in ALL if before[name] != after[name]]
    assert changed == ([] if first is None else ALL[ALL.index(first) :])


@pytest.mark.slow
def test_comments_in_any_module_change_no_key(package, keys):
    before, texts = keys(), {file: file.read_text() for file in package.rglob("*.py")}
    try:
        for file, text in texts.items():
            file.write_text(text + "\n# a comment changes nothing\n")
        assert keys() == before
    finally:
        for file, text in texts.items():
            file.write_text(text)


def test_kernels_of_a_device_decide_what_is_searched_there(package):
    names, _ = closure(("colbert_research.search.cuda",))
    assert {"colbert_research.kernels.cuda.codes", "colbert_research.kernels.cuda.compile"} <= set(names)
    assert not [name for name in closure(("colbert_research.search.plaid",))[0] if "cuda" in name]


def test_every_kind_of_stage_has_its_module():
    for kind, module in STAGE_MODULES.items():
        modules, _ = closure((module,))
        assert module in modules
        assert not NEUTRAL & set(modules)
        assert kind == "latency" or not any(name.startswith("colbert_research.evaluation") for name in modules)
    assert {path.stem for path in (ROOT / "colbert_research/experiment/stages").glob("*.py")} == {
        *STAGE_MODULES,
        "__init__",
        "differs",
    }


def test_neutral_modules_exist():
    for name in NEUTRAL:
        assert imports.own_file(name) is not None, name


def test_code_beside_a_docstring_counts():
    for template in ('def f(x): "what it does"; return x + {}\n', 'class A:\n    """What é is."""; b = {}\n'):
        assert strip(template.format(1)) != strip(template.format(2))


def test_what_is_inside_a_string_counts():
    template = "def f():\n    return '''one{}'''\n"
    plain = strip(template.format("\ntwo"))
    for other in ("\n\ntwo", "  \ntwo", "\n# two", "\n\x0ctwo", "\x0c\ntwo", "\x1ctwo"):
        assert strip(template.format(other)) != plain, repr(other)
    assert strip("def f():\n    return 1\n\x0c\n") == strip("def f():\n    return 1\n")


@pytest.mark.parametrize(
    ("edit", "same"),
    [
        ("def f(x):  # why\n    return x + 1\n", True),
        ('def f(x):\n    """What it does."""\n    return x + 1\n', True),
        ("\n\ndef f(x):\n\n    return x + 1   \n", True),
        ('def f(x):\n    return x + 1 if x != "#" else 1\n', False),
        ("def f(x):\n    return x + 2\n", False),
        ('def f(x):\n    "not first"; return x + 1\n    """a value"""\n', False),
    ],
)
def test_comments_and_docstrings_do_not_count(edit, same):
    assert (strip(edit) == strip("def f(x):\n    return x + 1\n")) is same


LAYOUTS = {
    "a package of ones own with a module called registry": ("mine/registry.py", "from mine.registry import X"),
    "a folder without __init__": ("spaced/part.py", "from spaced.part import X"),
    "a package above": ("above/__init__.py", "import above.inner"),
    "a package that changes what it passes on": ("above/__init__.py", "from above.inner import X"),
    "else of TYPE_CHECKING": (
        "lone.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    X = 2\nelse:\n    import lone",
    ),
    "in the place of a standard module": ("colorsys.py", "import colorsys"),
    "laid into site-packages by hand": ("site-packages/by_hand.py", "import by_hand"),
    "a base class": ("based.py", "from based import Base\nfrom colbert_research import CODECS"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_wherever_what_a_component_imports_lies(tmp_path, monkeypatch, layout):
    file, statement = LAYOUTS[layout]
    for each in ("above/__init__.py", "above/inner.py", "mine/__init__.py", "spaced/part.py", file):
        (tmp_path / each).parent.mkdir(exist_ok=True)
        (tmp_path / each).write_text("X = 1\nBase = object\n")
    component = tmp_path / "laid_out.py"
    component.write_text(f"{statement}\n")
    for path in (tmp_path, tmp_path / "site-packages"):
        monkeypatch.syspath_prepend(path)
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)

    def found():
        for cached in (imports.own_file, imports.definer, imports._locations, imports._imported_now, closure):
            cached.cache_clear()
        return closure(("laid_out",))[0].values()

    assert tmp_path / file in found()
    assert component in found()


def test_a_room_of_this_package_changes_no_name_that_it_passes_on():
    """So that a name may be followed past it, to the module that defines it."""
    for file in (ROOT / "colbert_research").rglob("__init__.py"):
        nodes = ast.parse(file.read_text()).body
        passed_on = {alias.asname or alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
        named = [ast.unparse(target) for node in nodes if isinstance(node, ast.Assign) for target in node.targets]
        assert not passed_on & {*named, *(getattr(node, "name", "") for node in nodes)}, file


def test_a_name_that_the_package_gives_when_asked_is_followed_to_its_module():
    assert imports.reached("colbert_research", "CODECS") == ("colbert_research.codecs.registry",)
    assert imports.reached("colbert_research", "Ragged") == ("colbert_research.ragged",)


def test_versions_of_libraries_count(monkeypatch):
    before = sources_of("cluster", {})
    assert {"numpy", "faiss-cpu", "numba"} <= set(before["libraries"])
    monkeypatch.setattr(sources, "_version", lambda name: "0.0" if name == "faiss-cpu" else before["libraries"].get(name, ""))
    assert sources_of("cluster", {})["hash"] != before["hash"]
    assert sources_of("reduce", {})["libraries"].keys() == {"numpy"}


EDITED_BEFORE_A_FORK = """
import os, sys
import colbert_research.codecs.exact as loaded
from colbert_research.experiment import sources
sources.look_at_sources()
os.utime(sys.argv[1], (1, 1))  # as old as any process
child = os.fork()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
sources.check_loaded(loaded.__name__, sources.Path(sys.argv[1]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_what_is_edited_before_a_fork_is_noticed_after_it(tmp_path):
    """The child runs what its parent had loaded, which its own age does not tell."""
    (tmp_path / "exact.py").write_text("edited = True\n")
    line = [sys.executable, "-c", EDITED_BEFORE_A_FORK, str(tmp_path / "exact.py")]
    ran = subprocess.run(line, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert ran.returncode == 1
    assert "was edited after this process had loaded it" in ran.stderr
