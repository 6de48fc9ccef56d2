"""Whether the device computes what the published programs computed, and never waits for the
host inside a step.
"""

import json
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.long.gpu_setting import (
    GOLDEN,
    Report,
    Setting,
    base_config,
    evaluation_step,
    exact_products,
    forget,
    new_model,
    on_device,
    one_line,
    optimizer_of,
    training_step,
    vcr_batch,
    vqa_batch,
)
from vle_bench import models
from vle_bench.models import VLEConfig
from vle_bench.models.vle.convert.meter import convert_meter, rename

VLE = (
    "VLEForVQA",
    "VLEForVCRQ2A",
    "VLEForVCRQA2R",
    "VLEForITM",
    "VLEForPBC",
    "VLEForMLM",
    "VLEModel_with_objects",
)
# The tests on a CPU allow 1e-5; a GPU adds up in another order. bf16 has 8 bits: a relative error
# of 0.4 % an operation.
OUTPUT = {torch.float32: (1e-4, 0.0), torch.bfloat16: (0.1, 0.1)}  # absolute, relative
LOSS = {
    torch.float32: 1e-4,
    torch.bfloat16: 0.03,
}  # relative to the loss, or absolute where that is below 1
GRADIENT = {
    torch.float32: 1e-3,
    torch.bfloat16: 0.1,
}  # of the norm of each gradient; in bf16 of that of all together
NAMES = {torch.float32: "float32", torch.bfloat16: "bf16"}


def goldens(setting: Setting, report: Report) -> None:
    """Every golden in float32 without TF32, by both ways of attention, and in bf16 as training
    computes in it.
    """
    with exact_products():
        for dtype, attention in (
            (torch.float32, "sdpa"),
            (torch.float32, "eager"),
            (torch.bfloat16, "sdpa"),
        ):
            for name in (*VLE, "meter"):
                label = f"{name}, {NAMES[dtype]}, {attention}"
                try:
                    worst = golden(setting, name, dtype, attention)
                except Exception as error:
                    report.row(label, one_line(error), ok=False)
                    continue
                text = ", ".join(f"{what} off by {value:.1e}" for what, (value, _) in worst.items())
                ok = all(value <= most for value, most in worst.values())
                report.row(
                    label,
                    text,
                    ok,
                    **{what: {"difference": v, "tolerance": m} for what, (v, m) in worst.items()},
                )


def golden(
    setting: Setting, name: str, dtype: torch.dtype, attention: str
) -> dict[str, tuple[float, float]]:
    """What was compared → (largest difference, tolerance). Differences of outputs: those beyond
    the relative tolerance.
    """
    folder = GOLDEN / "meter" if name == "meter" else GOLDEN / "vle" / name
    inputs, expected = (
        load_file(folder / f"{part}.safetensors") for part in ("inputs", "expected")
    )
    if name == "meter":
        model, labels = meter(attention)
        inputs["labels"] = labels
        wanted = {"logits": expected["vqa_logits"], "loss": expected["vqa_loss"]}
    else:
        model = getattr(models, name.partition("_")[0]).from_pretrained(
            str(folder), attn_implementation=attention
        )
        wanted = expected
    model = model.eval().to(setting.device)
    with setting.autocast(dtype):
        output = model(**on_device(inputs, setting.device))
    real = inputs["attention_mask"].bool()
    absolute, relative = OUTPUT[dtype]
    worst = {}
    for key, theirs in wanted.items():
        ours = output[key].detach().float().cpu()
        if key == "loss":
            theirs = theirs.squeeze()
            worst[key] = ((ours - theirs).abs().item() / max(1.0, theirs.abs().item()), LOSS[dtype])
            continue
        if (
            key == "text_embeds" or name == "VLEForMLM"
        ):  # what stands at padded positions is undefined
            ours, theirs = ours[real], theirs[real]
        worst[key] = (((ours - theirs).abs() - relative * theirs.abs()).max().item(), absolute)
    if (folder / "grad_norms.json").exists():
        output.loss.backward()
        worst["gradients"] = (
            gradients(
                model, json.loads((folder / "grad_norms.json").read_text(encoding="utf-8")), dtype
            ),
            GRADIENT[dtype],
        )
    return worst


def meter(attention: str) -> tuple[Any, Tensor]:
    """The model of METER's golden checkpoint, and its soft targets."""
    meta = json.loads((GOLDEN / "meter" / "meta.json").read_text(encoding="utf-8"))
    config = VLEConfig.from_dict(
        json.loads((GOLDEN / "meter" / "config.json").read_text(encoding="utf-8"))
    )
    tensors = load_file(GOLDEN / "meter" / "state_dict.safetensors")
    converted = convert_meter(tensors, config)
    converted.config._attn_implementation = attention
    model = models.VLEForVQA(converted.config)
    model.load_state_dict(converted.tensors)
    labels = torch.zeros(len(meta["vqa_labels"]), meta["num_labels"])
    for row, (answers, scores) in enumerate(
        zip(meta["vqa_labels"], meta["vqa_scores"], strict=True)
    ):
        labels[row, answers] = torch.tensor(scores)
    return model, labels


def gradients(model: Any, norms: dict[str, float], dtype: torch.dtype) -> float:
    """Largest relative difference of the norm of a gradient; in bf16 of that of all together."""
    own = {name.removeprefix("vle."): p.grad for name, p in model.named_parameters()}
    differences, squares = [], 0.0
    for name, norm in norms.items():
        ours = sum(g.square().sum().item() for g in pieces(own, name) if g is not None) ** 0.5
        differences.append(max(0.0, abs(ours - norm) - 1e-5) / max(norm, 1e-12))
        squares += ours**2
    if dtype == torch.float32:
        return max(differences)
    theirs = sum(norm**2 for norm in norms.values()) ** 0.5
    return abs(squares**0.5 - theirs) / theirs


def pieces(own: dict[str, Any], name: str) -> list[Tensor | None]:
    """The gradients that together are that of a published parameter: METER's CLIP has query,
    key and value in one.
    """
    if "attn.in_proj_" in name:
        out = rename(name.replace("in_proj_", "out_proj.")) or name
        return [own[out.removeprefix("vle.").replace("out_proj", f"{part}_proj")] for part in "qkv"]
    for candidate in (
        name.removeprefix("vle."),
        name.removeprefix("vle.").replace("vision_model.vision_model", "vision_model"),
    ):
        if candidate in own:
            return [own[candidate]]
    return [own[(rename(name) or name).removeprefix("vle.")]]


def precision(setting: Setting, report: Report) -> None:
    """Logits of VLE-base in bf16 and TF32 beside float32, and whether anything inside a step
    waits for the device.
    """
    config = base_config(setting.tiny)
    for kind, architecture in (("VQA", "VLEForVQA"), ("VCR Q2A", "VLEForVCRQ2A")):
        model = new_model(architecture, config, setting.device).eval()
        if kind == "VQA":
            inputs = vqa_batch(config, 16, 1, shared=True, device=setting.device)
        else:
            inputs = vcr_batch(config, 8, 1, device=setting.device)
        agreement(setting, report, kind, model, inputs)
        if setting.on_gpu:
            waits(setting, report, kind, model, inputs)
        del model
        forget(setting)


@torch.no_grad()
def agreement(
    setting: Setting, report: Report, kind: str, model: Any, inputs: dict[str, Tensor]
) -> None:
    values = {name: value for name, value in inputs.items() if name != "labels"}
    with exact_products():
        exact = model(**values).logits.float()
    with exact_products(tf32=True):
        others = {"TF32": model(**values).logits.float()} if setting.on_gpu else {}
    others["bf16"] = evaluation_step(setting, model, inputs).float()
    spread = exact.std().item()
    for name, logits in others.items():
        off = (logits - exact).square().mean().sqrt().item()
        same = (logits.argmax(-1) == exact.argmax(-1)).float().mean().item()
        report.row(
            f"{kind} logits, {name} beside float32",
            f"off by {off:.1e} (r.m.s.; spread {spread:.1e}), {same:.0%} the same choice",
            ok=off <= 0.1 * spread,
            rms_difference=off,
            rms_of_logits=spread,
            same_choice=same,
        )


def waits(
    setting: Setting, report: Report, kind: str, model: Any, inputs: dict[str, Tensor]
) -> None:
    """A step under torch's watch for synchronisation; every line that waits is named."""
    optimizer, schedule = optimizer_of(model)
    for name, work in (
        (
            "training step",
            lambda: training_step(setting, model.train(), optimizer, schedule, inputs),
        ),
        ("evaluation step", lambda: evaluation_step(setting, model.eval(), inputs)),
    ):
        work()  # the optimiser's states are made in the first
        setting.wait()
        places = waiting_places(work)
        setting.wait()
        text = "; ".join(places) or "nothing waits for the device"
        report.row(f"{kind} {name}", text, ok=not places, places=places)


def waiting_places(work: Callable[[], Any]) -> list[str]:
    """Where `work` waits for the device: the line of ours, and the function it calls where that
    is another's.
    """
    found: Counter[str] = Counter()

    def note(message: Warning | str, *_: Any, **__: Any) -> None:
        if "called a synchronizing" in str(message):  # the mode itself warns that it is new
            found[place(traceback.extract_stack())] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        if torch.cuda.is_available():
            torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            if torch.cuda.is_available():
                torch.cuda.set_sync_debug_mode("default")
    return [f"{where}, {count} x" for where, count in found.items()]


def place(stack: traceback.StackSummary) -> str:
    """`modeling.py:336 encode_text > modeling_deberta_v2.py:62 make_log_bucket_position`."""
    frames = [f for f in stack if f.name != "note" and not f.filename.endswith("warnings.py")]
    own = [f for f in frames if "vle_bench/" in f.filename or "tests/" in f.filename]
    ends = [own[-1], frames[-1]] if own and own[-1] is not frames[-1] else frames[-1:]
    return " > ".join(f"{f.filename.rpartition('/')[2]}:{f.lineno} {f.name}" for f in ends)
