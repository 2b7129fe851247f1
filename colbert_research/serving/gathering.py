"""`Gathering`: an encoder for callers on several threads, whose queries are encoded together while they wait."""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate, pairwise
from typing import Any

from colbert_research.encoders import Encoder
from colbert_research.encoders.base import TokenVectors, checked

Waiting = tuple[list[str], "Future[TokenVectors]"]


class Gathering:
    """Another encoder, on one thread of its own, which takes the next batch when it is done with the last.

    A network encodes a batch in little more time than a query, and tokenizers are for one thread at a time. `together`: the
    most queries of several callers in one batch; a caller's own are never divided, and 1 encodes every caller's by themselves.
    In other company a network may round a query's vectors otherwise, by 1e-6 or so, which scores in integers make 1e-3 of.
    Raises ValueError for `together` < 1.
    """

    def __init__(self, encoder: Encoder, together: int = 1) -> None:
        if together < 1:
            raise ValueError(f"at least one query is encoded at a time; given together={together}")
        self._encoder, self._together = encoder, together
        self._waiting: deque[Waiting] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="colbert_research encoder")

    @property
    def dim(self) -> int:
        return self._encoder.dim

    def encode_queries(self, texts: Sequence[str]) -> TokenVectors:
        future: Future[TokenVectors] = Future()
        self._waiting.append((checked(texts), future))
        self._thread.submit(self._next)
        return future.result()

    def encode_documents(self, texts: Sequence[str]) -> TokenVectors:
        return self._thread.submit(self._encoder.encode_documents, texts).result()

    def tokens(self, token_ids: Any) -> list[str]:
        return self._encoder.tokens(token_ids)

    def fingerprint(self) -> str:
        return self._encoder.fingerprint()

    def rounding(self) -> dict[str, Any]:
        return self._encoder.rounding()

    def _next(self) -> None:
        """Encode the first that wait; nothing, where an earlier batch had room for those that this one was asked for."""
        batch: list[Waiting] = []
        n = 0
        while self._waiting and (not batch or n + len(self._waiting[0][0]) <= self._together):
            batch.append(self._waiting.popleft())
            n += len(batch[-1][0])
        if batch:
            self._encode(batch)

    def _encode(self, batch: Sequence[Waiting]) -> None:
        try:
            found = self._encoder.encode_queries([text for texts, _ in batch for text in texts])
            ends = [0, *accumulate(len(texts) for texts, _ in batch)]
            if (n := len(found.vectors)) != ends[-1]:
                raise ValueError(f"expected token vectors of {ends[-1]} texts; the encoder gave those of {n}")
            parts = [TokenVectors(found.vectors.slice(*span), found.token_ids.slice(*span)) for span in pairwise(ends)]
        except Exception as error:  # noqa: BLE001 (raised where it was asked for)
            if len(batch) == 1:
                batch[0][1].set_exception(error)
            for each in batch if len(batch) > 1 else ():  # whose error it is shows by itself
                self._encode([each])
            return
        for (_, future), part in zip(batch, parts, strict=True):
            future.set_result(part)
