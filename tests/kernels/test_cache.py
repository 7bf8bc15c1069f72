"""Compiled code is kept under the hash of all that it was compiled from."""

import importlib
import pathlib
import sys

import pytest

import sim.serving.policies
import sim.serving.routers
from kernels import cache
from kernels.jit import Kernel

SOURCES = sorted(
    path
    for folder in (
        cache.ROOT,
        *(pathlib.Path(room.__path__[0]) for room in (sim.serving.policies, sim.serving.routers)),
    )
    for path in folder.rglob("*.py")
    if path.name != "__init__.py"
)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_every_compiled_function_that_a_file_calls_is_in_its_closure(source: pathlib.Path) -> None:
    module = importlib.import_module(".".join(source.relative_to(cache.ROOT.parent).with_suffix("").parts))
    called = [value for value in vars(module).values() if isinstance(value, Kernel)]
    called += [
        value
        for name in vars(module)  # `from kernels import optable as op`
        if getattr(vars(module)[name], "__name__", "").startswith("kernels.")
        and vars(module)[name] in sys.modules.values()
        for value in vars(vars(module)[name]).values()
        if isinstance(value, Kernel)
    ]
    files = {pathlib.Path(function.py_func.__code__.co_filename).resolve() for function in called}
    assert files <= cache.closure(source)


def test_a_change_moves_what_calls_it_and_nothing_else(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gemm = cache.ROOT / "gemm.py"
    price, schedule = cache.folder(cache.ROOT / "price.py"), cache.folder(cache.ROOT / "schedule.py")
    read = cache._bytes
    monkeypatch.setattr(cache, "_bytes", lambda path: read(path) + (b"# changed" if path == gemm else b""))
    monkeypatch.setattr(cache, "_own_key", cache._key)  # not as it was kept
    assert cache.folder(cache.ROOT / "price.py") != price  # prices GEMMs
    assert cache.folder(cache.ROOT / "schedule.py") == schedule  # does not


def test_a_file_outside_the_package_is_keyed_by_itself_and_the_kernels_it_imports(tmp_path: pathlib.Path) -> None:
    policy = tmp_path / "mine.py"
    policy.write_text("from kernels.engine.verbs import (\n    admit,\n    head,\n)\n")
    names = {path.name for path in cache.closure(policy)}
    assert {"mine.py", "verbs.py", "records.py"} <= names
    assert "gemm.py" not in names


def test_a_package_that_a_file_outside_imports_is_keyed_by_its_version(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And by the modules that are named: a policy beside a study imports what holds thousands of files."""
    import pandas as pd

    source = tmp_path / "policy.py"
    source.write_text("import pandas as pd\nfrom kernels.engine.verbs import head\n")
    outside = {path for path in cache.closure(source) if not cache.is_own(path)}
    assert outside == {source.resolve(), pathlib.Path(pd.__file__).resolve()}
    before = cache.key_of(source)
    monkeypatch.setattr(pd, "__version__", "another")
    assert cache.key_of(source) != before


def test_a_file_that_is_installed_is_keyed_by_the_kernels_it_imports_too(tmp_path: pathlib.Path) -> None:
    text = "from kernels.engine.verbs import head\n"
    keys = []
    for folder in (tmp_path, tmp_path / "site-packages"):
        folder.mkdir(exist_ok=True)
        (folder / "policy.py").write_text(text)
        keys.append({path for path in cache.closure(folder / "policy.py") if cache.is_own(path)})
    assert keys[0] == keys[1] != set()
