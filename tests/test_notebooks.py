"""The notebooks under docs/ run from top to bottom."""

import pathlib

import pytest

FOLDER = pathlib.Path(__file__).parents[1] / "docs" / "notebooks"
NEEDS = {"calibration": "torch"}


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.ipynb")))
def test_a_notebook_runs(name: str, tmp_path: pathlib.Path) -> None:
    nbclient = pytest.importorskip("nbclient", reason="the extra `docs` is not installed")
    nbformat = pytest.importorskip("nbformat", reason="the extra `docs` is not installed")
    pytest.importorskip("ipykernel", reason="the extra `docs` is not installed")
    if name in NEEDS:
        pytest.importorskip(NEEDS[name], reason="the extra `gpu` is not installed")
    book = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in book.cells), "committed without outputs"
    client = nbclient.NotebookClient(book, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    assert outputs
    assert not any("Traceback" in str(output) for output in outputs)
