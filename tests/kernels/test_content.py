"""Reading others' files: bounded in size, time and nesting, with the line of what is wrong."""

import gzip
import os
import pathlib
import threading
import time

import pytest

from hw_models.files import read_toml
from kernels import content
from kernels.errors import InputError
from workloads import files
from workloads.load import load_requests


def test_gzip_of_one_and_of_several_members(tmp_path: pathlib.Path) -> None:
    data = os.urandom(3 << 20) + b"\0" * (5 << 20)
    (tmp_path / "a").write_bytes(gzip.compress(data[:1000]) + gzip.compress(data[1000:]))
    assert files.read_byte(tmp_path / "a") == data
    assert files.read_head(tmp_path / "a", 10) == data[:10]
    (tmp_path / "b").write_bytes(gzip.compress(b""))
    assert files.read_byte(tmp_path / "b") == b""
    (tmp_path / "c").write_bytes(b"\x1f")
    assert files.read_byte(tmp_path / "c") == b"\x1f"


@pytest.mark.parametrize("cut", [2, 5, 100, -1])
def test_gzip_that_ends_in_the_middle(tmp_path: pathlib.Path, cut: int) -> None:
    (tmp_path / "a").write_bytes(gzip.compress(os.urandom(5000))[:cut])
    with pytest.raises(InputError, match="a: cannot be read: the compressed file ends in the middle"):
        files.read_byte(tmp_path / "a")


def test_gzip_with_damage(tmp_path: pathlib.Path) -> None:
    packed = bytearray(gzip.compress(b"text" * 10_000))
    packed[30] ^= 0xFF
    (tmp_path / "a").write_bytes(packed)
    with pytest.raises(InputError, match="a: cannot be read: Error -3"):
        files.read_byte(tmp_path / "a")
    (tmp_path / "b").write_bytes(gzip.compress(b"text") + b"rubbish")
    with pytest.raises(InputError, match="b: cannot be read"):
        files.read_byte(tmp_path / "b")


def test_a_device_without_end_and_a_bomb_are_refused_by_size(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InputError, match="/dev/zero: too large: more than 1048576 bytes"):
        read_toml("/dev/zero")
    bomb = gzip.compress(gzip.compress(b"\0" * (1 << 24)) * 4 + b"\0" * (1 << 24))
    (tmp_path / "bomb").write_bytes(bomb)
    with pytest.raises(InputError, match="too large: more than 1000000 bytes once unpacked; allowed: 1000000 bytes"):
        files.read_byte(tmp_path / "bomb", 1_000_000)


def test_of_a_file_beyond_the_limit_the_rows_that_are_asked_for(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("".join(f"{n},{n}\n" for n in range(1, 5001)))
    monkeypatch.setattr("workloads.traces._table.MAX_TABLE_BYTE", 1000)
    monkeypatch.setattr("workloads.traces._table.read_byte.__defaults__", (1000,))
    with pytest.raises(InputError, match=r"more than 1000 bytes.*or n= of the rows"):
        load_requests(f"sharegpt:{file}")
    assert load_requests(f"sharegpt:{file},n=50").prompt_token.tolist() == list(range(1, 51))
    with pytest.raises(InputError, match="more than 1000 bytes"):
        load_requests(f"sharegpt:{file},n=2000")


def test_a_fifo_that_nobody_writes_to(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "WAIT_S", 0.2)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"pipe: cannot be read: nobody has written into it for 0\.2 s"):
        files.read_byte(tmp_path / "pipe")


def test_a_fifo_whose_writer_takes_its_time(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    def write() -> None:
        with open(tmp_path / "pipe", "wb") as out:
            for part in (b"a", b"b"):
                time.sleep(0.1)
                out.write(part * 100_000)
                out.flush()

    writer = threading.Thread(target=write)
    writer.start()
    assert files.read_byte(tmp_path / "pipe") == b"a" * 100_000 + b"b" * 100_000
    writer.join()


def test_what_is_no_file(tmp_path: pathlib.Path) -> None:
    for path, why in ((tmp_path, "Is a directory"), (tmp_path / "none", "No such file"), (tmp_path / "a\0b", "null"),
                      (tmp_path / ("n" * 300), "File name too long")):  # fmt: skip
        with pytest.raises(InputError, match=f"cannot be read: .*{why}"):
            files.read_byte(path)


DEEP = 100_000


@pytest.mark.parametrize(
    "text",
    [b"a=" + b"[" * DEEP, b"a=" + b"[" * DEEP + b"]" * DEEP, b"a=" + b"{a=" * DEEP, b"a." * DEEP + b"a=1",
     b"[" + b"a." * DEEP + b"a]", b"a=" + b"[" * 100 + b"]" * 100,
     b"\n".join(b"[" + b"a." * n + b"a]" for n in range(99))],
    ids=["open", "list", "table", "dotted", "header", "a hundred", "headers"],
)  # fmt: skip
def test_toml_nested_deeply(text: bytes) -> None:
    start = time.process_time()
    with pytest.raises(InputError, match=r"deep\.toml: nested too deep; allowed: 64 levels"):
        content.toml_of(text, "deep.toml")
    assert time.process_time() - start < 60  # the promise to users, far above what it takes


@pytest.mark.parametrize("text", [b"[" * DEEP, b"[" * DEEP + b"]" * DEEP, b'{"a":' * DEEP, b"[" * 65 + b"]" * 65])
def test_json_nested_deeply(text: bytes) -> None:
    with pytest.raises(InputError, match="x: nested too deep; allowed: 64 levels"):
        content.json_of(text, "x")


def test_as_deep_as_allowed() -> None:
    assert content.json_of(b"[" * 64 + b"]" * 64, "x") != []
    assert list(content.toml_of(b"a=" + b"[" * 63 + b"]" * 63, "x")) == ["a"]
    text = "1.2." * 1000  # a text, not a key
    assert content.toml_of(f'source = "{text}"'.encode(), "x") == {"source": text}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [(b"a = 1\nb = ", 2, "is not TOML"), (b"a = 1\na = 2", 2, "is not TOML"), (b"a\xff", 1, "not UTF-8"),
     (b"a = " + b"9" * 5000, None, "is not TOML: Exceeds the limit")],
)  # fmt: skip
def test_toml_that_is_none(text: bytes, line: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message) as found:
        content.toml_of(text, "x.toml")
    assert found.value.line == line


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [(b"", 1, "is not JSON: Expecting value"), (b"{\n'a'", 2, "is not JSON"), (b"\n\xff", 2, "not UTF-8"),
     (b"9" * 5000, None, "is not JSON: Exceeds the limit")],
)  # fmt: skip
def test_json_that_is_none(text: bytes, line: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message) as found:
        content.json_of(text, "x.json")
    assert found.value.line == line
