"""Kernels that kernels call: compiled once for whole numbers of any width, and again only for who calls from Python."""

from collections.abc import Iterator

import numpy as np
import pytest

from kernels.errors import PlanError
from kernels.jit import PLAIN, njit

pytestmark = pytest.mark.skipif(PLAIN, reason="nothing is compiled")


@pytest.fixture(autouse=True, scope="module")
def _empty_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a cache holds is whole: nothing of it is compiled again, and no part is made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RIDGELINE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@njit
def half(number: int) -> int:
    if number < 0:
        raise PlanError("below 0")
    return number // 2


@njit
def halves(narrow: np.ndarray, wide: int) -> int:
    return half(narrow[0]) + half(wide) + half(7)


@njit
def middle(wide: int) -> int:
    return half(wide)


@njit
def outer(wide: int) -> int:
    return middle(wide)


def test_a_part_is_compiled_once_for_every_width_of_whole_numbers():
    assert halves(np.array([5], np.int32), 9) == 2 + 4 + 3
    assert len(half.part.overloads) == 1


def test_a_part_raises_through_what_calls_it_and_is_called_from_python_as_itself():
    assert outer(8) == 4
    assert half(8) == 4
    for call in (outer, half):
        with pytest.raises(PlanError, match="below 0"):
            call(-1)


def test_a_part_has_no_machine_code_of_its_own():
    assert outer(2) == 1
    (made,) = middle.part.overloads.values()
    assert made.library.get_pointer_to_function(made.fndesc.llvm_func_name) == 0
    (made,) = outer.dispatcher.overloads.values()
    assert made.library.get_pointer_to_function(made.fndesc.llvm_func_name) != 0
