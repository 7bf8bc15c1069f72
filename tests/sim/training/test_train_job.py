"""`ridgeline train --from` and `plan --from`: a job's own file is the plan that its fields are."""

import pathlib

import pytest

from sim.cli import main
from sim.training.job import job_model, job_plan, train_job
from sim.training.step import train
from workloads.jobs import read

ARGUMENTS = (
    "torchrun --nproc_per_node 8 --nnodes 1 pretrain_gpt.py --num-layers 12 --hidden-size 1024 "
    "--num-attention-heads 16 "
    "--seq-length 1024 --max-position-embeddings 1024 --vocab-size 50257 --micro-batch-size 4 --global-batch-size 64 "
    "--tensor-model-parallel-size 2 --pipeline-model-parallel-size 2 --bf16 --use-distributed-optimizer --lr 1e-4"
)


def test_a_job_is_the_step_of_its_plan(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    from hw_models import catalog

    (tmp_path / "args.txt").write_text(ARGUMENTS)
    assert main(["train", "--from", str(tmp_path / "args.txt"), "--system", "dgx_a100"]) == 0
    said = capsys.readouterr().out
    job = read(tmp_path / "args.txt")
    plan, stack = job_plan(job, catalog.system("dgx_a100", 8), None, {})
    assert (plan.tp, plan.pp, plan.dp, plan.batch, plan.dropout, plan.tp_overlap) == (2, 2, 2, 64, True, 0.0)
    assert stack.factor["exposed"] == 1.0  # nothing says that gradients are overlapped
    found = train(job_model(job, None), "dgx_a100", plan, stack=stack)
    assert f"{found.summary['step_s']:.6g}" in said
    assert "tensor-model-parallel-size 2 -> tp" in said
    assert "without effect on time and memory: lr" in said
    assert "factors: exposed 1" in said
    assert train_job(tmp_path / "args.txt", "dgx_a100").summary == found.summary
    slower = train_job(tmp_path / "args.txt", "dgx_a100", recompute="full").summary
    assert slower["step_s"] > found.summary["step_s"]
    # what is given beside the file overrides it
    assert main(["train", "--from", str(tmp_path / "args.txt"), "--system", "dgx_a100", "--recompute", "full"]) == 0
    assert "given beside the file: recompute=full" in capsys.readouterr().out
    assert main(["plan", "--from", str(tmp_path / "args.txt"), "--system", "dgx_a100", "--top", "1"]) == 0
    assert "plans tried" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "text"),
    [("--no-rope-fusion", "no-rope-fusion"), ("--moe-token-drop 3", "moe-token-drop"), ("", "is missing")],
)
def test_what_has_an_effect_and_is_not_modelled_is_refused(
    tmp_path: pathlib.Path, more: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    written = f"{ARGUMENTS} {more}" if more else ARGUMENTS.replace("--vocab-size 50257", "")
    (tmp_path / "args.txt").write_text(written)
    assert main(["train", "--from", str(tmp_path / "args.txt"), "--system", "dgx_a100"]) == 2
    assert text in capsys.readouterr().err


def test_options_of_a_file_go_with_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--model", "gpt2", "--batch", "1", "--system", "dgx_a100", "--set-aside", "x"]) == 2
    assert "goes with --from" in capsys.readouterr().err
    assert main(["train", "--system", "dgx_a100", "--batch", "1"]) == 2
    assert "model" in capsys.readouterr().err
