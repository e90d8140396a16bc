"""Listed terms: which of them each sealed segment has, remembered by the process.

What is nowhere is then not looked for in each segment.
"""

import sys
from collections.abc import Sequence

from deploylog.events.index.sealed import SegmentRows
from deploylog.events.index.terms import EVERY, LISTED

#: Listed terms of a segment that are remembered. Of a segment with more, none is.
MAX_TERMS = 1_024

#: Segments of which they are remembered; of more, all are read again.
MAX_SEGMENTS = 1_024


class ListedTerms:
    """The listed terms of sealed segments. Any thread may ask."""

    def __init__(self) -> None:
        self._terms: dict[int, frozenset[str] | None] = {}

    def narrowed(self, rows: SegmentRows, term: str, numbers: Sequence[int]) -> list[int]:
        """Those of the segments that may have the term."""
        known = self._terms
        if len(known) > MAX_SEGMENTS:
            # Another thread may be using what there is.
            known = self._terms = {}
        for number in numbers:
            if number not in known:
                known[number] = _listed_terms(rows, number)
        return [n for n in numbers if (terms := known[n]) is None or term in terms]


def _listed_terms(rows: SegmentRows, number: int) -> frozenset[str] | None:
    terms = {EVERY}
    for prefix in LISTED:
        terms.update(sys.intern(term) for term in rows.terms(prefix, number, MAX_TERMS + 1))
        if len(terms) > MAX_TERMS:
            return None
    return frozenset(terms)
