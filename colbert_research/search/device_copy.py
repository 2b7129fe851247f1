"""`DeviceCopy`: an index on a CUDA device, copied there once and freed with the index."""

from functools import cached_property
from threading import Lock
from weakref import WeakKeyDictionary

from colbert_research.index import Index
from colbert_research.index.inverted import InvertedLists
from colbert_research.kernels.cuda.arrays import Array, Place, upload
from colbert_research.kernels.cuda.kept import Kept
from colbert_research.kernels.cuda.launch import home, missing
from colbert_research.kernels.cuda.transfer import free_bytes
from colbert_research.ragged import Ragged
from colbert_research.search.engine import SCORES_HELD
from colbert_research.search.shards import Shard, Shards, fits

FOR_SCORES = 1 / 8  # of the device's memory that may be used
FREE_TAKEN = 0.9  # of the device's free memory, where no limit is given

_copies: WeakKeyDictionary[Index, tuple[float | None, "DeviceCopy"]] = WeakKeyDictionary()
_made = Lock()


def check_device(kind: str, instead: str) -> None:
    """Raise RuntimeError where there is nothing to search on."""
    lacking = missing()
    if lacking:
        raise RuntimeError(
            f"search.kind={kind} searches on a CUDA device, and here {lacking}; choose search.kind={instead}, or "
            "pip install 'colbert-research[cuda13]' (or cuda12) on a machine with an NVIDIA GPU"
        )


def copy_of(index: Index, memory_gb: float | None, *, stream: bool = True) -> "DeviceCopy":
    """The copy of an index on the first CUDA device, made once and freed with the index; another `memory_gb` makes it anew.

    Raises ValueError for an index that does not fit, unless it may be streamed.
    """
    place = home(Place("numpy", None))
    with _made:
        limit, known = _copies.get(index, (None, None))
        if known is None or known.place.device != place.device or limit != memory_gb:
            _copies.pop(index, None)
            known = None  # freed before the next is made
            free = free_bytes(place)
            room = int(memory_gb * 1e9) if memory_gb is not None else None if free is None else int(free * FREE_TAKEN)
            if stream or fits(index, room):
                known = DeviceCopy(index, place, room)
                _copies[index] = memory_gb, known
        if known is None or (known.shards.resident is None and not stream):
            raise ValueError(
                f"the codes of {index!r} do not fit into search.memory_gb={memory_gb}; raise it, or choose "
                "search.kind=cuda_exhaustive, which streams them, or plaid"
            )
        return known


class DeviceCopy:
    """What a search on a device needs of an index; it does not hold the index itself. Arguments as of `Shards`.

    Each array is for work on the stream that is current when it is asked for (`Kept`).
    """

    def __init__(self, index: Index, place: Place, room: int | None) -> None:
        self.shards = Shards(index, place, room)
        self.place, self.codec, self.bytes_per_token, self.n_documents = (
            place,
            index.codec,
            index.bytes_per_token,
            index.n_positions,
        )
        self.scores_held = SCORES_HELD if room is None else min(SCORES_HELD, int(room * FOR_SCORES) // 4)
        self._starts, self.empty_cells = index.starts, index.empty_cells
        self._lists = [segment.inverted for segment in index.segments if segment.inverted is not None]

    @property
    def resident(self) -> Shard:
        """All documents, whose codes lie on the device; not for an index that is streamed."""
        assert self.shards.resident is not None
        return self.shards.resident

    @property
    def centroids(self) -> Array:
        """`(K, dim)` float32."""
        return self._centroids.here()

    @property
    def inverted(self) -> Ragged:
        """For each centroid, the documents of all segments with a token there, ascending."""
        return self._inverted.here()

    @cached_property
    def _centroids(self) -> Kept[Array]:
        assert self.codec.centroids is not None
        return Kept(upload(self.codec.centroids, self.place), self.place)

    @cached_property
    def _inverted(self) -> Kept[Ragged]:
        lists = InvertedLists.joined(self._lists, self._starts)
        return Kept(Ragged(upload(lists.documents, self.place), lists.offsets), self.place)
