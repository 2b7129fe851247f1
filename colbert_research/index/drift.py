"""How far the codes of documents that were added lie from their vectors, compared with those that the codec was fitted for."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colbert_research.codecs import Codec
from colbert_research.codecs.base import Codes

logger = logging.getLogger("colbert_research")
MEASURED = 2**17  # tokens of a build that are measured, evenly spaced
TOKENS, BEYOND, MEAN = 1000, 0.15, 1.25
"""Drift is large when of at least so many added tokens more than this share lies beyond the 99th percentile of the build's, of
which 0.01 does, or when their mean is more than so many times the build's. Tokens that centroids were fitted on lie nearer to
them than others of the same kind: of synthetic ones, at 40 tokens a centroid, .1 of such others lie beyond."""


def errors_of(codec: Codec, vectors: NDArray[np.float32], codes: Codes) -> NDArray[np.float32]:
    """`(n,)` lengths of what centroids of vectors `(n, dim)` leave over; without centroids, of what decoding loses."""
    of = codec.centroids[codes["centroid_ids"]] if codec.centroids is not None else codec.decode(codes)
    return np.asarray(np.linalg.norm(vectors - of, axis=1), np.float32)


class Errors:
    """Collects the errors of every `step`-th token of what is encoded chunk by chunk."""

    def __init__(self, codec: Codec, n_tokens: int) -> None:
        self._codec, self._step, self._seen = codec, max(1, -(-n_tokens // MEASURED)), 0
        self._parts = [np.empty(0, np.float32)]

    def look(self, vectors: NDArray[np.float32], codes: Codes) -> None:
        rows = slice(-self._seen % self._step, None, self._step)
        self._seen += len(vectors)
        self._parts.append(errors_of(self._codec, vectors[rows], {name: array[rows] for name, array in codes.items()}))

    def of_added(self, build: Mapping[str, Any] | None) -> dict[str, Any]:
        """What a manifest keeps of a segment that was added: `tokens`, `mean`, and the share `beyond` the build's `p99`."""
        errors = self.measured()
        if build is None or not len(errors):
            return {"tokens": 0, "mean": 0.0, "beyond": 0.0}
        beyond = np.mean(errors > build["p99"] * (1 + 1e-5))  # which was rounded
        return {"tokens": len(errors), "mean": _short(errors.mean(dtype=np.float64)), "beyond": _short(beyond)}

    def measured(self) -> NDArray[np.float32]:
        return np.concatenate(self._parts)


def of_build(parts: Iterable[Errors]) -> dict[str, Any]:
    """What a manifest keeps of a build: how many `tokens` were measured, their `mean` and 99th percentile `p99`."""
    errors = np.concatenate([np.empty(0, np.float32), *(part.measured() for part in parts)])
    if not len(errors):
        return {"tokens": 0, "mean": 0.0, "p99": 0.0}
    return {"tokens": len(errors), "mean": _short(errors.mean(dtype=np.float64)), "p99": _short(np.quantile(errors, 0.99))}


@dataclass(frozen=True)
class Drift:
    """Lengths of residuals (distances to the nearest centroid; of a codec without centroids, to the decoded vector).

    Of the build: the `tokens` measured, their `mean` and 99th percentile `p99`. Of all that was added since: `added` tokens
    measured, `added_mean`, and the share `beyond` the build's `p99`, of which the build has 0.01.
    """

    tokens: int
    mean: float
    p99: float
    added: int
    added_mean: float
    beyond: float

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> "Drift | None":
        """From a manifest; None where the index was built before this was measured."""
        if "errors" not in manifest:
            return None
        added = total([part["errors"] for part in manifest["segments"] if "errors" in part], manifest.get("added_before"))
        build = manifest["errors"]
        return cls(build["tokens"], build["mean"], build["p99"], added["tokens"], added["mean"], added["beyond"])

    @property
    def is_large(self) -> bool:
        """Whether at least 1000 added tokens were measured, and more than 15 % lie beyond the build's 99th percentile or their
        mean is more than 1.25 times the build's."""
        return self.added >= TOKENS and (self.beyond > BEYOND or self.added_mean > MEAN * self.mean)

    def words(self) -> str:
        """One sentence."""
        return (
            f"of {self.added} tokens added since the build, {self.beyond:.1%} lie farther from their codes than 99 % of the "
            f"build's, and on average {self.added_mean:.4g} from them, where the build's lie {self.mean:.4g}"
        )


def total(parts: list[Mapping[str, Any]], before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Several entries of `Errors.of_added` as one."""
    every = [*parts, *([before] if before else [])]
    tokens = sum(part["tokens"] for part in every)
    if not tokens:
        return {"tokens": 0, "mean": 0.0, "beyond": 0.0}
    return {
        "tokens": tokens,
        **{name: _short(sum(part["tokens"] * part[name] for part in every) / tokens) for name in ("mean", "beyond")},
    }


def _short(number: Any) -> float:
    """Six digits, so that a machine's rounding does not show."""
    return float(f"{float(number):.6g}")


def warn_when_large(before: Mapping[str, Any], after: Mapping[str, Any], path: Path) -> None:
    """Log a warning when drift became large (`Drift.is_large`) from one manifest to the next."""
    earlier, later = Drift.of(before), Drift.of(after)
    if later is not None and later.is_large and not (earlier is not None and earlier.is_large):
        logger.warning("%s: %s; index.rebuild fits the codec anew", path, later.words())
