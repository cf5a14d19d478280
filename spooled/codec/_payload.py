"""The payload of one kind of job: its type, and beside it the member that names the kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from spooled.codec._annotations import json_names_of, members_of
from spooled.codec._codec import Codec
from spooled.codec._errors import PayloadError

JOB_TYPE = "job_type"
"""The member of a payload that names the kind of job (contract api-v1 §3.1)."""


class PayloadCodec:
    """Dumps and reads the payloads of one kind of job.

    Args:
        annotation: The payload's type, or None for anything that has a JSON form.
        job_type: What tells it from other kinds on its queue, or None.

    Raises:
        TypeError: No payload of this type can be read from JSON.
    """

    def __init__(self, annotation: Any = None, job_type: str | None = None) -> None:
        self._codec = Codec(annotation)
        self._job_type = job_type
        self._declared = [
            names[JOB_TYPE] for names in map(json_names_of, members_of(annotation)) if JOB_TYPE in names
        ]
        # A type that says nothing takes what is sent, and so it may see the member.
        self._shows_job_type = annotation is None or bool(self._declared)

    def check_job_type(self) -> None:
        """Refuse a type with a field of its own where the job's type goes.

        Raises:
            TypeError: A field is called `job_type` and may be something else than this job's.
        """
        for annotation in self._declared:
            if self._job_type is None or _is_always(annotation, self._job_type):
                continue
            raise TypeError(
                f"the payload has a field {JOB_TYPE!r} of its own, where a job of type {self._job_type!r} says what it "
                f"is: rename the field, or annotate it with Literal[{self._job_type!r}]"
            )

    def dump(self, value: Any) -> Any:
        """Return what is sent of a payload.

        Raises:
            PayloadError: It does not fit the type, or would arrive as something else.
            TypeError: The job has a type, and the payload is no JSON object that could hold it.
            ValidationError: JSON cannot say it.
        """
        if self._job_type is None:
            return self._codec.dump(value)
        if isinstance(value, Mapping) and JOB_TYPE in value and not self._declared:
            self._check_same(value[JOB_TYPE])
            value = {name: item for name, item in value.items() if name != JOB_TYPE}
        form = self._codec.dump(value)
        if form is None:
            form = {}
        if not isinstance(form, Mapping):
            raise TypeError(
                f"a job of type {self._job_type!r} needs a payload that is a JSON object, to hold its job_type; "
                f"got {type(value).__name__}"
            )
        if JOB_TYPE in form:
            self._check_same(form[JOB_TYPE])
        return {**form, JOB_TYPE: self._job_type}

    def load(self, form: object) -> Any:
        """Read the payload of a claimed job.

        Raises:
            PayloadError: It does not fit the type; the text says where.
        """
        if self._job_type is not None and not self._shows_job_type and isinstance(form, dict):
            # A type that forbids unknown members must not be refused for the one that was put there.
            form = {name: value for name, value in form.items() if name != JOB_TYPE}
        return self._codec.load(form)

    def _check_same(self, given: object) -> None:
        if given != self._job_type:
            raise PayloadError(
                f"payload.{JOB_TYPE} is {given!r} and would be overwritten with this job's own, {self._job_type!r}; "
                "call the member something else"
            )


def _is_always(annotation: Any, job_type: str) -> bool:
    return get_origin(annotation) is Literal and get_args(annotation) == (job_type,)
