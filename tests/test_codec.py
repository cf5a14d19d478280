"""Payloads arrive as they were given, or are refused where they are given: a table of annotations and values."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import json
import re
import subprocess
import sys
import types
import uuid
import zoneinfo
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, NotRequired, TypeVar

import attrs
import msgspec
import pydantic
import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Discriminator, Field, SecretStr, Tag
from pydantic.alias_generators import to_camel
from typing_extensions import TypedDict

from spooled.codec import Codec, PayloadCodec, PayloadError, register_json_form, result_codec
from spooled.errors import ValidationError


class Plain(BaseModel):
    to: str
    number: int = 3


class Aliased(BaseModel):
    amount: int = Field(0, alias="amountCents")


class AliasOnly(BaseModel):
    amount: int = Field(alias="amountCents")


class Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)

    first_name: str
    inner: list[Aliased] = []


class Populated(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")

    first_name: str


class ReadsOther(BaseModel):
    """Is read by other names than it is dumped by."""

    model_config = ConfigDict(extra="forbid")

    total: int = Field(0, serialization_alias="totalCents")
    text: str = Field("", validation_alias="body")
    either: int = Field(0, validation_alias=AliasChoices("one", "two"), serialization_alias="three")
    deep: str = Field("", validation_alias=AliasPath("way", "down", 1))
    beside: str = Field("", validation_alias=AliasPath("way", "up"))


class Around(BaseModel):
    inside: dict[str, list[ReadsOther]]
    one: ReadsOther | None = None


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)

    at: dt.datetime
    day: dt.date
    id: uuid.UUID
    amount: decimal.Decimal
    took: dt.timedelta
    names: set[str]
    pair: tuple[int, str]
    data: bytes


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Values(BaseModel):
    model_config = ConfigDict(use_enum_values=True)

    colour: Colour = Colour.RED
    level: Level


class Computed(BaseModel):
    model_config = ConfigDict(extra="forbid")

    width: int

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def area(self) -> int:
        return self.width**2


class Jsons(BaseModel):
    inner: pydantic.Json[list[int]]


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")

    to: str


class Optional(BaseModel):
    """A default that is not valid, as it is often written."""

    name: str = None  # type: ignore[assignment]


class Cached(BaseModel):
    to: str
    _seen: object = pydantic.PrivateAttr(default_factory=object)


class Bytes(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    data: bytes


class Infinite(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="strings")

    number: float


class Revealed(BaseModel):
    token: Annotated[
        SecretStr, pydantic.PlainSerializer(lambda secret: secret.get_secret_value(), when_used="json")
    ]


class Legacy(BaseModel):
    to: str

    @pydantic.model_validator(mode="before")
    @classmethod
    def old_name(cls, data: Any) -> Any:
        return {"to": data["recipient"]} if isinstance(data, dict) and "recipient" in data else data


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    name: str


class Root(pydantic.RootModel[dict[str, Aliased]]):
    pass


Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    items: list[Item]


class Tree(BaseModel):
    name: str = Field(alias="n")
    children: list[Tree] = []


@dataclasses.dataclass
class Data:
    number: int
    at: dt.datetime | None = None


@dataclasses.dataclass
class Other:
    name: str


@dataclasses.dataclass
class Holding:
    """A standard dataclass with a model in it."""

    model: Aliased
    more: dict[int, Aliased] = dataclasses.field(default_factory=dict)


@pydantic.dataclasses.dataclass
class PydanticData:
    amount: int = Field(alias="amountCents")


class Record(msgspec.Struct, rename="camel"):
    first_name: str
    model: Aliased | None = None


@attrs.define
class Attrs:
    number: int


class Mapped(TypedDict):
    number: int
    at: NotRequired[dt.datetime]


class MappedModel(TypedDict):
    model: Aliased


class Pair(NamedTuple):
    left: int
    right: str


Positive = Annotated[int, Field(gt=0)]
UserId = NewType("UserId", uuid.UUID)
Pet = Annotated[Cat | Dog, Field(discriminator="kind")]
AT = dt.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=dt.UTC)
REPEATED = dt.datetime(2026, 10, 25, 2, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"), fold=1)
ID = uuid.UUID(int=7)
STRICT = Strict(
    at=AT,
    day=AT.date(),
    id=ID,
    amount=decimal.Decimal("1.10"),
    took=dt.timedelta(days=-1, microseconds=1),
    names={"a", "b"},
    pair=(1, "x"),
    data=b"bytes",
)
READS = ReadsOther(body="x", one=4, way={"down": [None, "deep"], "up": "beside"}, total=7)  # type: ignore[call-arg]

ARRIVES: list[tuple[Any, Any]] = [
    (Plain, Plain(to="ada")),
    (Aliased, Aliased(amountCents=500)),
    (AliasOnly, AliasOnly(amountCents=500)),
    (Camel, Camel(firstName="ada", inner=[Aliased(amountCents=5)])),  # type: ignore[call-arg]
    (Populated, Populated(first_name="ada")),
    (ReadsOther, READS),
    (Around, Around(inside={"a": [READS]}, one=READS)),
    (Around | None, Around(inside={})),
    (Strict, STRICT),
    (list[Strict], [STRICT]),
    (Values, Values(level=Level.HIGH)),
    (Computed, Computed(width=3)),
    (Jsons, Jsons(inner="[1, 2]")),  # type: ignore[arg-type]
    (Open, Open(to="ada", more=[1])),  # type: ignore[call-arg]
    (Optional, Optional()),
    (Optional, Optional(name="ada")),
    (Bytes, Bytes(data=b"\xff\x00")),
    (Infinite, Infinite(number=float("inf"))),
    (Revealed, Revealed(token="hunter2")),  # type: ignore[arg-type]
    (Legacy, Legacy(to="ada")),
    (Root, Root({"a": Aliased(amountCents=5)})),
    (Page[Aliased], Page[Aliased](items=[Aliased(amountCents=5)])),
    (Tree, Tree(n="a", children=[Tree(n="b")])),
    (list[Plain], [Plain(to="ada"), Plain(to="bob")]),
    (dict[str, Plain], {"a": Plain(to="ada")}),
    (dict[int, Aliased], {7: Aliased(amountCents=5)}),
    (dict[uuid.UUID, Aliased], {ID: Aliased(amountCents=5)}),
    (Plain | None, None),
    (Plain | None, Plain(to="ada")),
    (Cat | Dog, Dog(name="rex")),
    (Pet, Cat(lives=9)),
    (list[Pet], [Cat(lives=9), Dog(name="rex")]),
    (
        Annotated[
            Annotated[Cat, Tag("cat")] | Annotated[Dog, Tag("dog")], Discriminator(lambda one: _kind(one))
        ],
        Dog(name="rex"),
    ),
    (Plain | int | list[str], 3),
    (tuple[Plain, int], (Plain(to="ada"), 3)),
    (Positive, 5),
    (list[Positive], [1, 2]),
    (pydantic.HttpUrl, pydantic.HttpUrl("https://example.org/")),
    (pydantic.PositiveInt, 4),
    (Holding, Holding(Aliased(amountCents=5), {1: Aliased(amountCents=6)})),
    (list[Holding], [Holding(Aliased(amountCents=5))]),
    (PydanticData, PydanticData(amountCents=5)),  # type: ignore[call-arg]
    (MappedModel, {"model": Aliased(amountCents=5)}),
    (Record, Record("ada", Aliased(amountCents=5))),
    (Data, Data(3, AT)),
    (Data | None, Data(3, AT)),
    (Data | Other, Other("ada")),
    (list[Data], [Data(1), Data(2)]),
    (Mapped, {"number": 3, "at": AT}),
    (Attrs, Attrs(3)),
    (Pair, Pair(1, "x")),
    (dict[int, str], {1: "a", 2: "b"}),
    (dict[dt.date, list[decimal.Decimal]], {AT.date(): [decimal.Decimal("1.10")]}),
    (dict[str, Any], {"at": None, "list": [1, {"a": 2.5}]}),
    (UserId, ID),
    (uuid.UUID, ID),
    (dt.datetime, AT),
    (dt.timedelta, dt.timedelta(microseconds=1)),
    (decimal.Decimal, decimal.Decimal("0.10")),
    (bytes, b"\xff"),
    (set[int], {1, 2}),
    (frozenset[str], frozenset({"a"})),
    (tuple[int, ...], (1, 2)),
    (Colour, Colour.RED),
    (Level, Level.HIGH),
    (dict[Colour, Level], {Colour.RED: Level.HIGH}),
    (Literal["a", "b"], "a"),
    (int | str | None, None),
    (float, 1),
    (str, ""),
    (int, 0),
    (bool, False),
    (int, 2**63),
    (int, -(2**63)),
    (Path, Path("/tmp")),
    (None, {"any": ["thing", None, 2.5]}),
    (None, None),
]


def _kind(one: Any) -> Any:
    return one["kind"] if isinstance(one, dict) else one.kind


def _wire(form: Any) -> Any:
    return msgspec.json.decode(json.dumps(form, allow_nan=False))


def shown(parameter: Any) -> str:
    """Return the parameter's name in a test's id: the same in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(parameter))[:60]


@pytest.mark.parametrize(("annotation", "value"), ARRIVES, ids=shown)
def test_what_is_given_arrives(annotation: Any, value: Any) -> None:
    codec = Codec(annotation)
    form = _wire(codec.dump(value))
    assert codec.load(form) == value
    assert codec.dump(form) is not None or value is None


@pytest.mark.parametrize(
    ("annotation", "value"),
    ARRIVES,
    ids=shown,
)
def test_what_is_given_arrives_beside_a_job_type(annotation: Any, value: Any) -> None:
    codec = PayloadCodec(annotation, "kind")
    if not isinstance(Codec(annotation).dump(value), dict):
        if value is not None:
            with pytest.raises(TypeError, match="needs a payload that is a JSON object"):
                codec.dump(value)
        return
    sent = _wire(codec.dump(value))
    assert sent["job_type"] == "kind"
    assert codec.load(sent) == (value if annotation is not None else sent)


class Secret(BaseModel):
    token: SecretStr = SecretStr("")
    inner: list[Secret] = []


class Excluded(BaseModel):
    to: str
    note: str = Field("", exclude=True)


class Required(BaseModel):
    note: str = Field(exclude=True)


class Shortened(BaseModel):
    text: Annotated[str, pydantic.PlainSerializer(lambda text: text[:2])]


class Serialised(BaseModel):
    at: dt.datetime

    @pydantic.field_serializer("at")
    def day_only(self, at: dt.datetime) -> str:
        return at.date().isoformat()


class Whole(BaseModel):
    number: int
    text: str = ""

    @pydantic.model_serializer
    def less(self) -> dict[str, int]:
        return {"number": self.number}


class Prefixed(BaseModel):
    name: str

    @pydantic.field_validator("name")
    @classmethod
    def prefix(cls, name: str) -> str:
        return f"x-{name}"


class More(Plain):
    urgent: bool = False


class Broken(BaseModel):
    data: bytes


class Anything(BaseModel):
    it: Any = None


@dataclasses.dataclass
class MoreData(Data):
    urgent: bool = False


@dataclasses.dataclass
class WithSecret:
    token: SecretStr


@dataclasses.dataclass
class LateData:
    number: int
    double: int = dataclasses.field(init=False, default=0)


@dataclasses.dataclass(eq=False)
class BadEq:
    number: int
    text: Annotated[str, Field(max_length=3)] = ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BadEq) and self.number == other.number

    __hash__ = None  # type: ignore[assignment]


def _assigned(model: Any, **values: Any) -> Any:
    for name, value in values.items():
        setattr(model, name, value)
    return model


REFUSED: list[tuple[Any, Any, str]] = [
    (Secret, Secret(token="hunter2"), r"payload\.token is a SecretStr, which hides its value"),  # type: ignore[arg-type]
    (Secret, Secret(inner=[Secret(token="hunter2")]), r"payload\.inner\[0\]\.token is a SecretStr"),  # type: ignore[arg-type]
    (list[Secret], [Secret(token="hunter2")], r"payload\[0\]\.token is a SecretStr"),  # type: ignore[arg-type]
    (WithSecret, WithSecret(SecretStr("hunter2")), r"payload\.token is a SecretStr"),
    (SecretStr, SecretStr("hunter2"), "payload is a SecretStr"),
    (dict[str, SecretStr], {"a": SecretStr("hunter2")}, r"payload\.a is a SecretStr"),
    (pydantic.SecretBytes, pydantic.SecretBytes(b"hunter2"), "payload is a SecretBytes"),
    (Anything, Anything(it=SecretStr("hunter2")), r"payload\.it is a SecretStr"),
    (Anything, Anything(it={"deep": [SecretStr("hunter2")]}), r"payload\.it\.deep\[0\] is a SecretStr"),
    (Anything, Anything(it=Secret(token="hunter2")), "is a SecretStr"),  # type: ignore[arg-type]
    (None, {"a": Secret(token="hunter2")}, "is a SecretStr"),  # type: ignore[arg-type]
    (dict[str, Any], {"a": Secret(token="hunter2")}, "is a SecretStr"),  # type: ignore[arg-type]
    (Excluded, Excluded(to="ada", note="x"), r"payload\.note would not arrive: .*exclude"),
    (Required, Required(note="x"), r"note: Field required \(it is declared with exclude"),
    (Shortened, Shortened(text="abcdef"), r"payload\.text is 'abcdef' and would arrive as 'ab'"),
    (Serialised, Serialised(at=AT), r"payload\.at is .* and would arrive as"),
    (Whole, Whole(number=1, text="x"), r"payload\.text is 'x' and would arrive as ''"),
    (Prefixed, Prefixed(name="ada"), r"payload\.name is 'x-ada' and would arrive as 'x-x-ada'"),
    (Plain, More(to="ada", urgent=True), r"payload\.urgent would not arrive: Plain has no field.* More"),
    (list[Plain], [More(to="ada")], r"payload\[0\]\.urgent would not arrive"),
    (Data, MoreData(1), r"payload\.urgent would not arrive: Data has no field"),
    (Broken, Broken(data=b"\xff"), "cannot be sent as JSON: .*utf-8"),
    (Positive, -5, "Input should be greater than 0, got -5"),
    (list[Positive], [1, -5], r"\[1\]: Input should be greater than 0, got -5"),
    (Plain, Plain.model_construct(to=5), "no Plain: to: Input should be a valid string, got 5"),
    (Plain, Plain.model_construct(), "no Plain: to: Field required"),
    (Plain, _assigned(Plain(to="ada"), number="5"), r"payload\.number is '5' and would arrive as 5"),
    (Plain, _assigned(Plain(to="ada"), number="x"), "number: Input should be a valid integer"),
    (
        Plain,
        {"to": "ada", "nunber": 4},
        r"payload\.nunber would not arrive: Plain has no .*Did you mean 'number'",
    ),
    (Plain, {"too": "ada"}, "no Plain: to: Field required"),
    (list[Plain], [{"to": "ada", "nunber": 4}], r"payload\[0\]\.nunber would not arrive"),
    (Holding, {"model": {"amountCent": 4}}, r"payload\.model\.amountCent would not arrive"),
    (Data, Data("x"), "no Data: .*Expected `int`, got `str` - at `\\$.number`"),  # type: ignore[arg-type]
    (Data, Data(1, "2026-01-02"), "no Data: .*datetime"),  # type: ignore[arg-type]
    (Data, Data(1, AT.isoformat()), r"payload\.at is '2026.* and would arrive as datetime"),  # type: ignore[arg-type]
    (Data, {"nunber": 1}, "no Data: .*number"),
    (Data, {"number": 1, "when": None}, r"payload\.when would not arrive: Data has no"),
    (Mapped, {"number": 1, "when": None}, r"payload.*when.* would not arrive"),
    (Mapped, {"number": 1, "at": AT, "when": None}, r"payload.*when.* would not arrive"),
    (Record, {"firstName": "ada", "last": 1}, r"payload\.last would not arrive: Record has no"),
    (BadEq, BadEq(1, "abcd"), "at most 3"),
    (int, 2**64, "more than 64 bits"),
    (dict[str, int], {"a": -(2**63) - 1}, r"payload\.a has more than 64 bits"),
    (None, {"a": [2**64]}, r"payload\.a\[0\] has more than 64 bits"),
    (None, {1: "a", "1": "b"}, r"payload\[1\] would not arrive: another key is the same text"),
    (dict[str, Any], {"x": {1: "a", "1": "b"}}, r"payload\.x\[1\] would not arrive"),
    (Anything, Anything(it={1: "a", "1": "b"}), r"payload\.it\[1\] would not arrive"),
    (Anything, Anything(it=2**64), "more than 64 bits"),
    (Anything, Anything(it={(1, 2): 3}), r"payload\.it"),
    (Anything, Anything(it=object()), "cannot be sent as JSON"),
    (Literal["a"], "b", "payload is no"),
    (int, True, "int"),
    (int, None, "int"),
    (Plain, None, "no Plain"),
    (Plain, [], "no Plain"),
]


@pytest.mark.parametrize(("annotation", "value", "words"), REFUSED, ids=shown)
def test_what_would_not_arrive_as_it_is_is_refused(annotation: Any, value: Any, words: str) -> None:
    with pytest.raises(PayloadError, match=words) as refused:
        Codec(annotation).dump(value)
    assert "hunter2" not in str(refused.value)
    assert len(str(refused.value).splitlines()) <= 3


def test_the_hour_that_a_clock_change_repeats_arrives() -> None:
    for annotation, value in ((Data, Data(3, REPEATED)), (Anything, Anything(it=1)), (dt.datetime, REPEATED)):
        codec = Codec(annotation)
        read = codec.load(_wire(codec.dump(value)))
        if annotation is Data:
            assert read.at.astimezone(dt.UTC) == REPEATED.astimezone(dt.UTC)


@pytest.mark.parametrize(
    "value", [float("nan"), {"a": [float("inf")]}, "\ud800", {"\ud800": 1}, object(), {None: 1}, {True: 1}]
)
@pytest.mark.parametrize("annotation", [None, dict[str, Any] | Any, Any])
def test_what_json_cannot_say_is_refused(annotation: Any, value: Any) -> None:
    with pytest.raises(ValidationError, match="payload"):
        Codec(annotation).dump(value)


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    for codec, value in ((Codec(), loop), (Codec(list[Any]), loop), (Codec(Anything), Anything(it=loop))):
        with pytest.raises(ValueError, match="cannot be sent as JSON"):
            codec.dump(value)


def test_private_attributes_are_no_part_of_a_payload() -> None:
    read = Codec(Cached).load(Codec(Cached).dump(Cached(to="ada")))
    assert read.to == "ada"


@pytest.mark.parametrize(
    ("annotation", "given"),
    [
        (Plain, {"to": "ada"}),
        (Legacy, {"recipient": "ada"}),
        (ReadsOther, {"two": 4, "way": {"up": "x"}}),
        (Populated, {"first_name": "ada"}),
        (Positive, "5"),
        (Mapped, {"number": 1, "at": "2026-01-02T03:04:05Z"}),
        (dict[int, str], {"1": "a"}),
        (Root, {"a": {"amountCents": 5}}),
        (Open, {"to": "ada", "extra": [1]}),
        (Data, {"number": 1, "at": "2026-01-02T03:04:05Z"}),
        (Plain, {"to": "ada", "number": "7"}),
    ],
)
def test_json_that_a_type_reads_may_be_given_as_it_is(annotation: Any, given: Any) -> None:
    codec = Codec(annotation)
    assert codec.dump(given) == given
    codec.load(given)


class Lazy:
    def __str__(self) -> str:
        return "late"


def test_a_registered_type_has_a_json_form() -> None:
    register_json_form(Lazy, str)
    assert Codec().dump({"a": Lazy()}) == {"a": "late"}
    assert Codec(dict[str, Any]).dump({"a": [Lazy()]}) == {"a": ["late"]}
    assert Codec(Plain).dump({"to": Lazy()}) == {"to": "late"}


class Sub(str):
    def __str__(self) -> str:
        return "something else"


class SubInt(int):
    pass


class SubFloat(float):
    pass


class SubDict(dict[str, Any]):
    pass


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (Sub("x"), "x"),
        (SubInt(3), 3),
        (SubFloat(1.5), 1.5),
        (SubDict(a=Sub("x")), {"a": "x"}),
        ({SubInt(3): [Sub("x")], Path("/a"): 1}, {"3": ["x"], "/a": 1}),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        (Pair(1, "x"), [1, "x"]),
        (Path("/a"), "/a"),
        ([Colour.RED, Level.HIGH], ["red", 3]),
        ({Colour.RED: 1}, {"red": 1}),
        (
            {"at": AT, "id": ID, "sum": decimal.Decimal("1.10")},
            {"at": AT.isoformat()[:-6] + "Z", "id": str(ID), "sum": "1.10"},
        ),
        (Aliased(amountCents=5), {"amountCents": 5}),
        ({"a": [Aliased(amountCents=5)]}, {"a": [{"amountCents": 5}]}),
        ({"a": Data(1)}, {"a": {"number": 1, "at": None}}),
        ({"a": {1}}, {"a": [1]}),
    ],
)
def test_the_json_form_of_what_is_not_declared(value: Any, form: Any) -> None:
    assert _wire(Codec().dump(value)) == form
    assert _wire(Codec(dict[str, Any]).dump({"it": value})) == {"it": form}


@pytest.mark.parametrize("annotation", [Any, dict[str, Any], Data, Plain])
def test_subclasses_of_text_and_numbers_are_text_and_numbers(annotation: Any) -> None:
    given = {
        Any: Sub("x"),
        dict[str, Any]: {"a": Sub("x")},
        Data: Data(SubInt(3)),
        Plain: Plain(to=Sub("x"), number=SubInt(3)),
    }[annotation]
    codec = Codec(annotation)
    assert codec.load(_wire(codec.dump(given))) == given


def test_a_type_that_json_cannot_hold_is_refused_at_once() -> None:
    class Connection: ...

    class Odd(msgspec.Struct):
        number: Annotated[int, Field(gt=0)]

    for annotation in (Connection, list[Connection], Odd):
        with pytest.raises(TypeError, match="a payload cannot be read as"):
            Codec(annotation)


def test_a_type_that_is_defined_later_is_found_when_it_is_needed() -> None:
    class Early(BaseModel):
        late: Late

    codec = Codec(Early)

    class Late(BaseModel):
        number: int = Field(alias="n")

    Early.model_rebuild(_types_namespace={"Late": Late})
    given = Early(late=Late(n=4))
    assert codec.load(_wire(codec.dump(given))) == given


@pytest.mark.parametrize(
    ("annotation", "value", "form"),
    [
        (Camel, Camel(firstName="ada"), {"firstName": "ada", "inner": []}),  # type: ignore[call-arg]
        (
            list[ReadsOther],
            [ReadsOther(total=5)],
            [{"totalCents": 5, "text": "", "three": 0, "deep": "", "beside": ""}],
        ),
        (Computed, Computed(width=3), {"width": 3, "area": 9}),
        (Secret, Secret(token="hunter2"), {"token": "**********", "inner": []}),  # type: ignore[arg-type]
        (Excluded, Excluded(to="ada", note="x"), {"to": "ada"}),
        (Plain, More(to="ada", urgent=True), {"to": "ada", "number": 3}),
        (Plain, {"to": "ada"}, {"to": "ada", "number": 3}),
    ],
)
def test_a_result_is_dumped_by_its_annotation(annotation: Any, value: Any, form: Any) -> None:
    codec = result_codec(annotation)
    assert codec is not None
    assert codec.dump_result(value) == form


@pytest.mark.parametrize("annotation", [None, Any, int, dict[str, Any], Data, "no type", object()])
def test_other_annotations_of_results_say_nothing(annotation: Any) -> None:
    assert result_codec(annotation) is None


def test_the_core_does_not_import_pydantic() -> None:
    code = (
        "import sys; from spooled.codec import Codec; "
        "Codec(dict[str, int]).dump({'a': 1}); sys.exit('pydantic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
