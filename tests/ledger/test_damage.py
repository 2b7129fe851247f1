"""No verdict comes from a record that was damaged, forged or mixed in, and what is wrong is said in a sentence."""

import json
import shutil

import pytest
import yaml
from click.testing import CliRunner

from colbert_research.artifacts import read_json
from colbert_research.cli import main
from colbert_research.config import content_hash
from colbert_research.experiment.beside import write_beside
from colbert_research.experiment.overlaps import overlap_of
from colbert_research.experiment.record import Record
from colbert_research.ledger import Ablation, Claim, Evidence
from colbert_research.ledger.findings import UNTESTABLE, Finding
from colbert_research.ledger.ledger import finding_of, judge
from colbert_research.ledger.rules import Figure, MeanDifference
from tests.experiment.small import ROOT
from tests.ledger.made_up import make_up

CLAIM = {"id": "bits", "claim": "Four bits lose nothing", "paper": "Somebody 2022", "where": "Table 9", "published": "0.4"}
FOUR = {"codec.nbits": 4}


def claim(kind="figure", **rule):
    return Claim.model_validate({**CLAIM, "rule": {"kind": kind, "of": FOUR, "low": 0.01, **rule}})


@pytest.fixture
def runs(tmp_path):
    """Records of two and of four bits."""
    grid = {"base": str(ROOT / "configs" / "residual.yaml"), "overrides": {"measures": ["RR@10"]}}
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump({**grid, "points": [{"codec.nbits": 2}, {"codec.nbits": 4}]}))
    make_up(tmp_path / "grid.yaml", tmp_path / "03" / "quick")
    told = {"name": "03", "question": "How many bits?", "ours": "made up"}
    claims = [claim(figure="RR@10").model_dump(mode="json")]
    (tmp_path / "03" / "claims.yaml").write_text(yaml.safe_dump({**told, "records": ["quick"], "claims": claims}))
    return tmp_path / "03" / "quick"


def forge(folder, *, keep=("format",), **changes):
    """Write a record anew, with a check only where `keep` has it."""
    data = read_json(folder / "record.json")
    given = {name: value for name, value in data.items() if name in keep or name not in ("check", "format")}
    given.pop("check", None)
    whole = {**given, **changes}
    (folder / "record.json").write_text(json.dumps(whole | ({"check": content_hash(whole)} if "check" in keep else {})))


def judged(runs) -> Finding:
    ablation = Ablation.load(runs.parent / "claims.yaml")
    return judge(ablation, runs.parent)[0].finding


def ledger(runs, *words):
    """What the command says, without a traceback."""
    said = CliRunner().invoke(main, ["ledger", str(runs.parent), *map(str, words)])
    assert said.exception is None or isinstance(said.exception, SystemExit), said.exception
    return said


def test_a_record_that_lost_its_check_is_none(runs, caplog):
    before = judged(runs)
    forge(runs / "001", metrics={"RR@10": 0.99})
    after = judged(runs)
    assert "was changed since it was written" in caplog.text
    assert (before.records != (), after.records, after.verdict) == (True, (), UNTESTABLE)
    assert f"without {runs / '001'}, which cannot be read" in after.reason


@pytest.mark.parametrize("name", ["config", "dataset", "stages", "metrics", "work", "index", "measured", "results", "files"])
@pytest.mark.parametrize("value", [7, [1], None])
def test_a_record_of_another_shape_is_named_and_passed_over(runs, caplog, name, value):
    forge(runs / "001", keep=("check", "format"), **{name: value})
    assert ledger(runs).exit_code == 0
    assert judged(runs).verdict == UNTESTABLE
    assert "passed over" in caplog.text


@pytest.mark.parametrize("changes", [{"index": {}}, {"dataset": {"name": "a"}}, {"work": {"probe": 3}}, {"measured": {}}])
def test_a_record_that_lacks_what_figures_are_made_of_is_passed_over(runs, caplog, changes):
    forge(runs / "001", keep=("check", "format"), **changes)
    assert ledger(runs).exit_code == 0
    assert (judged(runs).verdict, "passed over" in caplog.text) == (UNTESTABLE, True)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 200_000], ids=["empty", "half", "a list", "deep"])
def test_a_record_that_is_no_json_is_said_in_the_reason(runs, text):
    (runs / "000" / "record.json").write_text(text)
    assert ledger(runs).exit_code == 0
    found = judged(runs)
    assert found.records and f"without {runs / '000'}, which cannot be read" in found.reason


def test_a_copy_counts_once(runs, caplog):
    before = judged(runs)
    own = runs / Record.open(runs / "001").id
    (runs / "001").rename(own)
    shutil.copytree(own, runs / "000000000000")
    assert len(Evidence.below(runs).items) == 2
    assert judged(runs) == before
    assert f"passed over: {runs / '000000000000'} holds the record of {own} a second time" in caplog.text


def test_two_collections_of_one_name_are_not_averaged(runs):
    """As a sample of a collection beside the whole, or one whose judgements were corrected."""
    dataset = read_json(runs / "000" / "record.json")["dataset"]
    forge(runs / "000", keep=("check", "format"), dataset=dataset | {"fingerprint": "another"})
    found = judged(runs)
    assert found.verdict == UNTESTABLE
    assert f"are of two collections that are both called {dataset['name']}" in found.reason


@pytest.mark.parametrize("damage", [{"figures": [1]}, {"figures": {"a": "x"}}, {"figures": None}, {"overlap@10": 0.99}])
def test_what_was_measured_beside_a_record_is_seen_to_be_changed(runs, damage, caplog):
    record, file = Record.open(runs / "001"), runs / "001" / "overlap.json"
    write_beside(file, {**read_json(file), "rankings": {"own": ""}})
    assert overlap_of(runs / "001", record) is not None
    file.write_text(json.dumps(read_json(file) | damage))
    assert overlap_of(runs / "001", record) is None
    assert finding_of(claim(figure="overlap@10"), Evidence.below(runs)).verdict == UNTESTABLE
    assert f"passed over: {file}" in caplog.text


@pytest.mark.parametrize("text", ['{"index": "residual"}', '{"index": "residual", "figures": {"a": "x"}}', "[" * 99_999])
def test_figures_of_clusters_that_are_none_are_passed_over(runs, text):
    name = read_json(runs / "001" / "record.json")["stages"]["index"]
    (runs / "001" / "anatomy.json").write_text(text.replace("residual", name))
    assert ledger(runs).exit_code == 0
    assert judged(runs).records


@pytest.mark.parametrize(
    "line", [b'{"ms": NaN}', b'{"ms": Infinity}', b'{"ms": 1' + b"0" * 400 + b"}", b"\xff\xfe", b"[" * 99_999, b'{"ms": 4']
)
def test_lines_of_a_benchmark_that_hold_no_number_are_passed_over(runs, line, caplog):
    (runs / "bench.jsonl").write_bytes(line + b"\n")
    found = finding_of(claim(figure="ms", of={"collection": "bench"}), Evidence.below(runs))
    assert (found.verdict, found.records) == (UNTESTABLE, ())
    assert "bench.jsonl" in caplog.text


def test_a_folder_called_like_lines_of_a_benchmark_is_passed_over(runs):
    (runs / "bench.jsonl").mkdir()
    assert judged(runs).records


def test_a_ratio_to_nothing_is_not_told(runs):
    record = read_json(runs / "000" / "record.json")
    forge(runs / "000", keep=("check", "format"), metrics={**record["metrics"], "RR@10": 0.0})
    beside = {"of": FOUR, "to": {"codec.nbits": 2}}
    exists = {"kind": "exists", **beside, "conditions": [{"figure": "RR@10", "ratio": True, "low": 0.1}]}
    rules = [claim("ratio", figure="RR@10", to=beside["to"]), Claim.model_validate({**CLAIM, "rule": exists})]
    for each in rules:
        found = finding_of(each, Evidence.below(runs))
        assert (found.verdict, "no ratio above 0" in found.reason) == (UNTESTABLE, True)


def test_a_difference_that_holds_always_is_no_rule():
    for bounds in ({"low": -1}, {"low": -5}, {"high": 1.0}, {"low": -2, "high": 3}):
        with pytest.raises(ValueError, match="this is no rule"):
            MeanDifference(of=FOUR, to={}, **bounds)
    assert Figure(figure="bytes/token", of=FOUR, low=-5)


def table(runs) -> bytes:
    return f"<!-- ledger of {runs.parent.as_posix()} -->\nold\n<!-- end of ledger -->".encode()


@pytest.mark.parametrize(
    ("page", "said"),
    [(b"nothing\n", "lacks the lines"), (b"TABLE open\n", "lacks the lines"), (b"\xff TABLE", "not UTF-8")],
)
def test_a_page_that_is_none_stays_as_it_is(runs, tmp_path, page, said):
    page = page.replace(b"TABLE open", table(runs)[:-10]).replace(b"TABLE", table(runs))
    (tmp_path / "page.md").write_bytes(page)
    run = ledger(runs, "--into", tmp_path / "page.md")
    assert (run.exit_code, said in run.output) == (1, True)
    assert (tmp_path / "page.md").read_bytes() == page


def test_what_stands_around_the_table_stays_byte_for_byte(runs, tmp_path):
    file, link = tmp_path / "page.md", tmp_path / "link.md"
    file.write_bytes(b"a\r\n" + table(runs).replace(b"\n", b"\r\n") + b"\r\nb\rc")
    link.symlink_to(file)
    assert ledger(runs, "--into", link).exit_code == 0
    text = file.read_bytes()
    assert text.startswith(b"a\r\n<!-- ledger of ") and text.endswith(b"<!-- end of ledger -->\r\nb\rc")
    assert link.is_symlink() and b"old" not in text


def test_a_page_that_may_not_be_written_is_refused(runs, tmp_path):
    file = tmp_path / "page.md"
    file.write_bytes(table(runs))
    file.chmod(0o444)
    run = ledger(runs, "--into", file)
    assert (run.exit_code, "may not be written to" in run.output) == (1, True)
    assert file.read_bytes() == table(runs)
    (tmp_path / "taken").write_text("")
    run = ledger(runs, "--write", tmp_path / "taken" / "below")
    assert (run.exit_code, "Error: " in run.output) == (1, True)
