"""A few cases of the fuzz, and that it finds what it is to find."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.long import fuzz
from tests.long.kinds import KINDS, VQA, Kind, Outcome, says_so
from tests.long.mutations import BYTES, ENCODINGS, TREE, mutate

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "number"),
    [("recipes", 4), ("vqa", 40), ("vcr", 6), ("label-maps", 60), ("images", 40)],
)
def test_a_few_damaged_files_of_each_kind(tmp_path, name, number):
    kind, scores = KINDS[name](tmp_path), {}
    cases = [fuzz.run_case(kind, name, k, 2, scores) for k in range(number)]
    assert [vars(case) for case in cases if case.is_finding] == []
    assert len({case.damage for case in cases}) > min(number, 10) / 2
    assert any(case.result == fuzz.REFUSED for case in cases)


def test_a_case_follows_from_its_seed_and_its_number(tmp_path):
    content = (ROOT / "tests" / "golden" / "records" / "version-3.json").read_bytes()
    both = [
        [mutate(random.Random(f"1 x {k}"), "a.json", content) for k in range(200)] for _ in range(2)
    ]
    assert both[0] == both[1]
    assert {damage for damage, _ in both[0]} == {*BYTES, *ENCODINGS, *TREE}
    assert sum(changed == content for _, changed in both[0]) < 10


class Reader(Kind):
    """Reads a number; `fault` is how."""

    def __init__(self, folder, fault):
        (folder / "number.json").write_text("7", encoding="utf-8")
        super().__init__(folder, ["number.json"])
        self.fault, self.calls = fault, 0

    def run(self, name, number):
        self.calls += 1
        if self.calls == 1:
            return Outcome(0, "", "", 7)
        return self.fault(self)


def written(kind, name):
    (kind.outputs / name).write_text("", encoding="utf-8")
    return 0


@pytest.mark.parametrize(
    ("fault", "result"),
    [
        (lambda kind: 1 // 0, "exception"),
        (lambda kind: time.sleep(5), "too long"),
        (
            lambda kind: Outcome(
                1,
                "",
                "vle-bench: KeyError: 'a' (unexpected; --debug shows the traceback, which names the module at fault)",
            ),
            "unnamed error",
        ),
        (lambda kind: Outcome(-11, "", ""), "exit status"),
        (lambda kind: Outcome(2, "", "vle-bench: something is wrong"), "names no file"),
        (lambda kind: Outcome(2, "", "number.json: " + "9" * 5000), "says pages"),
        (
            lambda kind: Outcome(written(kind, "record.json") or 2, "", "number.json: broken"),
            "left after an error",
        ),
        (
            lambda kind: Outcome(written(kind, ".record.json.1.partial"), "", "", 7),
            "half-written beside it",
        ),
        (lambda kind: Outcome(0, "", "x.py:1: UserWarning: odd", 7), "library's warning"),
        (lambda kind: Outcome(2, "", "number.json: broken"), fuzz.REFUSED),
        (lambda kind: Outcome(0, "", "", 7), fuzz.SAME),
    ],
)
def test_what_is_a_finding(tmp_path, monkeypatch, fault, result):
    monkeypatch.setattr(fuzz, "SECONDS", 0.2)
    case = fuzz.run_case(Reader(tmp_path, fault), "reader", 0, 0, {})
    assert case.result == result and case.is_finding == (result not in (fuzz.REFUSED, fuzz.SAME))
    assert (tmp_path / "number.json").read_text(encoding="utf-8") == "7"


@pytest.mark.parametrize(
    ("content", "result"), [(b"8", fuzz.OTHER), (b"NaN", "another score without a word")]
)
def test_another_score_must_be_what_the_file_says(tmp_path, monkeypatch, content, result):
    monkeypatch.setattr(fuzz, "mutate", lambda rng, file, original: ("number", content))
    case = fuzz.run_case(Reader(tmp_path, lambda kind: Outcome(0, "", "", 8)), "reader", 0, 0, {})
    assert case.result == result


def test_an_accepted_score_of_vqa_is_compared_with_a_scorer_of_a_few_lines(tmp_path):
    kind = VQA(tmp_path)
    kind.outputs.mkdir()
    outcome = kind.run("results.json", 0)
    assert kind.explained("results.json", "number", outcome)
    outcome.score += 0.001
    assert not kind.explained("results.json", "number", outcome)


@pytest.mark.parametrize(
    ("name", "content", "well_formed"),
    [
        ("a.json", b'{"a": 1}', True),
        ("a.json", b'{"a": 1, "a": 2}', False),
        ("a.json", b"[NaN]", False),
        ("a.json", '{"a": "é"}'.encode("latin-1"), False),
        ("a.json", b"[" * 100_000, False),
        ("a.jsonl", b'{"a": 1}\n{', False),
        ("a.csv", "a,é".encode(), True),
        ("a.yaml", b"a: [", False),
    ],
)
def test_what_a_well_formed_file_is(name, content, well_formed):
    assert says_so(name, content) is well_formed


def test_a_process_that_dies_is_a_finding_and_the_next_case_is_run(monkeypatch):
    case = "dict(kind='vqa', number={n}, file='', damage='', result='refused')"
    worker = f"import json, os; print(json.dumps({case}), flush=True); os._exit(9)"
    started = []
    real = subprocess.Popen

    def popen(command, **options):
        started.append(int(command[command.index("--start") + 1]))
        return real([sys.executable, "-c", worker.format(n=started[-1])], **options)

    monkeypatch.setattr(fuzz.subprocess, "Popen", popen)
    found = [(case.number, case.result) for case in fuzz.cases("vqa", 0, range(3, 6))]
    assert found == [(3, "refused"), (4, "process died"), (5, "refused")] and started == [3, 5]
