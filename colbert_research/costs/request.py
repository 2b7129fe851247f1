"""What a plan is asked for, checked."""

from dataclasses import dataclass

from colbert_research.settings import ConfigError

BOUNDS: dict[str, tuple[float, float]] = {
    "documents": (1, 1e15),
    "tokens_per_document": (1e-9, 1e9),
    "dim": (1, 2**14),  # a codec of so many is fitted, for the sake of its layout
    "memory": (1, 1e18),
    "cores": (1, 1e6),
    "queries_per_second": (0, 1e12),
    "shards": (1, 1e15),
    "text_bytes": (0, 1e12),
    "tokens_per_second": (1e-9, 1e15),
}
"""Of the numbers of a request: beyond what anybody has, arithmetic would tell figures that mean nothing."""
TOKENS = 1e18


@dataclass(frozen=True)
class Request:
    """What is asked for. `codec` as one line, `residual nbits=2`.

    `memory`: bytes that one machine has for the index. `shards`: parts that are indexes of their own, None for as many as the
    memory asks for. `cores` of one machine, of which searches may keep `utilisation` busy. `text_bytes` of a document as they
    are stored, and `tokens_per_second` that one machine encodes, both None for what was measured. `machine`: whose measurements
    are taken first, None for the one that measured the most tokens.
    """

    documents: int
    tokens_per_document: float
    dim: int = 128
    codec: str = "residual nbits=2"
    queries_per_second: float = 0.0
    memory: float = 64e9
    cores: int = 16
    utilisation: float = 0.5
    shards: int | None = None
    text_bytes: float | None = None
    tokens_per_second: float | None = None
    machine: str | None = None

    def __post_init__(self) -> None:
        for name, (low, high) in BOUNDS.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ConfigError(f"{name} is a number from {low:g} to {high:g}; given {_short(value)}")
        if not self.documents * self.tokens_per_document <= TOKENS:
            told = f"{self.documents:g} documents of {self.tokens_per_document:g} tokens"
            raise ConfigError(f"{told} are more than {TOKENS:g} tokens, beyond which nothing is predicted; give fewer")
        if not 0 < self.utilisation <= 1:
            raise ConfigError(f"utilisation is a share of the cores' time, above 0 and up to 1; given {self.utilisation:g}")
        if self.shards is not None and self.shards > self.documents:
            raise ConfigError(f"{self.documents} documents cannot be cut into {self.shards} shards; lower shards")

    @property
    def tokens(self) -> int:
        """In all."""
        return max(1, round(self.documents * self.tokens_per_document))


def _short(value: float) -> str:
    try:
        return f"{value:g}"
    except OverflowError:  # a whole number with hundreds of digits
        return f"{str(value)[:12]}… ({len(str(value))} digits)"
