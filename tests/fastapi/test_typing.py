"""What a user's type checker says about code that uses the adapter: mypy --strict, right and wrong lines.

A comment `# error: CODE` stands where an error must be reported; any other error fails the test.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PROGRAM = """
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, assert_type

from fastapi import Depends, FastAPI
from pydantic import BaseModel

from spooled.models import CreateJobResponse, Job
from spooled.worker import AsyncJobContext, JobContext
from spooled_contrib.fastapi import JobRouter, Spooled, SpooledDep

spooled = Spooled(run_worker=True, base_url="http://127.0.0.1:1", statistics=Depends(lambda: None))
app = FastAPI(lifespan=spooled.lifespan)
app.include_router(spooled.router, prefix="/spooled")
router = JobRouter()
spooled.include_router(router)
Spooled(api_kee="x")  # error: call-arg
Spooled(timeout="soon")  # error: arg-type


class Email(BaseModel):
    to: str


@dataclass
class Invoice:
    number: int


class Mailer: ...


async def get_mailer() -> Mailer:
    return Mailer()


MailerDep = Annotated[Mailer, Depends(get_mailer)]


@spooled.job("emails", concurrency=10)
async def send(mail: Email, mailer: MailerDep) -> int:
    return 1


@router.job("invoices", "pdf", max_retries=2)
def invoice(ctx: JobContext[Invoice]) -> str:
    return str(ctx.payload.number)


@router.job("invoices")
async def by_context(ctx: AsyncJobContext[Invoice], mailer: MailerDep) -> None: ...


@router.job("nightly")
async def nightly() -> None: ...


@router.job("raw")
async def raw(payload: dict[str, Any]) -> None: ...


@router.job("raw", retries=2)  # error: call-arg
async def misspelt(payload: dict[str, Any]) -> None: ...


async def main(client: SpooledDep) -> None:
    assert_type(await send.enqueue(Email(to="a"), priority=1, delay=3, idempotency_key="x"), CreateJobResponse)
    await send.enqueue(Email(to="a"), delay=timedelta(hours=1), tags=["a"])
    await send.enqueue(Invoice(1))  # error: arg-type
    await send.enqueue("a")  # error: arg-type
    await send.enqueue()  # error: call-arg
    await send.enqueue(Email(to="a"), priorty=1)  # error: call-arg
    await send.enqueue(Email(to="a"), delay="soon")  # error: arg-type
    await invoice.enqueue(Invoice(1))
    await invoice.enqueue(Email(to="a"))  # error: arg-type
    await by_context.enqueue(Invoice(1))
    await by_context.enqueue(1)  # error: arg-type
    await nightly.enqueue()
    await nightly.enqueue(3)  # error: call-overload
    await raw.enqueue({"a": 1})
    await raw.enqueue([1])  # error: arg-type
    send.enqueue_sync(Email(to="a"))
    send.enqueue_sync(Invoice(1))  # error: arg-type
    assert_type(await send(Email(to="a"), Mailer()), int)
    await send(Email(to="a"), "mailer")  # error: arg-type
    assert_type(await spooled.drain(), list[Job])
    assert_type(spooled.drain_sync(), list[Job])
    await client.jobs.create(queue_name="emails", payload={})
"""


def test_a_users_code_is_checked_as_it_should_be(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    settings = tmp_path / "mypy.ini"
    settings.write_text("[mypy]\nstrict = True\ncache_dir = .mypy_cache/users\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(settings), "--no-error-summary", str(program)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    found = set(re.findall(r"program\.py:(\d+): error: .*\[([a-z-]+)\]", done.stdout))
    expected = {
        (str(number), line.partition("# error: ")[2])
        for number, line in enumerate(PROGRAM.splitlines(), 1)
        if "# error: " in line
    }
    assert found == expected, done.stdout
