"""The serving engine's own time: what its host spends a step, a sequence, a token and a request.

One TOML a profile in `sim/engines/`, or a user's file. Captured batch sizes are those of its CUDA graphs: a step of
fewer tokens is computed at the next captured size.
"""

import bisect
import dataclasses
import pathlib

import numpy as np
import numpy.typing as npt

from kernels.errors import InputError, from_validation

FOLDER = pathlib.Path(__file__).parent / "engines"


@dataclasses.dataclass(frozen=True)
class EngineProfile:
    """Seconds of host time that a step's device time is lengthened by, and what a request meets outside steps."""

    title: str
    source: str
    step_s: float  # an iteration: scheduling, input preparation, launch, output handling
    seq_s: float  # a sequence in the step: sampling, detokenisation, streaming
    token_s: float  # a token computed
    request_s: float  # from the client to the queue: API entry, tokenisation
    stream_s: float  # from the engine to the client, on the first token and on the last
    captured: tuple[int, ...] = ()  # token counts that have a CUDA graph, ascending
    note: str = ""

    def padded(self, num_token: int) -> npt.NDArray[np.int64]:
        """The computed size of a step of each token count up to `num_token`.

        >>> EngineProfile("", "", 0, 0, 0, 0, 0, (1, 2, 4)).padded(6).tolist()
        [0, 1, 2, 4, 4, 5, 6]
        """
        sizes = [0, *self.captured]
        return np.array(
            [t if t > sizes[-1] else sizes[bisect.bisect_left(sizes, t)] for t in range(num_token + 1)], np.int64
        )


def names() -> list[str]:
    """The profiles that come with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str) -> EngineProfile:
    """A profile by name or by the path of its TOML; an `InputError` names what is wrong."""
    import pydantic

    from sim.scenario import read_toml

    path = pathlib.Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not name.endswith(".toml") and name not in names():
        raise InputError(
            "no such engine profile", field="engine", value=name, allowed=[*names(), "a path of a .toml file"]
        )
    known = [field.name for field in dataclasses.fields(EngineProfile)]
    values = read_toml(path)
    if values.get("kind") == "device" and values.get("engine"):  # of the loop that calibrated the machine
        values = values["engine"]
    for key in values:
        if key not in known:
            raise InputError("unknown field", file=path, field=key, value=values[key], allowed=known)
    try:
        profile = pydantic.TypeAdapter(EngineProfile).validate_python(values)
    except pydantic.ValidationError as error:
        raise from_validation(error, path) from None
    for key in ("step_s", "seq_s", "token_s", "request_s", "stream_s"):
        if not 0 <= getattr(profile, key) < 10:
            raise InputError("not a time", file=path, field=key, value=getattr(profile, key), allowed="0 to 10 seconds")
    if list(profile.captured) != sorted(set(profile.captured)) or any(size < 1 for size in profile.captured):
        raise InputError("not ascending sizes", file=path, field="captured", value=profile.captured)
    return profile
