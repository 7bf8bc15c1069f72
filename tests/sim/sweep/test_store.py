"""Claims, leases and rows of a store, between owners in one process and over damaged folders."""

import pathlib
import sqlite3

import pytest

from kernels.errors import InputError
from sim.sweep import store as room
from sim.sweep.store import BUSY, DONE, FREE, INDEX, Store


def test_a_point_is_claimed_once_and_finished_once(tmp_path: pathlib.Path) -> None:
    with Store(tmp_path) as one, Store(tmp_path) as other:
        assert (one.claim("a"), other.claim("a")) == (FREE, BUSY)
        assert not other.finish("a", {"x": 1})  # it is not its own
        assert one.finish("a", {"x": 2.5, "y": None})
        assert (one.claim("a"), other.claim("a")) == (DONE, DONE)
        assert not one.finish("a", {"x": 3})  # what is done stays
        assert other.rows(["a", "b"]) == {"a": {"x": 2.5, "y": None}}
        assert one.num_claim() == {"a": 1}


def test_a_lease_ends_and_its_owner_finishes_nothing(tmp_path: pathlib.Path) -> None:
    late, other = Store(tmp_path, lease_s=-1), Store(tmp_path)  # nobody renews
    assert (late.claim("a"), other.claim("a")) == (FREE, FREE)
    assert not late.finish("a", {"x": 1})
    assert other.finish("a", {"x": 2})


def test_a_lease_is_renewed(tmp_path: pathlib.Path) -> None:
    import time

    with Store(tmp_path, lease_s=0.3) as one, Store(tmp_path) as other:
        assert one.claim("a") == FREE
        time.sleep(1)
        assert other.claim("a") == BUSY


def test_claims_of_a_process_that_is_gone_are_free_at_once(tmp_path: pathlib.Path) -> None:
    import subprocess
    import sys

    code = f"from sim.sweep.store import Store; import os; Store({str(tmp_path)!r}).claim('a'); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    with Store(tmp_path) as one:
        assert one.claim("a") == FREE
        assert one.num_claim() == {"a": 2}


def test_a_number_of_a_process_that_was_given_again_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    own = f"{room._machine()} {os.getpid()} {room._begun(os.getpid())} 0"
    assert not room._is_gone(own)
    assert room._is_gone(f"{room._machine()} {os.getpid()} 1 0")  # it began at another time
    assert not room._is_gone(f"elsewhere {os.getpid()} 1 0")  # of another machine only its lease tells


def test_claims_are_given_back_at_the_end(tmp_path: pathlib.Path) -> None:
    with Store(tmp_path) as one:
        one.claim("a")
    with Store(tmp_path) as other:
        assert other.claim("a") == FREE


def test_what_is_no_store_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is no folder"):
        Store(tmp_path / "file")
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise" / INDEX).write_bytes(b"no database" * 100)
    with pytest.raises(InputError, match="cannot be used as a store: file is not a database"):
        Store(tmp_path / "noise")
    (tmp_path / "other").mkdir()
    with sqlite3.connect(tmp_path / "other" / INDEX) as base:
        base.execute("CREATE TABLE bank (account TEXT)")
    with pytest.raises(InputError, match="of something else"):
        Store(tmp_path / "other")
    (tmp_path / "later").mkdir()
    with sqlite3.connect(tmp_path / "later" / INDEX) as base:
        base.execute("PRAGMA user_version=99")
    with pytest.raises(InputError, match="another version"):
        Store(tmp_path / "later")


def test_a_damaged_row_is_said(tmp_path: pathlib.Path) -> None:
    with Store(tmp_path) as one:
        one.claim("a")
        one.finish("a", {"x": 1})
        one._base.execute("UPDATE point SET row = 'x'")
        with pytest.raises(InputError, match="damaged"):
            one.rows(["a"])
