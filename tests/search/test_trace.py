"""A trace shows stages in the order in which queries pass through them, whichever of them each query skips."""

import pytest

from colbert_research.search.trace import Trace, in_order

QUERIES = [
    ["probe", "candidates", "exact"],
    ["probe", "candidates", "interaction", "exact"],
    ["probe", "candidates", "pruned interaction", "interaction", "exact"],
]


def test_a_stage_that_the_first_query_skipped_stands_in_its_place():
    trace = Trace()
    for names in QUERIES:
        for name in names:
            with trace.stage(name) as count:
                count.documents += 1
    documents = {name: stage.documents for name, stage in trace.stages.items()}
    assert [*documents.items()] == [
        ("probe", 3),
        ("candidates", 3),
        ("pruned interaction", 1),
        ("interaction", 2),
        ("exact", 3),
    ]
    assert list(trace.work()) == list(trace.seconds()) == list(trace.stages)


@pytest.mark.parametrize(
    ("sequences", "expected"),
    [
        ([], []),
        ([["a", "c"], ["a", "b", "c"]], ["a", "b", "c"]),
        ([["b"], ["a", "b"]], ["a", "b"]),
        ([["a", "b", "a"], ["b", "c"]], ["a", "b", "c"]),
    ],
)
def test_in_order(sequences, expected):
    assert in_order(sequences) == expected
