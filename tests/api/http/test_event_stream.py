"""Frames: how they are cached, and in which pieces they are sent."""

from deploylog.api.http.event_stream import HEADERS, FrameCache, Frames, TerminatedFrames
from deploylog.events.batch import Batch, Gap
from deploylog.events.event import Event
from support.factories import event

GAP = Gap(after=1, floor=3, reason="expired")


def render(event: Event) -> bytes:
    return f"<{event.position}>".encode()


def ending(render_event: object = render) -> TerminatedFrames:
    return TerminatedFrames(
        event=render_event,  # type: ignore[arg-type]
        gap=lambda gap: b"<gap>",
        is_end=lambda event: event.type == "end",
        heartbeat=b"<beat>",
        headers=HEADERS,
    )


def test_a_cached_frame_is_rendered_once():
    rendered: list[int] = []

    def counted(event: Event) -> bytes:
        rendered.append(event.position)
        return b"x" * 10

    remembered = FrameCache(counted, max_bytes=25)
    for position in (1, 2, 1, 2, 3, 2, 3, 1):
        assert remembered(event(position)) == b"x" * 10

    assert rendered == [1, 2, 3, 1]


def test_a_frame_too_large_for_the_cache_is_still_returned():
    remembered = FrameCache(lambda event: b"x" * 100, max_bytes=10)

    assert remembered(event()) == remembered(event()) == b"x" * 100


def test_an_endless_stream_sends_a_batch_in_one_write():
    frames = Frames(event=render, gap=lambda gap: b"<gap>")

    assert list(frames.of(Batch([event(1), event(2)]))) == [b"<1><2>"]
    assert list(frames.of(Batch([event(4)], GAP))) == [b"<gap><4>"]
    assert list(frames.of(Batch())) == [frames.heartbeat]
    assert not frames.ends(Batch([event(1)]))


def test_a_chunk_has_the_bytes_of_the_pieces():
    frames = Frames(event=render, gap=lambda gap: b"<gap>")

    for batch in (Batch([event(1), event(2)]), Batch([event(4)], GAP), Batch(gap=GAP), Batch()):
        body = b"".join(frames.of(batch))
        assert frames.chunk(batch) == b"%x\r\n%b\r\n" % (len(body), body)


def test_a_terminated_stream_sends_each_frame_separately_up_to_the_end():
    frames = ending()
    batch = Batch([event(1), event(2, type="end"), event(3)])

    assert list(frames.of(batch)) == [b"<1>", b"<2>"]
    assert frames.ends(batch)
    assert list(frames.of(Batch([event(4)], GAP))) == [b"<gap>", b"<4>"]
    assert list(frames.of(Batch())) == [b"<beat>"]


def test_an_empty_frame_is_not_sent():
    frames = ending(lambda event: b"")

    assert list(frames.of(Batch([event(1), event(2)]))) == []


def test_a_frame_is_rendered_lazily():
    rendered: list[int] = []

    def counted(event: Event) -> bytes:
        rendered.append(event.position)
        return b"x"

    pieces = iter(ending(counted).of(Batch([event(1), event(2)])))
    next(pieces)

    assert rendered == [1]
