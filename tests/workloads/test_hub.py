"""Ids of the Hugging Face hub: ready models, or what its client has left in the local cache; never the network."""

import pathlib
import shutil
import socket

import pytest

from kernels.errors import InputError
from workloads import models
from workloads.models import hub
from workloads.models.catalogue import FOLDER, names


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*arguments, **named):
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_ids_are_of_ready_models_that_need_no_other_format() -> None:
    assert set(hub.ids().values()) <= set(names())
    assert models.load("Qwen/Qwen3-32B") == models.load("qwen3-32b")
    assert models.load("qwen/qwen3-32b").name == "qwen3-32b"
    for said in hub.ids("instead").values():
        words = said.split()
        assert words[0::2] == ["--model", "--weight-format"]
        assert words[1] in names()
    with pytest.raises(InputError, match="--weight-format fp8_block"):
        models.load("deepseek-ai/DeepSeek-V3")


def cached(root: pathlib.Path, name: str, commit: str, *refs: str) -> None:
    folder = root / f"models--{name.replace('/', '--')}"
    for ref in refs:
        (folder / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
        (folder / "refs" / ref).write_text(commit)
    (folder / "snapshots" / commit).mkdir(parents=True)
    shutil.copy(FOLDER / "configs" / "gpt2.json", folder / "snapshots" / commit / "config.json")


def test_the_local_cache_of_the_hub(tmp_path, monkeypatch) -> None:
    cached(tmp_path / "hub", "me/My-Model", "abc123", "main", "refs/pr/1")
    monkeypatch.setenv("HF_HUB_CACHE", "")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    model = models.load("me/My-Model")
    assert (model.name, model.num_layer) == ("My-Model", 12)
    assert models.load("me/My-Model@abc123") == model
    with pytest.raises(InputError, match="nothing is fetched"):
        models.load("me/My-Model@v2")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "elsewhere"))
    with pytest.raises(InputError, match=r"me/My-Model.*elsewhere"):
        models.load("me/My-Model")
    cached(tmp_path / "elsewhere", "Qwen/Qwen3-32B", "def", "v1")
    assert models.load("Qwen/Qwen3-32B@v1").num_layer == 12  # a revision is what the cache has of it
    assert models.load("Qwen/Qwen3-32B").name == "qwen3-32b"


def test_paths_are_paths(tmp_path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    shutil.copy(FOLDER / "configs" / "gpt2.json", folder / "config.json")
    assert models.load(str(folder)).num_layer == 12
    with pytest.raises(InputError, match="cannot be read"):
        models.load("nowhere/config.json")
