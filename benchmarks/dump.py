"""A Wikipedia dump of any size, in the exact format of the Kaggle dataset, for measuring.

Real articles (GPT_SHARED_DATA, by default ../shared/data) are repeated, each time with another exchange of a third of the words
of the vocabulary among themselves: lengths, markup and letters stay as real as they were, and no two copies share enough
five-word sequences to be near-duplicates. Seeded: file k is the same on every machine.
"""

import json
import os
import random
import re
import uuid
from pathlib import Path

CHARS_A_FILE = 40_000_000  # the rule by which the dataset's author closed a file
EXCHANGED = 0.35  # share of the vocabulary


def real_articles() -> list[dict]:
    """The sample articles of the development data. Raises FileNotFoundError that says what is missing."""
    shared = Path(os.environ.get("GPT_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    files = sorted(shared.glob("kaggle/ltcmdrdata/plain-text-wikipedia-202011/*/*.json"))
    if not files:
        raise FileNotFoundError(f"{shared} holds no sample of the Wikipedia dataset: set GPT_SHARED_DATA")
    return [article for path in files for article in json.loads(path.read_text(encoding="utf-8"))]


def write(folder: Path, n_bytes: int) -> list[Path]:
    """Files of about 40 MB (of n_bytes, if that is less) in `folder`/enwiki20201020 until n_bytes are reached, in their order.
    Files already there stay."""
    target = folder / "enwiki20201020"
    target.mkdir(parents=True, exist_ok=True)
    articles = real_articles()
    words = [re.split(r"( +)", article["text"]) for article in articles]
    plain = sorted({word for split in words for word in split if word.isascii() and word.isalpha() and word.islower()})
    paths, total = [], 0
    while total < n_bytes:
        draw = random.Random(len(paths))
        path = target / f"{uuid.UUID(int=draw.getrandbits(128), version=4)}.json"
        if not path.exists():
            _write_file(path, articles, words, plain, draw, len(paths), min(CHARS_A_FILE, n_bytes))
        total += path.stat().st_size
        paths.append(path)
    return paths


def _write_file(
    path: Path, articles: list[dict], words: list, plain: list[str], draw: random.Random, number: int, n_chars: int
) -> None:
    rows, chars, copy = [], 0, 0
    while chars < n_chars:
        chosen = draw.sample(plain, int(EXCHANGED * len(plain)))
        exchange = dict(zip(chosen, draw.sample(chosen, len(chosen)), strict=True))
        for article, split in zip(articles, words, strict=True):
            text = "".join([exchange.get(word, word) for word in split])
            rows.append({"id": f"{number}{copy:03}{article['id']}", "text": text, "title": article["title"]})
            chars += len(text)
        copy += 1
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(rows, file, sort_keys=True, indent=1, ensure_ascii=False)
    partial.replace(path)
