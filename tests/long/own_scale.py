"""Time and memory of `prepare own` on a large CSV, and the same bytes after a kill.

python -m tests.long.own_scale --rows 1000000 --pictures 100000 --folder /tmp/own-scale
"""

import argparse
import csv
import hashlib
import io
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image


def generate(folder: Path, rows: int, pictures: int) -> Path:
    """Write the CSV and small JPEG pictures, 64 × 48 pixels of noise, each of its own."""
    path, rng = folder / "data.csv", np.random.default_rng(0)
    if path.is_file():
        return path
    for number in range(pictures):
        place = folder / f"{number // 1000:03d}"
        place.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        pixels = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 48)).save(content, "JPEG")
        (place / f"{number}.jpg").write_bytes(content.getvalue())
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "question", "answers", "id"])
        for number in range(rows):
            picture = number % pictures
            name = f"{picture // 1000:03d}/{picture}.jpg"
            question = f"How many things of kind {number // pictures} are in the picture?"
            writer.writerow([name, question, f"answer {number % 997}", f"q-{number}"])
    return path


def digests(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("*.arrow"))
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=2)
    given = parser.parse_args()
    source = generate(given.folder, given.rows, given.pictures)
    command = [sys.executable, "-m", "vle_bench", "prepare", "own", str(source)]
    command += ["--workers", str(given.workers), "--output"]
    for name in ("whole", "killed"):
        shutil.rmtree(given.folder / name, ignore_errors=True)
        shutil.rmtree(given.folder / f".{name}.partial", ignore_errors=True)
    start = time.monotonic()
    subprocess.run([*command, str(given.folder / "whole")], check=True)
    seconds = time.monotonic() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak, processor = used.ru_maxrss / 1024, used.ru_utime + used.ru_stime
    print(f"{given.rows:,} rows, {given.pictures:,} pictures: {seconds:.1f} s, ", end="")
    print(f"{processor:.1f} s of a processor, ", end="")
    print(f"{given.rows / seconds:,.0f} rows a second, {peak:,.0f} MiB in the largest process")
    for kill in range(given.kills):
        process = subprocess.Popen([*command, str(given.folder / "killed")])
        time.sleep(seconds * (0.3 + 0.4 * kill))
        process.kill()
        process.wait()
        assert not (given.folder / "killed").exists(), "it was already complete"
    subprocess.run([*command, str(given.folder / "killed")], check=True)
    same = digests(given.folder / "whole") == digests(given.folder / "killed")
    print(f"after {given.kills} kills: {'the same bytes' if same else 'OTHER BYTES'}")
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
