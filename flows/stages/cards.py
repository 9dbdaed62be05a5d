"""The tokenizer's card and the packing report: figures that the leaves give, as pages to read (data_contracts.pages)."""

from pathlib import Path

from matplotlib.figure import Figure as Drawing

from data_contracts.figures import KEPT, REJECTED, canvas, draw, lengths
from data_contracts.pages import Figure, Quote, Table, publish, table

SAMPLED = (
    "Of a sample of each split's documents, drawn evenly. Bytes are raw UTF-8. Byte fallback: the share of tokens that are "
    "single bytes, of characters without a piece. Tokens per document: the median."
)
MEANT = (
    "Utilisation: the share of positions that have a target. "
    "Cut: documents that lie in more than one sequence, in the split's own order."
)


def tokenizer_card(folder: Path, corpus: str, settings: dict, counts: dict, facts: dict) -> None:
    """Fill `folder`/card. settings: of the recipe; counts: of tokenizers.training.train; facts: of tokenizers.report.facts."""
    folder = folder / "card"
    folder.mkdir(exist_ok=True)
    share = counts["sampled_bytes"] / max(1, counts["seen_bytes"])
    sampled = (
        f"Trained on {counts['sampled_bytes']:,} of {counts['seen_bytes']:,} bytes ({share:.1%}) of "
        f"{counts['seen_documents']:,} training documents; the rest are newlines, a symbol of their own, and what was not "
        f"drawn. {counts['round_trips']:,} documents and awkward strings came back byte for byte."
    )
    rows = [
        row | {name: f"{row[name]:,.2f}" for name in ("bytes_per_token", "tokens_per_document")}
        for row in facts["splits"]
    ]
    known = [("fingerprint", counts["fingerprint"])]
    known += [(name.replace("_", " "), str(value)) for name, value in settings.items() if value not in ([], ())]
    sections = [
        (
            "",
            [
                f"{counts['vocab_size']:,} pieces of type {settings['model_type']}, by SentencePiece.",
                Table(("about", ""), known),
            ],
        ),
        (
            "What text becomes",
            [
                SAMPLED,
                table(rows, *rows[0]),
            ],
        ),
        (
            "Pieces",
            [Figure("lengths", "pieces and tokens by length", draw(folder / "lengths", _lengths, facts["lengths"]))],
        ),
        ("Most frequent", [",  ".join(f"{piece} {share:.1%}" for piece, share in facts["frequent"])]),
        ("Longest", [", ".join(facts["longest"])]),
        (
            "Examples",
            [Quote("held-out text, cut into pieces", [("same", "|".join(pieces))]) for pieces in facts["examples"]],
        ),
        ("How it was trained", [sampled]),
    ]
    publish(folder, f"Tokenizer card: {corpus}", sections, {"settings": settings, "counts": counts} | facts)


def packing_report(folder: Path, corpus: str, settings: dict, figures: dict, bits: dict[str, float]) -> None:
    """Fill `folder`/card. settings: of the recipe; figures: of packing_report; bits: the baselines, in bits per byte."""
    from gpt.evaluation.packing_report import PER_TEN

    folder = folder / "card"
    folder.mkdir(exist_ok=True)
    train, T = figures["splits"][0], settings["block_size"]
    how = {
        "concat": "Documents one after another, cut where a sequence ends.",
        "best_fit": "Documents of up to T tokens whole, longer ones in pieces of T, put where the least room is left.",
    }[settings["strategy"]]
    mask = (
        "Attention keeps to the document."
        if settings["document_mask"]
        else "Attention reaches over the ends of documents."
    )
    drawn = draw(folder / "lengths", lengths, figures["lengths"], PER_TEN, "tokens", "documents")
    sections = [
        ("", [f"Sequences of T = {T} tokens, {settings['strategy']}. {how} {mask}"]),
        (
            "Sequences",
            [
                table(figures["splits"], *train),
                f"An epoch is {train['sequences']:,} sequences: divided by the batch size, so many steps. {MEANT}",
            ],
        ),
        ("Lengths of documents", [Figure("lengths", f"documents by length, up to {T} tokens and longer", drawn)]),
        (
            "Baselines",
            [
                "Bits per byte of the held-out documents, that a model should beat.",
                Table(("baseline", "bits per byte"), [(name, f"{value:.3f}") for name, value in bits.items()]),
            ],
        ),
    ]
    publish(folder, f"Packing report: {corpus}", sections, {"settings": settings, "baselines": bits} | figures)


def _lengths(rows: list[tuple[int, int, float]]) -> Drawing:
    """rows: (characters of a piece, how many pieces, share of tokens)."""
    figure, axes = canvas(2.4, left=0.6, bottom=0.45)
    total = sum(pieces for _, pieces, _ in rows)
    axes.bar(
        [n - 0.2 for n, *_ in rows], [100 * pieces / total for _, pieces, _ in rows], 0.4, color=KEPT, label="pieces"
    )
    axes.bar(
        [n + 0.2 for n, *_ in rows], [100 * share for *_, share in rows], 0.4, color=REJECTED, label="tokens of text"
    )
    axes.set(xlabel="characters in a piece", ylabel="%")
    axes.legend(frameon=False)
    return figure
