"""Exhaustive search and PLAID on a CUDA device: the searches of `exhaustive` and `plaid`, told to compute there."""

from typing import ClassVar, Literal, Self

from pydantic import Field

from colbert_research.codecs import TableCodec
from colbert_research.index import Index
from colbert_research.search.base import Opens
from colbert_research.search.device_copy import check_device, copy_of
from colbert_research.search.engine import Engine
from colbert_research.search.exhaustive import ExhaustiveSearch
from colbert_research.search.on_device import DeviceEngine
from colbert_research.search.plaid import PlaidSearch


class CudaExhaustive(ExhaustiveSearch):
    """What `exhaustive` finds. Over codes with a table or centroids alone, scores have the same bits; over exact vectors they
    differ by the rounding of the device's products (`kernels/cuda/dense.py`), and queries are rounded to the vectors' type.

    `memory_gb`: how much of the device's memory may be used, in 10^9 bytes; None: nine tenths of what is free when the index
    is first searched. The index is copied there once and stays for as long as it is open. One that does not fit is copied to
    pinned memory instead, and from there to the device at every search, shard by shard, each while the one before is scored.

    `centroid_scores`: the type of the query-centroid scores, of which every token reads one per query token. "float16" halves
    those reads, which are most of the work where codes have few bits, and moves scores by no more than
    `kernels.cuda.codes.maxsim_codes` states, so that rankings may differ from those of `exhaustive`.
    """

    opens: ClassVar[Opens] = {"score": ("centroid_scores",)}
    kind: Literal["cuda_exhaustive"] = "cuda_exhaustive"
    memory_gb: float | None = Field(None, gt=0)
    centroid_scores: Literal["float32", "float16"] = "float32"

    def exhaustive_equivalent(self, index: Index) -> Self:
        return self.model_copy(update={"centroid_scores": "float32"})

    def check_here(self) -> None:
        check_device(self.kind, "exhaustive")

    def check(self, index: Index, k: int) -> None:
        if self.centroid_scores != "float32" and not isinstance(index.codec, TableCodec):
            raise ValueError(
                f"search.centroid_scores={self.centroid_scores} is for codes that are scored with a table, and those of "
                f"{type(index.codec).__name__} have none; leave it out, or choose codec.kind=residual, product or "
                "residual_product"
            )

    def engine(self, index: Index) -> Engine:
        return DeviceEngine(copy_of(index, self.memory_gb), self.centroid_scores)


class CudaPlaid(PlaidSearch):
    """What `plaid` of the same settings finds, with the same scores.

    `memory_gb`: as in `cuda_exhaustive`; codes that do not fit are an error, because each query asks for other documents.
    """

    kind: Literal["cuda_plaid"] = "cuda_plaid"
    memory_gb: float | None = Field(None, gt=0)

    def check_here(self) -> None:
        check_device(self.kind, "plaid")

    def engine(self, index: Index) -> Engine:
        return DeviceEngine(copy_of(index, self.memory_gb, stream=False))
