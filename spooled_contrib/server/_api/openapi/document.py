"""From the route table to an OpenAPI 3.1 document."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from msgspec import Raw, Struct

from spooled_contrib.server._api.openapi.operation import Empty, Operation
from spooled_contrib.server._api.openapi.operations import OPERATIONS
from spooled_contrib.server._api.openapi.replies import ErrorReply
from spooled_contrib.server._api.openapi.security import ERRORS, SCHEMES, security_of
from spooled_contrib.server._api.routing import Route

_REFS = "#/components/schemas/{name}"
_PARAMETER = re.compile(r"{(\w+)}")


def name_of(route: Route) -> str:
    """Return how a route is called in the tables: `POST /api/v1/jobs`."""
    return f"{route.method} {route.path}"


def undescribed(routes: Iterable[Route]) -> list[str]:
    """The routes that `OPERATIONS` says nothing about."""
    return [name_of(route) for route in routes if name_of(route) not in OPERATIONS]


def build(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """Return the document. A route that nobody described is left out; a test names it."""
    described = [(route, OPERATIONS[name_of(route)]) for route in routes if name_of(route) in OPERATIONS]
    schemas = _Schemas(operation for _, operation in described)
    names = Counter(_handler_name(route) for route, _ in described)
    paths: dict[str, dict[str, Any]] = {}
    for route, operation in described:
        name = _handler_name(route)
        found = _operation(route, operation, schemas)
        found["operationId"] = name if names[name] == 1 else _long_name(route)
        paths.setdefault(route.path, {})[route.method.lower()] = found
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Spooled, embedded server",
            "version": version,
            "description": "Unknown members of requests are ignored. Every error has `code` and `message`.",
        },
        "paths": paths,
        "components": {"schemas": schemas.components, "securitySchemes": SCHEMES},
    }


class _Schemas:
    """The schemas of every type that is spoken of, generated in one go so that they share their components."""

    def __init__(self, operations: Iterator[Operation]) -> None:
        self._mirrors: dict[type[Struct], type[Struct]] = {}
        types: list[Any] = [ErrorReply]
        for operation in operations:
            types += [reply for reply in operation.replies.values() if reply is not Empty]
            types += [query.type for query in operation.query]
            types += operation.path.values()
            if operation.body is not None:
                types.append(self._mirror(operation.body))
        types.append(str)
        found, self.components = msgspec.json.schema_components(types, ref_template=_REFS)
        self._by_type = {_key(wanted): schema for wanted, schema in zip(types, found, strict=True)}

    def of(self, wanted: Any) -> dict[str, Any]:
        return self._by_type[_key(wanted)]

    def of_body(self, wanted: type[Struct]) -> dict[str, Any]:
        return self.of(self._mirror(wanted))

    def _mirror(self, body: type[Struct]) -> type[Struct]:
        """The same struct with defaults that a schema can hold: raw JSON is no value to msgspec."""
        if body not in self._mirrors:
            fields: list[Any] = []
            for field in msgspec.structs.fields(body):
                if not isinstance(field.default, Raw):
                    default = () if field.required else (field.default,)
                    fields.append((field.encode_name, field.type, *default))
                elif bytes(field.default):
                    fields.append((field.encode_name, _described(field.type), None))
                # A member whose default is no JSON at all is one that must not be sent.
            self._mirrors[body] = msgspec.defstruct(
                body.__name__, fields, module=body.__module__, kw_only=True
            )
        return self._mirrors[body]


def _described(type_: Any) -> Any:
    """Raw JSON as what is said about it, or as anything."""
    about = getattr(type_, "__metadata__", ())
    return Annotated[Any, *about] if about else Any


def _key(wanted: Any) -> str:
    return f"{wanted.__module__}.{wanted.__qualname__}" if isinstance(wanted, type) else repr(wanted)


def _operation(route: Route, operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": "",
        "summary": operation.about,
        "tags": [_tag(route)],
        "parameters": list(_parameters(route, operation, schemas)),
        "responses": _responses(route, operation, schemas),
        "security": security_of(route, operation),
    }
    about = inspect.getdoc(route.handler)
    if about:
        found["description"] = about
    if operation.body is not None:
        found["requestBody"] = {
            "required": not operation.body_is_optional,
            "content": {"application/json": {"schema": schemas.of_body(operation.body)}},
        }
    return found


def _handler_name(route: Route) -> str:
    return getattr(route.handler, "__name__", name_of(route))


def _long_name(route: Route) -> str:
    words = re.findall(r"\w+", route.path.removeprefix("/api/v1"))
    return "_".join([route.method.lower(), *words]).replace("-", "_")


def _tag(route: Route) -> str:
    segments = route.path.strip("/").split("/")
    return segments[2] if segments[:2] == ["api", "v1"] else segments[0]


def _parameters(route: Route, operation: Operation, schemas: _Schemas) -> Iterator[dict[str, Any]]:
    for name in _PARAMETER.findall(route.path):
        schema = dict(schemas.of(operation.path.get(name, str)))
        schema.setdefault("minLength", 1)
        yield {"name": name, "in": "path", "required": True, "schema": schema}
    for query in operation.query:
        yield {
            "name": query.name,
            "in": "query",
            "required": query.required,
            "allowEmptyValue": not query.required,  # an empty one counts as absent
            "description": query.about,
            "schema": schemas.of(query.type),
        }


def _responses(route: Route, operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, reply in operation.replies.items():
        response: dict[str, Any] = {"description": HTTPStatus(status).phrase}
        if reply is not Empty:
            response["content"] = {operation.media_type: {"schema": schemas.of(reply)}}
        if operation.pages:
            response["headers"] = {"X-Has-More": {"schema": {"type": "string", "enum": ["true", "false"]}}}
        if operation.links and not responses:
            response["links"] = {
                name: {
                    "operationRef": _reference(link.target),
                    **({"parameters": dict(link.parameters)} if link.parameters else {}),
                    **({"requestBody": dict(link.body)} if link.body else {}),
                }
                for name, link in operation.links.items()
            }
        responses[str(status)] = response
    error = {"application/json": {"schema": schemas.of(ErrorReply)}}
    for status in sorted(_errors(route, operation)):
        responses[str(status)] = {"description": HTTPStatus(status).phrase, "content": error}
    return responses


def _errors(route: Route, operation: Operation) -> set[int]:
    errors = {400, 500, 503, *operation.errors, *ERRORS[route.access]}
    if _PARAMETER.search(route.path):
        errors.add(404)
    if operation.body is not None:
        errors |= {408, 422}
    return errors


def _reference(target: str) -> str:
    method, _, path = target.partition(" ")
    return f"#/paths/{path.replace('~', '~0').replace('/', '~1')}/{method.lower()}"
