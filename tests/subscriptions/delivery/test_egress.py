"""The egress filter: which addresses it allows, in any notation."""

import asyncio
import socket
from ipaddress import ip_address
from threading import Event as ThreadEvent
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploylog.errors import InvalidSettings, InvalidSubscription
from deploylog.subscriptions.delivery.egress import (
    AddressBlocked,
    Networks,
    check_url,
    is_global,
    parse_networks,
)
from deploylog.subscriptions.delivery.resolver import EgressResolver, LookupTimeout
from support.waiting import PATIENCE

NOTHING = Networks()

BLOCKED = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200",
    "100.127.255.255", "127.0.0.1", "127.255.255.254", "168.63.129.16", "169.254.169.254",
    "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.31.196.1",
    "192.52.193.1", "192.88.99.1", "192.168.1.1", "192.175.48.1", "198.18.0.1", "198.19.255.255",
    "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::7f00:1", "100::1", "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:2::1", "2001:10::1", "2001:20::1",
    "2001:db8::1", "2002:7f00:1::", "2002:808:808::1", "2620:4f:8000::1", "3fff::1", "5f00::1",
    "2a00:1450::5efe:7f00:1", "2a00:1450::200:5efe:7f00:1", "2a00:1450::5efe:10.0.0.1",
    "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%1", "fe80::5efe:7f00:1", "fec0::1", "ff02::1",
    "ff0e::1",
]  # fmt: skip

ALLOWED = [
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0",
    "126.255.255.255", "128.0.0.1", "168.63.129.15", "172.15.255.255", "172.32.0.0",
    "192.0.1.1", "198.17.255.255", "198.20.0.0", "223.255.255.255",
    "2001:200::1", "2001:4860:4860::8888", "2606:4700:4700::1111", "2a00:1450:4001::1",
]  # fmt: skip


@pytest.mark.parametrize("text", BLOCKED)
def test_an_address_that_is_not_public_is_blocked(text: str):
    assert not is_global(ip_address(text))
    assert not NOTHING.may_reach(ip_address(text))


@pytest.mark.parametrize("text", ALLOWED)
def test_a_public_address_is_allowed(text: str):
    assert is_global(ip_address(text))


@given(st.ip_addresses())
def test_addresses_private_to_python_are_never_allowed(address):
    if address.is_private or address.is_multicast or address.is_reserved or address.is_link_local:
        assert not is_global(address)


def test_an_allowed_network_does_not_allow_its_neighbour():
    networks = parse_networks("127.0.0.0/8, 10.1.0.0/16 ::1")

    assert all(map(networks.may_reach, map(ip_address, ("127.0.0.1", "10.1.255.1", "::1"))))
    assert not any(map(networks.may_reach, map(ip_address, ("10.2.0.1", "::2", "169.254.169.254"))))
    assert networks.may_reach(ip_address("8.8.8.8"))


def test_ipv4_in_ipv6_is_not_allowed_by_a_network_of_ipv4():
    networks = parse_networks("127.0.0.0/8")

    assert not networks.may_reach(ip_address("::ffff:127.0.0.1"))
    assert parse_networks("::ffff:7f00:0/104").may_reach(ip_address("::ffff:127.0.0.1"))


@pytest.mark.parametrize("text", ["", "  ", ",", " , "])
def test_an_empty_list_allows_nothing(text: str):
    assert parse_networks(text) == NOTHING


@pytest.mark.parametrize("text", ["10.1.0.5/16", "localhost", "10.0.0.0/33", "10.1/16", "::1/129"])
def test_an_invalid_network_is_refused(text: str):
    with pytest.raises(InvalidSettings, match=r"is not a network"):
        parse_networks(text)


DISGUISES = [
    "http://127.0.0.1/",
    "http://127.0.0.1:8080/x",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0177.0.0.1/",
    "http://0x7f.1/",
    "http://127.1/",
    "http://127.0.1/",
    "http://0/",
    "http://127.0.0.01/",
    "http://127.0.0.1./",
    "http://2130706433./",
    "http://localhost/",
    "http://localhost./",
    "http://LOCALHOST/",
    "http://a.localhost/",
    "http://[::1]/",
    "http://[::]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[0:0:0:0:0:ffff:7f00:1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[fe80::1%25eth0]/",
    "http://[fe80::1%eth0]/",
    "http://\uff11\uff12\uff17.\uff10.\uff10.\uff11/",
    "http://\u2460\u2461\u2466.0.0.1/",
    "http://127\u30020\u30020\u30021/",
    "http://127\uff0e0\uff0e0\uff0e1/",
    "http://127%2e0%2e0%2e1/",
    "http://%31%32%37.0.0.1/",
    "http://good.example@127.0.0.1/",
    "http://user:password@good.example/",
    "http://127.0.0.1#@good.example/",
    "http://good.example\\@127.0.0.1/",
    "http://127.0.0.1\\.good.example/",
    "http://169.254.169.254/latest/meta-data/",
    "http://[fd00:ec2::254]/",
    "http://100.100.100.200/",
    "http://8.8.8.8.0x7f/",
    "http://0x08080808/",
    "http://134744072/",
    "http://10.0.0.1%00.good.example/",
    "http://good.example:80:80/",
    "http://good example/",
    "http://good.example\t/",
    "http://go\nod.example/",
    "http://good.example/\r\nHost:x",
    "http://good.example/\x00",
    "http://good.example/\u2028",
    "http://good..example/",
    "http://.good.example/",
    "http://good.example../",
    "http://-good.example/",
    "http:///good.example",
    "http://",
    "http:",
    "//good.example/",
    "good.example",
    "",
    "ftp://good.example/",
    "file:///etc/passwd",
    "gopher://good.example/",
    "javascript:alert(1)",
    "ws://good.example/",
    "unix:///run/x.sock",
    "http://good.example:0/",
    "http://good.example:99999/",
    "http://good.example:x/",
    "http://[::1",
    "http://::1/",
    "http://[good.example]/",
    "http://good\u00ad.example/",
    "http://*.example/",
    "http://" + "a." * 130 + "example/",
    "http://" + "a" * 64 + ".example/",
    "http://good.example/" + "a" * 2048,
]


@pytest.mark.parametrize("text", DISGUISES)
def test_a_disguised_or_invalid_url_is_refused(text: str):
    with pytest.raises(InvalidSubscription) as caught:
        check_url(text, NOTHING)

    assert caught.value.field == "url"
    assert "good" not in caught.value.message
    assert "127" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("https://good.example", "https://good.example"),
        ("https://@good.example/", "https://good.example/"),
        ("HTTPS://Good.Example/a?b=c", "https://good.example/a?b=c"),
        ("http://good.example:8080/a%2Fb", "http://good.example:8080/a%2Fb"),
        ("https://good.example/a#b", "https://good.example/a"),
        ("https://8.8.8.8/", "https://8.8.8.8/"),
        ("https://[2606:4700:4700::1111]/", "https://[2606:4700:4700::1111]/"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("https://a_b.good-1.example./", "https://a_b.good-1.example./"),
        ("https://127.0.0.1.nip.example/", "https://127.0.0.1.nip.example/"),
    ],
)
def test_other_urls_are_made_canonical(text: str, canonical: str):
    checked = check_url(text, NOTHING)

    assert checked == canonical
    assert check_url(checked, NOTHING) == canonical


@pytest.mark.parametrize("text", ["http://127.0.0.1:80/", "http://localhost/", "http://10.1.2.3/"])
def test_an_operator_can_allow_an_address(text: str):
    assert check_url(text, parse_networks("127.0.0.0/8 10.1.0.0/16"))


def test_allowing_an_address_allows_no_other_spelling_of_it():
    with pytest.raises(InvalidSubscription):
        check_url("http://2130706433/", parse_networks("127.0.0.0/8"))


def info(address: str) -> Any:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    tail = (0, 0, 0) if ":" in address else (0,)
    return (family, socket.SOCK_STREAM, 6, "", (address, *tail))


def resolves_to(*addresses: str):
    """A name server with these addresses for every name."""
    return lambda *args, **how: [info(address) for address in addresses]


async def test_a_name_with_private_addresses_is_blocked():
    resolver = EgressResolver(NOTHING, lookup=resolves_to("127.0.0.1", "fd00::1"))

    with pytest.raises(AddressBlocked):
        await resolver.resolve("127.0.0.1.nip.example", 80)


async def test_a_name_resolves_to_its_public_addresses_only():
    resolver = EgressResolver(NOTHING, lookup=resolves_to("10.0.0.1", "8.8.8.8", "::ffff:10.0.0.1"))

    assert [each["host"] for each in await resolver.resolve("mixed.example", 443)] == ["8.8.8.8"]


async def test_a_rebound_name_is_checked_each_time():
    results = iter([resolves_to("8.8.8.8"), resolves_to("127.0.0.1")])
    resolver = EgressResolver(NOTHING, lookup=lambda *args, **how: next(results)())

    [first] = await resolver.resolve("rebinding.example", 80)

    assert first["host"] == "8.8.8.8"
    with pytest.raises(AddressBlocked):
        await resolver.resolve("rebinding.example", 80)


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1"])
async def test_no_socket_is_made_for_a_private_address(address: str):
    with pytest.raises(AddressBlocked):
        EgressResolver(NOTHING).make_socket(info(address))


async def test_a_socket_is_made_for_a_public_address():
    with EgressResolver(NOTHING).make_socket(info("8.8.8.8")) as made:
        assert made.family == socket.AF_INET


async def test_a_failed_lookup_raises_its_error():
    def lookup(*args: Any, **how: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    with pytest.raises(socket.gaierror):
        await EgressResolver(NOTHING, lookup=lookup).resolve("nobody.example", 80)


async def test_a_silent_name_server_times_out_and_uses_one_thread():
    released, asked = ThreadEvent(), []

    def lookup(*args: Any, **how: Any) -> Any:
        asked.append(args[0])
        released.wait(PATIENCE)
        return [info("8.8.8.8")]

    resolver = EgressResolver(NOTHING, lookup=lookup, seconds=0.01)
    for _ in range(3):
        with pytest.raises(LookupTimeout):
            await resolver.resolve("dead.example", 80)
    released.set()

    assert asked == ["dead.example"]


async def test_silent_lookups_do_not_block_others():
    released = ThreadEvent()

    def lookup(*args: Any, **how: Any) -> Any:
        if args[0].startswith("dead"):
            released.wait(PATIENCE)
        return [info("8.8.8.8")]

    resolver = EgressResolver(NOTHING, lookup=lookup, seconds=PATIENCE)
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
        for number in range(31):
            tasks.create_task(resolver.resolve(f"dead{number}.example", 80))
        await asyncio.sleep(0)
        [found] = await resolver.resolve("good.example", 80)
        released.set()

    assert found["host"] == "8.8.8.8"


async def test_slots_for_looking_up_are_given_back():
    resolver = EgressResolver(NOTHING, lookup=resolves_to("8.8.8.8"))

    for number in range(100):
        await resolver.resolve(f"{number}.example", 80)

    assert resolver._slots._value == 32
    assert resolver._running == {}
