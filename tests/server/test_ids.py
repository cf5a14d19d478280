"""Ids are UUIDs of version 4, none of them twice, in any thread or process."""

from __future__ import annotations

import os
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from spooled_contrib.server._ids import new_id


def test_are_uuids_of_version_4():
    for _ in range(1000):
        text = new_id()
        found = uuid.UUID(text)
        assert (str(found), found.version, found.variant) == (text, 4, uuid.RFC_4122)


def test_are_never_the_same_in_several_threads():
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: [new_id() for _ in range(2000)], range(16)))
    flat = [one for several in made for one in several]
    assert len(set(flat)) == len(flat)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_are_never_the_same_after_a_fork():
    new_id()  # so that there are some in store
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, "".join(new_id() for _ in range(50)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    theirs = {text[start : start + 36] for start in range(0, len(text), 36)}
    assert len(theirs) == 50
    assert theirs.isdisjoint(new_id() for _ in range(300))
