"""A finished experiment whose files are damaged: no wrong record, nothing blocked, nothing left behind."""

import os
import shutil

import pytest

from colbert_research.artifacts import read_json
from colbert_research.experiment import Record
from tests.experiment.small import make

RERUNS = {
    "same": "",
    "another codec": "codec.nbits=1",
    "another search": "search.nprobe=4",
    "another reducer": "reducer={kind: svd, dim: 8}",
}
OVERRIDES = "reducer={kind: svd, dim: 16} search={kind: warp, nprobe: 8}"


def damages(data: bytes) -> dict[str, bytes | None]:
    if not data:  # a file on which readers hold a lock, say
        return {"grown": b"\0", "gone": None}
    middle = len(data) // 2
    flipped, zeroed = bytearray(data), bytearray(data)
    flipped[middle] ^= 16
    zeroed[middle // 2 : middle // 2 + 64] = bytes(len(zeroed[middle // 2 : middle // 2 + 64]))
    last = bytearray(data)
    last[-1:] = bytes([last[-1] ^ 1])
    return {
        "flip": bytes(flipped),
        "last": bytes(last),
        "zero": bytes(zeroed),
        "cut": data[:middle],
        "empty": b"",
        "gone": None,
    }


def figures(record: Record) -> tuple[object, ...]:
    return record.id, dict(record.metrics), dict(record.results), dict(record.stages), dict(record.index["bytes"])


@pytest.mark.slow
def test_every_file_of_a_finished_experiment_damaged_six_ways(tmp_path, folder):
    """Of 984 reruns over damaged files, 55 wrote a record that looked normal and held wrong numbers."""
    whole = tmp_path / "whole"
    truth = {name: figures(make(whole, folder, (OVERRIDES, rerun), tmp_path / name).save()) for name, rerun in RERUNS.items()}
    shutil.rmtree(whole)
    make(whole, folder, OVERRIDES, tmp_path / "first").save()
    files = sorted(p.relative_to(whole) for p in whole.rglob("*") if p.is_file())
    assert len(files) > 25
    wrong, tried = [], 0
    for number, file in enumerate(files):
        for place, (how, data) in enumerate(damages((whole / file).read_bytes()).items()):
            if data == (whole / file).read_bytes() or not (os.environ.get("ALL_TRIALS") or (number + place) % 3 == 0):
                continue
            # every damage and every kind of rerun after it, where all are asked for; else they take turns
            names = list(RERUNS) if os.environ.get("ALL_TRIALS") else [list(RERUNS)[tried % len(RERUNS)]]
            for name in names:
                rerun, tried = RERUNS[name], tried + 1
                cache, out = tmp_path / "copy", tmp_path / "out"
                shutil.copytree(whole, cache, copy_function=os.link)
                (cache / file).unlink()
                if data is not None:
                    (cache / file).write_bytes(data)
                found = figures(make(cache, folder, (OVERRIDES, rerun), out).save())
                left = [p.name for p in cache.rglob(".*")] + [p.name for p in out.glob(".*")]
                if found != truth[name] or left:
                    wrong.append((str(file), how, name, left))
                Record.open(out).verify(out)
                shutil.rmtree(cache)
                shutil.rmtree(out)
    assert not wrong, f"{len(wrong)} of {tried}: {wrong[:5]}"
    assert tried > (900 if os.environ.get("ALL_TRIALS") else 80)


def test_a_damaged_artifact_is_named_and_mended(cache, folder, caplog, tmp_path):
    record = make(cache, folder).record
    file = next(cache.glob("index/*/index/segment-000001/residuals.npy"))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    again = make(cache, folder).record
    assert f"damaged: {file} is not what" in caplog.text
    assert figures(again) == figures(record)
    assert "index" not in again.measured["cached"]
    assert set(make(cache, folder).plan()["state"]) == {"cached"}


def test_nothing_is_computed_from_a_damaged_artifact(cache, folder, caplog):
    """The poison would lie in the cache under a good name."""
    truth = make(cache, folder, "codec.nbits=1").run("index").files["index/segment-000001/residuals.npy"]
    shutil.rmtree(cache / "index")
    file = make(cache, folder).run("encode documents").path / "vectors.npy"
    data = bytearray(file.read_bytes())
    data[-2] ^= 64
    file.write_bytes(data)
    found = make(cache, folder, "codec.nbits=1").run("index").files["index/segment-000001/residuals.npy"]
    assert found == truth
    assert f"damaged: {file}" in caplog.text


def test_a_stage_that_died_after_its_index_was_finished(cache, folder, monkeypatch):
    """Its folder held an index and no notes; every later run ended in FileExistsError."""
    from colbert_research import cache as cache_module

    def dies(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        experiment = make(cache, folder)
        experiment.run("cluster")
        patch.setattr(cache_module, "write_json", dies)
        with pytest.raises(KeyboardInterrupt):
            experiment.run("index")
    assert 0 < make(cache, folder).metrics["nDCG@10"] <= 1
    assert not list(cache.rglob(".*"))


def test_notes_hold_every_file(cache, folder):
    make(cache, folder).run("rank")
    for notes in cache.glob("*/*/done.json"):
        files = {p.relative_to(notes.parent).as_posix() for p in notes.parent.rglob("*") if p.is_file()}
        assert set(read_json(notes)["files"]) == files - {"done.json"}
