"""The rules of the recipe `wiki` in plain Python, a text at a time: the same texts and ids as ours.

Of Gopher's limits on repetition only those of lines and of sequences of words are measured.

Of `re` and `regex` each pattern takes the faster one, which makes the whole nearly twice as fast as `re` alone. `clean_file`
cleans one file, in any process; `write` takes the files in order and finds the copies.
"""

import hashlib
import json
import re
import string
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import polars as pl
import regex
from rensa import RMinHash

from data_contracts.clean.change import CP1252, SPACES, unescape
from data_contracts.clean.measures import STOP_WORDS
from data_contracts.clean.near_duplicates import SIGNED_CHARS
from data_contracts.clean.personal import BARE_URL, EMAIL, URL
from data_contracts.clean.shard import PARQUET
from data_contracts.clean.split import FAMILY
from data_contracts.contracts import SPLITS
from data_contracts.corpora import wiki
from data_contracts.rules import Rules


def _subs(*changes: tuple) -> Callable[[str], str]:
    patterns = [(engine.compile(pattern), new) for engine, pattern, new in changes]

    def change(text: str) -> str:
        for pattern, new in patterns:
            text = pattern.sub(new, text)
        return text

    return change


PATTERNS = {rule.name: [pattern for pattern, _ in rule.change.keywords["steps"]] for rule in wiki.RULES}
EMPTY = r"(?:\x1e={{{0}}}[^=\x1f]+\x1f[\s*:;#|]*)+(\x1e={{2,{1}}}[^=]|\Z)"
# By the names of ours, so that each can be timed beside it.
TEXT_RULES = {
    "entities": unescape,
    "line_ends": _subs((re, "\r\n?|[\x0b\x0c\x85\u2028\u2029]", "\n")),
    "cp1252": _subs((re, "[\x80-\x9f]", lambda found: CP1252[found[0]])),
    "control_characters": _subs((re, r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff]", "")),
    "ampersands": _subs((re, r"&([A-Za-z]\w*);", r"&\1")),
    "code": _subs(
        (re, PATTERNS["code"][0], "\\1\x1d\\2\x1d\\3"),
        (re, PATTERNS["code"][1], r"\1\2"),
    ),
    "headings": _subs((regex, PATTERNS["headings"][0], "\x1e\\2\\1\x1f")),
    "categories": _subs((regex, PATTERNS["categories"][0].replace(r"\z", r"\Z").replace(r"(?-u:\b)", r"\b"), "")),
    "apparatus": _subs((re, PATTERNS["apparatus"][0], "")),
    "tables": _subs(
        (re, PATTERNS["tables"][0], ""),
        (re, PATTERNS["tables"][1].replace(r"\z", r"\Z"), r"\1"),
        (regex, PATTERNS["tables"][2], ""),
    ),
    "files": _subs((regex, PATTERNS["files"][0], ""), (regex, PATTERNS["files"][1], "")),
    "holes": _subs((regex, r" \(\s*(?:[,;]\s*)+", " ("), (regex, r" \(\s*\)", "")),
    "leftovers": _subs((re, r"( \.(?:[a-z\d]|[A-Z]{2}))|\\([.\-+_#])|\{\{|\}\}| ([,.;])", r"\1\2\3")),
    "bullets": _subs(
        (re, PATTERNS["bullets"][0], "\\1\x1d\\2"),
        (re, PATTERNS["bullets"][1], "\\1\x1d\\2"),
        (re, r"\*?([ \x1f])\*(?:[ *]*\*)*", r"\1*"),
        (regex, r" \*\s*(\x1e|\Z)", r"\1"),
    ),
    "empty_sections": _subs(*((regex, EMPTY.format(*at), r"\1") for at in (("4,6", 4), ("3", 3), ("2", 2)))),
    "heading_lines": _subs((re, r" *\x1e=+([^\x1f]*)\x1f *", "\n\n\\1\n")),
    "code_marks": _subs((re, "\x1d", "")),
    "normalize": lambda text: unicodedata.normalize("NFC", text),
    "urls": _subs((re, URL, "")),
    "bare_urls": _subs((re, BARE_URL, r"\1")),
    "emails": _subs((regex, EMAIL, "<email>")),
    "odd_spaces": _subs((re, f"[{''.join(SPACES)}]", lambda found: SPACES[found[0]])),
    "spaces": _subs((re, r"  +", " "), (re, r" \n", "\n"), (re, r"\n\n\n+", "\n\n")),
    "edges": lambda text: re.sub(r"\A(?:[^\S\n]*\n)+", "", text).rstrip(),
}
MARK = re.compile("[\u0300-\u036f]+")
TO_SPACES = str.maketrans(dict.fromkeys(string.punctuation + string.digits, " "))
OTHER = re.compile(r" may (?:also )?refer to ?:|may stand for ?:")
ELLIPSIS, LETTER = re.compile(r"\.\.\.|…"), re.compile(r"[A-Za-z\u0080-\U0010ffff]")


def document(article: dict, name: str, place: int, rules: Rules) -> dict:
    """A row of documents, where its reason is None, or of rejects."""
    if not article["id"].isdigit():
        raise ValueError(f"{name} row {place}: id {article['id']!r}")
    title, text = article["title"].strip(), article["text"]
    metadata = json.dumps({"id": article["id"], "title": title}, ensure_ascii=False, separators=(",", ":"))
    row = {"text": f"{title}\n\n{text}", "source_file": name, "source_row": place, "metadata": metadata}
    if not title:
        return row | {"reason": "no_title"}
    if title.endswith("(disambiguation)") or OTHER.search(text[:300]) or "disambiguation pages" in text[-400:]:
        return row | {"reason": "disambiguation"}
    for change in TEXT_RULES.values():
        row["text"] = change(row["text"])
    row |= measure(row["text"])
    row["reason"] = reason(row, rules)
    if row["reason"] is None:
        row["doc_id"] = hashlib.sha256(row["text"].encode()).hexdigest()[:32]
        draw = int(hashlib.sha256(f"{rules.seed}:{article['id']}".encode()).hexdigest()[:8], 16) / 2**32
        row["split"] = SPLITS[1 if draw < rules.val_fraction else 2 if draw >= 1 - rules.test_fraction else 0]
        row["place"] = hashlib.sha256(article["id"].encode()).hexdigest()[:16] + "0" * 16
        row["buckets"] = minhash(row["text"])
    return row


def measure(text: str) -> dict:
    words = text.split()
    n_words = max(1, len(words))
    return {
        "n_chars": len(text),
        "n_bytes": len(text.encode()),
        "n_words": len(words),
        "word_chars": sum(map(len, words)) / n_words,
        "letter_words": sum(1 for word in words if LETTER.search(word)) / n_words,
        "symbols": max(text.count("#"), len(ELLIPSIS.findall(text))) / n_words,
        "stop_words": sum(bool(re.search(rf"\b{word}\b", text, re.IGNORECASE)) for word in STOP_WORDS),
        "repeated_lines": repeated_lines(text),
        "top_ngrams": top_sequence(words),
        "repeated_ngrams": repeated_sequences(words),
    }


def repeated_lines(text: str) -> float:
    """The share of lines that repeat an earlier one, or of their characters plus 0.1."""
    counts = Counter("".join(line.split()) for line in text.split("\n"))
    del counts[""]
    again = counts.total() - len(counts)
    chars = sum(len(line) * n for line, n in counts.items())
    of_chars = sum(len(line) * (n - 1) for line, n in counts.items()) / max(1, chars)
    return min(1, max(again / counts.total(), of_chars + 0.1)) if again else 0.0


def top_sequence(words: list[str]) -> float:
    """The share of characters in the most frequent sequence of 2 words, of 3 plus 0.02, of 4 plus 0.04."""
    most, chars = 0.0, sum(map(len, words))
    for size in (2, 3, 4):
        counts = Counter(zip(*(words[start:] for start in range(size)), strict=False))
        times = max(counts.values(), default=0)
        if times < 2:
            break
        longest = max(sum(map(len, gram)) for gram, n in counts.items() if n == times)
        most = max(most, min(1, times * longest / chars + 0.02 * (size - 2)))
    return most


def repeated_sequences(words: list[str]) -> float:
    """The share of characters in repeated sequences of 5 words, of 6 plus 0.01, ... of 10 plus 0.05."""
    most, chars = 0.0, sum(map(len, words))
    for size in range(5, 11):
        seen, covered = set(), set()
        for at, gram in enumerate(zip(*(words[start:] for start in range(size)), strict=False)):
            if gram in seen:
                covered.update(range(at, at + size))
            seen.add(gram)
        if not covered:  # nor is there a longer one
            break
        most = max(most, min(1, sum(len(words[at]) for at in covered) / chars + 0.01 * (size - 5)))
    return most


def reason(found: dict, rules: Rules) -> str | None:
    """The first drop rule that holds."""
    tests = {
        "empty": found["n_words"] == 0,
        "too_short": found["n_chars"] < rules.min_chars,
        "few_words": found["n_words"] < rules.min_words,
        "word_length": not rules.min_word_chars <= found["word_chars"] <= rules.max_word_chars,
        "symbols": found["symbols"] > rules.max_symbols,
        "letters": found["letter_words"] < rules.min_letter_words,
        "stop_words": found["stop_words"] < rules.min_stop_words,
        "repeated_lines": found["repeated_lines"] > rules.max_repeated_lines,
        "top_ngrams": found["top_ngrams"] > rules.max_top_ngrams > 0,
        "repeated_ngrams": found["repeated_ngrams"] > rules.max_repeated_ngrams,
    }
    return next((name for name, holds in tests.items() if holds), None)


def minhash(text: str) -> list[tuple]:
    """14 buckets of 8 hashes of the five-word sequences of the first SIGNED_CHARS characters, folded as ours."""
    plain = unicodedata.normalize("NFD", text[:SIGNED_CHARS].lower())
    words = MARK.sub("", plain).translate(TO_SPACES).split()
    sketch = RMinHash(num_perm=112, seed=1)
    sketch.update([" ".join(words[i : i + 5]) for i in range(max(1, len(words) - 4))])
    digest = sketch.digest()
    return [(i, *digest[i : i + 8]) for i in range(0, 112, 8)]


def clean_file(rules: Rules, path: Path) -> list[dict]:
    articles, name = json.loads(path.read_text(encoding="utf-8")), f"{path.parent.name}/{path.name}"
    return [document(article, name, place, rules) for place, article in enumerate(articles)]


def settle(rows: list[dict]) -> None:
    """Reject copies, and of texts that are alike (connected by buckets) those that stand on another side than the others."""
    parents = list(range(len(rows)))

    def root(number: int) -> int:
        while parents[number] != number:
            parents[number] = number = parents[parents[number]]
        return number

    first: dict[tuple, int] = {}
    for number, row in enumerate(rows):
        for bucket in row.pop("buckets"):
            parents[root(number)] = root(first.setdefault(bucket, number))
    families = defaultdict(list)
    for number, row in enumerate(rows):
        families[root(number)].append(row)
    for family in families.values():
        sides, seen = {row["split"] for row in family}, set()
        stays = "train" if len(family) > FAMILY and "train" in sides else max(sides, key=SPLITS.index)
        for row in sorted(family, key=lambda row: (row["place"], row["doc_id"])):
            row["reason"] = "leak" if row["split"] != stays else "duplicate" if row["doc_id"] in seen else None
            seen |= {row["doc_id"]} if row["split"] == stays else set()


def write(files: Iterable[list[dict]], out: Path) -> None:
    """Documents and rejects."""
    files = list(files)
    settle([row for rows in files for row in rows if row["reason"] is None])
    for number, rows in enumerate(files):
        for kind, kept in (("documents", True), ("rejects", False)):
            frame = pl.DataFrame([row for row in rows if (row["reason"] is None) == kept], infer_schema_length=None)
            (out / kind).mkdir(exist_ok=True)
            frame.write_parquet(out / kind / f"{number}.parquet", **PARQUET)
