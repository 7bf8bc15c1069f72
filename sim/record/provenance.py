"""What every result carries: what was run, by which versions, with which seed, at which fidelity."""

import hashlib
import importlib.metadata
import json
import math
import platform
from collections.abc import Mapping
from typing import Any

PACKAGES = ("ridgeline", "numpy", "numba", "pandas")


def canonical(value: Any) -> Any:
    """The same value for JSON: plain types, and no NaN or infinity (they become null).

    >>> canonical({"a": (1, float("nan")), 2: float("inf")})
    {'a': [1, None], '2': None}
    """
    if isinstance(value, Mapping):
        return {str(key): canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def config_hash(config: Mapping[str, Any]) -> str:
    """A hash of a configuration that does not depend on the order of its keys (16 hex digits).

    >>> config_hash({"tp": 1, "seed": 0}) == config_hash({"seed": 0, "tp": 1})
    True
    """
    text = json.dumps(canonical(config), sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # run from a source tree that was not installed
            found[package] = "source"
    return found


def provenance(config: Mapping[str, Any], *, seed: int, fidelity: str) -> dict[str, Any]:
    """The block that every file carries: `config`, its hash, versions, seed, fidelity."""
    return {
        "config_hash": config_hash(config),
        "seed": seed,
        "fidelity": fidelity,
        "versions": versions(),
        "config": canonical(config),
    }
