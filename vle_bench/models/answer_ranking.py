"""Rank the answers of a list by their likelihood under a text decoder, as BLIP was evaluated.

The published program (salesforce/BLIP, models/blip_vqa.py, `rank_answer`; LAVIS' `blip_vqa` does
the same) takes the answers whose first token is likeliest, and feeds each of them to the decoder by
itself. Answers share their beginnings, and all answers of a question share its cross-attention. So
here the decoder reads each beginning once, as one sequence of which every token sees the tokens
before it in its own answer.

Shapes: B questions, A answers, k candidates of a question, N nodes of a tree, L tokens of the
longest answer with its end, S nodes that a question's candidates need, T tokens of a question.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.models.blip.modeling_blip_text import BlipTextLMHeadModel

# Of BLIP's configs/vqa.yaml: `k_test`.
CANDIDATES = 128
# BLIP's models/med.py computes the loss that ranks answers with `label_smoothing=0.1`.
LABEL_SMOOTHING = 0.1
# Questions that the decoder reads at once. The scores of all words take 4 bytes × words × nodes a
# question: some 25 MB for 200 nodes and BERT's 30,524 words.
QUESTIONS_AT_ONCE = 4
NO_TOKEN = -100  # in place of a token that an answer does not have


@dataclass(frozen=True)
class AnswerTree:
    """The tokens of a list of answers as a tree, whose nodes are beginnings of answers.

    Node 0 is the start token, the beginning of every answer.

    Args:
        tokens: (N,) last token of each beginning.
        depth: (N,) its position.
        ancestors: (N, L) the beginnings of this beginning, itself among them, padded with node 0.
        beginnings: (A, L) the node before each token of an answer, padded with node 0.
        targets: (A, L) the tokens of an answer after the start, padded with `NO_TOKEN`.
    """

    tokens: Tensor
    depth: Tensor
    ancestors: Tensor
    beginnings: Tensor
    targets: Tensor

    @classmethod
    def of(cls, start: int, answers: Sequence[Sequence[int]]) -> "AnswerTree":
        """Build the tree of answers, each its token ids without the start and with the end."""
        nodes: dict[tuple[int, ...], int] = {(start,): 0}
        paths = []
        for answer in answers:
            sequence = (start, *answer)
            before = [sequence[:length] for length in range(1, len(sequence))]
            paths.append([nodes.setdefault(beginning, len(nodes)) for beginning in before])
        lines = [
            [nodes[beginning[:length]] for length in range(1, len(beginning) + 1)]
            for beginning in nodes
        ]
        longest = max(map(len, answers))
        return cls(
            torch.tensor([beginning[-1] for beginning in nodes]),
            torch.tensor([len(beginning) - 1 for beginning in nodes]),
            _padded(lines, longest, 0),
            _padded(paths, longest, 0),
            _padded(answers, longest, NO_TOKEN),
        )

    def to(self, device: torch.device) -> "AnswerTree":
        """Move the tensors to a device."""
        return AnswerTree(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


def _padded(rows: Sequence[Sequence[int]], width: int, padding: int) -> Tensor:
    return torch.tensor([[*row, *[padding] * (width - len(row))] for row in rows])


def rank(
    decoder: BlipTextLMHeadModel,
    states: Tensor,
    mask: Tensor,
    tree: AnswerTree,
    candidates: int = CANDIDATES,
    smoothing: float = LABEL_SMOOTHING,
) -> tuple[Tensor, Tensor]:
    """Choose the candidates of each question by their first token, and score each whole answer.

    Of answers with the same first token, all equally likely, those that come first in the list
    are taken; the published `topk` leaves that open.

    Args:
        decoder: reads answers after the encoded questions.
        states: (B, T, D) the encoded questions.
        mask: (B, T) 1 for a token of the question, 0 for padding on the right.
        candidates: the answers of a question that are scored; all, if the list has fewer.
        smoothing: share of the score that is the mean over all words.

    Returns:
        The candidates (B, k) as places in the list, likeliest first token first, and their scores
        (B, k): the sum over the tokens of an answer, its end among them, of the smoothed
        log-likelihood; float32.
    """
    count = min(candidates, len(tree.targets))
    chosen = torch.empty(len(states), count, dtype=torch.long, device=states.device)
    scores = torch.empty(len(states), count, device=states.device)
    for rows in rows_of_one_length(mask, QUESTIONS_AT_ONCE):
        own = without_padding(states, mask, rows)
        chosen[rows] = choose_candidates(decoder, own, tree, count)
        scores[rows] = score(decoder, own, chosen[rows], tree, smoothing)
    return chosen, scores


def score_choices(
    decoder: BlipTextLMHeadModel,
    states: Tensor,
    mask: Tensor,
    chosen: Tensor,
    tree: AnswerTree,
    smoothing: float = LABEL_SMOOTHING,
) -> Tensor:
    """Score the answers (B, k) that each question names, as `rank` scores candidates: (B, k)."""
    scores = torch.empty(chosen.shape, device=states.device)
    for rows in rows_of_one_length(mask, QUESTIONS_AT_ONCE):
        own = without_padding(states, mask, rows)
        scores[rows] = score(decoder, own, chosen[rows], tree, smoothing)
    return scores


def rows_of_one_length(mask: Tensor, most: int) -> list[Tensor]:
    """Split the questions of a mask (B, T) into groups of at most `most` with as many tokens each.

    The decoders of transformers 5.17 to 5.23 do not hand the mask of a padded question to their
    cross-attention (`BlipTextAttention.forward` drops it), so that padding would change scores.
    """
    lengths = mask.sum(1)
    order = lengths.argsort(stable=True)
    counts = torch.unique_consecutive(lengths[order], return_counts=True)[1].tolist()
    return [part for rows in order.split(counts) for part in rows.split(most)]


def without_padding(states: Tensor, mask: Tensor, rows: Tensor) -> Tensor:
    """Return the states of questions that have as many tokens each, without those of padding."""
    return states[rows, : int(mask[rows[0]].sum())]


def choose_candidates(
    decoder: BlipTextLMHeadModel, states: Tensor, tree: AnswerTree, candidates: int
) -> Tensor:
    """Return the answers (B, k) with the likeliest first tokens, of states without padding."""
    start = tree.tokens[:1].expand(len(states), 1)
    logits = decoder(start, encoder_hidden_states=states, use_cache=False).logits[:, 0]
    first: Tensor = logits.float()[:, tree.targets[:, 0]]  # (B, A)
    return first.sort(dim=1, descending=True, stable=True).indices[:, :candidates]


def score(
    decoder: BlipTextLMHeadModel,
    states: Tensor,
    chosen: Tensor,
    tree: AnswerTree,
    smoothing: float,
) -> Tensor:
    """Return the smoothed log-likelihoods (B, k) of chosen answers, of states without padding."""
    paths, targets = tree.beginnings[chosen], tree.targets[chosen]  # (B, k, L)
    needed = torch.zeros(len(chosen), len(tree.tokens), dtype=torch.bool, device=chosen.device)
    needed.scatter_(1, paths.flatten(1), True)  # (B, N)
    place = needed.cumsum(1) - 1  # (B, N): where a needed node stands in the sequence
    width = int(needed.sum(1).max())
    # (B, S): the needed nodes in order, then others as padding, whose scores nobody reads
    nodes = needed.byte().sort(dim=1, descending=True, stable=True).indices[:, :width]
    ancestors = place.gather(1, tree.ancestors[nodes].flatten(1)).view(*nodes.shape, -1)
    seen = torch.zeros(*nodes.shape, width, dtype=torch.bool, device=chosen.device)
    seen.scatter_(2, ancestors, True)  # (B, S, S)
    hidden = decoder.bert(
        tree.tokens[nodes],
        attention_mask=torch.where(seen, 0.0, torch.finfo(states.dtype).min)[:, None],
        position_ids=tree.depth[nodes],
        encoder_hidden_states=states,
        is_decoder=True,
        use_cache=False,
    ).last_hidden_state
    words = decoder.cls(hidden).float().log_softmax(-1)  # (B, S, words)
    at = place.gather(1, paths.flatten(1)).view_as(paths)
    question = torch.arange(len(chosen), device=chosen.device)[:, None, None]
    likely = words[question, at, targets.clamp(min=0)]
    smoothed: Tensor = (1 - smoothing) * likely + smoothing * words.mean(-1)[question, at]
    return smoothed.masked_fill(targets == NO_TOKEN, 0).sum(-1)
