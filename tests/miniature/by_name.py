"""Miniatures of the datasets by name: their official file names and layouts, a few records each."""

from pathlib import Path
from typing import Any

from PIL import Image

from tests.miniature.vqav2 import COLORS, COUNTS, write

COCO = {"train2014": 11, "val2014": 42, "test2015": 77}  # the first image of each folder


def write_coco(folder: Path, *names: str, images: int = 3) -> dict[str, list[int]]:
    """Write the images of COCO's folders; returns the ids of each folder."""
    ids = {name: [COCO[name] + i for i in range(images)] for name in names}
    for name in names:
        for image_id in ids[name]:
            save(folder / name / f"COCO_{name}_{image_id:012d}.jpg", image_id)
    return ids


def save(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (60, 40), (number % 256, 90, 30)).save(path)


def ten(answers: list[str], **more: str) -> list[dict[str, Any]]:
    return [
        {"answer_id": i, "answer": a, "answer_confidence": "yes", **more}
        for i, a in enumerate(answers, 1)
    ]


def question(question_id: int, image_id: int, text: str = "How many are there?") -> dict[str, Any]:
    return {"question_id": question_id, "image_id": image_id, "question": text}


def write_okvqa(folder: Path) -> Path:
    """Annotations have no majority answer, and their own question types."""
    for split, ids in write_coco(folder, "train2014", "val2014").items():
        asked = [question(i * 10 + k, i) for i in ids for k in (0, 1)]
        truths = [
            {
                "question_id": q["question_id"],
                "image_id": q["image_id"],
                "question_type": ("one", "other")[n % 2],
                "answer_type": "other",
                "answers": [
                    {**one, "raw_answer": one["answer"]} for one in ten((COUNTS, COLORS)[n % 2])
                ],
                "confidence": 3,
            }
            for n, q in enumerate(asked)
        ]
        write(folder / f"OpenEnded_mscoco_{split}_questions.json", {"questions": asked})
        write(folder / f"mscoco_{split}_annotations.json", {"annotations": truths})
    return folder


def write_vizwiz(folder: Path) -> Path:
    """An image has one question; answers have a confidence, and some questions no answer."""
    for split in ("train", "val", "test"):
        records = []
        for n in range(4):
            image = f"VizWiz_{split}_{n:08d}.jpg"
            save(folder / split / image, n)
            record: dict[str, Any] = {"image": image, "question": "What is this?"}
            if split != "test":
                answers = [*["unanswerable"] * 6, *["soup can"] * 4] if n == 3 else COLORS
                record["answers"] = [
                    {"answer": a, "answer_confidence": ("yes", "maybe", "no")[i % 3]}
                    for i, a in enumerate(answers)
                ]
                record["answer_type"] = "unanswerable" if n == 3 else "other"
                record["answerable"] = int(n != 3)
            records.append(record)
        write(folder / f"{split}.json", records)
    return folder


def write_textvqa(folder: Path) -> Path:
    """Images have hexadecimal ids; answers are strings; the images of train and val share a folder."""
    first = {"train": 0, "val": 34602, "test": 39602}
    for split, start in first.items():
        data = []
        for n in range(4):
            image = f"{start * 7919 + n // 2:016x}"
            place = "test_images" if split == "test" else "train_images"
            save(folder / place / f"{image}.jpg", n)
            record = {
                "question_id": start + n,
                "image_id": image,
                "question": "what does the sign say?",
                "question_tokens": ["what", "does", "the", "sign", "say"],
                "image_width": 60,
                "image_height": 40,
                "set_name": split,
            }
            if split != "test":
                record["answers"] = [
                    "stop",
                    "Stop",
                    "STOP!",
                    *["stop"] * 4,
                    "go",
                    "sto",
                    "stop sign",
                ]
            data.append(record)
        about = {"dataset_type": split, "dataset_name": "textvqa", "dataset_version": "0.5.1"}
        write(folder / f"TextVQA_0.5.1_{split}.json", {**about, "data": data})
    return folder


def write_advqa(folder: Path) -> Path:
    """A test-dev without answers, about images of COCO's test2015."""
    ids = write_coco(folder, "val2014", "test2015")
    for split, images in (("val2017", "val2014"), ("testdev2015", "test2015")):
        asked = [question(i * 10 + k, i) for i in ids[images] for k in (0, 1)]
        write(folder / f"v1_OpenEnded_mscoco_{split}_advqa_questions.json", {"questions": asked})
    truths = [
        {
            "question_id": i * 10 + k,
            "image_id": i,
            "answer_type": "number",
            "answers": ten(COUNTS),
        }
        for i in ids["val2014"]
        for k in (0, 1)
    ]
    write(folder / "v1_mscoco_val2017_advqa_annotations.json", {"annotations": truths})
    return folder


def write_rephrasings(folder: Path) -> Path:
    """An original and its three rephrasings; the first rephrasings have the ids of other originals."""
    ids = write_coco(folder, "val2014", images=2)["val2014"]
    originals = [1, 10, 12, 3]  # 1 is rephrased as 10, 11, 12
    asked = []
    for n, original in enumerate(originals):
        image = ids[n % 2]
        asked.append(question(original, image))
        asked += [
            question(original * 10 + k, image, f"Way {k} to ask it?") | {"rephrasing_of": original}
            for k in range(3)
        ]
    truths = [
        {
            "question_id": q["question_id"],
            "image_id": q["image_id"],
            "question_type": "how many",
            "answer_type": "number",
            "multiple_choice_answer": "2",
            "answers": ten(COUNTS),
        }
        for q in asked
    ]
    stem = "mscoco_valrep2014_humans_og"
    write(folder / f"v2_OpenEnded_{stem}_questions.json", {"questions": asked})
    write(folder / f"v2_{stem}_annotations.json", {"annotations": truths})
    return folder


def write_cp_v2(folder: Path) -> Path:
    """Lists without a key; each split has images of both COCO folders, named by `coco_split`."""
    ids = write_coco(folder, "train2014", "val2014", images=6)
    for split, part in (("train", slice(0, 5)), ("test", slice(4, 6))):
        asked = [
            question(i * 1000 + (split == "test") * 500 + k, i) | {"coco_split": place}
            for place, images in ids.items()
            for i in images[part]
            for k in range(2)
        ]
        truths = [
            {
                "question_id": q["question_id"],
                "image_id": q["image_id"],
                "question_type": ("how many", "what color is")[n % 2],
                "answer_type": ("number", "other")[n % 2],
                "multiple_choice_answer": ("2", "red")[n % 2],
                "answers": ten((COUNTS, COLORS)[n % 2]),
                "coco_split": q["coco_split"],
            }
            for n, q in enumerate(asked)
        ]
        write(folder / f"vqacp_v2_{split}_questions.json", asked)
        write(folder / f"vqacp_v2_{split}_annotations.json", truths[::-1])
    return folder


GQA_TYPES = (
    ("verify", "attr", "verifyAttr", "yes"),
    ("query", "rel", "relS", "table"),
    ("choose", "cat", "chooseX", "red"),
)


def write_gqa(folder: Path) -> Path:
    """Objects of records by id, with leading zeros; ids of images are strings, some with a letter."""
    names = {"train": 3, "val": 2, "testdev": 2, "test": 1, "challenge": 1}
    everything: dict[str, Any] = {}
    for start, (split, images) in enumerate(names.items()):
        records = {}
        for i in range(images):
            image = f"n{start}{i}" if i else f"23{start}{i}"
            save(folder / "images" / f"{image}.jpg", 40 * start + i)
            for k, (structural, semantic, detailed, answer) in enumerate(GQA_TYPES):
                record = {"imageId": image, "question": f"Is it {answer}?", "isBalanced": True}
                if split in ("train", "val", "testdev"):
                    kinds = {"structural": structural, "semantic": semantic, "detailed": detailed}
                    record |= {"answer": answer, "fullAnswer": f"It is {answer}.", "types": kinds}
                    record |= {
                        "semantic": [{"operation": "select", "argument": "x"}],
                        "entailed": [],
                    }
                records[f"0{start}{i}{k}"] = record
        write(folder / f"{split}_balanced_questions.json", records)
        if split in ("test", "challenge"):
            everything |= records
    write(folder / "submission_all_questions.json", everything)
    return folder


def write_aokvqa(folder: Path) -> Path:
    """Question ids are strings; four choices and ten direct answers; COCO's folders of 2017."""
    for start, split in enumerate(("train", "val", "test")):
        records = []
        for n in range(4):
            image_id = 100 * start + n
            save(folder / f"{split}2017" / f"{image_id:012d}.jpg", image_id)
            record: dict[str, Any] = {
                "split": split,
                "image_id": image_id,
                "question_id": f"22MexNkBPpdZGX6sxbx{split[:2]}{n}",
                "question": "What is the man waiting for?",
                "choices": ["skateboarder", "train", "delivery", "cab"],
                "difficult_direct_answer": n == 3,
            }
            if split != "test":
                record |= {
                    "correct_choice_idx": 3,
                    "direct_answers": [
                        "ride",
                        "ride",
                        "bus",
                        "taxi",
                        "cab",
                        "taxi",
                        "cab",
                        "cab",
                        "x",
                        "y",
                    ],
                    "rationales": ["He has bags."] * 3,
                }
            records.append(record)
        write(folder / f"aokvqa_v1p0_{split}.json", records)
    return folder


WRITERS = {
    "okvqa": write_okvqa,
    "vizwiz": write_vizwiz,
    "textvqa": write_textvqa,
    "advqa": write_advqa,
    "vqa-rephrasings": write_rephrasings,
    "vqa-cp-v2": write_cp_v2,
    "gqa": write_gqa,
    "aokvqa": write_aokvqa,
    "aokvqa-choices": write_aokvqa,
}
