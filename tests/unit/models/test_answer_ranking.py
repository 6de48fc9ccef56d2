"""Ranking in one pass over a tree of answers gives what a plain loop over all answers gives."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.miniature.blip import blip_config, tiny_blip
from vle_bench.models.answer_ranking import AnswerTree, rank, score_choices

WORDS, SEP, PAD = 60, 3, 0
START = WORDS  # [DEC]


def random_answers(count: int, seed: int = 0) -> list[list[int]]:
    """Answers of one to five tokens from few words, so that many share their beginnings."""
    drawn = torch.Generator().manual_seed(seed)
    answers: dict[tuple[int, ...], None] = {}
    while len(answers) < count:
        length = int(torch.randint(1, 6, (), generator=drawn))
        answers[tuple(torch.randint(5, 14, (length,), generator=drawn).tolist())] = None
    return [[*answer, SEP] for answer in answers]


@pytest.fixture(scope="module")
def decoder():
    return tiny_blip(blip_config(WORDS)).text_decoder


def questions(count: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Encoded questions of 3 to 9 tokens: states (B, T, D) and mask (B, T)."""
    drawn = torch.Generator().manual_seed(seed)
    states = torch.randn(count, 9, 32, generator=drawn)
    lengths = torch.randint(3, 10, (count,), generator=drawn)
    return states, (torch.arange(9) < lengths[:, None]).long()


def alone(decoder, states, mask, answer, smoothing=0.1) -> float:
    """Score one answer to one question: minus the published loss, summed over its tokens."""
    own = states[mask.bool()][None]  # no padding at all
    logits = decoder(torch.tensor([[START, *answer]]), encoder_hidden_states=own).logits[0, :-1]
    target = torch.tensor(answer)
    return -cross_entropy(logits, target, label_smoothing=smoothing, reduction="sum").item()


def double_loop(decoder, states, mask, answers, candidates, smoothing=0.1):
    """Rank as published, one answer at a time: the candidates and their scores, for each question."""
    result = []
    for one, real in zip(states, mask, strict=True):
        own = one[real.bool()][None]
        first = decoder(torch.tensor([[START]]), encoder_hidden_states=own).logits[0, 0].softmax(-1)
        order = sorted(range(len(answers)), key=lambda i: (-first[answers[i][0]].item(), i))
        chosen = order[:candidates]
        result.append((chosen, [alone(decoder, one, real, answers[i], smoothing) for i in chosen]))
    return result


@torch.no_grad()
@pytest.mark.parametrize(
    ("count", "candidates", "smoothing"),
    [(90, 17, 0.1), (50, 50, 0.1), (12, 128, 0.1), (90, 17, 0)],
)
def test_ranking_equals_a_double_loop_over_the_answers(decoder, count, candidates, smoothing):
    answers, (states, mask) = random_answers(count), questions(6)
    tree = AnswerTree.of(START, answers)
    chosen, scores = rank(decoder, states, mask, tree, candidates, smoothing)
    expected = double_loop(decoder, states, mask, answers, candidates, smoothing)
    assert scores.shape == (6, min(candidates, count))
    for question, (places, values) in enumerate(expected):
        assert chosen[question].tolist() == places
        assert scores[question].tolist() == pytest.approx(values, abs=1e-5)
        by_score = scores[question].argsort(descending=True).tolist()
        assert by_score == sorted(range(len(values)), key=lambda i: -values[i])


@torch.no_grad()
def test_the_winners_differ_from_question_to_question(decoder):
    """So that the comparison above is not one of a constant."""
    answers, (states, mask) = random_answers(90), questions(20)
    chosen, scores = rank(decoder, states, mask, AnswerTree.of(START, answers), 17)
    winners = chosen.gather(1, scores.argmax(1, keepdim=True))[:, 0].tolist()
    assert len(set(winners)) >= 4
    assert scores.std() > 0.5


@torch.no_grad()
def test_smoothing_and_the_end_of_an_answer_change_the_score(decoder):
    """The published loss is smoothed by 0.1, and counts [SEP]; a ranking without either is another."""
    answers, (states, mask) = random_answers(90), questions(20)
    tree = AnswerTree.of(START, answers)
    published = rank(decoder, states, mask, tree, 40)[1]
    assert not torch.allclose(published, rank(decoder, states, mask, tree, 40, smoothing=0)[1])
    endless = AnswerTree.of(START, [answer[:-1] for answer in answers])
    assert not torch.allclose(published, rank(decoder, states, mask, endless, 40)[1])


@torch.no_grad()
@pytest.mark.parametrize("size", [1, 7, 64])
def test_the_batch_does_not_change_a_score(decoder, size):
    answers, (states, mask) = random_answers(90), questions(70)
    tree = AnswerTree.of(START, answers)
    whole = rank(decoder, states, mask, tree, 30)
    parts = [
        rank(decoder, *p, tree, 30) for p in zip(states.split(size), mask.split(size), strict=True)
    ]
    assert torch.equal(torch.cat([chosen for chosen, _ in parts]), whole[0])
    torch.testing.assert_close(torch.cat([s for _, s in parts]), whole[1], atol=1e-5, rtol=0)


@torch.no_grad()
def test_answers_with_one_first_token_are_taken_in_the_order_of_the_list(decoder):
    answers = [[5, i, SEP] for i in range(6, 16)]
    states, mask = questions(3)
    chosen = rank(decoder, states, mask, AnswerTree.of(START, answers), 4)[0]
    assert chosen.tolist() == [[0, 1, 2, 3]] * 3


@torch.no_grad()
def test_choices_that_a_question_names_are_scored_alike(decoder):
    answers, (states, mask) = random_answers(30), questions(5)
    tree, named = (
        AnswerTree.of(START, answers),
        torch.tensor([[4, 9], [0, 0], [29, 3], [1, 2], [7, 5]]),
    )
    scores = score_choices(decoder, states, mask, named, tree)
    for question, places in enumerate(named.tolist()):
        expected = [alone(decoder, states[question], mask[question], answers[i]) for i in places]
        assert scores[question].tolist() == pytest.approx(expected, abs=1e-5)


def test_the_tree_holds_each_beginning_once():
    tree = AnswerTree.of(START, [[5, SEP], [5, 6, SEP], [5, 6, 7, SEP], [8, SEP], [SEP]])
    assert tree.tokens.tolist() == [START, 5, 6, 7, 8]
    assert tree.depth.tolist() == [0, 1, 2, 3, 1]
    assert tree.ancestors.tolist() == [
        [0] * 4,
        [0, 1, 0, 0],
        [0, 1, 2, 0],
        [0, 1, 2, 3],
        [0, 4, 0, 0],
    ]
    assert tree.beginnings[2].tolist() == [0, 1, 2, 3]
    assert tree.targets[1].tolist() == [5, 6, SEP, -100]
    assert tree.targets[4].tolist() == [SEP, -100, -100, -100]


@torch.no_grad()
def test_a_nan_in_the_states_reaches_the_scores(decoder):
    states, mask = questions(2)
    states[1] = float("nan")
    _, scores = rank(decoder, states, mask, AnswerTree.of(START, random_answers(20)), 5)
    assert scores[0].isfinite().all() and not scores[1].isfinite().any()
