"""Where the measured data set lies: beside the repository, or where `RIDGELINE_SHARED_DATA` says."""

import os
import pathlib

import pytest


def folder(*parts: str) -> pathlib.Path:
    """The folder or file `parts` of the measured data; skips the calling test where it is absent."""
    base = os.environ.get("RIDGELINE_SHARED_DATA")
    root = pathlib.Path(base) if base else pathlib.Path(__file__).parents[2] / "shared" / "data"
    path = root.joinpath(*parts)
    if not path.exists():
        pytest.skip("needs the measured data set")
    return path
