"""Makes the folders beside it with the engines themselves: `python make.py stanford|pylate|fast_plaid`.

Run it in an environment with pylate 1.6.0 and fast-plaid 1.4.6, which is not this project's. `<engine>.scores.json` holds what
the engine found for each query of `queries.npy`, with its pruning opened. Files that an import does not read are left out.
"""

import json
import sys

import numpy as np
import torch

DIM, NBITS, N = 32, 2, 40


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


engine = sys.argv[1]
rng = np.random.default_rng(7)
themes = rng.standard_normal((6, DIM))
docs = [unit(themes[rng.integers(6, size=n)] + 0.5 * rng.standard_normal((n, DIM))) for n in rng.integers(15, 26, N)]
queries = [unit(themes[rng.integers(6, size=5)] + 0.5 * rng.standard_normal((5, DIM))) for _ in range(4)]
ids = [f"doc-{i}" for i in range(N)]
if engine == "fast_plaid":
    from fast_plaid.search import FastPlaid

    index = FastPlaid(index=engine, device="cpu")
    metadata = [{"year": 1990 + i, "lang": "en" if i % 2 else None} for i in range(N)]
    index.create(documents_embeddings=[torch.from_numpy(doc) for doc in docs], nbits=NBITS, metadata=metadata)
    index.delete([2])  # documents behind it take its number
    found = index.search([torch.from_numpy(q) for q in queries], top_k=N - 1, n_ivf_probe=64, n_full_scores=4096)
    scores = [[[str(number), float(score)] for number, score in each] for each in found]
else:
    if engine == "stanford":
        from pylate.indexes.stanford_plaid import StanfordPLAID

        knobs = {"ncells": 64, "centroid_score_threshold": -2.0, "ndocs": 4096}
        index = StanfordPLAID(index_folder=".", index_name=engine, override=True, embedding_size=DIM, nbits=NBITS, **knobs)
    else:
        from pylate.indexes import PLAID

        knobs = {"n_ivf_probe": 64, "n_full_scores": 4096}
        index = PLAID(index_folder=".", index_name=engine, override=True, nbits=NBITS, device="cpu", **knobs)
    index.add_documents(ids, [torch.from_numpy(doc) for doc in docs])
    found = index([torch.from_numpy(q) for q in queries], k=N)
    scores = [[[each["id"], float(each["score"])] for each in query] for query in found]
with open(f"{engine}.scores.json", "w") as handle:
    json.dump(scores, handle)
np.save("queries.npy", np.stack(queries))
