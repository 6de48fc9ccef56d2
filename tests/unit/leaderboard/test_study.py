"""The study's tables, sentences and figure, from made-up records."""

import json
import statistics
from pathlib import Path

import pytest

from vle_bench.errors import RequestError
from vle_bench.leaderboard.markup import comma_separated, latex, markdown
from vle_bench.leaderboard.render import write_tables
from vle_bench.leaderboard.study import (
    COMPARISONS,
    FOLDER,
    StudyDifference,
    StudyRecord,
    load_study,
    mean_curve,
    points,
    row_name,
    spread,
    study_figure,
    study_page,
)

ALL = ["mlm", "itm", "pbc", "mpc"]
PROBES = {
    "mlm": {"noun": 0.8, "noun_grey": 0.2},
    "itm": {"match_stranger": 0.95, "match": 0.9},
    "pbc": {"pointing": 0.95, "pointing_chance": 0.1, "iou": 0.6},
    "mpc": {"object": 0.7, "object_no_caption": 0.3},
}


def record(family="vle", objectives=(), seed=0, q2a=0.5, reach=None, **changes):
    """A record whose scores are shifted by the seed."""
    shift = 0.01 * seed
    probes = {k: v + shift for name in objectives for k, v in PROBES[name].items()}
    scores = {"easy_vqa": 0.8, "q2a": q2a, "qa2r": 0.6, "q2ar": 0.3}
    curve = [(50, 0.3), (100, 0.95 if reach == 100 else 0.4), (150, q2a)]
    return StudyRecord.model_validate(
        {
            "family": family,
            "objectives": list(objectives),
            "seed": seed,
            "probes": {k: {"value": v, "interval": None, "n": 10} for k, v in probes.items()},
            "transfer": {k: {"value": v + shift, "n": 10} for k, v in scores.items()},
            "curves": {"q2a": curve},
            "steps": {"q2a": 150},
            "passes": 2800 if objectives else 0,
            "recipes": {"q2a": "x"},
            "data": {"q2a": "d"} | ({"pretraining": "p"} if objectives else {}),
            "parameters": 300_000,
            "seconds": 1.0,
            "device": "cpu, 1 thread",
            "code": {"commit": "c", "clean": True},
            "libraries": {"torch": "2.13.0"},
            **changes,
        }
    )


def difference(claim="PBC", values=(0.1, 0.2, 0.3), p=0.01, metric="Q2A"):
    mean = statistics.fmean(values)
    return StudyDifference(
        claim=claim,
        metric=metric,
        a="A",
        b="B",
        n=10,
        difference=mean,
        by_seed=list(values),
        interval=(mean - 0.05, mean + 0.05),
        p=p,
    )


def write(root, records, comparisons=()):
    folder = root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for one in records:
        name = f"{one.family}-{'-'.join(one.objectives)}.seed-{one.seed}.json"
        (folder / name).write_text(one.model_dump_json(), encoding="utf-8")
    rows = [one.model_dump(mode="json") for one in comparisons]
    (folder / COMPARISONS).write_text(json.dumps(rows), encoding="utf-8")
    return root


def table_of(tmp_path, records, comparisons=()):
    return study_page(load_study(write(tmp_path, records, comparisons))).tables


def test_no_records_no_page(tmp_path):
    assert load_study(tmp_path) is None


def test_a_row_is_mean_and_deviation_over_seeds(tmp_path):
    records = [record("vle", ALL, seed, q2a=0.9) for seed in range(3)]
    (table,) = table_of(tmp_path, records)
    (row,) = table.rows
    cells = dict(zip((c.title for c in table.columns), row.cells, strict=True))
    assert cells["Model"].text == "VLE-tiny, MLM + ITM + PBC + MPC"
    assert cells["match on hard negatives"].text == "91.0 ± 1.0"
    assert cells["masked noun: picture − grey"].text == "60.0 ± 0.0"
    assert cells["blacked object: caption − none"].order == pytest.approx(0.4)
    assert cells["pointing"].text == "96.0 ± 1.0" and cells["pointing by chance"].text[:2] == "11"
    assert cells["Q2A"].text == "91.0 ± 1.0" and cells["seeds"].text == "3"


def test_rows_are_families_then_objectives_and_a_model_has_no_probe_of_what_it_was_not_trained_for(
    tmp_path,
):
    kinds = [("meter", []), ("vle", ALL), ("vle", ["itm"]), ("vle", []), ("vle", ["mlm"])]
    (table,) = table_of(tmp_path, [record(family, names) for family, names in kinds])
    assert [row.cells[0].text for row in table.rows] == [
        "VLE-tiny, from scratch",
        "VLE-tiny, ITM",
        "VLE-tiny, MLM",
        "VLE-tiny, MLM + ITM + PBC + MPC",
        "METER-tiny, from scratch",
    ]
    scratch, itm = table.rows[0].cells, table.rows[1].cells
    assert [cell.text for cell in scratch[1:8]] == ["–"] * 7
    assert [cell.text for cell in itm[1:8]] == ["95.0", "90.0", *["–"] * 5]


@pytest.mark.parametrize(
    ("reached", "text"),
    [((100, 100), "100"), ((100, None), "100 (1 of 2)"), ((None, None), "> 150")],
)
def test_steps_to_the_target(tmp_path, reached, text):
    records = [record("vle", [], seed, reach=reach) for seed, reach in enumerate(reached)]
    (table,) = table_of(tmp_path, records)
    assert table.rows[0].cells[-2].text == text
    assert "evaluated every 50 steps" in markdown(study_page(load_study(tmp_path)), "note")


def test_a_claim_holds_if_p_is_small_and_all_seeds_agree():
    assert difference().verdict == "holds"
    assert difference(values=(-0.1, -0.2), p=0.01).verdict == "fails"
    assert difference(p=0.05).verdict == "open" and difference(p=None).verdict == "open"
    assert difference(values=(0.1, -0.01, 0.3), p=0.001).verdict == "open"


def test_the_sentences_print_what_holds_and_what_does_not(tmp_path):
    comparisons = [
        difference("PBC helps"),
        difference("PBC helps", (-0.1, -0.2), 0.01, "QA2R"),
        difference("MPC helps", (0.1, -0.1), 0.5),
    ]
    models, claims = table_of(tmp_path, [record()], comparisons)
    assert models.name == "study" and claims.name == "study_claims"
    assert "PBC helps: it holds: Q2A +20.0; the reverse holds: QA2R −15.0." in claims.lead
    assert "MPC helps: not shown: Q2A +0.0." in claims.lead
    assert [row.cells[-1].text for row in claims.rows] == ["yes", "no, the reverse", "not shown"]
    assert claims.rows[1].cells[3:7] and claims.rows[1].cells[6].text == "−10.0, −20.0"
    assert (
        claims.rows[0].cells[4].text == "+15.0 to +25.0" and claims.rows[0].cells[5].text == "0.01"
    )


def test_a_difference_is_printed_in_points():
    assert [points(v) for v in (0.1234, -0.1, 0.0)] == ["+12.3", "−10.0", "+0.0"]


def test_a_mean_needs_a_value_of_every_seed():
    assert spread([0.5, None]).text == "–" and spread([]).text == "–"
    values = [0.5, 0.7, 0.9]
    expected = f"{100 * statistics.mean(values):.1f} ± {100 * statistics.stdev(values):.1f}"
    assert spread(values).text == expected


def test_the_figure_has_the_mean_curves():
    assert mean_curve([[(50, 0.2), (100, 0.4)], [(50, 0.4), (100, 0.8), (150, 1.0)]]) == [
        (50, pytest.approx(30)),
        (100, pytest.approx(60)),
    ]


def test_the_board_has_page_tables_and_figure(tmp_path):
    root = write(tmp_path / "board", [record(), record("vle", ALL)], [difference()])
    published = Path(__file__).parents[3] / "leaderboards" / "published.yaml"
    (root / "published.yaml").write_bytes(published.read_bytes())
    names = {path.name for path in write_tables(root)}
    assert {"study.md", "study.csv", "study.tex", "study_claims.csv", "study.svg"} <= names
    assert "VLE-tiny, MLM + ITM + PBC + MPC" in (root / "index.html").read_text(encoding="utf-8")
    assert "<svg" in (root / "figures" / "study.svg").read_text(encoding="utf-8")
    assert write_tables(root, check=True) == []


def test_csv_and_latex(tmp_path):
    models, claims = table_of(tmp_path, [record("vle", ALL)], [difference()])
    assert "VLE-tiny" in comma_separated(models) and r"\pm" not in latex(claims, "note")


def test_no_figure_without_curves():
    from vle_bench.leaderboard.study import Study

    assert study_figure(Study((record(curves={}),), ())) == {}
    drawn = study_figure(Study((record(),), ()))["study"]
    assert row_name("vle", ()) in drawn


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"passes": 5}, "passes differ"),
        ({"data": {"q2a": "d", "pretraining": "other"}}, "data differ"),
        ({"steps": {"q2a": 100}}, "steps of fine-tuning differ"),
    ],
)
def test_records_of_two_studies_are_refused(tmp_path, changes, message):
    records = [record("vle", ["mlm"]), record("vle", ["itm"], **changes)]
    with pytest.raises(RequestError, match=message):
        load_study(write(tmp_path, records))


def test_a_damaged_record_and_a_double_are_refused(tmp_path):
    root = write(tmp_path, [record()])
    copy = root / FOLDER / "zz.json"
    copy.write_text(record().model_dump_json(), encoding="utf-8")
    with pytest.raises(RequestError, match=r"zz\.json: this model and seed"):
        load_study(root)
    copy.write_text('{"family": "vle"}', encoding="utf-8")
    with pytest.raises(RequestError, match=r"zz\.json: .*objectives"):
        load_study(root)


def test_a_control_above_its_probe_has_a_true_minus(tmp_path):
    own = {"noun": 0.2, "noun_grey": 0.25}
    probes = {name: {"value": value, "interval": None, "n": 10} for name, value in own.items()}
    (table,) = table_of(tmp_path, [record("vle", ["mlm"], probes=probes)])
    assert table.rows[0].cells[3].text == "−5.0"
