"""Where strategies of a CUDA device are tested: on one, where there is one, and else in the emulator."""

import pytest

from tests.kernels.conftest import device as device


@pytest.fixture
def _device(request):
    """A device for the tests of strategies that need one; nothing for others."""
    kinds = [getattr(value, "kind", value) for value in request.node.callspec.params.values()]
    if not any(isinstance(kind, str) and kind.startswith("cuda_") for kind in kinds):
        yield
        return
    with request.getfixturevalue("device")():
        yield
