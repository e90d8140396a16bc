"""An index that finds many substrings in a text, in a time that hardly depends on their number.

Substrings with a common prefix are found by bisecting their lengths. Texts are compared by
fingerprints (Rabin and Karp's), which any part of a text has at once.
"""

from array import array
from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, groupby

#: The bits of a character in UTF-32.
_BITS = 32
# Of a prime near a power of two, such as 2**61 - 1, the powers of 2**32 are alike, and so would
# be the fingerprints of texts with the same characters in another order.
_PRIME = 314_159_265_358_979_347


class SubstringIndex:
    """Finds the longest indexed substring at each position of a text."""

    def __init__(self, needles: Iterable[str], shortest: int) -> None:
        """``shortest`` is the length of the shortest needle, or less."""
        self._shortest = shortest
        ordered = sorted(set(needles))
        #: By how needles begin, how long such are, the shortest first.
        self._lengths = _lengths(ordered, shortest)
        #: The factor of a fingerprint by the number of characters that follow.
        self._powers = {
            length: pow(2, _BITS * length, _PRIME)
            for length in {length for each in self._lengths.values() for length in each}
        }
        #: The beginnings at which the bisection for a needle goes on to longer ones, by
        #: fingerprint: how long the longest needle is that they begin with.
        self._beginnings: dict[int, int] = {}
        self._index(ordered)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._lengths)

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where the longest needles are that begin at each place, in order."""
        prints: Sequence[int] = ()
        shortest, known = self._shortest, self._lengths
        for start in range(len(text) - shortest + 1):
            if text[start : start + shortest] in known:
                prints = prints or self._prints(text)
                length = self._longest(prints, start, known[text[start : start + shortest]])
                if length:
                    yield start, start + length

    def _longest(self, prints: Sequence[int], start: int, lengths: Sequence[int]) -> int:
        """How long the longest needle is that begins there, 0 if none does."""
        before, beginnings = prints[start] - 1, self._beginnings
        powers, prime = self._powers, _PRIME
        longest, low, high = 0, 0, len(lengths)
        while low < high:
            middle = (low + high) // 2
            length, stop = lengths[middle], start + lengths[middle]
            found = None
            if stop < len(prints):
                found = beginnings.get((prints[stop] - before * powers[length]) % prime)
            if found is None:
                high = middle
            else:
                longest, low = found, middle + 1
        return longest

    def _prints(self, text: str) -> Sequence[int]:
        """The fingerprints of all beginnings of the text, from the empty one."""
        codes = map(ord, text)
        return array("Q", accumulate(codes, lambda a, b: (a << _BITS | b) % _PRIME, initial=1))

    def _print(self, text: str) -> int:
        # The 1 ahead tells texts apart that begin with another number of NULs.
        return int.from_bytes(f"\x01{text}".encode("utf-32-be")) % _PRIME

    def _index(self, ordered: Iterable[str]) -> None:
        #: The needles that the one at hand begins with, and how long they are.
        within: list[str] = []
        sizes: list[int] = []
        for needle in ordered:
            while within and not needle.startswith(within[-1]):
                within.pop()
                sizes.pop()
            within.append(needle)
            sizes.append(len(needle))
            for length in _passed(self._lengths[needle[: self._shortest]], len(needle)):
                number = bisect(sizes, length)
                longest = sizes[number - 1] if number else 0
                self._beginnings[self._print(needle[:length])] = longest


def _lengths(ordered: Iterable[str], shortest: int) -> dict[str, tuple[int, ...]]:
    alike = groupby(ordered, lambda needle: needle[:shortest])
    return {beginning: tuple(sorted(set(map(len, each)))) for beginning, each in alike}


def _passed(lengths: Sequence[int], wanted: int) -> Iterator[int]:
    """The lengths that bisecting for the wanted one passes upwards, itself the last."""
    low, high = 0, len(lengths)
    while low < high:
        middle = (low + high) // 2
        if lengths[middle] > wanted:
            high = middle
        else:
            yield lengths[middle]
            low = middle + 1
