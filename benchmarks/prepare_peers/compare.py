"""Whether the contenders made the same of every row: same ids, same tokens trained; and if not, why.

Documents are matched by their ids, then by their text, for a system that packs gives them in another order. A document of
other ids is *explained* where a token of the other system reaches over a place where an answer begins or ends, and ids and mask
are the same everywhere else: weft cuts the text there, so no token lies across, and a prompt has the same ids with and without
its answer. A mask is explained where the other system trains what the template writes behind the stop token too. A text is
explained where the other system adds a space or a start token: some tokenizers put one before every text, and where parts are
encoded apart, before every part. All else is unexplained.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from protocol import IM_END, Document
from tokenizers import Tokenizer

EXAMPLES = 3


@dataclass
class Verdict:
    """How one contender's documents compare with the reference's."""

    documents: int = 0
    same: int = 0
    """Same ids and same mask (or same ids, where the contender makes no mask)."""
    other_ids: int = 0
    """Explained: a token reaches over the border of an answer."""
    other_mask: int = 0
    """Explained: what follows the stop token is trained as well."""
    other_space: int = 0
    """Explained: the same text but for spaces or a start token that the other system adds where it encodes parts apart."""
    unexplained: int = 0
    examples: list[str] = field(default_factory=list)


def read(file: Path) -> list[Document]:
    """What a contender handed in."""
    with np.load(file) as arrays:
        cuts = np.cumsum(arrays["length_D"])[:-1]
        ids = np.split(arrays["ids_T"], cuts)
        masks = np.split(arrays["trained_T"], cuts) if len(arrays["trained_T"]) else [None] * len(ids)
    return [Document(*pair) for pair in zip(ids, masks, strict=True)]


class Texts:
    """Tokens as the bytes they stand for."""

    def __init__(self, file: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(file))
        self.stop_id = self._tokenizer.token_to_id(IM_END)
        self._special = {token.content for token in self._tokenizer.get_added_tokens_decoder().values()}
        decoder = json.loads(file.read_text("utf-8"))["decoder"]
        self._byte_level = decoder is None or decoder["type"] == "ByteLevel"
        self._byte_of = _byte_alphabet()

    def parts(self, document: Document) -> list[bytes]:
        """The bytes of each token."""
        return [self._bytes(self._tokenizer.id_to_token(token)) for token in document.ids.tolist()]

    def bare(self, text: bytes) -> bytes:
        """The text without spaces and start tokens."""
        return text.replace(b" ", b"").replace(b"<s>", b"")

    def _bytes(self, token: str) -> bytes:
        if token in self._special:
            return token.encode()
        if self._byte_level:
            return bytes(self._byte_of[character] for character in token)
        if len(token) == 6 and token.startswith("<0x"):
            return bytes([int(token[3:5], 16)])
        return token.replace("\u2581", " ").encode()


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's: the character that stands for each byte, turned round."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + i): byte for i, byte in enumerate(rest)}


def borders(parts: list[bytes], trained: np.ndarray) -> set[int]:
    """The places in the text, in bytes, where an answer begins or ends."""
    place = np.cumsum([0, *map(len, parts)])
    return {int(place[i]) for i in np.flatnonzero(np.diff(trained.astype(np.int8))) + 1}


def reaches_over(reference: Document, other: Document, texts: Texts) -> bool:
    """Whether tokens of `other` lie across borders of an answer, and nothing but that makes the two documents differ."""
    if reference.trained is None:
        return False
    mine, theirs = texts.parts(reference), texts.parts(other)
    place_mine, place_theirs = (np.cumsum([0, *map(len, parts)]).tolist() for parts in (mine, theirs))
    crossed = borders(mine, reference.trained) - set(place_theirs)
    common = sorted(set(place_mine) & set(place_theirs))
    for begin, end in pairwise(common):
        tokens_mine = mine[place_mine.index(begin) : place_mine.index(end)]
        tokens_theirs = theirs[place_theirs.index(begin) : place_theirs.index(end)]
        if tokens_mine != tokens_theirs and not any(begin <= place <= end for place in crossed):
            return False
    if other.trained is None:
        return bool(crossed)
    trained_mine = np.repeat(reference.trained, [len(part) for part in mine])
    trained_theirs = np.repeat(other.trained, [len(part) for part in theirs])
    for begin, end in pairwise(place_theirs):
        if any(begin < place < end for place in crossed):
            trained_theirs[begin:end] = trained_mine[begin:end]
    return bool(crossed) and bool((trained_mine == trained_theirs).all())


def trains_behind_stop(reference: Document, other: Document, stop_id: int) -> bool:
    """Whether all that `other` trains beyond the reference stands right behind a stop token."""
    if reference.trained is None or other.trained is None or (reference.trained & ~other.trained).any():
        return False
    more = np.flatnonzero(other.trained & ~reference.trained)
    return bool((other.ids[more - 1] == stop_id).all())


def compare(reference: list[Document], other: list[Document], texts: Texts) -> Verdict:
    """Match and judge every document."""
    verdict = Verdict(len(other))
    waiting: dict[bytes, list[Document]] = defaultdict(list)
    for document in reference:
        waiting[document.ids.tobytes()].append(document)
    left: list[Document] = []
    for document in other:
        found = waiting.get(document.ids.tobytes())
        if not found:
            left.append(document)
            continue
        match = next((i for i, one in enumerate(found) if _same_mask(one, document)), 0)
        _judge_mask(found.pop(match), document, texts, verdict)
    by_text: dict[bytes, list[Document]] = defaultdict(list)
    for document in (document for rest in waiting.values() for document in rest):
        by_text[b"".join(texts.parts(document))].append(document)
    missing = Counter({text: len(found) for text, found in by_text.items()})
    bare: dict[bytes, list[bytes]] = defaultdict(list)
    for text in by_text:
        bare[texts.bare(text)].append(text)
    for document in left:
        text = b"".join(texts.parts(document))
        if not missing[text]:
            meant = next((one for one in bare[texts.bare(text)] if missing[one]), None)
            if meant is None:
                _unexplained(verdict, "no such text in the reference", text)
                continue
            missing[meant] -= 1
            verdict.other_space += 1
            continue
        missing[text] -= 1
        if reaches_over(by_text[text].pop(), document, texts):
            verdict.other_ids += 1
        else:
            _unexplained(verdict, "same text, other ids", text)
    for text in (+missing).elements():
        _unexplained(verdict, "missing", text)
    return verdict


def _same_mask(reference: Document, other: Document) -> bool:
    if reference.trained is None or other.trained is None:
        return True
    return bool((reference.trained == other.trained).all())


def _judge_mask(reference: Document, other: Document, texts: Texts, verdict: Verdict) -> None:
    if _same_mask(reference, other):
        verdict.same += 1
    elif trains_behind_stop(reference, other, texts.stop_id):
        verdict.other_mask += 1
    else:
        _unexplained(verdict, "same ids, other mask", b"".join(texts.parts(other)))


def _unexplained(verdict: Verdict, why: str, text: bytes) -> None:
    verdict.unexplained += 1
    if len(verdict.examples) < EXAMPLES:
        verdict.examples.append(f"{why}: {text[:160].decode('utf-8', 'replace')!r}")


def main() -> None:
    """Compare all named files with the first, and print the verdicts as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("files", type=Path, nargs="+", help="documents of the reference, then of the others")
    args = parser.parse_args()
    texts = Texts(args.work / "tokenizer" / "tokenizer.json")
    reference = read(args.files[0])
    found = [asdict(compare(reference, read(file), texts)) for file in args.files]
    args.out.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
