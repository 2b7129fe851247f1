"""A plain transformer as a late-interaction encoder: its token vectors are its last hidden states, L2-normalised."""

import logging
import string
from typing import Literal

from pydantic import Field

from colbert_research.encoders.base import Encoder
from colbert_research.encoders.checkpoints import is_late_interaction
from colbert_research.encoders.settings import ModelConfig, check_lengths, place
from colbert_research.encoders.weights import MINILM, find_model

logger = logging.getLogger(__name__)


class TransformerConfig(ModelConfig):
    """A transformer without a projection; by default the small one that also comes as a package, for machines without a hub.

    The lengths count word pieces, [CLS] and [SEP] included, and these two keep their vectors. There is no marker and no query
    expansion. `skiplist: punctuation` drops punctuation from documents. A pooling or projection saved beside the transformer
    is not used.
    """

    kind: Literal["transformer"] = "transformer"
    model: str = MINILM
    query_length: int = Field(default=48, ge=3)
    document_length: int = Field(default=220, ge=3)
    normalize: bool = True
    skiplist: Literal["none", "punctuation"] = "none"

    def load(self) -> Encoder:
        """Read the transformer; see `weights.find_model` for where from."""
        from colbert_research.encoders.model import ModelEncoder, quietly

        fingerprint, folder = self.fingerprint(), find_model(self.model, revision=self.revision)
        if is_late_interaction(folder):
            logger.warning(
                "model %r is a late-interaction checkpoint, and kind: transformer drops its projection, markers and query "
                "expansion; use encoder.kind=multivector for the model as it was trained",
                self.model,
            )
        device = place(self.device, self.precision)
        from sentence_transformers import MultiVectorEncoder
        from sentence_transformers.base.modules import Normalize, Transformer
        from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

        local = {"local_files_only": not self.trust_remote_code, "trust_remote_code": self.trust_remote_code}
        with quietly():
            transformer = Transformer(
                str(folder),
                model_kwargs={"dtype": "float32", **local},
                processor_kwargs=dict(local),
                config_kwargs=dict(local),
                query_length=self.query_length,
                document_length=self.document_length,
            )
        check_lengths(transformer)
        modules = [transformer, MultiVectorMask(list(string.punctuation) if self.skiplist == "punctuation" else None)]
        if self.normalize:
            modules.append(Normalize(module_input_name="token_embeddings"))
        model = MultiVectorEncoder(modules=modules, device=str(device))
        return ModelEncoder(model, fingerprint=fingerprint, batch_tokens=self.batch_tokens, precision=self.precision)
