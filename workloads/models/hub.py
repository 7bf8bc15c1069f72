"""Model ids as the Hugging Face hub writes them (`Qwen/Qwen3-32B`, and `@revision`): a ready model whose configuration
that id has, else a configuration in the local cache of the hub's client. Nothing is ever fetched.
"""

import functools
import os
import pathlib
import re
import tomllib

from kernels.errors import InputError

FILE = pathlib.Path(__file__).parent / "hub_ids.toml"
ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")


def is_id(text: str) -> bool:
    """Whether a text has the form of a model id.

    >>> is_id("Qwen/Qwen3-32B"), is_id("Qwen/Qwen3-32B@main"), is_id("a/b/config.json"), is_id("./model")
    (True, True, False, False)
    """
    return ID.fullmatch(text) is not None


@functools.cache
def ids(part: str = "ids") -> dict[str, str]:
    """Ids, in lower case, and the ready model of each (of the part `instead`: the options that say it)."""
    table = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return {one.lower(): name for name, found in table[part].items() for one in found}


@functools.cache
def published(name: str) -> str:
    """The first id under which the hub has the configuration of a ready model; nothing where none is known.

    >>> published("qwen3-32b"), published("my-model")
    ('Qwen/Qwen3-32B', '')
    """
    found = tomllib.loads(FILE.read_text(encoding="utf-8"))["ids"].get(name, [])
    return str(found[0]) if found else ""


def cache_folder() -> pathlib.Path:
    """Where the hub's client keeps what it has fetched: `HF_HUB_CACHE`, else `hub` of `HF_HOME`, else of the user's
    cache."""
    if given := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return pathlib.Path(given).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or os.path.join(base, "huggingface")
    return pathlib.Path(home).expanduser() / "hub"


def resolve(text: str, field: str = "model") -> str | pathlib.Path:
    """The name of a ready model, or the path of a `config.json` in the local cache. Errors name `field`.

    >>> resolve("Qwen/Qwen3-32B")
    'qwen3-32b'
    """
    name, _, revision = text.partition("@")
    known = ids()
    if name.lower() in known and not revision:
        return known[name.lower()]
    folder = cache_folder() / f"models--{name.replace('/', '--')}"
    found = _snapshot(folder, revision or "main")
    if found is not None:
        return found
    if name.lower() in known:  # of a revision that is not here: the configuration is published under the same id
        raise InputError("this revision is not in the local cache", field=field, value=text,
                         allowed=f"{name}, the ready model {known[name.lower()]}")  # fmt: skip
    if name.lower() in (other := ids("instead")):
        raise InputError("its weights are not those of the ready model, and it is not in the local cache",
                         field=field, value=text, allowed=other[name.lower()])  # fmt: skip
    near = [one for one in known if one.split("/")[1].startswith(name.lower().split("/")[1][:5])]
    raise InputError(
        f"neither a ready model nor in the local cache ({folder}); nothing is fetched", field=field, value=text,
        allowed=[*near, "the path of its config.json"],
    )  # fmt: skip


def _snapshot(folder: pathlib.Path, revision: str) -> pathlib.Path | None:
    """`config.json` of a revision: a branch or tag of `refs`, or a commit."""
    ref = folder / "refs" / revision
    try:
        commit = ref.read_text(encoding="utf-8").strip() if ref.is_file() else revision
    except (OSError, UnicodeDecodeError):
        return None
    path = folder / "snapshots" / commit / "config.json"
    return path if path.is_file() else None
