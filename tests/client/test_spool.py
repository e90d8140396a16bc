import asyncio
from pathlib import Path

import pytest

from deploylog.client import NewDeployment
from deploylog.client.spool import (
    Batch,
    Spool,
    SpoolError,
    SpoolHeader,
    abandoned_spools,
    create_spool,
)

HEADER = SpoolHeader(
    server="http://127.0.0.1:8325", deployment=NewDeployment(id="d1", project="acme", stack="web")
)


def new_spool(directory: Path, *, max_bytes: int = 1000) -> Spool:
    return create_spool(directory, HEADER, max_bytes=max_bytes)


async def next_batch(spool: Spool, *, count: int = 100, size: int = 1000) -> Batch | None:
    async with asyncio.timeout(10):
        return await spool.next(max_events=count, max_bytes=size)


async def take(spool: Spool, *, count: int = 100, size: int = 1000) -> list[bytes]:
    """Take a batch, and acknowledge it."""
    batch = await next_batch(spool, count=count, size=size)
    if batch is None:
        return []
    spool.acknowledge(batch)
    return batch.body.splitlines()


async def test_events_come_out_in_the_order_they_went_in(tmp_path: Path) -> None:
    spool = new_spool(tmp_path)

    await spool.append([b"1", b"2"])
    await spool.append([b"3"])

    assert await take(spool) == [b"1", b"2", b"3"]


async def test_a_batch_is_bounded_in_number(tmp_path: Path) -> None:
    spool = new_spool(tmp_path)
    await spool.append([b"1", b"2", b"3"])

    assert await take(spool, count=2) == [b"1", b"2"]
    assert spool.pending == 1
    assert await take(spool, count=2) == [b"3"]


async def test_a_batch_is_bounded_in_size_but_holds_one_event(tmp_path: Path) -> None:
    spool = new_spool(tmp_path)
    await spool.append([b"a" * 30, b"b" * 3, b"c" * 3, b"d" * 3])

    batches = [await take(spool, size=10) for _ in range(3)]

    assert batches == [[b"a" * 30], [b"b" * 3, b"c" * 3], [b"d" * 3]]


async def test_unacknowledged_events_are_returned_again(tmp_path: Path) -> None:
    spool = new_spool(tmp_path)
    await spool.append([b"1"])

    assert await next_batch(spool) == await next_batch(spool)
    assert spool.pending == 1


async def test_reading_waits_for_an_event(tmp_path: Path) -> None:
    spool = new_spool(tmp_path)
    taking = asyncio.create_task(take(spool))
    await asyncio.sleep(0)

    await spool.append([b"1"])

    assert await taking == [b"1"]


async def test_the_file_is_deleted_once_everything_is_acknowledged(tmp_path: Path) -> None:
    spool = new_spool(tmp_path)
    await spool.append([b"1"])
    spool.finish([b"2"])
    assert spool.path.exists()

    await take(spool)

    assert not spool.path.exists()
    assert await next_batch(spool) is None


async def test_a_full_spool_makes_the_writer_wait(tmp_path: Path) -> None:
    spool = new_spool(tmp_path, max_bytes=10)
    await spool.append([b"12345678"])

    writing = asyncio.create_task(spool.append([b"abc"]))
    await asyncio.sleep(0)
    assert not writing.done()

    assert await take(spool) == [b"12345678"]
    await writing
    assert await take(spool) == [b"abc"]


async def test_the_file_does_not_grow_with_acknowledged_events(tmp_path: Path) -> None:
    spool = new_spool(tmp_path)
    empty = spool.path.stat().st_size

    for _ in range(100):
        await spool.append([b"x" * 100])
        await take(spool)

    assert spool.path.stat().st_size == empty


async def test_an_event_larger_than_the_spool_is_appended_alone(tmp_path: Path) -> None:
    spool = new_spool(tmp_path, max_bytes=10)

    await spool.append([b"x" * 100])

    assert await take(spool) == [b"x" * 100]


async def test_finishing_never_waits(tmp_path: Path) -> None:
    spool = new_spool(tmp_path, max_bytes=10)
    await spool.append([b"12345678"])

    spool.finish([b"the end"])

    assert await take(spool) == [b"12345678", b"the end"]


async def test_an_abandoned_spool_keeps_what_fits_and_nothing_after_a_gap(tmp_path: Path) -> None:
    spool = new_spool(tmp_path, max_bytes=10)
    await spool.append([b"1234"])
    spool.abandon()

    await spool.append([b"too long to fit"])
    await spool.append([b"x"])
    spool.finish([b"the end"])

    assert await take(spool) == [b"1234"]


async def test_abandoning_frees_a_writer_that_waits(tmp_path: Path) -> None:
    spool = new_spool(tmp_path, max_bytes=10)
    await spool.append([b"12345678"])
    writing = asyncio.create_task(spool.append([b"abc"]))
    await asyncio.sleep(0)

    spool.abandon()

    async with asyncio.timeout(10):
        await writing


async def test_a_spool_survives_its_process(tmp_path: Path) -> None:
    spool = new_spool(tmp_path)
    await spool.append([b"1", b"2"])
    spool.close()

    [(found, events)] = abandoned_spools(tmp_path)

    assert found.header == HEADER
    assert events == [b"1", b"2"]
    assert found.pending == 2
    assert await take(found) == [b"1", b"2"]


def test_the_header_on_disk_keeps_its_format(tmp_path: Path) -> None:
    opening = b'{"id":"d1","project":"acme","stack":"web"}'
    header = b'{"server":"http://127.0.0.1:8325","opening":%s}' % opening
    (tmp_path / "d1.spool").write_bytes(header + b"\n1\n")

    [(found, events)] = abandoned_spools(tmp_path)

    assert found.header == HEADER
    assert events == [b"1"]


async def test_an_incomplete_line_is_not_an_event(tmp_path: Path) -> None:
    spool = new_spool(tmp_path)
    await spool.append([b"1"])
    spool.close()
    with spool.path.open("ab") as file:
        file.write(b"cut o")

    [(found, events)] = abandoned_spools(tmp_path)
    found.finish([b"2"])

    assert events == [b"1"]
    assert await take(found) == [b"1", b"2"]


async def test_a_spool_in_use_is_not_abandoned(tmp_path: Path) -> None:
    spool = new_spool(tmp_path)

    assert list(abandoned_spools(tmp_path)) == []
    spool.close()
    assert len(list(abandoned_spools(tmp_path))) == 1


async def test_only_the_owner_may_read_a_spool(tmp_path: Path) -> None:
    spool = new_spool(tmp_path / "made" / "here")

    assert spool.path.stat().st_mode & 0o077 == 0
    assert spool.path.parent.stat().st_mode & 0o077 == 0


async def test_a_directory_that_cannot_be_created_is_one_plain_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(SpoolError, match=r"spool .*/file/sub/d1.spool: not a directory"):
        new_spool(tmp_path / "file" / "sub")


def test_a_missing_directory_has_no_abandoned_spools(tmp_path: Path) -> None:
    assert list(abandoned_spools(tmp_path / "none")) == []


def test_a_file_that_is_not_a_spool_is_one_plain_line(tmp_path: Path) -> None:
    (tmp_path / "x.spool").write_text("hello\n")

    with pytest.raises(SpoolError, match="is not a spool"):
        list(abandoned_spools(tmp_path))


def test_a_quarantined_spool_is_not_abandoned(tmp_path: Path) -> None:
    spool = new_spool(tmp_path)

    spool.quarantine()
    spool.close()

    assert spool.path == tmp_path / "d1.refused"
    assert spool.path.exists()
    assert list(abandoned_spools(tmp_path)) == []
