import subprocess
import sys

import pytest
from pydantic import ValidationError

from colbert_research.config import Config, component
from colbert_research.encoders import ENCODERS


def test_importing_is_light():
    code = (
        "import sys, colbert_research.encoders as e; "
        "e.ENCODERS['multivector'](model='x/y'); e.ENCODERS['transformer'](); e.ENCODERS['hashing']().load(); "
        "print([m for m in ('torch', 'transformers', 'sentence_transformers', 'huggingface_hub') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_kinds_are_their_names():
    assert all(cls.model_fields["kind"].default == kind for kind, cls in ENCODERS.items())


def test_an_unknown_setting_names_the_nearest():
    class Whole(Config):
        encoder: component("encoder", ENCODERS)

    with pytest.raises(ValidationError, match="did you mean 'query_length'"):
        Whole.model_validate({"encoder": {"kind": "transformer", "query_len": 3}})
    with pytest.raises(ValidationError, match="did you mean 'multivector'"):
        Whole.model_validate({"encoder": {"kind": "multivec"}})
