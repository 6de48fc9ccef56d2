"""Configurations of `accelerate launch`: the shipped ones load and say nothing but hardware; others are refused by key."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from accelerate.commands import launch as launcher
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import launch as environments

from vle_bench.errors import RequestError
from vle_bench.training.launch import check_launch, meet_on_cpu

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "recipes" / "accelerate"
SHIPPED = sorted(FOLDER.glob("*.yaml"))
FSDP = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}


def handed_over(file: Path, monkeypatch) -> dict[str, str]:
    """The environment in which `accelerate launch --config_file FILE` starts the processes."""
    monkeypatch.setattr(environments, "is_port_in_use", lambda *_: False)
    arguments = launcher.launch_command_parser().parse_args(
        ["--config_file", str(file), "-m", "vle_bench"]
    )
    arguments, _, _ = launcher._validate_launch_command(arguments)
    if arguments.use_deepspeed:
        arguments.deepspeed_fields_from_accelerate_config = ""  # launch_command sets it
        return environments.prepare_deepspeed_cmd_env(arguments)[1]
    return environments.prepare_multi_gpu_env(arguments)


def test_scoring_names_the_option_since_a_published_checkpoint_has_no_recipe():
    with pytest.raises(RequestError) as refused:
        check_launch(
            {"ACCELERATE_MIXED_PRECISION": "bf16", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"},
            scoring=True,
        )
    first, second = str(refused.value).splitlines()
    assert "mixed_precision: bf16" in first and "`--precision`" in first and "recipe" not in first
    assert "belongs in the recipe" in second


def test_there_is_a_configuration_for_each_engine():
    assert {p.stem for p in SHIPPED} == {"ddp", "fsdp2", "deepspeed-zero2", "multi-node"}


@pytest.mark.parametrize("file", SHIPPED, ids=lambda p: p.stem)
def test_a_shipped_configuration_loads_and_hands_over_hardware_only(file, monkeypatch):
    load_config_from_file(str(file))  # raises for a key that Accelerate does not know
    environment = handed_over(file, monkeypatch)
    check_launch(environment)
    assert environment.get("FSDP_VERSION", "2") == "2"
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert "mixed_precision" not in values and "dynamo_config" not in values


def test_hyper_parameters_in_a_configuration_are_refused_by_key(tmp_path, monkeypatch):
    values = yaml.safe_load((FOLDER / "deepspeed-zero2.yaml").read_text(encoding="utf-8"))
    values["mixed_precision"] = "bf16"
    values["deepspeed_config"] |= {
        "gradient_accumulation_steps": 4,
        "gradient_clipping": 1.0,
        "zero_stage": 3,
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(RequestError) as refused:
        check_launch(handed_over(tmp_path / "own.yaml", monkeypatch))
    lines = str(refused.value).splitlines()
    assert len(lines) == 4 and all(line.startswith("accelerate configuration: ") for line in lines)
    for key, place in (
        ("mixed_precision: bf16", "train.precision"),
        ("deepspeed_config.gradient_accumulation_steps: 4", "train.per_device_batch_size"),
        ("deepspeed_config.gradient_clipping: 1.0", "train.max_grad_norm"),
        ("deepspeed_config.zero_stage: 3", "take FSDP2"),
    ):
        assert any(key in line and place in line for line in lines), key


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"},
            "dynamo_config.dynamo_backend: INDUCTOR .*train.compile",
        ),
        (
            {**FSDP, "FSDP_ACTIVATION_CHECKPOINTING": "true"},
            "fsdp_activation_checkpointing: true .*train.gradient_checkpointing",
        ),
        ({**FSDP, "FSDP_VERSION": "1"}, "fsdp_version: 1 .*take 2"),
        ({"ACCELERATE_USE_FSDP": "true"}, "fsdp_version: 1 .*take 2"),
        (
            {**FSDP, "FSDP_CPU_RAM_EFFICIENT_LOADING": "true"},
            "fsdp_cpu_ram_efficient_loading: true .*take false",
        ),
        (
            {"ACCELERATE_USE_MEGATRON_LM": "true"},
            "MEGATRON_LM.*take DDP, FSDP2 or DeepSpeed ZeRO-2",
        ),
        ({"ACCELERATE_MIXED_PRECISION": "fp8"}, "mixed_precision: fp8 .*train.precision"),
        (
            {"ACCELERATE_DEEPSPEED_CONFIG_FILE": "nowhere.json"},
            "nowhere.json: deepspeed_config_file: no such file",
        ),
    ],
)
def test_what_else_is_refused(environment, message):
    with pytest.raises(RequestError, match=message):
        check_launch(environment)


def test_what_accelerate_launch_always_sets_is_fine():
    nothing = {
        "ACCELERATE_MIXED_PRECISION": "no",
        "ACCELERATE_DYNAMO_BACKEND": "NO",
        "FSDP_ACTIVATION_CHECKPOINTING": "false",
    }
    check_launch({**nothing, **FSDP})
    check_launch({"FSDP_VERSION": "1"})  # without FSDP it means nothing


def test_a_deepspeed_file_names_hardware_only(tmp_path):
    fine = {
        "zero_optimization": {"stage": 2},
        "train_batch_size": "auto",
        "bf16": {"enabled": "auto"},
    }
    file = tmp_path / "ds.json"
    file.write_text(json.dumps(fine), encoding="utf-8")
    check_launch({"ACCELERATE_DEEPSPEED_CONFIG_FILE": str(file)})
    wrong = {
        "zero_optimization": {"stage": 3},
        "train_micro_batch_size_per_gpu": 4,
        "fp16": {"enabled": True},
        "optimizer": {"type": "AdamW", "params": {"lr": "auto"}},
    }
    file.write_text(json.dumps(wrong), encoding="utf-8")
    with pytest.raises(RequestError) as refused:
        check_launch({"ACCELERATE_DEEPSPEED_CONFIG_FILE": str(file)})
    told = str(refused.value)
    assert told.count(f"{file}: ") == 4 and all(f"{key}" in told for key in wrong)


def test_the_slurm_script_starts_one_rendezvous_for_all_machines(tmp_path):
    for name, body in (("srun", 'echo "$@"'), ("scontrol", "printf 'node7\\nnode8\\n'")):
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_NNODES": "2",
        "SLURM_JOB_ID": "41",
        "SLURM_JOB_NODELIST": "node[7-8]",
        "SLURM_GPUS_ON_NODE": "4",
    }
    command = ["bash", str(FOLDER / "slurm.sh"), "recipes/vqa/vle-large.yaml", "train.seed=1"]
    done = subprocess.run(
        command, env=environment, capture_output=True, encoding="utf-8", timeout=60
    )
    assert done.returncode == 0, done.stderr
    from torch.distributed.run import get_args_parser

    started = SimpleNamespace(**vars(get_args_parser().parse_args(done.stdout.split()[3:])))
    assert (started.nnodes, started.nproc_per_node, started.rdzv_endpoint, started.rdzv_id) == (
        "2",
        "4",
        "node7:29500",
        "41",
    )
    assert started.module and started.training_script == "vle_bench"
    assert started.training_script_args == [
        "train",
        "recipes/vqa/vle-large.yaml",
        "train.seed=1",
        "--resume",
    ]
    assert done.stdout.split()[:3] == ["--cpus-per-task", "64", "torchrun"]


@pytest.mark.parametrize(
    ("environment", "alone"),
    [
        ({"ACCELERATE_DYNAMO_BACKEND": "NO", "MASTER_ADDR": "127.0.0.1"}, True),
        ({"ACCELERATE_DYNAMO_BACKEND": "NO"}, False),  # one process was wanted
        ({"ACCELERATE_DYNAMO_BACKEND": "NO", "MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2"}, False),
        ({"ACCELERATE_DYNAMO_BACKEND": "NO", "MASTER_ADDR": "127.0.0.1", "PMI_SIZE": "2"}, False),
        ({"MASTER_ADDR": "127.0.0.1"}, False),  # somebody's shell
    ],
)
def test_one_process_where_several_were_wanted_is_refused(environment, alone):
    if alone:
        with pytest.raises(RequestError, match="has started one: .*torchrun --nproc_per_node N"):
            check_launch(environment)
    else:
        check_launch(environment)


def test_what_accelerate_launch_starts_alone_says_so(tmp_path):
    """The very command: without GPUs `accelerate launch --num_processes 2` starts one process."""
    script = tmp_path / "alone.py"
    script.write_text(
        "import os\nfrom vle_bench.training.launch import check_launch\ncheck_launch(os.environ)\n",
        encoding="utf-8",
    )
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--num_processes",
        "2",
        "--cpu",
        str(script),
    ]
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("WORLD_SIZE", "MASTER_ADDR")
    }
    done = subprocess.run(
        command,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert (
        "several processes were requested, but `accelerate launch` has started one" in done.stderr
    )


def test_processes_without_a_gpu_are_told_to_meet_on_the_cpu(monkeypatch):
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    several: dict[str, str] = {"WORLD_SIZE": "2"}
    meet_on_cpu(several)
    assert several["ACCELERATE_USE_CPU"] == "true"
    for left_alone in ({}, {"WORLD_SIZE": "1"}, {"WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "false"}):
        before = dict(left_alone)
        meet_on_cpu(left_alone)
        assert left_alone == before
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    on_gpus: dict[str, str] = {"WORLD_SIZE": "2"}
    meet_on_cpu(on_gpus)
    assert on_gpus == {"WORLD_SIZE": "2"}


def test_a_deepspeed_file_that_is_no_object_is_refused(tmp_path):
    file = tmp_path / "zero.json"
    file.write_text("[]", encoding="utf-8")
    with pytest.raises(RequestError, match="zero.json: deepspeed_config_file: not an object"):
        check_launch({"ACCELERATE_DEEPSPEED_CONFIG_FILE": str(file)})
