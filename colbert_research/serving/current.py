"""`Current`: what answers from the newest generation of an index, replaced whole when there is a newer one."""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from colbert_research.index.manifest import MANIFEST
from colbert_research.search.retriever import Retriever
from colbert_research.serving.base import Answering
from colbert_research.serving.local import newest

logger = logging.getLogger("colbert_research.serving")

Opening = Callable[[Retriever], AbstractContextManager[Answering]]
"""Starts what answers from the generation of a retriever; closed when the last who asked it has its answer."""
WARM_UP = "what does the first query find"


class Current:
    """The `Answering` of the newest generation that could be opened.

    Whoever uses one keeps it until he is done, also when it is replaced meanwhile. One that is put in place has answered a
    query, so that nobody waits for what is read or compiled at first use. `fault`: why the newest generation on disk is not
    the one that answers, in a sentence; empty where it is. Raises as `opening` does.
    """

    def __init__(self, retriever: Retriever, opening: Opening) -> None:
        self._opening, self.fault = opening, ""
        self._file = retriever.index.path / MANIFEST
        self._seen: tuple[int, int, int] | None = None  # it may have changed since the retriever was opened
        self._lock, self._closed = threading.Lock(), False
        self._held = _Held(retriever, opening)

    @property
    def retriever(self) -> Retriever:
        return self._held.retriever

    @contextmanager
    def use(self) -> Iterator[Answering]:
        """What answers now, for as long as the block runs."""
        with self._lock:
            held = self._held
            held.users += 1
        try:
            yield held.answering
        finally:
            self._leave(held)

    def follow(self) -> bool:
        """Look whether the index changed, and put what answers from its newest generation in place; whether that was done.

        Raises nothing: what cannot be opened is logged, kept in `fault` and tried again the next time, while the generation
        before it goes on answering.
        """
        before = self._held
        try:
            seen = _identity(self._file)
            if seen == self._seen and not self.fault:
                return False
            retriever = newest(before.retriever)
            if retriever is before.retriever:  # its manifest names another structure, say
                self._seen, self.fault = seen, ""
                return False
            held = _Held(retriever, self._opening)
        except Exception as error:  # whatever it is, the server goes on
            generation = before.retriever.index.generation
            fault = f"generation {generation} answers, because the newest cannot be opened: {' '.join(str(error).split())}"
            if fault != self.fault:
                logger.error("%s", fault, exc_info=error)
            self.fault = fault
            return False
        with self._lock:
            if not (closed := self._closed):
                self._held, self._seen, self.fault = held, seen, ""
        if closed:
            held.stack.close()
            return False
        self._leave(before)
        logger.info("generation %d answers: %r", retriever.index.generation, retriever.index)
        return True

    def close(self) -> None:
        """Close what answers, also for those who use it still; no other is put in its place."""
        with self._lock:
            self._closed = True
        self._held.stack.close()

    def _leave(self, held: "_Held") -> None:
        with self._lock:
            held.users -= 1
            last = held.users == 0
        if last:
            held.stack.close()


class _Held:
    """An `Answering`, and how many use it; one of them is whoever put it in place."""

    def __init__(self, retriever: Retriever, opening: Opening) -> None:
        self.retriever, self.users = retriever, 1
        with ExitStack() as stack:
            self.answering = stack.enter_context(opening(retriever))
            self.answering.answer([WARM_UP], 1)
            self.stack = stack.pop_all()


def _identity(file: "os.PathLike[str]") -> tuple[int, int, int]:
    """What tells a manifest from the one that was there before."""
    found = os.stat(file)
    return found.st_ino, found.st_mtime_ns, found.st_size
