"""Training jobs as their own software writes them: Megatron-LM arguments, torchtitan TOML, DeepSpeed JSON.

One file a software: `read(given) -> Job` takes what it understands (`workloads.jobs.job`).
"""

import pathlib
from collections.abc import Collection

from kernels.content import toml_of
from kernels.errors import InputError
from workloads import files
from workloads.jobs import deepspeed, megatron, torchtitan
from workloads.jobs.job import Given, Job
from workloads.jobs.text import arguments, flatten

MAX_BYTE = 1 << 20  # of a file of arguments


def read(path: pathlib.Path | str, *, num_device: int = 0, set_aside: Collection[str] = ()) -> Job:
    """A job by its file: `.toml` torchtitan, `.json` DeepSpeed, all else Megatron-LM's arguments (a command line,
    a script, or their YAML). `num_device`: of the run, where the file does not say. `InputError` names what is
    refused."""
    path = pathlib.Path(path)
    if path.suffix == ".json":
        content = files.read_json(path)
        if not isinstance(content, dict):
            raise InputError("not a DeepSpeed configuration: no object", file=path)
        return deepspeed.read(Given(flatten(content), path, set_aside), num_device)
    try:
        data = files.read_byte(path, MAX_BYTE)
        if path.suffix == ".toml":
            return torchtitan.read(Given(flatten(toml_of(data, path)), path, set_aside), num_device)
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError("not UTF-8 text", file=path, line=line) from None
    return megatron.read(Given(arguments(text, path), path, set_aside), num_device)


__all__ = ["Job", "read"]
