"""What tests of the way from file to file share."""

import importlib
from contextlib import nullcontext

import pytest


@pytest.fixture
def as_loaded(monkeypatch):
    """The model that is called is the one that was loaded, and it is called for images alone."""
    module = importlib.import_module("hf_usod.inference.predict")  # the function of this name hides it
    monkeypatch.setattr(module, "at_full_speed", lambda *_, **__: nullcontext())
