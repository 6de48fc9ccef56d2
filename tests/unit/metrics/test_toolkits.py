"""Other toolkits' VQA accuracies against plain transcriptions of what their public files describe."""

import json
import random
import re
import statistics
from collections import Counter
from pathlib import Path

import pytest

from tests.miniature.in_process import run
from vle_bench.metrics.numbers import mean
from vle_bench.metrics.toolkits import (
    OFFICIAL_RULES,
    REASONS,
    TOOLKITS,
    Rules,
    accuracy_under,
    compare,
    departures,
)
from vle_bench.metrics.vqa import CONTRACTIONS, question_accuracy

GOLDEN = Path(__file__).parents[2] / "golden" / "vqa_accuracy"
FILES = ["--questions", GOLDEN / "questions.json", "--annotations", GOLDEN / "annotations.json"]
FILES += ["--predictions", GOLDEN / "results.json"]
CASES, FEW = 450, 100


# Plain transcriptions. All five describe the official tables, so that the table of contractions,
# which is tested against the official program, is the package's.


def punctuation(text, comma=r"\d,\d"):
    out = text
    for mark in [*';/[]"{}()=+\\_-><@`,?!']:
        if mark + " " in text or " " + mark in text or re.search(comma, text):
            out = out.replace(mark, "")
        else:
            out = out.replace(mark, " ")
    for _ in range(32):  # the flag of the regular expression is its count
        found = re.search(r"\.(?!\d)", out)
        if found is None:
            break
        out = out[: found.start()] + "\0" + out[found.end() :]
    return out.replace("\0", "")


def words(text):
    digits = ["none zero one two three four five six seven eight nine ten".split()]
    digits += ["0 0 1 2 3 4 5 6 7 8 9 10".split()]
    out = []
    for word in text.lower().split():
        if word in digits[0]:
            word = digits[1][digits[0].index(word)]
        if word in ("a", "an", "the"):
            continue
        out.append(CONTRACTIONS.get(word, word))
    return " ".join(out)


def cleaned(text):
    return text.replace("\n", " ").replace("\t", " ").strip()


def normal(text):
    return words(punctuation(cleaned(text)))


def evalai(text):
    """mmf's EvalAIAnswerProcessor, which lmms-eval has too."""
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    return words(punctuation(cleaned(text), r"(?<=\d)(,)+(?=\d)"))


def each_left_out(prediction, truths):
    scores = []
    for place in range(len(truths)):
        others = truths[:place] + truths[place + 1 :]
        scores.append(min(1, sum(other == prediction for other in others) / 3))
    return sum(scores) / len(scores)


def official(prediction, truths):
    truths, prediction = [cleaned(t) for t in truths], cleaned(prediction)
    if len(set(truths)) > 1:
        truths, prediction = [normal(t) for t in truths], normal(prediction)
    return each_left_out(prediction, truths)


def lmms_eval(prediction, truths):
    prediction, truths = evalai(prediction), [cleaned(t) for t in truths]
    if len(set(truths)) > 1:
        comma = r"(?<=\d)(,)+(?=\d)"
        truths = [words(punctuation(t, comma)) for t in truths]
        prediction = words(punctuation(prediction, comma))
    return each_left_out(prediction, truths)


def vlmevalkit(prediction, truths):
    return each_left_out(normal(prediction), [normal(t) for t in truths])


def lavis(prediction, truths):
    if len(set(truths)) > 1:
        truths = [punctuation(t) for t in truths]
    return each_left_out(normal(prediction), truths)


def mmf(prediction, truths):
    return each_left_out(evalai(prediction), [evalai(t) for t in truths])


def mmpretrain(prediction, truths):
    weights = {answer: n / len(truths) for answer, n in Counter(truths).items()}
    total = sum(w for answer, w in weights.items() if normal(answer) == normal(prediction))
    return min(1.0, total / 0.3)


PLAIN = {
    "lmms-eval": lmms_eval,
    "vlmevalkit": vlmevalkit,
    "lavis": lavis,
    "mmf": mmf,
    "mmpretrain": mmpretrain,
}
STEMS = (
    "yes|no|Yes|two|2|Two|none|0|None|zero|ten|10|a cat|cat|the cat|A Cat|an|the|a|women's|it's|"
    "t-shirt|t shirt|black/white|black and white|1,000|1000|1,,000|1,000-2,000|5.5|p.m.|pm|No.1|"
    "dont|don't|Im|somebody'd|red|red.|red?|red, white|what?|10:30|$5|50%|#1|(red)|half-a-one|"
    "x, y|x ,y|he's a man|.5|3.|"
    + "." * 40
    + "|ice cream| |?|ow's'at|café|İstanbul|x,y|xy|is it?yes|is ityes|1,,000|1000|it 's|it's"
).split("|")


def cases(count, seed):
    """Predictions and ten answers that are the same but for spelling or stray blanks, or others."""
    rng = random.Random(seed)
    for _ in range(count):
        drawn = rng.sample(STEMS, rng.choice([1, 1, 2, 2, 3]))
        if rng.random() < 0.4:  # neighbours, many of which some program takes for the same
            place = rng.randrange(len(STEMS) - 1)
            drawn = STEMS[place : place + 2]
        truths = [rng.choice(drawn) for _ in range(10)]
        truths = [rng.choice(["", "", "", "", " ", "\t"]) + t for t in truths]
        prediction = rng.choice([*truths, rng.choice(STEMS)])
        change = rng.choice(
            [str, str, str.upper, str.capitalize, lambda t: f"{t}.", lambda t: f" {t}\n"]
        )
        yield change(prediction), truths


@pytest.mark.parametrize("name", TOOLKITS)
def test_generated_cases_score_as_described(name):
    differing = 0
    for number, (prediction, truths) in enumerate(cases(CASES, seed=name)):
        expected = PLAIN[name](prediction, truths)
        ours = accuracy_under(TOOLKITS[name].rules, prediction, truths)
        assert ours == pytest.approx(expected, abs=1e-12), (number, prediction, truths)
        differing += abs(expected - official(prediction, truths)) > 1e-9
    assert differing >= CASES // 20  # else the cases say nothing about the toolkit


def test_the_official_rules_are_the_official_accuracy():
    for prediction, truths in cases(CASES, seed=1):
        records = [{"answer": t, "answer_id": i} for i, t in enumerate(truths)]
        ours = accuracy_under(OFFICIAL_RULES, prediction, truths)
        assert ours == question_accuracy(prediction, records)
        assert ours == pytest.approx(official(prediction, truths), abs=1e-12)
    assert Rules() == OFFICIAL_RULES


def of(*counts):
    return [answer for answer, n in counts for _ in range(n)]


# prediction, answers, official, and the five in the order of TOOLKITS
KEPT = [
    ("Yes", of(("yes", 10)), 0, [1, 1, 1, 1, 1]),
    ("yes", of(("yes", 10)), 1, [1, 1, 1, 1, 1]),
    ("two", of(("two", 10)), 1, [0, 1, 0, 1, 1]),
    ("2", of(("two", 10)), 0, [0, 1, 0, 1, 1]),
    ("two", of(("two", 9), ("three", 1)), 1, [1, 1, 0, 1, 1]),
    ("none", of(("none", 8), ("0", 2)), 1, [1, 1, 0.6, 1, 1]),
    ("a cat", of(("a cat", 3), ("dog", 7)), 0.9, [0.9, 0.9, 0, 0.9, 1]),
    ("Nike", of(("Nike", 9), ("nike", 1)), 1, [1, 1, 0.3, 1, 1]),
    ("women's", of(("women's", 9), ("men", 1)), 1, [0, 1, 1, 1, 1]),
    ("red", of(("red", 1), ("blue", 9)), 0.3, [0.3, 0.3, 0.3, 0.3, 1 / 3]),
    ("red", of(("red", 2), ("blue", 8)), 0.6, [0.6, 0.6, 0.6, 0.6, 2 / 3]),
    ("red", of((" red", 4), ("blue", 6)), 1, [1, 1, 0, 1, 1]),
    ("1000", of(("1,,000", 4), ("x", 6)), 0, [1, 0, 0, 1, 0]),
    ("x,y", of(("xy", 4), ("z", 6)), 0, [1, 0, 0, 1, 0]),
]


@pytest.mark.parametrize(("prediction", "answers", "expected", "others"), KEPT)
def test_kept_cases_that_differ(prediction, answers, expected, others):
    assert accuracy_under(OFFICIAL_RULES, prediction, answers) == pytest.approx(expected)
    for (name, toolkit), other in zip(TOOLKITS.items(), others, strict=True):
        score = accuracy_under(toolkit.rules, prediction, answers)
        assert score == pytest.approx(other), name
        assert PLAIN[name](prediction, answers) == pytest.approx(other), name


@pytest.mark.parametrize("name", TOOLKITS)
def test_every_difference_has_reasons_that_add_up_to_it(name):
    rules, seen = TOOLKITS[name].rules, set()
    for prediction, truths in cases(CASES, seed=f"{name} reasons"):
        changes = departures(rules, prediction, truths)
        difference = accuracy_under(rules, prediction, truths) - official(prediction, truths)
        assert sum(changes.values()) == pytest.approx(difference, abs=1e-9)
        seen |= changes.keys()
    own = {REASONS[f, v] for f, v in vars(rules).items() if v != getattr(OFFICIAL_RULES, f)}
    assert seen == own  # every rule of the toolkit moves a case, and no other does


def test_a_reason_names_the_rule_that_moves_the_question():
    reason = {
        name: [*departures(t.rules, "two", of(("two", 9), ("three", 1)))]
        for name, t in TOOLKITS.items()
    }
    assert reason.pop("lavis") == [REASONS["words_mapped", False]] and not any(reason.values())
    assert [*departures(TOOLKITS["lmms-eval"].rules, "Yes", of(("yes", 10)))] == [
        REASONS["if_unanimous", "prediction"]
    ]
    assert departures(TOOLKITS["mmpretrain"].rules, "red", of(("red", 2), ("blue", 8))) == {
        REASONS["one_left_out", False]: pytest.approx(2 / 3 - 0.6)
    }


def test_a_comparison_is_the_mean_and_its_reasons_add_up():
    drawn = dict(enumerate(cases(FEW, seed=3)))
    predictions = {i: prediction for i, (prediction, _) in drawn.items()}
    truths = {i: answers for i, (_, answers) in drawn.items()}
    for name, toolkit in TOOLKITS.items():
        result = compare(toolkit.rules, predictions, truths)
        expected = statistics.fmean(PLAIN[name](p, t) for p, t in drawn.values())
        before = mean([official(p, t) for p, t in drawn.values()])
        assert result.accuracy == pytest.approx(expected, abs=1e-9) and result.n == FEW
        moved = sum(result.moved(reason) for reason in result.by_reason())
        assert moved == pytest.approx(result.accuracy - before, abs=1e-9)
        assert {d.question_id for d in result.differences} == {
            i for i, (p, t) in drawn.items() if abs(PLAIN[name](p, t) - official(p, t)) > 1e-9
        }


def test_score_prints_every_toolkit_beside_the_official_accuracy(tmp_path):
    shown, _ = run("score", "vqa", *FILES, "--as", "all", cwd=tmp_path)
    assert re.search(r"^accuracy +65\.22 ", shown, re.M)
    for toolkit in TOOLKITS.values():
        assert f"as {toolkit.title} " in shown
    assert re.search(r"^as LAVIS +35\.38   \(−29\.83; 220 of 600 questions differ\)$", shown, re.M)
    assert f"79 questions: {REASONS['if_unanimous', 'prediction']}\n" in shown
    assert '7494: "an" for "an" ×10: 100.00 → 0.00\n' in shown
    alone, _ = run("score", "vqa", *FILES, cwd=tmp_path)
    assert shown.startswith(alone)


def test_json_has_the_toolkits_under_as(tmp_path):
    shown, _ = run("score", "vqa", *FILES, "--as", "mmf, lavis", "--json", cwd=tmp_path)
    printed = json.loads(shown)
    assert list(printed["as"]) == ["mmf", "lavis"]
    given = {
        r["question_id"]: r["answer"]
        for r in json.loads((GOLDEN / "results.json").read_text(encoding="utf-8"))
    }
    annotations = json.loads((GOLDEN / "annotations.json").read_text(encoding="utf-8"))[
        "annotations"
    ]
    truths = {r["question_id"]: [a["answer"] for a in r["answers"]] for r in annotations}
    for name, group in printed["as"].items():
        expected = statistics.fmean(PLAIN[name](given[i], truths[i]) for i in truths)
        assert group["accuracy"] == pytest.approx(expected, abs=1e-12)
        assert group["source"] == TOOLKITS[name].source
        moved = sum(reason["change"] for reason in group["reasons"])
        assert moved == pytest.approx(group["accuracy"] - printed["accuracy"], abs=1e-12)
    alone, _ = run("score", "vqa", *FILES, "--json", cwd=tmp_path)
    assert json.loads(alone) == {k: v for k, v in printed.items() if k != "as"}


def test_an_unknown_toolkit_is_refused(tmp_path):
    _, said = run("score", "vqa", *FILES, "--as", "mmf,llava", cwd=tmp_path, code=2)
    known = "all, lmms-eval, vlmevalkit, lavis, mmf, mmpretrain"
    assert said == f"vle-bench: --as: 'llava' is not among {known}\n"
