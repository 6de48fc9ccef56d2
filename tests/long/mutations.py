"""Damaged copies of files: of their bytes, and of what JSON, JSON lines, YAML and CSV say."""

import csv
import io
import json
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import yaml

Bytes = Callable[[random.Random, bytes], bytes]


def cut_place(rng: random.Random, content: bytes) -> int:
    return rng.randrange(len(content)) if content else 0


def flip_bits(rng: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if changed:
            changed[cut_place(rng, content)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(rng: random.Random, content: bytes) -> bytes:
    return content[: cut_place(rng, content)]


def slice_of(rng: random.Random, content: bytes) -> tuple[int, int]:
    start = cut_place(rng, content)
    return start, min(len(content), start + rng.choice((1, 4, 64, 1024)))


def remove_slice(rng: random.Random, content: bytes) -> bytes:
    start, end = slice_of(rng, content)
    return content[:start] + content[end:]


def double_slice(rng: random.Random, content: bytes) -> bytes:
    start, end = slice_of(rng, content)
    return content[:end] + content[start:]


def zero_slice(rng: random.Random, content: bytes) -> bytes:
    start, end = slice_of(rng, content)
    return content[:start] + bytes(end - start) + content[end:]


def insert_bytes(rng: random.Random, content: bytes) -> bytes:
    start = cut_place(rng, content)
    return content[:start] + rng.randbytes(rng.choice((1, 3, 50))) + content[start:]


BYTES: dict[str, Bytes] = {
    "bit flips": flip_bits,
    "cut": cut,
    "slice removed": remove_slice,
    "slice doubled": double_slice,
    "slice of zeros": zero_slice,
    "random bytes": insert_bytes,
    "empty": lambda rng, content: b"",
    "only spaces": lambda rng, content: b" \n" * 5,
}


def as_text(encoding: str, errors: str = "strict") -> Bytes:
    def encode(rng: random.Random, content: bytes) -> bytes:
        return content.decode("utf-8", "replace").encode(encoding, errors)

    return encode


ENCODINGS: dict[str, Bytes] = {
    "utf-16": as_text("utf-16"),
    "utf-32": as_text("utf-32"),
    "latin-1": as_text("latin-1", "replace"),
    "byte order mark": as_text("utf-8-sig"),
    "line ends of Windows": lambda rng, content: content.replace(b"\n", b"\r\n"),
}

# JSON texts that no Python value is written as; each takes the place of a marker.
RAW = {
    "@deep list@": "[" * 100_000 + "]" * 100_000,
    "@deep object@": '{"a":' * 50_000 + "1" + "}" * 50_000,
    "@digits@": "9" * 10_000,
    "@exponent@": "1e999",
    "@NaN@": "NaN",
    "@infinity@": "-Infinity",
    "@surrogate@": r'"\ud83e"',
    "@zero@": r'"a\u0000b"',
}
NUMBERS = (-1, 0, 1, 2**31, 2**63, 2**64, 10**30, -(10**19), 1e308, 0.5, -0.0, 5e-324)
TYPES = (None, True, False, 1, 1.0, "", "text", [], {}, [[]], {"a": 1}, ["a", 1])
TEXTS = (
    "",
    " ",
    "\n",
    "a" * 100_000,
    "é",
    "\u202eabc",
    "½",
    "1",
    "NaN",
    "../../x",
    "/dev/zero",
    "%s",
    "\ufeffa",
)


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key or index) of everything in a tree."""
    pairs = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    for key, value in list(pairs):
        yield tree, key
        yield from places(value)


def change_tree(rng: random.Random, tree: Any) -> tuple[str, Any]:
    """Change one place of a tree; returns the kind of change, and the tree."""
    box = [tree]
    found = list(places(box))
    container, key = rng.choice(found)
    old = container[key]
    kind = rng.choice(tuple(TREE))
    if kind in ("removed", "renamed", "key twice", "doubled") and len(found) > 1:
        container, key = rng.choice(found[1:])
        old = container[key]
    TREE[kind](rng, container, key, old)
    return kind, box[0]


def put(values: tuple[Any, ...]) -> Callable[..., None]:
    def change(rng: random.Random, container: Any, key: Any, old: Any) -> None:
        container[key] = rng.choice(values)

    return change


def remove(rng: random.Random, container: Any, key: Any, old: Any) -> None:
    del container[key]


def double(rng: random.Random, container: Any, key: Any, old: Any) -> None:
    if isinstance(container, list):
        container.insert(rng.randrange(len(container) + 1), old)
    else:
        container[f"{key} "] = old


def shuffle(rng: random.Random, container: Any, key: Any, old: Any) -> None:
    target = old if isinstance(old, list) else container
    if isinstance(target, list):
        rng.shuffle(target)


def rename(rng: random.Random, container: Any, key: Any, old: Any) -> None:
    if isinstance(container, dict):
        other = rng.choice(list(container))
        container[rng.choice((f"{key}s", str(key).upper(), f"@twice@{other}"))] = container.pop(key)


def twice(rng: random.Random, container: Any, key: Any, old: Any) -> None:
    if isinstance(container, dict):
        container[f"@twice@{key}"] = rng.choice((old, 1, "other", None))


TREE: dict[str, Callable[..., None]] = {
    "wrong type": put(TYPES),
    "number": put(NUMBERS),
    "raw JSON": put(tuple(RAW)),
    "text": put(TEXTS),
    "removed": remove,
    "doubled": double,
    "shuffled": shuffle,
    "renamed": rename,
    "key twice": twice,
}


def with_raw(text: str) -> str:
    """Markers → the texts that they stand for."""
    for marker, raw in RAW.items():
        text = re.sub(f"[\"']?{marker}[\"']?", lambda _, raw=raw: raw, text)
    return text.replace("@twice@", "")


def change_json(rng: random.Random, content: bytes) -> tuple[str, bytes]:
    kind, tree = change_tree(rng, json.loads(content))
    return kind, with_raw(json.dumps(tree, ensure_ascii=rng.random() < 0.5)).encode(
        "utf-8", "surrogatepass"
    )


def change_jsonl(rng: random.Random, content: bytes) -> tuple[str, bytes]:
    lines = content.decode().splitlines()
    number = rng.randrange(len(lines))
    kind, line = change_json(rng, lines[number].encode())
    lines[number] = line.decode("utf-8", "surrogatepass")
    return kind, "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass")


# References that grow tenfold at each of ten levels
BOMB = "a0: &a0 [x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 11)
)


def change_yaml(rng: random.Random, content: bytes) -> tuple[str, bytes]:
    if rng.random() < 0.05:
        return "references", content + b"\n" + BOMB.encode()
    kind, tree = change_tree(rng, yaml.safe_load(content))
    return kind, with_raw(yaml.safe_dump(tree, allow_unicode=True, sort_keys=False)).encode(
        "utf-8", "surrogatepass"
    )


def change_csv(rng: random.Random, content: bytes) -> tuple[str, bytes]:
    rows = list(csv.reader(io.StringIO(content.decode())))
    row = rng.choice(rows)
    column = rng.randrange(len(row))
    kind = rng.choice(("cell", "column removed", "row twice", "rows shuffled", "column twice"))
    if kind == "cell":
        values = (
            "",
            "nan",
            "inf",
            "1e999",
            "-1",
            "x",
            "0x1",
            "1_0",
            " 1",
            "١",
            "1,5",
            '"',
            "9" * 10_000,
        )
        row[column] = rng.choice(values)
    elif kind == "column removed":
        del row[column]
    elif kind == "row twice":
        rows.append(row)
    elif kind == "rows shuffled":
        rng.shuffle(rows)
    else:
        row.insert(column, row[column])
    output = io.StringIO()
    csv.writer(output).writerows(rows)
    return kind, output.getvalue().encode()


STRUCTURED = {
    ".json": change_json,
    ".jsonl": change_jsonl,
    ".yaml": change_yaml,
    ".csv": change_csv,
}


def mutate(rng: random.Random, name: str, content: bytes) -> tuple[str, bytes]:
    """A damaged copy of a file and the kind of damage: half of it to what a text file says, if it is one."""
    structured = next((change for end, change in STRUCTURED.items() if name.endswith(end)), None)
    if structured is not None and rng.random() < 0.55:
        return structured(rng, content)
    choices = BYTES | (ENCODINGS if structured is not None else {})
    kind = rng.choice(tuple(choices))
    return kind, choices[kind](rng, content)
