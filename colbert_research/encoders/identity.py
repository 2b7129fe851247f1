"""What an encoder's vectors depend on, asked of its config: nothing is loaded unless the config cannot tell by itself."""

from typing import Any


def fingerprint_of(config: Any) -> str:
    """12 hex digits that stand for what the encoder computes, up to rounding.

    A config from outside the package that has no `fingerprint` is loaded, and its encoder asked.
    """
    return str(config.fingerprint() if hasattr(config, "fingerprint") else config.load().fingerprint())


def rounding_of(config: Any) -> dict[str, Any]:
    """What moves only the last bits of the encoder's vectors, on this machine; empty where neither config nor encoder tells."""
    teller = config if hasattr(config, "rounding") else config.load()
    return dict(teller.rounding()) if hasattr(teller, "rounding") else {}
