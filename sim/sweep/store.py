"""Where rows of points are kept without a server: a folder with an SQLite index (write-ahead log), safe to share.

A point is claimed before it is computed and finished after, each in one transaction; a row is there whole or not at
all. A claim is its owner's until its lease ends, which its owner renews while it lives; the claims of a process of this
machine that is gone are free at once. Whoever lost its claim finishes nothing. So a killed sweep goes on where it was,
and of several sweeps on one folder each computes what no other does.

The folder must lie on a file system of this machine: SQLite's log is shared memory. (Workers of a Ray cluster on other
machines never open it; their sweep's driver does.)
"""

import contextlib
import json
import os
import pathlib
import secrets
import socket
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

from kernels.errors import InputError
from sim.record.provenance import canonical
from sim.record.write import check_folder

INDEX = "index.sqlite"
FORM = 1  # of the tables below; another is refused
LEASE_S = 60.0
WAIT_S = 60.0  # for another process's transaction, each of which is a few rows
TABLES = """
CREATE TABLE IF NOT EXISTS point (
    key TEXT PRIMARY KEY, owner TEXT, lease_s REAL, num_claim INTEGER NOT NULL DEFAULT 0, row TEXT
) WITHOUT ROWID;
"""

FREE, DONE, BUSY = "free", "done", "busy"


class Store:
    """Rows by key in a folder (`None`: in memory, gone with the process). Use it as a context."""

    def __init__(self, folder: str | os.PathLike[str] | None, lease_s: float = LEASE_S) -> None:
        self.folder = None if folder is None else pathlib.Path(folder)
        self.lease_s = lease_s
        self.owner = f"{_machine()} {os.getpid()} {_begun(os.getpid())} {secrets.token_hex(8)}"
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._renewer: threading.Thread | None = None
        if self.folder is not None:
            check_folder(self.folder, "store")
            self.folder.mkdir(parents=True, exist_ok=True)
        with self._said():
            self._base = self._open()

    def _open(self) -> sqlite3.Connection:
        path = ":memory:" if self.folder is None else str(self.folder / INDEX)
        base = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None, check_same_thread=False)
        base.execute("PRAGMA synchronous=FULL")
        found = base.execute("PRAGMA user_version").fetchone()[0]
        if found not in (0, FORM):
            raise InputError("made by another version of Ridgeline", file=path, field="form", value=found,
                             allowed=str(FORM))  # fmt: skip
        if found == 0:
            if base.execute("SELECT count(*) FROM sqlite_master WHERE name != 'point'").fetchone()[0]:
                raise InputError("is a database of something else", file=path)
            _patiently(lambda: base.execute("PRAGMA journal_mode=WAL"))
            base.execute(TABLES)
            base.execute(f"PRAGMA user_version={FORM}")
        return base

    def __enter__(self) -> "Store":
        self._renewer = threading.Thread(target=self._renew, daemon=True)
        self._renewer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:  # fmt: skip
        self._stop.set()
        if self._renewer is not None:
            self._renewer.join()
        with contextlib.suppress(InputError):
            self.give_back()
        self._base.close()

    def rows(self, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The finished rows of these keys."""
        found: dict[str, dict[str, Any]] = {}
        for key in keys:
            held = self._ask("SELECT row FROM point WHERE key = ? AND row IS NOT NULL", key)
            if held:
                found[key] = _row(held[0][0], self.folder, key)
        return found

    def claim(self, key: str) -> str:
        """`FREE`: it is this process's now; `DONE`: its row is there; `BUSY`: another process computes it."""
        with self._transaction() as base:
            held = base.execute("SELECT row IS NOT NULL, owner, lease_s FROM point WHERE key = ?", (key,)).fetchone()
            if held is not None and held[0]:
                return DONE
            if held is not None and held[1] is not None and held[2] > time.time() and not _is_gone(held[1]):
                return BUSY
            base.execute(
                "INSERT INTO point (key, owner, lease_s, num_claim) VALUES (?, ?, ?, 1) ON CONFLICT (key) DO UPDATE"
                " SET owner = excluded.owner, lease_s = excluded.lease_s, num_claim = num_claim + 1",
                (key, self.owner, time.time() + self.lease_s),
            )
        return FREE

    def finish(self, key: str, row: dict[str, Any]) -> bool:
        """The row of a point that this process holds; False where it lost its claim meanwhile."""
        text = json.dumps(canonical(row), allow_nan=False)
        with self._transaction() as base:
            done = base.execute(
                "UPDATE point SET row = ?, owner = NULL, lease_s = NULL WHERE key = ? AND owner = ? AND row IS NULL",
                (text, key, self.owner),
            )
            return done.rowcount == 1

    def give_back(self) -> None:
        """Let go of every claim."""
        with self._transaction() as base:
            base.execute("UPDATE point SET owner = NULL, lease_s = NULL WHERE owner = ?", (self.owner,))

    def num_claim(self) -> dict[str, int]:
        """How often each point was claimed: once, unless who held it went away."""
        return dict(self._ask("SELECT key, num_claim FROM point"))

    def _renew(self) -> None:
        while not self._stop.wait(self.lease_s / 6):
            with contextlib.suppress(InputError), self._transaction() as base:  # the next try may go well
                base.execute("UPDATE point SET lease_s = ? WHERE owner = ?", (time.time() + self.lease_s, self.owner))

    def _ask(self, text: str, *values: Any) -> list[Any]:
        with self._lock, self._said():
            return self._base.execute(text, values).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._said():
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield self._base
            except BaseException:
                self._base.execute("ROLLBACK")
                raise
            self._base.execute("COMMIT")

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        """A full disk, a damaged index and their like in one line."""
        try:
            yield
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error, AttributeError):
                self._base.execute("ROLLBACK")
            place = None if self.folder is None else self.folder / INDEX
            raise InputError(f"cannot be used as a store: {error}", file=place) from None


def _row(text: str, folder: pathlib.Path | None, key: str) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise InputError("is damaged: no row", file=folder and folder / INDEX, field="key", value=key)
    return row


def _patiently(do: Any) -> None:
    """Another process may be switching the log on at this moment, which SQLite does not wait for."""
    end = time.monotonic() + WAIT_S
    while True:
        try:
            do()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return


def _machine() -> str:
    """This machine since it was started: process numbers mean something here alone."""
    try:
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        boot = space = ""
    return f"{socket.gethostname()}/{boot}/{space}".replace(" ", "_")


def _begun(process: int) -> str:
    """When a process began, in the kernel's ticks; "gone" where there is none, "?" where that cannot be told."""
    try:
        stat = pathlib.Path(f"/proc/{process}/stat").read_text()
    except OSError:
        if not os.path.isdir("/proc/self"):
            return "?"
        return "gone"
    state, *rest = stat.rpartition(")")[2].split()
    return "gone" if state in ("Z", "X") else rest[18]


def _is_gone(owner: str) -> bool:
    """Whether the process that claimed is no more; only told of this machine's."""
    machine, process, begun, *_ = [*owner.split(" "), "", "", ""]
    if not process.isdigit():  # no claim of ours
        return True
    return machine == _machine() and begun != "?" and _begun(int(process)) != begun
