"""The report that `vle-bench prepare own` prints."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from vle_bench.data.official.further import OFFICIAL_ID
from vle_bench.data.prepare import vqa_summary
from vle_bench.data.prepare.manifest import Choices
from vle_bench.data.prepare.own import choices as own_choices
from vle_bench.data.prepare.own.opened import opened
from vle_bench.data.prepare.own.prepare import prepare_own
from vle_bench.data.prepare.own.problems import OF_CHECK, Problems
from vle_bench.data.prepared import Manifest, open_prepared
from vle_bench.errors import RequestError
from vle_bench.metrics.vqa import IN_WORDS

EXAMPLES = 3
NAMELESS = "data"


def lines(manifest: Manifest) -> Iterator[str]:
    """Yield the lines of a manifest's report."""
    if manifest.metric is None:
        yield f"{manifest.name}: multiple-choice questions, scored with the accuracy"
        yield from own_choices.lines(manifest)
        yield from vqa_summary.turned_lines(manifest)
        yield from vqa_summary.what_is_left_out(manifest.left_out)
        return
    yield f"{manifest.name}: scored with {manifest.metric}: {IN_WORDS[manifest.metric]}"
    yield from vqa_summary.lines(manifest)


def check(given: str, choices: Choices) -> None:
    """Print examples, counts, the vocabulary's coverage and every problem; write nothing.

    Raises:
        RequestError: there are problems; nothing could be prepared without leaving them out.
    """
    own = opened(given, choices)
    problems = Problems("skip", "skip", OF_CHECK)
    try:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / (own.spec.name or NAMELESS)
            manifest = prepare_own(own, output, problems)
            # Problems have lines of their own below.
            manifest = replace(manifest, left_out=manifest.left_out | {"records": [], "images": []})
            print("\n".join([*examples(output, own.splits[0]), *lines(manifest)]))
    finally:
        for line in problems.lines():
            print(line)
    if problems.lines():
        raise RequestError(
            f"{given}: {problems.counted()}; nothing was written; {problems.skipped_by()}"
        )
    print("no problems; nothing was written")


def examples(root: Path, split: str) -> Iterator[str]:
    """Yield the first questions of a split as the model gets them."""
    data = open_prepared(root)
    questions = data.questions(split)
    for row in questions.select(range(min(EXAMPLES, len(questions)))):
        image = data.images[row["image_row"]]
        answers = own_choices.as_shown(row) if "choices" in row else row["answers"]
        yield (
            f"{row.get(OFFICIAL_ID.name, row['question_id'])}: {image['file_name']} "
            f"({image['width']} × {image['height']}): {row['question']} {answers}"
        )
