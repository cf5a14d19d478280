"""Which addresses a webhook may call, decided without a network."""

from __future__ import annotations

import asyncio
import logging
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooled.clock import ManualClock
from spooled_contrib.server._rules.attempts import Delivery
from spooled_contrib.server._webhooks import targets
from spooled_contrib.server._webhooks.sender import Sender


@pytest.mark.parametrize("address", ["93.184.215.14", "1.1.1.1", "2606:4700::1111", "64:ff9b::5db8:d70e"])
def test_public_addresses(address):
    assert targets.is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "240.0.0.1",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "fe80::1%eth0",
        "fd00::1",
        "ff02::1",
        "64:ff9b::a00:1",
        "2002:c0a8:101::",
        "2001:db8::1",
    ],
)
def test_addresses_that_are_not(address):
    assert not targets.is_public(address)


@given(st.integers(0, 2**32 - 1))
def test_an_address_in_any_of_its_spellings_is_judged_alike(number):
    dotted = socket.inet_ntoa(number.to_bytes(4, "big"))
    wanted = targets.is_public(dotted)
    for host in (dotted, str(number), hex(number), f"[::ffff:{dotted}]", f"[64:ff9b::{dotted}]"):
        try:
            targets.check_url(f"http://{host}/", allow_private=False)
        except targets.RefusedTargetError:
            assert not wanted, host
        else:
            assert wanted, host


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://",
        "https:///x",
        "//example.com",
        "file:///etc/passwd",
        "gopher://example.com",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://exämple.com/",
        "https://example.com*/",
        "https://exa%6dple.com/",
        "https://example.com:+443/",
        "https://[::1/",
        "https://example.com/a b",
        "https://example.com/\r\nx: y",
        " https://example.com/",
    ],
)
def test_what_is_no_address_is_refused_even_where_private_ones_are_allowed(url):
    with pytest.raises(targets.RefusedTargetError):
        targets.check_url(url, allow_private=True)


async def test_one_private_address_refuses_the_whole_host(monkeypatch):
    async def getaddrinfo(self, host, port, **options):
        return [(2, 1, 6, "", (address, port)) for address in ("93.184.215.14", "10.0.0.1")]

    monkeypatch.setattr(type(asyncio.get_running_loop()), "getaddrinfo", getaddrinfo)
    with pytest.raises(targets.RefusedTargetError):
        await targets.resolve("h.example.com", 443, allow_private=False)
    assert len(await targets.resolve("h.example.com", 443, allow_private=True)) == 2


@given(
    url=st.builds(
        "{}://{}{}".format,
        st.sampled_from(["http", "https"]),
        st.text("ab1.-_:@[]%~!$&'()*+,;=#?/\\", min_size=1, max_size=30),
        st.text('ab/?#%[]{}|^`"<>;@:&=', max_size=20),
    )
)
def test_any_url_that_is_taken_can_be_tried(url):
    """The attempt may fail in every way but one: raising."""

    async def attempt():
        async def getaddrinfo(host, port, **options):
            raise socket.gaierror("no network here")

        asyncio.get_running_loop().getaddrinfo = getaddrinfo
        sender = Sender(ManualClock(), allow_private=True)
        delivery = Delivery(
            id="d",
            claim="",
            webhook_id="w",
            url=url,
            secret=None,
            format="json",
            event="e",
            payload="{}",
            attempt=1,
        )
        outcome = await sender.send(delivery)
        await sender.close()
        return outcome

    seen = []
    handler = logging.Handler()
    handler.emit = seen.append
    logger = logging.getLogger("spooled.server")
    logger.addHandler(handler)
    try:
        assert asyncio.run(attempt()).error is not None
    finally:
        logger.removeHandler(handler)
    assert seen == []
