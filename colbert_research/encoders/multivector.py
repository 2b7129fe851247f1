"""Published late-interaction checkpoints: Stanford ColBERT, PyLate and sentence-transformers' own, behind one config."""

import re
import string
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from colbert_research.encoders.base import Encoder
from colbert_research.encoders.checkpoints import layout_of
from colbert_research.encoders.settings import ModelConfig, check_lengths, place
from colbert_research.encoders.weights import find_model
from colbert_research.settings import ConfigError

if TYPE_CHECKING:
    from sentence_transformers import MultiVectorEncoder


MARKER = r"\[[^\[\]\s]+\]"
"""A token that says whether a text is a query or a document, such as [Q] or [unused0]."""


class MultiVectorConfig(ModelConfig):
    """A checkpoint trained for late interaction, encoded as it says itself unless a setting says otherwise.

    None and `checkpoint` mean what the checkpoint says. Lengths count word pieces, markers and special tokens included.
    `expansion`: `fixed` pads every query with mask tokens to `query_length`, which are scored; `none` only cuts at it.
    `attend_to_expansion`: whether the other tokens attend to those masks. The prefixes are put before the text, a marker with
    its space: `"[Q] "`. `skiplist`: document tokens that get no vector. What cannot be applied is a `ConfigError` of `load`.
    """

    kind: Literal["multivector"] = "multivector"
    query_length: int | None = Field(default=None, ge=3)
    document_length: int | None = Field(default=None, ge=3)
    expansion: Literal["checkpoint", "fixed", "none"] = "checkpoint"
    attend_to_expansion: bool | None = None
    query_prefix: str | None = None
    document_prefix: str | None = None
    skiplist: Literal["checkpoint", "punctuation", "none"] = "checkpoint"

    @model_validator(mode="after")
    def _nothing_to_attend_to(self) -> Self:
        if self.expansion == "none" and self.attend_to_expansion is not None:
            raise ValueError("attend_to_expansion says how to treat expansion tokens and expansion: none makes none; drop one")
        return self

    def load(self) -> Encoder:
        """Read the checkpoint (see `weights.find_model` for where from) and apply the settings to it."""
        from colbert_research.encoders.model import ModelEncoder, quietly

        fingerprint, folder = self.fingerprint(), find_model(self.model, revision=self.revision)
        layout_of(folder, model=self.model)
        device = place(self.device, self.precision)
        from sentence_transformers import MultiVectorEncoder

        with quietly():
            model = MultiVectorEncoder(
                str(folder),
                device=str(device),
                trust_remote_code=self.trust_remote_code,
                # the folder has everything, except that custom code may live in another repository
                local_files_only=not self.trust_remote_code,
                model_kwargs={"dtype": "float32"},
            )
        _set_prefixes(model, {"query": self.query_prefix, "document": self.document_prefix})
        _set_lengths(model, self)
        _set_skiplist(model, self.skiplist)
        return ModelEncoder(model, fingerprint=fingerprint, batch_tokens=self.batch_tokens, precision=self.precision)


def _set_prefixes(model: "MultiVectorEncoder", prefixes: dict[str, str | None]) -> None:
    for task, prefix in prefixes.items():
        if prefix is None:
            continue
        marker = prefix.strip()
        known = model.tokenizer.get_vocab()
        # PyLate saves a marker with its space as one token, "[Q] "; Stanford's are vocabulary entries, "[unused0]"
        token = next((t for t in (prefix, marker) if t in known), None)
        if token is None and re.fullmatch(MARKER, marker):
            raise ConfigError(
                f"{task}_prefix {prefix!r} is a marker that this tokenizer has no token for, so it would be cut into pieces; "
                "leave it out to use the checkpoint's marker"
            )
        if token is not None and model.tokenizer.tokenize(token) != [token]:
            from transformers import AddedToken

            model.tokenizer.add_tokens([AddedToken(token, normalized=False, special=True)], special_tokens=True)
        model.prompts[task] = _with_prompt(task, prefix, model.prompts.get(task) or "")


def _with_prompt(task: str, prefix: str, saved: str) -> str:
    """A prefix in the place of the marker that the checkpoint has, before the words of the prompt that it may have too."""
    words = re.sub(rf"^{MARKER}\s?", "", saved)
    if not words.strip() or words.strip() in prefix or not prefix:  # an empty one asks for nothing before the text
        return prefix
    if re.fullmatch(MARKER, prefix.strip()):
        return prefix + words
    raise ConfigError(
        f"the checkpoint puts the prompt {saved!r} before a {task}, and {task}_prefix={prefix!r} would take its place; "
        f"write both, {task}_prefix={prefix + words!r}, or leave it out"
    )


def _set_lengths(model: "MultiVectorEncoder", config: MultiVectorConfig) -> None:
    transformer: Any = model[0]
    saved = transformer.query_expansion
    if config.expansion == "fixed":
        length = config.query_length or (saved or {}).get("length") or transformer.query_length
        if length is None:
            raise ConfigError(
                "expansion: fixed needs a query_length, and the checkpoint names none: set query_length (32 is usual)"
            )
        expansion: dict[str, Any] | None = {**(saved or {}), "strategy": "fixed", "length": length}
    else:
        expansion = dict(saved) if saved and config.expansion == "checkpoint" else None
    if config.attend_to_expansion is not None:
        if expansion is None:
            raise ConfigError(
                "attend_to_expansion was set and this checkpoint expands no query: drop it, or set expansion: fixed"
            )
        expansion["attend"] = config.attend_to_expansion
    cut = config.query_length or transformer.query_length
    if expansion is None and saved and saved["strategy"] == "fixed":
        cut = config.query_length or saved["length"]  # without masks, queries are still cut where the checkpoint cut them
    if expansion is not None and expansion["strategy"] == "fixed":
        cut = expansion["length"] = config.query_length or expansion["length"]
    elif expansion is not None and cut is not None and cut < expansion["length"]:
        raise ConfigError(
            f"query_length {cut} is shorter than the {expansion['length']} tokens that the checkpoint pads queries to"
        )
    transformer.query_expansion = None  # its setter checks the pair, so the length changes in between
    transformer.query_length = cut
    if config.document_length is not None:
        transformer.document_length = config.document_length
    check_lengths(transformer)
    try:
        transformer.query_expansion = expansion
    except ValueError as error:
        raise ConfigError(f"the query expansion {expansion} cannot be applied: {error}") from error


def _set_skiplist(model: "MultiVectorEncoder", skiplist: str) -> None:
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    mask = next((module for module in model if isinstance(module, MultiVectorMask)), None)
    if mask is None:
        if skiplist == "punctuation" or model[0].query_expansion is not None:
            raise ConfigError("this checkpoint has no MultiVectorMask, which applies skiplist and expansion: set both to none")
        return
    if skiplist != "checkpoint":
        mask.skiplist_words = list(string.punctuation) if skiplist == "punctuation" else []
        mask.resolve_with_tokenizer(model.tokenizer)
