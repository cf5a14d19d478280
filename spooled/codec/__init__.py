"""Values in JSON and back, by the rules of their own types: how a job's payload and its result travel.

Where pydantic's types stand in an annotation, at any depth, pydantic dumps and reads; otherwise msgspec does.
docs/decisions/payload-codec.md says why a payload is read back before it is sent.
"""

from __future__ import annotations

from spooled._http._json import register_json_form
from spooled.codec._codec import Codec, result_codec, whole_form
from spooled.codec._errors import PayloadError, ResultError
from spooled.codec._payload import JOB_TYPE, PayloadCodec

__all__ = [
    "JOB_TYPE",
    "Codec",
    "PayloadCodec",
    "PayloadError",
    "ResultError",
    "register_json_form",
    "result_codec",
    "whole_form",
]
