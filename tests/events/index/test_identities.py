from collections import defaultdict
from collections.abc import Iterable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from deploylog.events.index.identities import Identities, Placed, digest_of, identity_buckets
from deploylog.events.index.segments import SEGMENT_SIZE, segment_of


class Log:
    """The rows of a log's identities, and which of its segments are sealed."""

    def __init__(self) -> None:
        self.rows: list[Placed] = []
        self.sealed = range(0)
        self.floor = 0
        self.asked_buckets = 0

    @property
    def head(self) -> int:
        return self.rows[-1][0] if self.rows else 0

    def append(self, digest: int, step: int) -> None:
        self.rows.append((self.head + step, digest))

    def seal(self) -> None:
        self.sealed = range(segment_of(self.floor + 1), segment_of(self.head + 1))

    def prune(self) -> None:
        self.floor = self.head // 2
        self.sealed = range(min(segment_of(self.floor + 1), self.sealed.stop), self.sealed.stop)

    def places(self, digest: int) -> set[int]:
        return {at for at, each in self.rows if each == digest and at > self.floor}

    def placed(self, low: int, high: int) -> Iterable[Placed]:
        return [each for each in self.rows if low < each[0] <= high]

    def buckets(self, bucket: int, numbers: Sequence[int]) -> Iterable[tuple[int, bytes]]:
        self.asked_buckets += 1
        by_number: dict[int, list[Placed]] = defaultdict(list)
        for position, digest in self.rows:
            by_number[segment_of(position)].append((position, digest))
        for number in numbers:
            for each, stored in identity_buckets(by_number[number]):
                if each == bucket:
                    yield number, stored


def catch_up(identities: Identities, log: Log) -> None:
    identities.catch_up(log, sealed=log.sealed, floor=log.floor, head=log.head)


# Some are neighbours, so that they share a bucket, or the half that the filter has.
_digests = st.sampled_from(
    [0, 1, -1, 1 << 16, 2 << 16, 1 << 32, 1 << 56, -(1 << 63), (1 << 63) - 1]
)
_steps = st.lists(
    st.tuples(
        st.sampled_from(["own", "own", "others", "rolled back", "seal", "prune", "restart"]),
        st.lists(st.tuples(_digests, st.sampled_from([1, 2, SEGMENT_SIZE - 3])), max_size=3),
    ),
    max_size=12,
)


@given(_steps)
def test_each_place_of_an_identity_is_found(steps: list[tuple[str, list[tuple[int, int]]]]):
    log, identities = Log(), Identities()
    for kind, added in steps:
        catch_up(identities, log)
        if kind == "restart":
            identities = Identities()
        elif kind == "seal":
            log.seal()
        elif kind == "prune":
            log.prune()
        elif kind == "rolled back":
            start = log.head
            identities.add([(start + n + 1, each) for n, (each, _) in enumerate(added)], start + 9)
            identities.forget_after(start)
        else:
            before = len(log.rows)
            for digest, step in added:
                log.append(digest, step)
            if kind == "own":
                identities.add(log.rows[before:], log.head)

    catch_up(identities, log)

    for digest in {digest for _, digest in log.rows}:
        found = identities.find([digest], log)
        # What shares all 48 bits, or was pruned, may be found as well: the row decides.
        assert log.places(digest) <= set(found)


def test_a_new_identity_is_not_looked_for_in_sealed_segments():
    log, identities = Log(), Identities()
    for number in range(1_000):
        log.append(digest_of("terraform", f"old {number}"), 70)
    log.seal()
    catch_up(identities, log)
    new = [digest_of("terraform", f"new {n}") for n in range(1_000)]
    identities.find(new, log)
    log.asked_buckets = 0

    found = identities.find(new, log)

    assert found == []
    assert log.asked_buckets <= 1


def test_a_bucket_is_not_read_before_it_is_asked_for():
    log, identities = Log(), Identities()
    for number in range(8):
        log.append(number << 56, SEGMENT_SIZE)
    log.seal()

    catch_up(identities, log)
    assert log.asked_buckets == 0
    identities.find([3 << 56, 5 << 56 | 1 << 40], log)

    assert log.asked_buckets == 3


def test_identities_of_one_bucket_are_read_once():
    log, identities = Log(), Identities()
    for number in range(8):
        log.append(number << 16, SEGMENT_SIZE)
    log.seal()
    catch_up(identities, log)
    identities.find([7 << 16 | 1 << 40], log)
    log.asked_buckets = 0

    found = identities.find([number << 16 for number in range(7)], log)

    assert found == [(number + 1) * SEGMENT_SIZE for number in range(7)]
    assert log.asked_buckets == 1
