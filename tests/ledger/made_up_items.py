"""Made-up records and a claim about them, for the tests of rules and of claims."""

from colbert_research.ledger import Evidence
from colbert_research.ledger.evidence import Item
from colbert_research.ledger.rules import MeanDifference

QUERIES = [f"q{i}" for i in range(60)]
CLAIM = {
    "id": "two-bits",
    "claim": "Two bits per dimension lose nothing",
    "paper": "Santhanam et al. 2022",
    "where": "Table 9",
    "published": "MRR@10 36.2 and 36.2",
    "rule": {
        "kind": "mean_difference",
        "measure": "RR@10",
        "of": {"codec.nbits": 2},
        "to": {"codec.kind": "exact"},
        "low": -0.01,
    },
}
ABLATION = {"name": "03", "question": "How many bits?", "ours": "frozen MiniLM", "claims": [CLAIM]}


def item(nbits, mean, *, collection="nfcorpus", wobble=0.0, centroids=64, **figures):
    """A record whose queries lie around `mean`, alternating by `wobble`."""
    values = {query: mean + wobble * (-1) ** i * (1 + i // 2 % 7) for i, query in enumerate(QUERIES)}
    codec = {"codec.kind": "exact"} if nbits is None else {"codec.kind": "residual", "codec.nbits": nbits}
    if nbits is not None:
        codec["codec.centroids"] = centroids
    return Item(
        f"{collection}-{nbits}-{centroids}-{mean}",
        collection,
        {**codec, "search.kind": "exhaustive", "dataset.path": collection},
        {"RR@10": sum(values.values()) / len(values), **figures},
        lambda: {"RR@10": values},
    )


def difference(**bounds):
    return MeanDifference(measure="RR@10", of={"codec.nbits": 2}, to={"codec.kind": "exact"}, **bounds)


EVIDENCE = Evidence(
    tuple(
        item(
            bits,
            0.5 + (bits or 9) / 1000,
            collection=name,
            **{"overlap@10": 0.9 + (bits or 9) / 100, "bytes/token": bits or 512},
        )
        for bits in (None, 1, 2, 4)
        for name in ("nfcorpus", "scifact")
    )
)
