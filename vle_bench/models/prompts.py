"""Prompts of generative models: the text around a question, and its continuations."""

import re
from collections.abc import Sequence

from vle_bench.errors import RequestError

GENERATION, LETTER, TEXT = "generation", "choice-letter", "choice-text"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
QUESTION, CHOICES = "{question}", "{choices}"
PLACES = re.compile(r"\{(question|choices)\}")
# The first is that of LLaVA 1.5 for VQA v2 and of lmms-eval's vqav2 task, the second LLaVA 1.5's
# for multiple choice (its paper, table 7). A text is scored as the answer to the bare question.
DEFAULT = {
    GENERATION: f"{QUESTION}\nAnswer the question using a single word or phrase.",
    LETTER: f"{QUESTION}\n{CHOICES}\n"
    "Answer with the option's letter from the given choices directly.",
    TEXT: QUESTION,
}


def check_prompt(prompt: str, protocol: str) -> None:
    """Refuse a prompt that leaves out what the protocol asks.

    Raises:
        RequestError: it has no `{choices}` to choose a letter of, or has them without need.
    """
    if protocol == LETTER and CHOICES not in prompt:
        raise RequestError(
            f"--prompt: has no {CHOICES}, the place of the choices and their letters, and "
            f"--protocol {LETTER} asks for a letter"
        )
    if protocol == GENERATION and CHOICES in prompt:
        raise RequestError(
            f"--prompt: {CHOICES} means nothing for --protocol {GENERATION}; --protocol {LETTER} "
            "asks for one of them"
        )


def filled(prompt: str, question: str, choices: Sequence[str] | None) -> str:
    """Return the prompt with a question, and its choices a line each, in their places."""
    listed = "\n".join(
        f"{letter}. {text}" for letter, text in zip(LETTERS, choices or [], strict=False)
    )
    parts = {QUESTION: question, CHOICES: listed}
    return PLACES.sub(lambda place: parts[place[0]], prompt)


def continuations(protocol: str, choices: Sequence[str]) -> list[str]:
    """Return the continuation of the prompt for each choice: its letter, or its text.

    Raises:
        RequestError: more choices than letters.
    """
    if protocol == TEXT:
        return list(choices)
    if len(choices) > len(LETTERS):
        raise RequestError(f"a question has {len(choices)} choices, and there are 26 letters")
    return list(LETTERS[: len(choices)])
