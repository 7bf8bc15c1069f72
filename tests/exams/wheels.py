"""Published wheels, unpacked without being installed: their pure Python is driven, nothing of them is built or run."""

import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

WAIT_S = 240  # for half a gigabyte


def unpacked(package: str, version: str, folder: pathlib.Path, inside: tuple[str, ...] = ("",)) -> pathlib.Path:
    """A folder for `sys.path` that holds the Python files of a wheel whose names begin with one of `inside`; skips the
    calling test where pip cannot have it. `RIDGELINE_WHEELS` names a folder that keeps them for the next time."""
    kept = os.environ.get("RIDGELINE_WHEELS")
    root = pathlib.Path(kept) if kept else folder
    target = root / f"{package}-{version}"
    if (target / ".complete").exists():
        return target
    got = root / "download"
    command = ["pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", str(got), f"{package}=={version}"]
    try:
        subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True, timeout=WAIT_S)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"pip cannot have {package} {version} here ({type(error).__name__})")
    [wheel] = got.glob(f"{package.replace('-', '_')}-{version}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith((".py", ".so", "METADATA")) and name.startswith(inside):
                archive.extract(name, target)
    wheel.unlink()
    (target / ".complete").touch()
    return target
