"""Tiny checkpoints in every layout, and what they must compute, worked out with transformers and NumPy alone."""

import json
import string
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

HIDDEN, LAYERS, INTERMEDIATE, POSITIONS, DIM = 32, 2, 64, 64, 8
EPS = float(np.finfo(np.float32).eps)
# Two float32 computations of one forward pass differ by rounding only. A sum of n products in another order moves by about
# sqrt(n) eps of its size; a layer has 8 products one after another (query, key, value, scores, mixing, output, up, down) of
# at most INTERMEDIATE terms; layer norms keep the size, so layers add up; then comes the projection; and there are two passes.
BOUND = 2 * (8 * LAYERS + 1) * float(np.sqrt(INTERMEDIATE)) * EPS
WORDS = ["statin", "breast", "cancer", "diet", "vitamin", "the", "of", "and", "heart", "risk", "green", "tea", "study", "cell"]
TEXTS = [
    "The statin study, of breast cancer: risk (and diet).",
    "green tea!",
    "vitamin",
    "heart-risk; cell & tea... the diet of the heart, the diet of the cell",
    "",
]


def bare(folder: Path, *, extra_tokens: tuple[str, ...] = ()) -> Path:
    """A random BERT with a small WordPiece vocabulary, as `save_pretrained` of transformers writes it."""
    from transformers import AddedToken, AutoTokenizer, BertConfig, BertModel

    folder.mkdir(parents=True)
    letters = string.ascii_lowercase + string.digits
    vocabulary = ["[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.punctuation, *letters]
    vocabulary += [f"##{letter}" for letter in letters] + [word for word in WORDS if len(word) > 1]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True}))
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([AddedToken(token) for token in extra_tokens])
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        intermediate_size=INTERMEDIATE,
        max_position_embeddings=POSITIONS,
        initializer_range=0.3,  # large enough for attention to matter
    )
    torch.manual_seed(5)
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def projection() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(3).standard_normal((DIM, HIDDEN)).astype(np.float32))


def stanford(folder: Path, *, attend: bool = False, query_length: int = 12, document_length: int = 20) -> Path:
    """Weights under `bert.` beside `linear.weight`, and artifact.metadata."""
    bare(folder)
    weights = {f"bert.{name}": value for name, value in load_file(folder / "model.safetensors").items()}
    save_file({**weights, "linear.weight": projection()}, folder / "model.safetensors", metadata={"format": "pt"})
    edit(folder / "config.json", architectures=["HF_ColBERT"])
    metadata = {
        "query_token_id": "[unused0]",
        "doc_token_id": "[unused1]",
        "query_maxlen": query_length,
        "doc_maxlen": document_length,
        "attend_to_mask_tokens": attend,
        "mask_punctuation": True,
        "dim": DIM,
    }
    (folder / "artifact.metadata").write_text(json.dumps(metadata))
    return folder


def pylate(folder: Path, *, expand: bool = True, model_type: str | None = "ColBERT") -> Path:
    """Transformer and 1_Dense, markers `[Q] ` and `[D] ` as added tokens, everything else in one JSON file."""
    bare(folder, extra_tokens=("[Q] ", "[D] "))
    modules = [("", "sentence_transformers.models.Transformer"), ("1_Dense", "pylate.models.Dense.Dense")]
    listed = [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in enumerate(modules)]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 19, "do_lower_case": False}))
    settings = {
        "model_type": model_type,
        "query_prefix": "[Q] ",
        "document_prefix": "[D] ",
        "query_length": 12,
        "document_length": 20,
        "attend_to_expansion_tokens": False,
        "do_query_expansion": expand,
        "skiplist_words": list(string.punctuation),
    }
    kept = {key: value for key, value in settings.items() if value is not None}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(kept))
    (folder / "1_Dense").mkdir()
    identity = "torch.nn.modules.linear.Identity"
    dense = {"in_features": HIDDEN, "out_features": DIM, "bias": False, "activation_function": identity}
    (folder / "1_Dense" / "config.json").write_text(json.dumps(dense))
    save_file({"linear.weight": projection()}, folder / "1_Dense" / "model.safetensors")
    return folder


def native(folder: Path, *, strategy: str = "fixed", pooling: bool = False) -> Path:
    """What `MultiVectorEncoder.save_pretrained` writes."""
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling, MultiVectorMask

    bare(folder.with_name(folder.name + "-bare"))
    expansion = {"strategy": strategy, "attend": False, "length": 12}
    transformer = Transformer(str(folder.with_name(folder.name + "-bare")), document_length=20, query_expansion=expansion)
    dense = Dense(
        HIDDEN,
        DIM,
        bias=False,
        activation_function=torch.nn.Identity(),
        init_weight=projection(),
        module_input_name="token_embeddings",
    )
    modules = [transformer, dense, MultiVectorMask(list(string.punctuation)), Normalize("token_embeddings")]
    if pooling:
        modules.append(HierarchicalTokenPooling(2))
    prompts = {"query": "[unused0] ", "document": "[unused1] "}
    model = MultiVectorEncoder(modules=modules, device="cpu", prompts=prompts)
    tokenizer = model.tokenizer
    tokenizer.add_special_tokens({"additional_special_tokens": ["[unused0]", "[unused1]"]})
    model.save_pretrained(str(folder), create_model_card=False)
    return folder


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


class Expected:
    """What a checkpoint must compute, from AutoTokenizer, BertModel and a matrix; one text at a time, no padding but masks."""

    def __init__(self, folder: Path, weight: torch.Tensor | None) -> None:
        from transformers import AutoTokenizer, BertConfig, BertModel

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.weight = weight
        self.model = BertModel(BertConfig.from_pretrained(folder)).eval()
        weights = {name.removeprefix("bert."): w for name, w in load_file(folder / "model.safetensors").items()}
        weights.pop("linear.weight", None)
        self.model.load_state_dict(weights)

    def ids(self, text: str, *, marker: str | None, length: int) -> list[int]:
        """[CLS], the marker at position 1, as many pieces of the text as fit, [SEP]."""
        pieces = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        head = [self.tokenizer.cls_token_id] + ([] if marker is None else [self.tokenizer.convert_tokens_to_ids(marker)])
        return [*head, *pieces[: length - len(head) - 1], self.tokenizer.sep_token_id]

    def vectors(self, ids: list[int], attended: list[int]) -> np.ndarray:
        with torch.no_grad():
            states = self.model(input_ids=torch.tensor([ids]), attention_mask=torch.tensor([attended]))[0][0]
        rows = (states if self.weight is None else states @ self.weight.T).numpy().astype(np.float64)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def document(self, text: str, *, marker: str | None, length: int, skip: str = string.punctuation):
        ids = self.ids(text, marker=marker, length=length)
        dropped = {self.tokenizer.convert_tokens_to_ids(sign) for sign in skip}
        kept = [position for position, token in enumerate(ids) if token not in dropped]
        return self.vectors(ids, [1] * len(ids))[kept], [ids[position] for position in kept]

    def query(self, text: str, *, marker: str | None, length: int, expand: bool, attend: bool = False):
        ids = self.ids(text, marker=marker, length=length)
        masks = length - len(ids) if expand else 0
        full = ids + [self.tokenizer.mask_token_id] * masks
        return self.vectors(full, [1] * len(ids) + [int(attend)] * masks), full


def assert_same(found, expected) -> None:
    """Token ids equal, vectors equal up to BOUND."""
    for i, (vectors, ids) in enumerate(expected):
        assert found.token_ids[i].tolist() == ids
        assert np.abs(found.vectors[i] - vectors).max(initial=0.0) <= BOUND
