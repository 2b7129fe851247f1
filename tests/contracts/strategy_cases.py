"""Settings of every member of STRATEGIES, the codecs that they run on, and token vectors to search."""

import numpy as np

from colbert_research.codecs import ExactConfig, ResidualConfig, ResidualProductConfig, ResidualRabitqConfig
from colbert_research.ragged import Ragged, offsets_of
from colbert_research.search import (
    Auto,
    CudaExhaustive,
    CudaPlaid,
    Emvb,
    Exhaustive,
    FastPlaid,
    Ladr,
    Muvera,
    NextPlaid,
    Operator,
    Plaid,
    Rerank,
    StanfordPlaid,
    TokenAnn,
    Warp,
    Weighted,
)

N_DOCUMENTS, DIM = 60, 32
CODECS = {
    "exact": ExactConfig(),
    "residual-4": ResidualConfig(nbits=4, centroids=16),
    "residual-1": ResidualConfig(nbits=1, centroids=8),
    "product": ResidualProductConfig(m=8, centroids=16),
    "opq": ResidualProductConfig(m=16, centroids=8, rotation="opq"),
    "rabitq": ResidualRabitqConfig(nbits=2, centroids=16),
}
# one or more settings of every member; those that need centroids name the codecs they run on
CASES = [
    *((Exhaustive(), codec) for codec in CODECS),
    (Plaid(ncells=2, ndocs=60, n_exact=60), "residual-4"),
    (Plaid(ncells=3, ndocs=40, n_exact=20, centroid_score_threshold={"quantile": 0.5}), "residual-4"),
    (Plaid(ncells=1, ndocs=30, n_exact=30, centroid_score_threshold={"value": 0.1}), "residual-1"),
    (Plaid(ncells=3, ndocs=40, n_exact=20, cell_score_threshold={"quantile": 0.5}), "residual-4"),
    (StanfordPlaid(), "residual-4"),
    (StanfordPlaid(ncells=3, centroid_score_threshold=0.1, ndocs=80), "residual-1"),
    (FastPlaid(n_ivf_probe=3, n_full_scores=160), "residual-4"),
    (NextPlaid(n_ivf_probe=3, n_full_scores=40, centroid_score_threshold=0.2), "residual-4"),
    *((Auto(), codec) for codec in CODECS),
    (Auto(exhaustive_tokens=0, ncells=2, n_exact=20), "residual-4"),
    (TokenAnn(ann="flat", k_tokens=20), "exact"),
    (TokenAnn(ann={"kind": "ivf", "nlist": 16, "nprobe": 3}, k_tokens=40, n_exact=15), "residual-4"),
    (TokenAnn(ann={"kind": "ivfpq", "nlist": 4, "nprobe": 2, "m": 8}, k_tokens=40), "residual-1"),
    (TokenAnn(ann={"kind": "hnsw", "m": 8, "ef_search": 40}, k_tokens=40, n_exact=15, deduplicate=False), "exact"),
    (Muvera(repetitions=4, k_sim=3, d_proj=8, n_candidates=20), "residual-4"),
    (Muvera(repetitions=2, k_sim=2, d_proj=None, d_final=64, storage="float16", n_candidates=15), "exact"),
    (Rerank(first_stage="mean_vector", depth=20), "residual-4"),
    (Rerank(first_stage={"kind": "lemur", "width": 48, "epochs": 0, "sample": 400}, depth=20), "residual-4"),
    (Rerank(first_stage={"kind": "lemur", "width": 32, "sample": 200, "epochs": 2, "storage": "float16"}, depth=20), "exact"),
    (Rerank(first_stage={"kind": "igp", "nprobe": 2}, depth=20), "residual-4"),
    (Rerank(first_stage={"kind": "igp", "nprobe": 1}, depth=10), "opq"),
    (Rerank(first_stage={"kind": "igp", "finder": {"kind": "hnsw", "m": 4, "ef_search": 6}}, depth=20), "residual-1"),
    (Rerank(first_stage="sparse", depth=20), "residual-4"),
    (Rerank(first_stage={"kind": "sparse", "atoms": 40, "document_atoms": 2, "query_atoms": 3}, depth=20), "exact"),
    (Ladr(first_stage="mean_vector", n_seeds=8, depth=5, graph={"neighbours": 4}), "residual-4"),
    (Warp(nprobe=4, exact_subset=20), "residual-4"),
    (Warp(nprobe=2, imputation={"kind": "top_k", "k_tokens": 30}, exact_subset=20), "residual-1"),
    *((Warp(nprobe=3, imputation=rule, exact_subset=20), "residual-4") for rule in ("none", "constant", "mean")),
    (Warp(nprobe=3, imputation="mean", exact_subset=20, finder={"kind": "hnsw", "m": 4, "ef_search": 6}), "residual-4"),
    (Emvb(ncells=3, n_filtered=40, n_exact=20), "residual-4"),
    (
        Emvb(ncells=2, bit_threshold={"quantile": 0.7}, n_filtered=25, n_exact=15, term_threshold={"quantile": 0.6}),
        "residual-1",
    ),
    (Weighted(first_stage="mean_vector", weight=0.5), "residual-4"),
    (Operator(), "exact"),
    (Operator(operator="mean"), "residual-4"),
    (Operator(operator="top", n=2, specials="drop"), "exact"),
    (Operator(operator="first"), "exact"),
]
CASES += [
    (strategy, codec)
    for codec in ("product", "opq", "rabitq")
    for strategy in (
        Plaid(ncells=3, ndocs=40, n_exact=20),
        Warp(nprobe=4, exact_subset=20),
        Warp(nprobe=2, imputation={"kind": "top_k", "k_tokens": 30}, exact_subset=20),
        Emvb(ncells=3, n_filtered=40, n_exact=20),
        Emvb(ncells=2, bit_threshold={"quantile": 0.7}, n_filtered=25, n_exact=15, term_threshold=None),
    )
]
ON_DEVICE = {"exhaustive": CudaExhaustive, "plaid": CudaPlaid}
CASES += [
    (ON_DEVICE[strategy.kind](**strategy.model_dump(exclude={"kind"})), codec)
    for strategy, codec in CASES
    if strategy.kind in ON_DEVICE
]
CASES.append((CudaExhaustive(memory_gb=9e-6), "residual-4"))  # about fifteen documents at a time
OWN_ORDER = {"weighted", "operator"}
"""Strategies that score every document, and not by MaxSim but in their exhaustive equivalent."""
OWN_SCORES = {"warp", "emvb", *OWN_ORDER}
"""Strategies whose scores are MaxSim only in their exhaustive equivalent; their own tests say what they are otherwise."""
IDS = [f"{strategy.kind}{i}-{codec}" for i, (strategy, codec) in enumerate(CASES)]


def clustered(seed: int, lengths) -> Ragged:
    """Unit vectors around 12 directions, so that centroids mean something."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(99).standard_normal((12, DIM))
    n = int(np.sum(lengths))
    values = directions[rng.integers(0, 12, n)] + 0.6 * rng.standard_normal((n, DIM))
    return Ragged((values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32), offsets_of(lengths))
