"""Calls of a function, as bytes that cross to a worker, and what it answers."""

import os
import pickle
import platform
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from operator import attrgetter
from typing import Any

LONGEST = 200  # characters of an item in a message


def check_function(function: Callable[..., Any]) -> None:
    """Raise TypeError for a function that another process cannot import."""
    inner: Any = function
    while isinstance(inner, partial):
        inner = inner.func
    module, name = getattr(inner, "__module__", None), getattr(inner, "__qualname__", "")
    try:
        found = module not in (None, "__main__") and attrgetter(name)(sys.modules[module]) is inner
    except (AttributeError, KeyError):
        found = False
    if not found:
        raise TypeError(
            f"a worker is another process, which imports its function by name; given {shown(inner)} of {module}. Put it at the "
            "top level of a module (a file, not a notebook's cell), with what it needs in the item"
        )


def packed(function: Callable[..., Any], item: Any) -> bytes:
    """A call. Raises TypeError for an item that cannot be pickled."""
    try:
        return pickle.dumps((function, item))
    except Exception as error:
        raise TypeError(f"item {shown(item)} cannot be pickled ({error}), so it cannot cross to a worker") from error


def answered(call: bytes) -> bytes:
    """Perform a call in this process; what comes of it, be it an error, for `opened`."""
    try:
        function, item = pickle.loads(call)
        result = function(item)
        try:
            return pickle.dumps((result, None, ""))
        except Exception as error:
            raise TypeError(f"the result, a {type(result).__name__}, cannot be pickled ({error})") from error
    except (Exception, SystemExit) as error:  # noqa: BLE001 (it is raised where the call came from)
        return _failure(error)


def opened(answer: bytes) -> tuple[Any, BaseException | None]:
    """The result of a call; or the error that it raised, with a note where; or that neither can be read here."""
    try:
        result, error, where = pickle.loads(answer)
    except Exception as unread:  # noqa: BLE001 (whatever the code of its type raises)
        why = f"{type(unread).__name__}: {unread}"
        return None, TypeError(f"the result of a worker was pickled there, and cannot be unpickled here ({why})")
    if error is not None:
        error.add_note(where)
    return result, error


def settle(future: "Future[Any]", answer: bytes) -> None:
    """Let a future have what came of its call."""
    result, error = opened(answer)
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def shown(item: Any) -> str:
    """An item in a message."""
    text = repr(item)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _failure(error: BaseException) -> bytes:
    told = "".join(traceback.format_exception(error)).rstrip()
    where = f"in process {os.getpid()} on {platform.node()}:\n{told}"
    try:
        data = pickle.dumps((None, error, where))
        pickle.loads(data)  # some errors can be written and not read
    except Exception:  # noqa: BLE001 (whatever its own code raises)
        return pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {error}"), where))
    return data
