"""Fixtures: the stub server, the real sample data (skipped where absent), small folders of raw files."""

from pathlib import Path

import pytest

from data_contracts.sources import https
from tests.data_contracts.stub_server import Stub


@pytest.fixture
def stub(monkeypatch):
    """The server, and clients that do not pause between attempts."""
    monkeypatch.setattr(https, "PAUSE_SECONDS", 0.0)
    with Stub() as server:
        yield server


@pytest.fixture
def kaggle_stub(stub, monkeypatch, tmp_path_factory):
    """The server, with this process's environment set so that kagglesdk takes it for Kaggle."""
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in stub.kaggle(tmp_path_factory.mktemp("home")).items():
        monkeypatch.setenv(name, value)
    return stub


@pytest.fixture
def folder(tmp_path):
    """write({"a.txt": "text", "b.csv": b"bytes"}) -> the folder that holds them."""

    def write(contents: dict[str, str | bytes], name: str = "raw") -> Path:
        for file, content in contents.items():
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path / name

    return write
