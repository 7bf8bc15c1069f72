"""The one writer: what lies at the path decides how it is written, and nothing is half-written."""

import ast
import os
import pathlib
import stat
import threading

import pytest

from kernels.errors import InputError
from sim.record import write
from sim.record.write import check_folder, check_output, write_files

ROOT = pathlib.Path(__file__).parents[3]
ROOMS = ("hw_models", "kernels", "sim", "studies", "workloads")
WRITERS = {
    "sim/record/write.py": "the one writer",
    "hw_models/profile.py": "the profiles that ship, written into the package by the command that fits them",
}
CALLS = {"write_text", "write_bytes", "savefig", "to_parquet", "to_pickle", "to_excel", "replace", "touch"}


def writes(tree: ast.AST) -> list[str]:
    """Calls in a syntax tree that put something on the disk."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        words = [each.value for each in [*node.args, *(key.value for key in node.keywords)]
                 if isinstance(each, ast.Constant) and isinstance(each.value, str)]  # fmt: skip
        first = node.args[0] if node.args else None
        if name == "open" and any(set(word) <= set("rwaxbt+") and set(word) & set("wax+") for word in words):
            found.append(f"{node.lineno}: open({words})")
        elif name in ("to_csv", "to_json") and first is not None:
            found.append(f"{node.lineno}: {name}(path)")
        elif name == "savefig" and getattr(first, "id", "") != "buffer":
            found.append(f"{node.lineno}: savefig(path)")
        elif name == "replace":  # a path's takes one argument, a text's two, a dataclass's names
            if len(node.args) == 1 and not node.keywords:
                found.append(f"{node.lineno}: replace(path)")
        elif name in CALLS - {"savefig"}:
            found.append(f"{node.lineno}: {name}")
        elif name == "dump" and getattr(getattr(node.func, "value", None), "id", "") in ("json", "pickle", "tomli_w"):
            found.append(f"{node.lineno}: dump")
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_nothing_else_writes(room: str) -> None:
    found = {
        str(path.relative_to(ROOT)): lines
        for path in sorted((ROOT / room).rglob("*.py"))
        if (lines := writes(ast.parse(path.read_text())))
    }
    assert {name: lines for name, lines in found.items() if name not in WRITERS | CACHE} == {}


CACHE = {"kernels/cache.py": "the folder of compiled kernels, and nothing but it", "sim/run/warm.py": "its marks"}


def test_a_device_is_written_through_and_stays_one() -> None:
    before = os.stat("/dev/null")
    write_files({pathlib.Path("/dev/null"): b"x" * 100_000})
    after = os.stat("/dev/null")
    assert stat.S_ISCHR(after.st_mode)
    assert (before.st_ino, before.st_rdev) == (after.st_ino, after.st_rdev)


@pytest.mark.parametrize("number", [os.makedev(1, 1), os.makedev(10, 130)])  # memory, a watchdog
def test_another_device_is_refused_by_name_and_not_opened(tmp_path: pathlib.Path, number: int) -> None:
    node = tmp_path / "device"
    try:
        os.mknod(node, stat.S_IFCHR | 0o600, number)
    except PermissionError:
        pytest.skip("no device can be made here")
    for refuse in (lambda: check_output(node, "json"), lambda: write_files({node: b"x", tmp_path / "a": b"a"})):
        with pytest.raises(InputError, match="device: cannot be written: it is a device; allowed: a file, a pipe"):
            refuse()
    assert [path.name for path in tmp_path.iterdir()] == ["device"]


def test_a_terminal_is_written_through() -> None:
    mine, other = os.openpty()
    write_files({pathlib.Path(os.ttyname(other)): b"x\n"})
    assert os.read(mine, 9) == b"x\r\n"
    os.close(mine)
    os.close(other)


def test_a_full_device_is_said() -> None:
    with pytest.raises(InputError, match="/dev/full: cannot be written: No space left on device"):
        write_files({pathlib.Path("/dev/full"): b"x"})


def test_a_fifo_is_written_through(tmp_path: pathlib.Path) -> None:
    fifo, got = tmp_path / "pipe", []
    os.mkfifo(fifo)
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()))
    reader.start()
    content = os.urandom(300_000)  # more than a pipe holds
    write_files({fifo: content})
    reader.join()
    assert got == [content]
    assert stat.S_ISFIFO(os.stat(fifo).st_mode)


def test_a_fifo_that_nobody_reads_is_refused_and_nothing_else_written(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "WAIT_S", 0.2)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"pipe: cannot be written: nobody has read it for 0\.2 s"):
        write_files({tmp_path / "a": b"a", tmp_path / "pipe": b"x"})
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)  # there, but it takes nothing
    with pytest.raises(InputError, match="nobody has read it"):
        write_files({tmp_path / "pipe": b"x" * 1_000_000})
    os.close(reader)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_socket_is_refused_by_name(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as own:
        own.bind("here")
        with pytest.raises(InputError, match="here: cannot be written: it is a socket"):
            check_output("here", "json")
        with pytest.raises(InputError, match="here: cannot be written: it is a socket"):
            write_files({pathlib.Path("here"): b"x"})
        assert stat.S_ISSOCK(os.stat("here").st_mode)


def test_a_link_is_followed_and_stays_one(tmp_path: pathlib.Path) -> None:
    (tmp_path / "there").mkdir()
    old, new = tmp_path / "there" / "old", tmp_path / "there" / "new"
    old.write_bytes(b"old")
    (tmp_path / "a").symlink_to(old)
    (tmp_path / "b").symlink_to(new)  # leads to nothing yet
    write_files({tmp_path / "a": b"1", tmp_path / "b": b"2"})
    assert (old.read_bytes(), new.read_bytes()) == (b"1", b"2")
    assert (tmp_path / "a").is_symlink()
    assert (tmp_path / "b").is_symlink()
    (tmp_path / "c").symlink_to(tmp_path / "c")
    for call in (lambda: write_files({tmp_path / "c": b"3"}), lambda: check_output(tmp_path / "c", "json")):
        with pytest.raises(InputError, match="cannot be written: Too many levels of symbolic links"):
            call()


def test_modes(tmp_path: pathlib.Path) -> None:
    old = tmp_path / "old"
    old.write_bytes(b"old")
    old.chmod(0o640)
    umask = os.umask(0o027)
    try:
        write_files({old: b"x", tmp_path / "new": b"y"})
    finally:
        os.umask(umask)
    assert stat.S_IMODE(old.stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640  # 666 less 027


def test_names(tmp_path: pathlib.Path) -> None:
    longest = tmp_path / ("n" * 255)
    write_files({longest: b"x"})
    assert longest.read_bytes() == b"x"
    for name in ("n" * 256, "a\0b"):
        for call in (lambda path: write_files({path: b"x"}), lambda path: check_output(path, "json")):
            with pytest.raises(InputError, match=r"cannot be written: (File name too long|embedded null byte)"):
                call(tmp_path / name)
    with pytest.raises(InputError, match="it is a folder"):
        check_output(str(tmp_path / "none") + "/", "json")
    with pytest.raises(InputError, match="its folder is not there"):
        check_output(tmp_path / "none" / "x", "json")
    check_output(tmp_path / "fresh", "json")
    assert [path.name for path in tmp_path.iterdir()] == ["n" * 255]


def test_a_folder_is_checked_before_the_work(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    check_folder(tmp_path / "a" / "b", "out")
    with pytest.raises(InputError, match="Not a directory"):
        check_folder(tmp_path / "file" / "b", "out")
    with pytest.raises(InputError, match="File name too long"):
        check_folder(tmp_path / ("n" * 300), "out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
