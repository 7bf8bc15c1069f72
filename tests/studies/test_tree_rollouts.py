"""Trees of segments as live programs."""

import numpy as np
import pytest

from sim.cluster.programs.tree_search import shares
from sim.cluster.simulate_programs import ProgramRun, simulate_programs
from sim.run.scenario import Scenario


def grown(program: str, output: int = 64, num: int = 3) -> ProgramRun:
    load = f"batch:n={num},prompt=100,output={output}"
    return simulate_programs(Scenario(model="llama-3.2-1b", system="h100_sxm", requests=load), program)


def test_one_leaf_and_one_segment_are_a_request() -> None:
    plain, tree = grown("one"), grown("tree_search:width=1,depth=1")
    assert plain.programs["e2e_s"].tolist() == tree.programs["e2e_s"].tolist()
    assert plain.requests["e2e_s"].tolist() == tree.requests["e2e_s"].tolist()


def test_children_are_all_given_and_none_above_the_branch() -> None:
    random = np.random.default_rng(0)
    for branch in (0, 1, 3):
        for _ in range(20):
            score = random.random(5)
            found = shares(score, 12, 0.3, branch)
            assert sum(found) == (12 if branch != 1 else 5)
            assert max(found) <= (branch or 12)
            if not branch:
                assert found[int(score.argmax())] == max(found)


@pytest.mark.parametrize(("branch", "nodes"), [(0, 4 * 8), (2, 2 + 4 + 8 + 8), (8, 4 * 8)])
def test_a_tree_computes_its_nodes_and_no_more(branch: int, nodes: int) -> None:
    """Eight leaves after four segments of 16: chains from the root, or twice as many a segment."""
    done = grown(f"tree_search:width=8,depth=4,branch={branch},temperature=1000", num=2)
    assert (done.programs["node"] == nodes).all()
    assert (done.programs["token"] == 16 * nodes).all()
    assert done.programs["produced_token"].sum() == 2 * 16 * nodes
    assert done.requests["cached_token"].sum() > 0


def test_fewer_parents_hold_fewer_trunks() -> None:
    kv = [grown(f"tree_search:width=8,parent={share},temperature=10", num=2).programs["kv_token"].mean()
          for share in (1.0, 0.5, 0.125)]  # fmt: skip
    assert kv[0] > kv[1] > kv[2] >= 100 + 8 * 16
