"""What makes two experiments the same: settings off their defaults, the collection's contents, the encoder's files."""

import json
import shutil
from pathlib import Path

import pytest

from colbert_research.config import Config, config_id, load_config
from colbert_research.experiment import Experiment, ExperimentConfig, Workspace, config
from colbert_research.experiment.config import LatencyConfig
from colbert_research.experiment.workspace import DataChangedError
from colbert_research.index.build import BuildConfig
from colbert_research.search import ANNS, FIRST_STAGES, GRAPHS, IMPUTATIONS
from colbert_research.search.finders import FINDERS
from tests.experiment.small import TINY, make, write_folder

GOLDEN = Path(__file__).with_name("golden.json")
AXES = {
    **config.AXES,
    "ann": ANNS,
    "first_stage": FIRST_STAGES,
    "graph": GRAPHS,
    "imputation": IMPUTATIONS,
    "finder": FINDERS,
    "build": {"build": BuildConfig},
    "latency": {"latency": LatencyConfig},
    "experiment": {"experiment": ExperimentConfig},
}
CONFIGS = [
    "",
    "codec.nbits=2",
    "codec={kind: exact} search={kind: exhaustive}",
    "reducer={kind: svd, dim: 16}",
    "pooling={kind: ward, factor: 2}",
    "search={kind: warp, nprobe: 8}",
    "search={kind: rerank, depth: 100, first_stage: {kind: bm25}}",
    "encoder.dim=64",
    "seed=1 k=20",
    "latency.repeats=5",
]


def defaults_of(cls: type[Config]) -> dict[str, object]:
    """Every default of a config class, by the name of its field."""
    fields = {name: info for name, info in cls.model_fields.items() if not info.is_required()}
    return json.loads(json.dumps({n: i.get_default(call_default_factory=True) for n, i in fields.items()}, default=_plain))


def _plain(value: object) -> object:
    return value.model_dump(mode="json") if isinstance(value, Config) else list(value)  # type: ignore[call-overload]


def current() -> dict[str, object]:
    ids = {
        overrides: Experiment(
            load_config(ExperimentConfig, TINY, f"{overrides} measures=[nDCG@10,R@10]"), workspace=Workspace()
        ).id
        for overrides in CONFIGS
    }
    defaults = {axis: {kind: defaults_of(cls) for kind, cls in members.items()} for axis, members in AXES.items()}
    return {"ids": ids, "defaults": defaults}


def test_ids_stay_what_they_are():
    """Records are named by them; a change of one here renames what others cite."""
    assert current()["ids"] == json.loads(GOLDEN.read_text())["ids"]


def test_a_released_default_does_not_change_under_its_name():
    """An id leaves out what stands at its default, so another default would be another experiment under an old id.

    To change one, give the component another kind. New kinds and new settings are added to the file.
    """
    now = current()["defaults"]
    for axis, members in json.loads(GOLDEN.read_text())["defaults"].items():
        for kind, settings in members.items():
            for name, value in settings.items():
                assert now[axis][kind][name] == value, f"{axis} {kind}: the default of {name}"


def test_what_is_new_is_in_the_file():
    assert json.loads(GOLDEN.read_text()) == current(), "add it: python -m tests.experiment.test_identity"


class Old(Config):
    kind: str = "mine"
    size: int = 4


class New(Old):
    later: float = 0.5
    nested: BuildConfig = BuildConfig()


def test_a_new_setting_renames_nothing_that_existed():
    assert config_id(Old()) == config_id(New())
    assert config_id(Old(size=5)) == config_id(New(size=5)) != config_id(Old())
    assert config_id(New(later=0.6)) != config_id(New())
    assert config_id(New(nested=BuildConfig(chunk_tokens=1))) != config_id(New())


@pytest.mark.parametrize("value", ["4", 4, 4.0])
def test_a_default_that_is_written_out_is_the_default(value):
    assert config_id(Old(size=value)) == config_id(Old())


def test_two_collections_of_one_name_are_two_experiments(tmp_path, cache):
    """Folders with the same last name had one id, and overwrote each other's record."""
    one, other = write_folder(tmp_path / "a" / "fruit"), write_folder(tmp_path / "b" / "fruit", "{subject} of {i}")
    assert make(cache, one).id != make(cache, other).id


def test_one_collection_in_two_places_is_one_experiment(tmp_path, cache, folder):
    elsewhere = shutil.copytree(folder, tmp_path / "elsewhere")
    assert make(cache, folder).id == make(cache, elsewhere).id
    assert make(cache, folder).stages == make(cache, elsewhere).stages
    assert make(cache, folder, "dataset.text_fields=text").id != make(cache, folder).id


@pytest.mark.slow
def test_a_checkpoint_that_was_retrained_in_place_is_another_experiment(tmp_path, cache, folder):
    """It stayed `done` under the id of the weights before."""
    from safetensors.numpy import load_file, save_file

    from tests.encoders import tiny

    checkpoint = tiny.bare(tmp_path / "model")
    encoder = f"encoder={{kind: transformer, model: {checkpoint}, query_length: 12, document_length: 20}}"
    before, late = make(cache, folder, encoder), make(cache, folder, encoder)
    planned = before.stages
    weights = next(Path(checkpoint).glob("*.safetensors"))
    arrays = load_file(weights)
    name = sorted(arrays)[0]
    save_file({**arrays, name: arrays[name] + 1}, weights, metadata={"format": "pt"})
    after = make(cache, folder, encoder)
    assert after.id != before.id
    assert after.stages["encode documents"] != planned["encode documents"]
    with pytest.raises(DataChangedError, match="encoder's files were changed since this experiment was made"):
        _ = late.stages
    moved = shutil.copytree(checkpoint, tmp_path / "moved")
    assert make(cache, folder, encoder.replace(str(checkpoint), str(moved))).id == after.id
    assert make(cache, folder, encoder.replace("}", ", batch_tokens: 64}")).id != after.id


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(current(), indent=1, sort_keys=True) + "\n")
