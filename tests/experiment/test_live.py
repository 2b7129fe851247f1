"""Components of one's own count by what is in force: code, defaults, globals, wherever they lie, whoever changed them."""

import importlib
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from colbert_research.config import ConfigError
from colbert_research.experiment import imports, sources
from colbert_research.experiment.live import Live
from colbert_research.experiment.sources import SourceChangedError, sources_of
from tests.experiment.small import ROOT, make
from tests.warm import Program

pytestmark = pytest.mark.slow

MINE = """
{above}
from colbert_research.codecs import ExactConfig

class Mine(ExactConfig):
    kind: str = "mine_codec:Mine"
    {field}
    def fit(self, sample, *, n_tokens, seed, centroids=None{argument}):
        {body}
        return super().fit(sample, n_tokens=n_tokens, seed=seed)
"""
PLAIN = {"above": "", "field": "", "argument": "", "body": "pass"}
HELPER = "def f(x):\n    return x * {}\n"

CHANGES = {
    "the body of a method": ({"body": "sample = sample * 1"}, {"body": "sample = sample * 2"}),
    "a global": ({"above": "S = 1", "body": "sample = sample * S"}, {"above": "S = 2", "body": "sample = sample * S"}),
    "a default": ({"above": "S = 1", "argument": ", s=S"}, {"above": "S = 2", "argument": ", s=S"}),
    "a field's default": ({"field": "scale: float = 1.0"}, {"field": "scale: float = 2.0"}),
    "a lambda": ({"above": "f = lambda x: x * 1", "body": "f(sample)"}, {"above": "f = lambda x: x * 2", "body": "f(sample)"}),
    "a constant in a lambda": ({"above": "f = lambda x: 'a'", "body": "f(1)"}, {"above": "f = lambda x: 'b'", "body": "f(1)"}),
    "a decorated function": tuple(
        {"above": f"import functools\n@functools.cache\ndef f(x):\n    return x * {n}", "body": "f(1)"} for n in (1, 2)
    ),
    "a partial": tuple({"above": f"import functools\nf = functools.partial(int, base={n})", "body": "f('1')"} for n in (8, 9)),
    "an inner function": ({"body": "(lambda: [x * 1 for x in (1,)])()"}, {"body": "(lambda: [x * 2 for x in (1,)])()"}),
    "inside a condition": tuple({"above": f"if True:\n    def f(x):\n        return x * {n}", "body": "f(1)"} for n in (1, 2)),
    "an array in a dict": tuple(
        {"above": f"import numpy as np\nD = {{'a': np.arange(5000)}}\nD['a'][2500] = {n}", "body": "D['a']"} for n in (1, 2)
    ),
    "a tensor": tuple({"above": f"import torch\nT = torch.full((3,), {n})", "body": "T + 1"} for n in (1, 2)),
    "a set": ({"above": "W = {'a', 'b'}", "body": "W"}, {"above": "W = {'a', 'c'}", "body": "W"}),
    "an object": tuple({"above": f"class P:\n    def __init__(self): self.n = {n}\np = P()", "body": "p.n"} for n in (1, 2)),
    "a class that it uses": tuple({"above": f"class P:\n    n = {n}", "body": "P().n"} for n in (1, 2)),
    "a closure": tuple(
        {"above": f"def made(n):\n    def f(x):\n        return x * n\n    return f\nf = made({n})", "body": "f(1)"}
        for n in (1, 2)
    ),
}


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The hash behind an index with the codec `mine_codec:Mine`, of files that are written and imported anew."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sources, "check_loaded", lambda name, file: None)
    names: set[str] = set()

    def found(files: dict[str, str]) -> str:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
            (tmp_path / name).write_text(text)
            names.add(name.split("/")[0].removesuffix(".py"))
        for name in list(sys.modules):
            if name.split(".")[0] in names:
                del sys.modules[name]
        for compiled in [*tmp_path.rglob("__pycache__")]:  # which Python tells apart by whole seconds
            shutil.rmtree(compiled)
        for cached in (imports.own_file, imports.definer, imports._locations, imports._imported_now, sources.closure):
            cached.cache_clear()
        importlib.invalidate_caches()
        return str(sources_of("index", {"codec": importlib.import_module("mine_codec").Mine()})["hash"])

    yield found
    for name in list(sys.modules):
        if name.split(".")[0] in names:
            del sys.modules[name]


def mine(**parts: str) -> dict[str, str]:
    return {"mine_codec.py": MINE.format(**{**PLAIN, **parts})}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_what_is_computed(own, change):
    before, after = (mine(**each) for each in CHANGES[change])
    first = own(before)
    assert own(after) != first
    assert own(before) == first


@pytest.mark.parametrize(
    ("statement", "use"),
    [
        ("from helper import f", "f(1)"),
        ("from helper import *", "f(1)"),
        ("import helper", "helper.f(1)"),
        ("import helper as h", "h.f(1)"),
        ("try:\n    from helper import f\nexcept ImportError:\n    f = None", "f(1)"),
        ("import importlib\nh = importlib.import_module('helper')", "h.f(1)"),
        ("from parts.inner import f", "f(1)"),
        ("import parts.other\nimport parts.inner", "parts.inner.f(1)"),
        ("from parts import f", "f(1)"),
        ("", "from helper import f"),
        ("", "from parts.inner import f"),
        ("", "import helper"),
        ("", "import importlib; importlib.import_module('helper')"),
    ],
)
def test_what_it_takes_from_other_modules(own, statement, use):
    def files(n: int) -> dict[str, str]:
        of_n, of_1 = HELPER.format(n), HELPER.format(1)
        package = {"parts/__init__.py": "from parts.inner import f\n", "parts/inner.py": of_n, "parts/other.py": of_1}
        return {**mine(above=statement, body=use), "helper.py": of_n, **package}

    first = own(files(1))
    assert own(files(2)) != first
    assert own(files(1)) == first


def test_bases_and_mixins(own):
    def files(n: int, m: int) -> dict[str, str]:
        base = f"from colbert_research.codecs import ExactConfig\nclass Base(ExactConfig):\n    b = lambda self: {n}\n"
        text = "from base import Base\nfrom mixed import Mixin\nclass Mine(Mixin, Base):\n    kind: str = 'mine_codec:Mine'\n"
        return {"base.py": base, "mixed.py": f"class Mixin:\n    def m(self):\n        return {m}\n", "mine_codec.py": text}

    assert len({own(files(1, 1)), own(files(2, 1)), own(files(1, 2))}) == 3


@pytest.mark.parametrize(
    "same",
    [
        {"above": "# a comment"},
        {"above": '"""A docstring."""'},
        {"above": "unused = 3\ndef unused_too(x):\n    return x"},
        {"body": '"""A docstring."""\n        pass'},
        {"body": "pass  # a comment\n"},
        {"above": "\n\n\n"},
    ],
)
def test_what_decides_nothing(own, same):
    assert own(mine(**same)) == own(mine())


def test_a_global_with_the_name_of_a_local_variable(own):
    body = "for i in range(3): output = i"
    assert own(mine(above="i = 1\noutput = 'a'", body=body)) == own(mine(above="i = 2\noutput = 'b'", body=body))


@pytest.mark.slow
def test_keys_are_the_same_in_every_process(tmp_path):
    text = MINE.format(**{**PLAIN, "above": "W = {'a', 'b', 'c', 'd'}\nF = {'f': len, 'g': lambda x: x}", "body": "W, F"})
    (tmp_path / "mine_codec.py").write_text(text)
    program = "from mine_codec import Mine; from colbert_research.experiment.live import Live; print(Live.of([Mine]).digest)"
    seen = {run(program, tmp_path, PYTHONHASHSEED=seed) for seed in ("1", "2", "3")}
    assert len(seen) == 1


def run(program: str, folder: Path, *arguments: str, **environment: str) -> str:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(folder))), **environment}
    command = [sys.executable, "-B", *(["-c", program] if "\n" in program or ";" in program else [program]), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def run_warm(program: str, folder: Path, *arguments: str, **environment: str) -> str:
    """The same for a program of which only what it computes is looked at, not how it is loaded."""
    above = f"import sys\nsys.dont_write_bytecode = True\nsys.path.insert(0, {str(folder)!r})\n"
    process = Program(above + program, *arguments, env={**os.environ, **environment}, cwd=folder)
    said, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return said.strip()


SCRIPT = """
import sys
from pathlib import Path
from colbert_research.codecs import CODECS, ExactConfig
from colbert_research.experiment.sources import sources_of

SCALE = float(sys.argv[1])

class Mine(ExactConfig):
    kind: str = "mine"
    def fit(self, sample, *, n_tokens, seed, centroids=None):
        return super().fit(sample * SCALE * 1, n_tokens=n_tokens, seed=seed)

if "edit" in sys.argv:
    Path(__file__).write_text(Path(__file__).read_text().replace("SCALE * 1", "SCALE * 3"))
print(sources_of("index", {"codec": Mine()})["hash"])
"""


@pytest.mark.slow
def test_a_script_counts_as_it_runs(tmp_path):
    """A global from the command line, and a file that is saved again while the process runs."""
    (tmp_path / "s.py").write_text(SCRIPT)
    one, two = (run("s.py", tmp_path, scale) for scale in ("1", "2"))
    assert one != two
    assert run("s.py", tmp_path, "1", "edit") == one, "what runs is the text from before"
    assert run("s.py", tmp_path, "1") not in (one, two)


def test_an_edited_codec_of_ones_own_is_never_answered_from_the_cache(tmp_path, folder):
    """It was found in the cache, with the old numbers under the same key."""
    program = textwrap.dedent("""
    import sys
    from pathlib import Path
    from tests.experiment.small import make
    experiment = make(Path(sys.argv[1]), Path(sys.argv[2]), "codec={kind: 'mine_codec:Mine'} search={kind: exhaustive}")
    experiment.run("rank")
    print(experiment.stages["index"].key, experiment.status()["state"]["index"])
    """)

    def computed(n: int) -> list[str]:
        body = f"sample = sample * {n}"
        (tmp_path / "mine_codec.py").write_text(MINE.format(**{**PLAIN, "body": body}))
        return run_warm(program, tmp_path, str(tmp_path / "cache"), str(folder)).splitlines()[-1].split()

    first, second, again = computed(1), computed(2), computed(1)
    assert first[0] == again[0] != second[0]
    assert (first[1], second[1], again[1]) == ("computed", "computed", "cached")


CELL = """
SCALE = {scale}
def helper(x):
    return x * SCALE
class CellConfig(ExactConfig):
    kind: str = "cell"
    def fit(self, sample, *, n_tokens, seed, centroids=None):
        return super().fit(helper(sample), n_tokens=n_tokens, seed=seed)
"""
KERNEL = """
import sys
from colbert_research.codecs import ExactConfig
from colbert_research.experiment.sources import sources_of
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
sys.modules["__main__"] = shell.user_module
shell.user_ns["ExactConfig"] = ExactConfig
CELL, LINE = '''%s''', chr(10)

def cell(text):
    shell.run_cell(text, store_history=True)
    if "CellConfig" in shell.user_ns:
        print("hash", sources_of("index", {"codec": shell.user_ns["CellConfig"]()})["hash"])

cell(CELL)
cell("%%%%time" + LINE + CELL)
cell("1 / 0" + LINE + CELL.replace("helper(sample)", "-helper(sample)"))  # fails before it defines anything
cell("%%%%time" + LINE + CELL.replace("helper(sample)", "-helper(sample)"))
cell("def helper(x):" + LINE + "    return x")
cell("helper = lambda x: x")
cell("1 / 0" + LINE + "helper = lambda x: -x")
cell("for SCALE in (7,):" + LINE + "    pass")
cell("sample = 1")
cell("CellConfig.note = 'x'")
"""


def test_cells_of_a_kernel_count_as_they_ran(tmp_path):
    printed = run_warm(KERNEL % CELL.format(scale=1), tmp_path, IPYTHONDIR=str(tmp_path))
    hashes = [line.split()[1] for line in printed.splitlines() if line.startswith("hash ")]
    first, timed, failed, edited, helper, other, failed_again, scale, unused, note = hashes
    assert first == timed == failed
    assert len({first, edited, helper, other, note}) == 5
    assert other == failed_again == scale == unused, "nothing in force has changed, or what nobody names"


def test_what_changes_between_plan_and_run_is_named(cache, folder, own):
    own(mine(above="LOG = []", body="LOG.append(1)"))
    mine_codec = sys.modules["mine_codec"]
    experiment = make(cache, folder, "codec={kind: 'mine_codec:Mine'} search={kind: exhaustive}")
    _ = experiment.stages
    mine_codec.LOG.append(1)
    with pytest.raises(
        SourceChangedError, match=r"other globals than this process has now: LOG, mine_codec:Mine changed since"
    ):
        experiment.run("rank")


def test_two_classes_of_one_module_are_two_components(own):
    text = "from colbert_research.codecs import ExactConfig\nclass Mine(ExactConfig): pass\nclass Two(ExactConfig): pass\n"
    first = own({"mine_codec.py": text})
    assert sources_of("index", {"codec": sys.modules["mine_codec"].Two()})["hash"] != first


def test_a_class_made_inside_a_function_counts_with_what_is_around_it():
    from colbert_research.codecs import ExactConfig

    def made(n: int) -> type:
        class Hidden(ExactConfig):
            def more(self) -> int:
                return n

        return Hidden

    assert Live.of([made(1)]).digest == Live.of([made(1)]).digest != Live.of([made(2)]).digest


def test_what_cannot_be_told_from_another_is_refused(own):
    unpicklable = "class P:\n    def __reduce__(self):\n        raise TypeError('no')\np = P()"
    with pytest.raises(ConfigError, match=r"p is a P, which a component uses and which cannot be told from another one"):
        own(mine(above=unpicklable, body="p"))
    own(mine(above="import threading\nlock = threading.Lock()", body="lock"))


def test_modules_of_this_package_that_it_takes_names_from_count():
    found = {}
    for statement in ("from colbert_research.codecs import product", "import colbert_research"):
        name = "product" if "product" in statement else "colbert_research"
        namespace: dict = {"__name__": "elsewhere"}
        exec(f"{statement}\ndef f():\n    return {name}.Ragged if {name!r} != 'product' else {name}.ProductConfig", namespace)
        live = Live()
        live._hash(namespace["f"], "f")
        found[name] = live.modules
    assert "colbert_research.codecs.product" in found["product"]
    assert "colbert_research.ragged" in found["colbert_research"]
