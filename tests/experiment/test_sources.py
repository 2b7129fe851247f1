"""The code behind a stage is part of its key: what is edited is computed again, and nothing else is."""

import ast
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from colbert_research.experiment import imports, sources
from colbert_research.experiment.imports import strip
from colbert_research.experiment.sources import NEUTRAL, STAGE_MODULES, SourceChangedError, closure, sources_of
from colbert_research.settings import ConfigError
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
    real = imports._places
    monkeypatch.setattr(imports, "_places", lambda top: (package,) if top == "colbert_research" else real(top))
    monkeypatch.setattr(sources, "_check_loaded", lambda name, file: None)

    def forget():
        for cached in (imports.own_file, imports.definer, imports._passed_on, imports._imported_now, sources.closure):
            cached.cache_clear()

    def planned() -> dict[str, str]:
        forget()
        return {name: stage.key for name, stage in make(cache, folder, OVERRIDES).stages.items()}

    yield planned
    monkeypatch.undo()
    forget()


@pytest.mark.parametrize(
    ("module", "first"),
    [
        ("encoders/hashing.py", "encode documents"),
        ("encoders/store.py", "encode documents"),
        ("encoders/reduce.py", "reduce"),
        ("encoders/pooling/prune.py", "pool"),
        ("codecs/clustering.py", "cluster"),
        ("kernels/cpu/nearest.py", "cluster"),
        ("codecs/residual.py", "index"),
        ("index/segment.py", "index"),
        ("search/cells.py", "structure tokens_by_cell"),
        ("search/warp.py", "rank"),
        ("ranking.py", "rank"),
        ("evaluation/timing.py", "latency"),
        ("evaluation/alignment.py", None),
        ("evaluation/timing_plot.py", None),
        ("encoders/multivector.py", None),
        ("kernels/cuda/codes.cu", None),
        ("codecs/product.py", None),
        ("search/emvb.py", None),
        ("search/registry.py", None),
        ("experiment/record.py", None),
        ("experiment/notebook.py", None),
        ("cli.py", None),
        ("config.py", None),
        ("progress.py", None),
        ("data/beir.py", None),
    ],
)
def test_an_edited_module_changes_the_keys_from_the_first_stage_that_it_decides(package, keys, module, first):
    before = keys()
    assert list(before) == ALL
    file = package / module
    text = file.read_text()
    try:
        file.write_text(text + "\nEDITED = True\n")
        after = keys()
        if file.suffix == ".py":
            file.write_text(text + "\n# a comment changes nothing\n")
            assert keys() == before
    finally:
        file.write_text(text)
    changed = [name for name in ALL if before[name] != after[name]]
    assert changed == ([] if first is None else ALL[ALL.index(first) :])


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


OWN = """
from typing import Literal
import my_helper
from colbert_research.codecs import ExactConfig

class MineConfig(ExactConfig):
    kind: str = "my_codec:MineConfig"
    def fit(self, sample, *, n_tokens, seed, centroids=None):
        return super().fit(sample * {factor}, n_tokens=n_tokens, seed=seed)
"""


def test_an_edited_codec_of_ones_own_is_never_answered_from_the_cache(tmp_path, folder):
    """It was found in the cache, with the old numbers under the same key."""
    program = """
    import sys
    from pathlib import Path
    from tests.experiment.small import make
    own = "codec={kind: 'my_codec:MineConfig'} search={kind: exhaustive}"
    stages = make(Path(sys.argv[1]), Path(sys.argv[2]), own).stages
    print(stages["index"].key, ",".join(stages["index"].sources["modules"]))
    """

    def planned() -> list[str]:
        command = [sys.executable, "-B", "-c", textwrap.dedent(program), str(tmp_path / "cache"), str(folder)]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(tmp_path), os.environ.get("PYTHONPATH", "")))}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    (tmp_path / "my_helper.py").write_text("SIZE = 1\n")
    (tmp_path / "my_codec.py").write_text(OWN.replace("{factor}", "1"))
    first, modules = planned()
    assert {"my_codec", "my_helper"} <= set(modules.split(","))
    (tmp_path / "my_codec.py").write_text(OWN.replace("{factor}", "2"))
    second, _ = planned()
    (tmp_path / "my_helper.py").write_text("SIZE = 2\n")
    third, _ = planned()
    assert len({first, second, third}) == 3
    (tmp_path / "my_codec.py").write_text(OWN.replace("{factor}", "1"))
    (tmp_path / "my_helper.py").write_text("SIZE = 1\n")
    assert planned()[0] == first


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
        for cached in (imports.own_file, imports.definer, imports._places, imports._imported_now, closure):
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


def test_two_classes_of_one_module_are_two_components(tmp_path, monkeypatch):
    (tmp_path / "two_codecs.py").write_text(
        "from colbert_research.codecs import ExactConfig\nclass One(ExactConfig): pass\nclass Two(ExactConfig): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import two_codecs

    hashes = {sources_of("index", {"codec": cls()})["hash"] for cls in (two_codecs.One, two_codecs.Two)}
    assert len(hashes) == 2
    del sys.modules["two_codecs"]


def test_a_class_made_inside_a_function_is_refused():
    from colbert_research.codecs import ExactConfig

    class Hidden(ExactConfig):
        pass

    with pytest.raises(ConfigError, match=r"<locals>\.Hidden was made inside a function"):
        sources_of("index", {"codec": Hidden()})


def test_a_module_that_was_edited_while_this_process_runs(tmp_path, monkeypatch, cache, folder):
    import importlib

    file = tmp_path / "edited_codec.py"
    file.write_text(OWN.replace("my_codec", "edited_codec").replace("import my_helper\n", "").replace("{factor}", "1"))
    monkeypatch.syspath_prepend(tmp_path)
    own = "codec={kind: 'edited_codec:MineConfig'} search={kind: exhaustive}"
    before = make(cache, folder, own).stages["index"].key
    file.write_text(file.read_text().replace("* 1", "* 2.0"))
    with pytest.raises(SourceChangedError, match=r"edited_codec.py was edited after this process had loaded it.*restart"):
        _ = make(cache, folder, own).stages["index"].key
    importlib.reload(sys.modules["edited_codec"])
    with pytest.raises(SourceChangedError, match="loading the module again is not enough"):
        _ = make(cache, folder, own).stages["index"].key
    assert before
    del sys.modules["edited_codec"]


def test_a_module_that_was_edited_between_its_import_and_the_first_look(tmp_path, monkeypatch, cache, folder):
    import importlib

    file = tmp_path / "early_codec.py"
    file.write_text(OWN.replace("my_codec", "early_codec").replace("import my_helper\n", "").replace("{factor}", "1"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    importlib.import_module("early_codec")
    file.write_text(file.read_text().replace("* 1", "* 20"))
    with pytest.raises(SourceChangedError, match=r"early_codec.py was edited after this process had loaded it"):
        _ = make(cache, folder, "codec={kind: 'early_codec:MineConfig'} search={kind: exhaustive}").stages["index"].key
    del sys.modules["early_codec"]


CELL = """
SCALE = {scale}
def helper(x):
    return x * SCALE
class CellConfig(ExactConfig):
    kind: str = "cell"
    def fit(self, sample, *, n_tokens, seed, centroids=None):
        return super().fit(helper(sample), n_tokens=n_tokens, seed=seed)
"""


@pytest.fixture
def notebook(monkeypatch):
    """Runs cells as a kernel does, and gives the hash of what decides an index with the codec `CellConfig`."""
    import __main__ as main
    from colbert_research.codecs import ExactConfig

    monkeypatch.delattr(main, "__file__", raising=False)

    def run(*cells: str, used: object = None) -> str:
        namespace = {"__name__": "__main__", "ExactConfig": ExactConfig}
        for cell in cells:
            exec(cell, namespace)
        monkeypatch.setattr(main, "In", ["", "%%bash\nnot python", *cells], raising=False)
        for name, value in namespace.items():
            if not name.startswith("__"):
                monkeypatch.setattr(main, name, value, raising=False)
        return str(sources_of("index", {"codec": used or namespace["CellConfig"]()})["hash"])

    return run


def test_a_class_of_a_notebook_cell_counts_with_what_it_names(notebook):
    first = notebook(CELL.format(scale=1))
    assert first == notebook("print(1)", CELL.format(scale=1))
    assert first != notebook(CELL.format(scale=2))
    assert first != notebook(CELL.format(scale=1), "def helper(x):\n    return -x")
    assert first != notebook(CELL.format(scale=1), "for SCALE in (7,):\n    pass"), "a name that a loop sets"
    assert first != notebook(CELL.format(scale=1), "CellConfig.note = 'x'")
    changed = CELL.format(scale=1).replace("helper(sample)", "-helper(sample)")
    one, other = (notebook(cell, "CellConfig.note = 'x'") for cell in (CELL.format(scale=1), changed))
    assert one != other, "what is set on a class does not hide it"


def test_modules_that_cells_take_names_from_count(notebook, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "cell_helper.py").write_text("FACTOR = 1\n")
    cell = "from cell_helper import FACTOR\n" + CELL.format(scale=1).replace("x * SCALE", "x * FACTOR")
    first = notebook(cell)
    del sys.modules["cell_helper"]
    (tmp_path / "cell_helper.py").write_text("FACTOR = 22\n")
    for cached in (imports.own_file, imports._places, sources.closure):
        cached.cache_clear()
    monkeypatch.setattr(sources, "_check_loaded", lambda name, file: None)
    assert notebook(cell) != first


def test_a_class_that_a_later_cell_defined_anew_is_refused(notebook):
    import __main__ as main

    notebook(CELL.format(scale=1))
    old = main.CellConfig()
    with pytest.raises(ConfigError, match=r"CellConfig was defined anew.*run the cell again that registers it"):
        notebook(CELL.format(scale=2), used=old)


KERNEL = """
from colbert_research.codecs import ExactConfig
from colbert_research.experiment.sources import sources_of
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
TIME = "%%%%time" + chr(10)

def cell(text):
    shell.run_cell(text, store_history=True)

def now():
    return sources_of("index", {"codec": shell.user_ns["CellConfig"]()})["hash"]

import sys
sys.modules["__main__"] = shell.user_module
shell.user_ns["ExactConfig"] = ExactConfig
CELL = '''%s'''
cell(CELL)
print(now())
cell(TIME + CELL)
print(now())
cell(CELL)
cell("1 / 0" + chr(10) + CELL.replace("helper(sample)", "-helper(sample)"))  # fails before it defines anything
print(now())
cell(TIME + CELL.replace("helper(sample)", "-helper(sample)"))
print(now())
"""


def test_what_a_kernel_ran_and_what_it_did_not(tmp_path):
    program = KERNEL % CELL.format(scale=1)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    hashes = [line for line in done.stdout.splitlines() if len(line) == 12 and line.isalnum()]
    assert len(hashes) == 4, done.stdout
    assert hashes[0] == hashes[1] == hashes[2] != hashes[3]


def test_a_class_without_a_source(notebook, monkeypatch):
    import __main__ as main

    notebook(CELL.format(scale=1))
    monkeypatch.setattr(main, "In", ["", "x = 1"])
    with pytest.raises(ConfigError, match="the source of CellConfig cannot be read"):
        sources_of("index", {"codec": main.CellConfig()})


def test_versions_of_libraries_count(monkeypatch):
    before = sources_of("cluster", {})
    assert {"numpy", "faiss-cpu", "numba"} <= set(before["libraries"])
    monkeypatch.setattr(sources, "_version", lambda name: "0.0" if name == "faiss-cpu" else before["libraries"].get(name, ""))
    assert sources_of("cluster", {})["hash"] != before["hash"]
    assert sources_of("reduce", {})["libraries"].keys() == {"numpy"}
