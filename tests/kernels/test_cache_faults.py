"""The cache folder under faults: damaged files, folders that cannot be written or that others can write to, full
disks, and helpers from outside the project that change."""

import importlib.util
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType

import pytest

import kernels
from kernels import cache
from kernels.errors import InputError

ROOT = pathlib.Path(kernels.__file__).parents[1]
DOUBLE = "from kernels.jit import njit\n\n@njit\ndef double(x):\n    return 2 * x\n"
CALLER = "import {helper}\nfrom kernels.jit import njit\n\n@njit\ndef call(x):\n    return {helper}.double(x)\n"


def load(path: pathlib.Path, name: str) -> ModuleType:
    """A file imported anew under a name, from its text."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    exec(compile(path.read_text(), str(path), "exec"), module.__dict__)
    return module


@pytest.fixture
def own(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A cache folder of this test's own."""
    monkeypatch.setenv("RIDGELINE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_said", set())
    return tmp_path / "cache" / "ridgeline"


def kept(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(folder.rglob("*.bin"))


@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: data[:100], lambda data: data[:-1], lambda data: os.urandom(len(data)),
     lambda data: data[:-1] + bytes([data[-1] ^ 1]), lambda data: b"\x80\x04."],
    ids=["empty", "head", "truncated", "noise", "one bit", "a pickle"],
)  # fmt: skip
def test_a_damaged_file_is_compiled_again_with_one_line(
    own: pathlib.Path, tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str], damage: Callable[[bytes], bytes]
) -> None:
    source = tmp_path / "mine.py"
    source.write_text(DOUBLE)
    assert load(source, "mine").double(3) == 6
    (file,) = kept(own)
    good = file.read_bytes()
    again = load(source, "mine").double
    assert again(3) == 6
    assert again._cache_hits
    file.write_bytes(damage(good))
    again = load(source, "mine").double
    assert again(3) == 6
    assert not again._cache_hits
    said = capfd.readouterr().err
    assert len(said.splitlines()) == 1
    assert f"is compiled again: {file}" in said
    assert kept(own) == [file]
    assert load(source, "mine").double(3) == 6
    assert not capfd.readouterr().err


def test_a_folder_that_cannot_be_made_costs_the_cache_and_one_line(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RIDGELINE_CACHE_DIR", str(tmp_path / "file"))
    monkeypatch.setattr(cache, "_said", set())
    source = tmp_path / "mine.py"
    source.write_text(DOUBLE)
    assert load(source, "mine").double(3) == 6
    assert load(source, "mine").double(3.5) == 7
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1
    assert "compiled kernels are not kept" in said[0]
    assert not list(tmp_path.rglob("__pycache__"))  # nor beside the source


def test_a_full_disk_costs_the_cache_and_one_line(
    own: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(old: object, new: object) -> None:
        raise OSError(28, "No space left on device")

    source = tmp_path / "mine.py"
    source.write_text(DOUBLE)
    monkeypatch.setattr(os, "replace", full)
    function = load(source, "mine").double
    assert (function(3), function(3.5)) == (6, 7)
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1
    assert "cannot be written (No space left on device)" in said[0]
    assert not [path for path in own.rglob("*") if path.is_file()]


@pytest.mark.parametrize("place", ["folder", "parent"])
def test_a_folder_that_others_can_write_to_is_refused(own: pathlib.Path, place: str) -> None:
    own.mkdir(parents=True)
    bad = own if place == "folder" else own.parent
    bad.chmod(0o777)
    with pytest.raises(InputError, match=r"others can write to this folder.*chmod go-w") as found:
        cache.base()
    assert str(bad) in str(found.value)
    bad.chmod(0o700)
    assert cache.base() == own


def test_a_parent_with_the_sticky_bit_is_none_of_those(own: pathlib.Path) -> None:
    own.parent.mkdir()
    own.parent.chmod(0o1777)  # as /tmp
    assert cache.base() == own
    assert own.stat().st_mode & 0o777 == 0o700


def test_a_helper_from_outside_that_changes_is_compiled_anew(
    own: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper, caller = tmp_path / "helper_a.py", tmp_path / "caller.py"
    helper.write_text(DOUBLE)
    caller.write_text(CALLER.format(helper="helper_a"))
    load(helper, "helper_a")
    first = load(caller, "caller_a")
    assert first.call(3) == 6
    helper.write_text(DOUBLE.replace("2 *", "5 *"))
    load(helper, "helper_a")
    assert load(caller, "caller_a").call(3) == 15
    helper.write_text(DOUBLE)
    load(helper, "helper_a")
    again = load(caller, "caller_a")
    assert again.call(3) == 6
    assert again.call._cache_hits  # the first one's code


def test_a_constant_that_a_file_reads_from_elsewhere_is_in_the_key(
    own: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "scaled.py"
    source.write_text("import os\nFACTOR = int(os.environ['FACTOR'])\n" + DOUBLE.replace("2 *", "FACTOR *"))
    for factor in (2, 7):
        monkeypatch.setenv("FACTOR", str(factor))
        assert load(source, "scaled").double(3) == 3 * factor


def test_two_cold_processes_at_once_leave_what_each_can_read(own: pathlib.Path, tmp_path: pathlib.Path) -> None:
    source = tmp_path / "mine.py"
    source.write_text(DOUBLE)
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import mine\n"
        "print(mine.double(3), mine.double(1.5), len(mine.double._cache_hits))"
    )
    start = [sys.executable, "-c", script]
    both = [subprocess.Popen(start, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    for each in both:
        out, err = each.communicate(timeout=300)
        assert (out.decode().split()[:2], err) == (["6", "3.0"], b"")
    assert len(kept(own)) == 2
    last = subprocess.run(start, cwd=ROOT, capture_output=True, check=True)
    assert last.stdout.decode().split() == ["6", "3.0", "2"]


def test_the_same_plugin_at_another_path_is_read_from_the_cache(own: pathlib.Path, tmp_path: pathlib.Path) -> None:
    text = (
        "from sim.serving.plugin import Option\n"
        "OPTIONS = {'max_token': Option(8, 't'), 'max_seq': Option(2, 's')}\n"
        "def plan(e):\n    return 0\n"
    )
    script = (
        "import sys; from sim.serving.plugin import compile_function, find\n"
        "compile_function(find('policy', sys.argv[1]))"
    )
    files = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(text)
        words = [sys.executable, "-c", script, str(tmp_path / folder / "mine.py")]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        files.append({file: file.stat().st_mtime_ns for file in kept(own) if file.name.startswith("plan-")})
    assert files[0]
    assert files[0] == files[1]
