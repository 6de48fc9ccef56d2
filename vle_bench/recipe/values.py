"""Values of recipes: bounds of counts, and the checks of values of several kinds."""

import re
from collections.abc import Mapping

from vle_bench.model_families import FAMILIES, TRAINED
from vle_bench.strict_yaml import shortened

# Upper bounds of counts: far beyond any use, and small enough that a mistyped number does not start
# an endless loop or a huge allocation.
MOST_QUESTIONS = 2**20  # in a batch
MOST_STEPS = 10**8
MOST_EPOCHS = 10**4
MOST_WORKERS = 256
MOST_TIMES = 10**6  # of learning_rate
AUTO = "auto"


def trained_family(value: object) -> object:
    """Refuse a family that is only scored here."""
    if value in FAMILIES and value not in TRAINED:
        raise ValueError(
            f"{FAMILIES[str(value)].title} is scored here, not trained; "
            f"{', '.join(TRAINED)} are trained"
        )
    return value


def steps_or_minutes(value: object) -> object:
    """Check a number of steps (500) or minutes ("10min")."""
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if value is not None and not whole and not re.fullmatch(r"[1-9]\d*min", str(value)):
        raise ValueError(
            f"steps, such as 500, or minutes, such as 10min, are expected, not {value!r}"
        )
    if value is not None and int(str(value).removesuffix("min")) > MOST_STEPS:
        raise ValueError(
            f"at most {MOST_STEPS:,} steps or minutes are possible, not {shortened(value)}"
        )
    return value


def number_or_auto(value: object) -> object:
    """Check a number of questions, or "auto"."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if value != AUTO and not (whole and 1 <= int(str(value)) <= MOST_QUESTIONS):
        raise ValueError(
            f"1 to {MOST_QUESTIONS:,} questions, or auto, are expected, not {shortened(value)}"
        )
    return value


def refuse_with_graphs(train: Mapping[str, object]) -> None:
    """Refuse what `train.cuda_graphs` was not made for; raises ValueError."""
    refused = {"compile": True, "gradient_checkpointing": True, "precision": "fp16"}
    given = [f"train.{k}={value}".lower() for k, value in refused.items() if train[k] == value]
    if given:
        keys = " and ".join(given)
        raise ValueError(f"train.cuda_graphs: not with {keys}; train.cuda_graphs=false")
