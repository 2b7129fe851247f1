"""The process of a worker of `processes`: calls come by its input, answers go by its output, each with its length before it.

It ends at the end of its input, at once, so that it does not outlive whoever gave it its calls, were that one killed.
"""

import os
import queue
import struct
import sys
import threading
from typing import BinaryIO

from colbert_research.executors.calls import answered

LENGTH = struct.Struct("<Q")


def main() -> None:
    """Perform calls until the input ends."""
    calls, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # a function reads no calls,
    os.dup2(2, 1)  # and what it prints is no answer
    inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(calls, inbox), daemon=True).start()
    while True:
        try:
            write(answers, answered(inbox.get()))
        except OSError:  # nobody is there any more
            os._exit(1)


def _listen(calls: BinaryIO, inbox: "queue.SimpleQueue[bytes]") -> None:
    while (call := read(calls)) is not None:
        inbox.put(call)
    sys.stderr.flush()
    os._exit(0)


def read(stream: BinaryIO) -> bytes | None:
    """The next message; None where the stream ends before one is whole."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (size,) = LENGTH.unpack(head)
    body = stream.read(size)
    return body if len(body) == size else None


def write(stream: BinaryIO, message: bytes) -> None:
    """Write a message."""
    stream.write(LENGTH.pack(len(message)))
    stream.write(message)
    stream.flush()
