"""Check how a run was launched: `accelerate launch` names hardware, the recipe everything else.

`accelerate launch` passes its configuration file on in environment variables
(accelerate/utils/launch.py). A process has no other way to see it.
"""

from collections.abc import Mapping, MutableMapping
from pathlib import Path

from vle_bench.errors import RequestError
from vle_bench.json_files import loads, reading

# Variable → (key of the configuration file, values that change nothing, key of the recipe).
HYPER_PARAMETERS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "ACCELERATE_MIXED_PRECISION": ("mixed_precision", ("no",), "train.precision"),
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": (
        "deepspeed_config.gradient_accumulation_steps",
        ("auto",),
        "train.per_device_batch_size, from which it follows",
    ),
    "ACCELERATE_GRADIENT_CLIPPING": (
        "deepspeed_config.gradient_clipping",
        ("auto", "none"),
        "train.max_grad_norm",
    ),
    "ACCELERATE_DYNAMO_BACKEND": ("dynamo_config.dynamo_backend", ("no",), "train.compile"),
    "FSDP_ACTIVATION_CHECKPOINTING": (
        "fsdp_config.fsdp_activation_checkpointing",
        ("false",),
        "train.gradient_checkpointing",
    ),
}
# Variable → (key, accepted values, why no others).
LIMITS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "ACCELERATE_USE_MEGATRON_LM": (
        "distributed_type: MEGATRON_LM",
        ("false",),
        "take DDP, FSDP2 or DeepSpeed ZeRO-2",
    ),
    "ACCELERATE_USE_PARALLELISM_CONFIG": (
        "parallelism_config",
        ("false",),
        "take DDP, FSDP2 or DeepSpeed ZeRO-2",
    ),
    "ACCELERATE_DEEPSPEED_ZERO_STAGE": (
        "deepspeed_config.zero_stage",
        ("0", "1", "2"),
        "to shard the weights too, take FSDP2",
    ),
}
FSDP_LIMITS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "FSDP_VERSION": (
        "fsdp_config.fsdp_version",
        ("2",),
        "FSDP1 mixes the parameters of several learning rates; take 2",
    ),
    "FSDP_CPU_RAM_EFFICIENT_LOADING": (
        "fsdp_config.fsdp_cpu_ram_efficient_loading",
        ("false",),
        "the other processes would evaluate with weights never loaded; take false",
    ),
}
# Keys of a DeepSpeed file that decide a result → where they are in the recipe. "auto" is accepted.
DEEPSPEED_KEYS = {
    "train_batch_size": "train.batch_size",
    "train_micro_batch_size_per_gpu": "train.per_device_batch_size",
    "gradient_accumulation_steps": "train.per_device_batch_size, from which it follows",
    "gradient_clipping": "train.max_grad_norm",
    "optimizer": "the group train",
    "scheduler": "train.schedule",
    "bf16": "train.precision",
    "fp16": "train.precision",
    "amp": "train.precision",
    "torch_autocast": "train.precision",
    "activation_checkpointing": "train.gradient_checkpointing",
    "gradient_predivide_factor": "nothing in the recipe",
    "prescale_gradients": "nothing in the recipe",
    "curriculum_learning": "the group data",
    "data_efficiency": "the group data",
    "compression_training": "nothing in the recipe",
}


def check_launch(environment: Mapping[str, str], scoring: bool = False) -> None:
    """Refuse an accelerate configuration that would change the result of a recipe.

    Args:
        scoring: for `evaluate` and `predict`, which take a precision of their own and which also
            score checkpoints without a recipe.

    Raises:
        RequestError: a line for each such key, with the place where it belongs.
    """
    problems = [LONELY] if lonely(environment) else []
    for variable, (key, empty, place) in HYPER_PARAMETERS.items():
        value = environment.get(variable, empty[0])
        if value.lower() not in empty:
            where = f"{place} belongs in the recipe"
            if scoring and place == "train.precision":
                where = "leave it out; `--precision` chooses one for the scoring"
            problems.append(
                f"{key}: {value} (${variable}): a configuration names hardware only; {where}"
            )
    fsdp = environment.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    for variable, (key, taken, why) in {**LIMITS, **(FSDP_LIMITS if fsdp else {})}.items():
        default = {"FSDP_VERSION": "1"}.get(variable, taken[0])  # Accelerate's
        if (value := environment.get(variable, default)).lower() not in taken:
            problems.append(f"{key}: {value} (${variable}): {why}")
    file = environment.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none")
    if file != "none":
        problems += deepspeed_problems(file)
    if problems:
        raise RequestError(
            "\n".join(f"accelerate configuration: {problem}" for problem in problems)
        )


LONELY = (
    "several processes were requested, but `accelerate launch` has started one: on CPUs it starts "
    "more through MPI only; `torchrun --nproc_per_node N -m vle_bench ...` does it, or "
    "`accelerate launch --multi_gpu --num_processes N ...`"
)


def lonely(environment: Mapping[str, str]) -> bool:
    """Tell whether `accelerate launch --num_processes 2` has started this process alone.

    On a machine without GPUs it does so silently, with an address where the others should meet.
    """
    launched = "ACCELERATE_DYNAMO_BACKEND" in environment and "MASTER_ADDR" in environment
    ranks = (
        "WORLD_SIZE",
        "PMI_SIZE",
        "OMPI_COMM_WORLD_SIZE",
        "MV2_COMM_WORLD_SIZE",
    )  # torchrun's, and MPIs'
    return launched and not any(name in environment for name in ranks)


def meet_on_cpu(environment: MutableMapping[str, str]) -> None:
    """Announce several processes without a GPU; Accelerate would take each for a single one."""
    if int(environment.get("WORLD_SIZE", "1")) > 1 and "ACCELERATE_USE_CPU" not in environment:
        import torch

        if not torch.accelerator.is_available():
            environment["ACCELERATE_USE_CPU"] = "true"


def deepspeed_problems(file: str) -> list[str]:
    """List the keys of a DeepSpeed file that a recipe decides."""
    with reading(f"{file}: deepspeed_config_file"):
        values = loads(Path(file).read_text(encoding="utf-8-sig"))
    if not isinstance(values, dict):
        raise RequestError(f"{file}: deepspeed_config_file: not an object of keys and values")
    problems = [
        f"{file}: {key}: a configuration names hardware only; {place} has it"
        for key, place in DEEPSPEED_KEYS.items()
        if key in values and not automatic(values[key])
    ]
    if values.get("zero_optimization", {}).get("stage", 2) not in (0, 1, 2):
        problems.append(f"{file}: zero_optimization.stage: to shard the weights too, take FSDP2")
    return problems


def automatic(value: object) -> bool:
    """Tell whether a value is DeepSpeed's "auto", which the program replaces."""
    return all(automatic(v) for v in value.values()) if isinstance(value, dict) else value == "auto"
