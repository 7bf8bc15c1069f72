"""The `vllm serve` line that serves as the scenario does."""

from typing import TYPE_CHECKING

from sim.run.front_write import command_of

if TYPE_CHECKING:
    from sim.run.simulate import Simulation

HELP = "the `vllm serve` command line"
ENGINE = "vllm"


def export(done: "Simulation") -> bytes:
    """One line; a field that the engine has no flag for is an `InputError`."""
    return (command_of(ENGINE, done.setup.scenario) + "\n").encode()
