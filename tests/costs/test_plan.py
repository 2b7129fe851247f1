"""Plans: sums, shards, machines, what is said of a figure, and what is refused."""

import json
import math
from dataclasses import replace

import pytest

from colbert_research.costs import Measurements, Request, planned, text
from colbert_research.costs.measurements import Latency, Size, Timing
from colbert_research.costs.tails import Tail
from colbert_research.settings import ConfigError

STRATEGY = "plaid"
MILLION = 1_000_000


def made_up(sizes=(MILLION, 3 * MILLION, 10 * MILLION), machine="a machine", codec="residual nbits=2 centroids=16"):
    """Searches of one millisecond for a million tokens; codes and encoding of a microsecond a token."""
    where = {"machine": machine, "threads": 2, "source": "made up"}
    latencies = tuple(
        Latency(STRATEGY, codec, size, 8, size / MILLION, 2 * size / MILLION, size / MILLION, **where) for size in sizes
    )
    timings = tuple(
        Timing(stage, by, size, 8, size * 1e-6, **where)
        for size in sizes
        for stage, by in (("encode", "an encoder"), ("cluster", codec), ("codes", codec))
    )
    return Measurements(timings, latencies, (), (), "made up")


def asked(**changes):
    given = {"documents": 100_000, "tokens_per_document": 10, "dim": 8, "codec": "residual nbits=2 centroids=16"}
    return Request(**{**given, **changes})


def test_parts_add_up_and_grow_with_the_documents():
    small, large = (planned(asked(documents=n, shards=1), made_up()) for n in (100_000, 200_000))
    for plan in (small, large):
        *parts, total = plan.bytes
        assert total.part == "total"
        assert sum(each.bytes for each in parts) == total.bytes
        *stages, total_hours = plan.hours
        assert [each.stage for each in stages] == ["encode", "cluster", "codes"]
        assert total_hours.hours == pytest.approx(sum(each.hours for each in stages))
    codes = [next(e.bytes for e in plan.bytes if e.part == "codes") for plan in (small, large)]
    assert codes[1] - codes[0] == MILLION * (2 + 2 + 2), "a centroid id, 8 dimensions of 2 bits, an inverse norm"


def test_hours_are_those_of_the_rates():
    encode = planned(asked(cores=4), made_up()).hours[0]
    assert encode.core_hours == pytest.approx(MILLION * 1e-6 * 2 / 3600)
    assert encode.hours == pytest.approx(encode.core_hours / 4)
    given = planned(asked(tokens_per_second=1000, shards=2), made_up()).hours[0]
    assert (given.core_hours, given.source) == (None, "given")
    assert given.hours == pytest.approx(MILLION / 1000 / 3600)


def test_shards_are_the_fewest_that_fit():
    whole = planned(asked(shards=1), made_up()).memory_bytes
    assert planned(asked(memory=whole), made_up()).shards == 1
    plan = planned(asked(memory=whole / 3), made_up())
    assert plan.shards > 3, "every shard has centroids and headers of its own"
    assert plan.memory_bytes <= whole / 3
    assert planned(asked(memory=whole / 3, shards=plan.shards - 1), made_up()).memory_bytes > whole / 3


def test_machines_follow_from_queries_and_shards():
    def machines(**changes):
        (found,) = planned(asked(cores=2, utilisation=0.5, **changes), made_up()).milliseconds
        return found.replicas, found.machines

    assert machines(shards=1, queries_per_second=0) == (1, 1)
    # a query keeps 2 threads busy for a millisecond, of the thousand that half of 2 cores have
    assert machines(shards=1, queries_per_second=500) == (1, 1)
    assert machines(shards=1, queries_per_second=501) == (2, 2)
    assert machines(shards=4, queries_per_second=501) == (1, 4)


def test_the_slowest_shard_is_what_was_measured_of_the_strategy():
    tails = (Tail(STRATEGY, 1, 1.0, 1.0, "made up"), Tail(STRATEGY, 100, 3.0, 2.0, "made up"))
    measured = replace(made_up(), tails=tails)

    def slowest(shards):
        (found,) = planned(asked(shards=shards), measured).milliseconds
        return None if found.slowest is None else (found.slowest[0] / found.median, found.slowest[1] / found.p95)

    assert slowest(1) == (1, 1)
    assert slowest(10) == pytest.approx((2, 1.5))
    assert slowest(100) == pytest.approx((3, 2))
    assert slowest(101) is None
    assert planned(asked(shards=10), made_up()).milliseconds[0].slowest is None


def test_the_95th_percentile_of_the_slowest_shard_is_at_least_its_median():
    """Which multiples of a machine where times spread more would deny."""
    tails = (Tail(STRATEGY, 10, 3.0, 1.1, "made up"),)
    (found,) = planned(asked(shards=10), replace(made_up(), tails=tails)).milliseconds
    assert found.slowest == pytest.approx((3 * found.median,) * 2)


def test_what_is_extrapolated_says_how_far():
    plan = planned(asked(documents=10**9, shards=1), made_up())
    assert plan.milliseconds[0].beyond == pytest.approx(1000)
    assert not any("guess" in note for note in plan.notes)
    far = planned(asked(documents=4 * 10**9, shards=1), made_up())
    (note,) = (note for note in far.notes if "guess" in note)
    assert "extrapolated up to 4,000 times beyond what was measured: " in note
    assert STRATEGY in note
    assert "4,000 times (a guess)" in text(far)


def test_the_machine_that_measured_the_largest_index_is_believed():
    """Not one with a hundred times of small ones, from which more would have to be extrapolated."""
    far, near = made_up((MILLION, 30 * MILLION), "far"), made_up((20_000, 40_000, 80_000, 5 * MILLION), "near")
    measured = replace(near, timings=near.timings * 9 + far.timings, latencies=near.latencies * 9 + far.latencies)
    plan = planned(asked(), measured)
    assert all(f"on far, {n}" in each.source for each, n in zip(plan.hours[:3], ("2 runs",) * 3, strict=True))
    assert "on far, " in plan.milliseconds[0].source


def test_the_machine_that_was_asked_for_comes_first_and_others_where_it_measured_nothing():
    both = made_up()
    other = made_up((MILLION,), "another", "residual nbits=2 centroids=16")
    cheap = tuple(replace(each, seconds=each.seconds / 10) for each in other.timings if each.stage == "codes")
    measured = replace(both, timings=both.timings + cheap, latencies=both.latencies + other.latencies)
    by_default, chosen = planned(asked(), measured), planned(asked(machine="another"), measured)
    assert "a machine" in by_default.hours[2].source
    assert "another" in chosen.hours[2].source
    assert "a machine" in chosen.hours[1].source
    assert "another" in chosen.milliseconds[0].source
    for wrong in ("no such", "a"):
        with pytest.raises(ConfigError, match="of those that measured"):
            planned(asked(machine=wrong), measured)


def test_what_nobody_measured_is_not_predicted():
    plan = planned(asked(codec="scalar nbits=8"), made_up())
    assert [each.stage for each in plan.hours] == ["encode"]
    assert plan.milliseconds == ()
    assert any("not predicted: the time of codes for scalar nbits=8" in note for note in plan.notes)
    assert any("no search was timed over scalar codes of 8 dimensions" in note for note in plan.notes)
    assert any("there are 8 dimensions" in note for note in planned(asked(dim=16), made_up()).notes)


def test_a_strategy_whose_growth_is_not_known_is_predicted_nearby_alone():
    few = made_up((MILLION, 2 * MILLION))
    near, far = (planned(asked(documents=n, shards=1), few) for n in (2 * MILLION, 2 * MILLION + 1))
    assert [each.strategy for each in near.milliseconds] == [STRATEGY]
    assert far.milliseconds == ()
    assert any(note.endswith(f"timed on fewer than 3 sizes, all more than 10 times smaller: {STRATEGY}") for note in far.notes)


def test_one_setting_of_a_strategy_is_shown_and_the_others_are_counted():
    """The one that was timed on the most sizes; of those that are not predicted, a kind with several is named once."""
    few, many = (replace(made_up(sizes), timings=()) for sizes in ((MILLION,), (MILLION, 2 * MILLION, 3 * MILLION)))
    others = tuple(replace(each, strategy=f"{STRATEGY} n_exact={n}", median=70.0 + n) for n in (1, 2) for each in few.latencies)
    measured = replace(many, latencies=others + many.latencies)
    plan = planned(asked(shards=1), measured)
    brief, whole = text(plan), text(plan, every=True)
    assert (brief.count("\nplaid"), whole.count("\nplaid")) == (2, 6), "a row, and a line of what it stands on"
    assert "\nplaid 3 " in whole
    assert "n_exact" not in brief
    assert "n_exact=2; measured" in whole
    assert brief.endswith("2 more settings were timed; --all shows them")
    far = planned(asked(documents=10**7, shards=1), measured)
    assert far.unpredicted == (f"{STRATEGY} n_exact=1", f"{STRATEGY} n_exact=2")
    assert far.notes[-1].endswith("smaller: plaid (2 settings)")


def test_a_plan_is_json_without_what_json_lacks():
    plan = planned(asked(), made_up((MILLION,)))
    found = json.loads(json.dumps(plan.to_json(), allow_nan=False))
    assert found["milliseconds"][0]["exponent"] is None
    assert found["shard"]["tokens"] == MILLION


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"documents": 0}, r"documents is a number from 1 to 1e\+15; given 0"),
        ({"documents": 10**30}, "documents is a number"),
        ({"documents": 10**400}, r"given 100000000000… \(401 digits\)"),
        ({"tokens_per_document": 1e30}, "tokens_per_document is a number"),
        ({"documents": 10**15, "tokens_per_document": 1e9}, r"are more than 1e\+18 tokens"),
        ({"dim": 10**6}, "dim is a number from 1 to 16384"),
        ({"cores": 10**30}, "cores is a number"),
        ({"memory": 1e300}, "memory is a number"),
        ({"tokens_per_document": -1}, "tokens_per_document"),
        ({"tokens_per_document": math.nan}, "tokens_per_document"),
        ({"queries_per_second": math.inf}, "queries_per_second"),
        ({"utilisation": 0}, "utilisation is a share"),
        ({"utilisation": 1.5}, "utilisation is a share"),
        ({"shards": 100_001}, "cannot be cut into 100001 shards"),
        ({"codec": "residul"}, "did you mean 'residual'"),
        ({"codec": "residual nbits=3"}, "nbits"),
        ({"memory": 1, "codec": "scalar"}, "no shard fits a memory of 1 bytes"),
    ],
)
def test_bad_requests_are_refused_with_a_sentence(changes, said):
    with pytest.raises(ConfigError, match=said):
        planned(asked(**changes), made_up())


def test_a_strategy_whose_structures_do_not_fit_says_so():
    size = Size(
        "residual nbits=2 centroids=16", 1000, 10_000, 8, {"codes": 1, "total": 1}, {"tokens_by_cell": 80_000}, "made up"
    )
    warp = tuple(replace(each, strategy="warp") for each in made_up().latencies)
    measured = replace(made_up(), latencies=warp, sizes=(size,))
    memory = planned(asked(shards=1), measured).memory_bytes
    fits, does_not = (planned(asked(shards=1, memory=memory + extra), measured) for extra in (8 * MILLION, 8 * MILLION - 1))
    assert fits.milliseconds[0].beside == 8 * MILLION, "eight bytes a token"
    assert fits.milliseconds[0].machines == 1
    assert does_not.milliseconds[0].machines is None
    assert "more memory" in text(replace(does_not, request=asked(shards=1, queries_per_second=1)))
