"""Where in a user's compiled policy or router an error was raised, which compiled code does not say."""

from collections.abc import Callable

from kernels import blame, turns
from kernels.engine import records as at
from kernels.engine.advance import BUDGET, FULL
from kernels.engine.price import PackedPrice
from kernels.engine.types import fleet_of
from kernels.errors import InputError
from kernels.jit import PLAIN
from sim.serving import stepping
from sim.serving.plugin import Plugin

PLANS = 2000  # in plain Python: the next plan is the one that fails


def is_users(plugin: Plugin) -> bool:
    """Whether it is compiled code of a user."""
    return plugin.compiled and str(plugin.module.__file__) in blame.FILES


def events(w: at.World) -> int:
    """Steps begun and requests placed, as the loop counts its budget."""
    return int(w.engine["num_step"].sum() + (w.seq["status"] != at.FUTURE).sum())


def of_function(message: str, *plugins: Plugin) -> InputError:
    """What is wrong with the first of `plugins` that a user wrote, with the line of its function; else its name."""
    plugin = next((plugin for plugin in plugins if str(plugin.module.__file__) in blame.FILES), plugins[0])
    file = str(plugin.module.__file__)
    if file not in blame.FILES:
        return InputError(message, field=plugin.kind, value=plugin.name)
    return InputError(message, file=file, line=plugin.line)


def of_error(
    error: Exception, failed: at.World, w: at.World, price: PackedPrice, policy: Plugin, router: Plugin, seed: int,
    run: Callable[[at.World, at.Fleet, int], int],
) -> InputError:  # fmt: skip
    """The error with its line: the run is made again in `w`, a world at rest, up to what `failed`, and goes on in plain
    Python. Where that meets no error, the line of the function."""
    fleet, left = fleet_of(w, router.vector(), seed), events(failed)
    while left > 0 and run(w, fleet, left) in (BUDGET, FULL):
        w.book[0] = 0
        left = events(failed) - events(w)
    users = [vars(plugin.module) for plugin in (policy, router) if is_users(plugin)]
    try:
        for names in users:
            turns.set_most(names, turns.MOST_OF_A_STEP)
        stepping.run(w, fleet, price, policy.function, router.function, PLANS)
    except Exception as again:
        found = blame.blame(again)
        if found is not None:
            return found
    finally:
        for names in users:
            turns.set_most(names, turns.MOST_OF_A_STEP if PLAIN else turns.MOST)
    return of_function(blame.describe(error), policy, router)
