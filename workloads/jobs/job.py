"""What a training software's own configuration says: the fields of a plan, and a model where it has one.

Whatever a file holds is one of four things: it becomes a field of the plan or the model (and is listed as understood);
it changes no time and no byte (`neutral`); it is set aside by the user by name; or it is refused by name, because it
has an effect that nothing here has.
"""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from kernels.errors import InputError
from workloads.models.spec import ModelSpec


class Job(NamedTuple):
    """A configuration as read. `num_device` 0: the file does not say."""

    software: str
    plan: dict[str, Any]  # fields of `workloads.training.TrainPlan`
    model: ModelSpec | None
    model_name: str  # in the catalogue, where the file names a model instead of its shapes
    precision: str
    num_device: int
    factor: dict[str, float]  # factors of the training stack that the file decides
    understood: tuple[tuple[str, str, str], ...]  # argument, value, what it became
    neutral: tuple[str, ...]
    set_aside: tuple[str, ...]


class Given:
    """The arguments of a file, taken one by one; what nobody takes in the end is neutral, set aside or refused."""

    def __init__(self, values: Mapping[str, Any], file: Any, set_aside: Collection[str] = ()) -> None:
        for name in set_aside:
            if name not in values:
                raise InputError("not in the file", file=file, field="set_aside", value=name, allowed=sorted(values))
        self.values = {name: value for name, value in values.items() if name not in set_aside}
        self.file = file
        self.set_aside = tuple(sorted(set_aside))
        self.left = set(self.values)
        self.understood: list[tuple[str, str, str]] = []

    def has(self, name: str) -> bool:
        return name in self.values

    def take(self, name: str, default: Any = None, meaning: str = "") -> Any:
        """The value of an argument, or the default of the software. `meaning`: what it becomes, for the list."""
        if name not in self.values:
            return default
        if name in self.left:
            self.left.discard(name)
            self.understood.append((name, _shown(self.values[name]), meaning or name))
        return self.values[name]

    def flag(self, name: str, meaning: str = "") -> bool:
        """Whether a switch is on."""
        value = self.take(name, False, meaning)
        if isinstance(value, str):
            if value.lower() not in ("true", "false", "1", "0"):
                self.refuse(name, "not a switch")
            return value.lower() in ("true", "1")
        return bool(value)

    def whole(self, name: str, default: int = 0, meaning: str = "") -> int:
        """A whole number."""
        value = self.take(name, default, meaning)
        try:
            number = int(value) if not isinstance(value, bool) else None
        except (TypeError, ValueError):
            number = None
        if number is None or (isinstance(value, float) and value != number):
            self.refuse(name, "not a whole number")
        return int(number or 0)

    def number(self, name: str, default: float = 0.0, meaning: str = "") -> float:
        """A number."""
        value = self.take(name, default, meaning)
        try:
            return float(value)
        except (TypeError, ValueError):
            raise InputError("not a number", file=self.file, field=name, value=value) from None

    def choice(self, name: str, default: str, known: Mapping[str, Any], meaning: str = "") -> Any:
        """The meaning of one of several names; others are refused."""
        value = str(self.take(name, default, meaning))
        if value not in known:
            raise InputError("has an effect that is not modelled", file=self.file, field=name, value=value,
                             allowed=known)  # fmt: skip
        return known[value]

    def refuse(self, name: str, why: str = "has an effect that is not modelled") -> None:
        """Raise `InputError` that names an argument."""
        raise InputError(why, file=self.file, field=name, value=_shown(self.values.get(name)))

    def refuse_any(self, names: Collection[str]) -> None:
        """Refuse what of these is given and not switched off."""
        for name in names:
            if self.values.get(name) not in (None, False, "false", "False", 0, "0", "none"):
                self.refuse(name)
            self.left.discard(name)

    def finish(self, neutral: Collection[str], prefixes: tuple[str, ...]) -> tuple[str, ...]:
        """What nobody took and has no effect; `InputError` for the rest."""
        quiet = sorted(name for name in self.left if name in neutral or name.startswith(prefixes))
        for name in sorted(self.left - set(quiet)):
            self.refuse(
                name, "not known, or with an effect that is not modelled; set it aside by name where it has none"
            )
        return tuple(quiet)


def _shown(value: Any) -> str:
    return "" if value is None else str(value)
