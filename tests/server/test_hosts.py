"""A server with the public key is not called by names that are not this machine's."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]:8080", "app.localhost", "127.1.2.3"]
)
def test_names_of_this_machine(api, host):
    assert api.get_with_host(host) == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:8080", "10.0.0.1", "[bad", "localhost.evil.example"]
)
def test_other_names_are_refused(api, host):
    assert api.get_with_host(host) == 403


def test_a_server_with_a_key_of_its_own_has_any_name(start_server, connect):
    api = connect(start_server(api_key="sp_test_a-key-of-its-own"))
    assert api.get_with_host("jobs.example.org") == 200
