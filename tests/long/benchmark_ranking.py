"""How much sooner a tree of answers is ranked than each answer by itself: `python -m tests.long.benchmark_ranking`.

A BLIP decoder of the published shape but smaller (4 layers of 256 of 12 of 768), BERT's 30,524 words, 3,129 answers as long as
those of VQA v2, 128 candidates a question; fp32, CPU time of one thread.
"""

import random
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tests.miniature.blip import blip_config, tiny_blip
from vle_bench.models.answer_ranking import AnswerTree, rank

WORDS, ANSWERS, QUESTIONS, LENGTH = 30_522, 3_129, 4, 12
SHAPE = {
    "hidden_size": 256,
    "intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
}
SEP = 3


def answers(count: int) -> list[list[int]]:
    """Two thirds of one token, a quarter of two, the others up to eight; first words are shared."""
    drawn, made = random.Random(0), {}
    while len(made) < count:
        length = drawn.choices([1, 2, 3, 4, 8], [66, 24, 7, 2, 1])[0]
        first = drawn.randrange(1000, 1000 + (count if length == 1 else count // 8))
        made[(first, *(drawn.randrange(1000, 9000) for _ in range(length - 1)))] = None
    return [[*answer, SEP] for answer in made]


def alone(decoder, states: Tensor, chosen: Tensor, listed: list[list[int]]) -> Tensor:
    """Score each candidate by a pass of its own."""
    rows = []
    for own, places in zip(states, chosen.tolist(), strict=True):
        for place in places:
            ids = torch.tensor([[WORDS, *listed[place]]])
            logits = decoder(ids, encoder_hidden_states=own[None]).logits[0, :-1]
            loss = cross_entropy(logits, ids[0, 1:], label_smoothing=0.1, reduction="sum")
            rows.append(-loss)
    return torch.stack(rows).view(chosen.shape)


def padded(decoder, states: Tensor, chosen: Tensor, listed: list[list[int]]) -> Tensor:
    """Score as the published program does: all candidates of a question, padded to the longest."""
    longest = max(map(len, listed))
    table = torch.tensor([[WORDS, *a, *[0] * (longest - len(a))] for a in listed])
    rows = []
    for own, places in zip(states, chosen, strict=True):
        ids = table[places]
        logits = decoder(
            ids, attention_mask=(ids > 0).long(), encoder_hidden_states=own.expand(len(ids), -1, -1)
        ).logits[:, :-1]
        target = ids[:, 1:].masked_fill(ids[:, 1:] == 0, -100)
        loss = cross_entropy(
            logits.flatten(0, 1), target.flatten(), label_smoothing=0.1, reduction="none"
        )
        rows.append(-loss.view(target.shape).sum(1))
    return torch.stack(rows)


def timed(work: Callable[[], Tensor]) -> tuple[Tensor, float]:
    started = time.process_time()  # other programs do not count
    return work(), time.process_time() - started


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    decoder = tiny_blip(blip_config(WORDS, **SHAPE)).text_decoder
    listed = answers(ANSWERS)
    tree = AnswerTree.of(WORDS, listed)
    torch.manual_seed(0)
    states = torch.randn(QUESTIONS, LENGTH, SHAPE["hidden_size"])
    mask = torch.ones(QUESTIONS, LENGTH, dtype=torch.long)
    rank(decoder, states[:1], mask[:1], tree)  # the first pass is slower
    (chosen, scores), ours = timed(lambda: rank(decoder, states, mask, tree))
    one_by_one, slow = timed(lambda: alone(decoder, states, chosen, listed))
    together, published = timed(lambda: padded(decoder, states, chosen, listed))
    for name, other in (("each alone", one_by_one), ("padded", together)):
        assert torch.allclose(scores, other, rtol=1e-4), name
    print(f"{QUESTIONS} questions, {ANSWERS:,} answers with {len(tree.tokens):,} beginnings")
    print(f"tree of answers      {ours / QUESTIONS:8.3f} s a question")
    print(f"each answer alone    {slow / QUESTIONS:8.3f} s a question  {slow / ours:5.1f} x")
    print(
        f"padded, as published {published / QUESTIONS:8.3f} s a question  {published / ours:5.1f} x"
    )


if __name__ == "__main__":
    main()
