"""The engine profile of a scenario: the one that it names, without host time at the speed of light, or eager."""

import dataclasses

from kernels.errors import InputError
from sim.run.scenario import Scenario
from sim.serving import engine_profile
from sim.serving.engine_profile import EngineProfile


def profile_of(scenario: Scenario) -> EngineProfile:
    """The profile that a run of the scenario has. Raises `InputError` for one that is not there, and where `eager` says
    nothing: without graphs before, or never measured without them.

    >>> graphs, eager = (profile_of(Scenario(eager=value)) for value in (False, True))
    >>> len(graphs.captured), eager.captured, eager.dispatch_layer_s
    (51, (), 0.00037)
    """
    profile = engine_profile.load("none" if scenario.fidelity == "sol" else scenario.engine)
    return eager(profile, scenario.engine) if scenario.eager else profile


def eager(profile: EngineProfile, name: str) -> EngineProfile:
    """The profile of an engine that launches every kernel itself."""
    if not profile.captured:
        raise InputError(f"has no effect: {profile.title} has no CUDA graphs", field="eager", value=True,
                         allowed="false")  # fmt: skip
    if not profile.eager_layer_s:
        raise InputError(f"nobody knows {name} without CUDA graphs", field="eager", value=True,
                         allowed="false; or an engine profile with eager_layer_s")  # fmt: skip
    memory = dataclasses.replace(profile.memory, graph_byte=0.0)
    return dataclasses.replace(profile, captured=(), dispatch_layer_s=profile.eager_layer_s, memory=memory)
