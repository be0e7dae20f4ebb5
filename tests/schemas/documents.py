"""JSON documents for tests: made from a schema, mutated, or anything at all."""

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

#: No half of a surrogate pair: JSON Schema cannot forbid it, we do.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
floats = st.floats(allow_nan=False, allow_infinity=False).filter(lambda value: not value.is_integer())
integers = st.integers(-(2**70), 2**70) | st.integers(-3, 3)
scalars = st.none() | st.booleans() | integers | floats | texts
json_values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def conforming(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Documents that `schema` accepts, of the words that our schemas use; an unknown word is an error."""
    match dict(schema):
        case {} if not schema:
            return json_values
        case {"$ref": reference}:
            return conforming(definitions[str(reference).removeprefix("#/$defs/")], definitions)
        case {"anyOf": options}:
            return st.one_of([conforming(option, definitions) for option in options])
        case {"enum": values}:
            return st.sampled_from(values)
        case {"type": "null"}:
            return st.none()
        case {"type": "boolean"}:
            return st.booleans()
        case {"type": "integer", "exclusiveMinimum": below}:
            return st.integers(below + 1, schema.get("maximum", 2**70))
        case {"type": "integer"}:
            return st.integers(schema.get("minimum"), schema.get("maximum", 2**70))
        case {"type": "number"}:
            return _numbers(schema)
        case {"type": "string", "pattern": pattern}:
            return st.from_regex(pattern)
        case {"type": "string"}:
            least, most = schema.get("minLength", 0), schema.get("maxLength", 12)
            return st.text(st.characters(exclude_categories=["Cs"]), min_size=least, max_size=most)
        case {"type": "array", "items": items}:
            return st.lists(conforming(items, definitions), max_size=3)
        case {"type": "object", "properties": properties}:
            return _objects(properties, schema.get("required", []), definitions)
        case {"type": "object", "additionalProperties": values}:
            names = conforming({"type": "string", **schema.get("propertyNames", {})}, definitions)
            return st.dictionaries(names, conforming(values, definitions), max_size=3)
        case {"type": "object"}:
            return st.dictionaries(texts, json_values, max_size=3)
    raise NotImplementedError(f"the generator does not know {schema}")


def _numbers(schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Numbers between the bounds, whole ones too; `1.0` is a number, whatever it is not."""
    least, most = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum")
    open_end = "exclusiveMinimum" in schema
    fractions = st.floats(least, most, exclude_min=open_end, allow_nan=False, allow_infinity=False)
    whole = st.integers(None if least is None else least + open_end, most or 2**70)
    return fractions | whole


def _objects(
    properties: Mapping[str, Any], required: list[str], definitions: Mapping[str, Any]
) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with what must be there, some of what may, and a field of tomorrow."""
    must = {name: conforming(properties[name], definitions) for name in required}
    may = {name: conforming(schema, definitions) for name, schema in properties.items() if name not in must}
    return st.fixed_dictionaries(must, optional={**may, "field of tomorrow": json_values})


@st.composite
def mutated(draw: st.DrawFn, documents: st.SearchStrategy[Any]) -> Any:
    """A document with a value somewhere in it replaced or removed, or a little of it changed, once to three times."""
    document = draw(documents)
    for _ in range(draw(st.integers(1, 3))):
        document = draw(_changed(document))
    return document


@st.composite
def _changed(draw: st.DrawFn, part: Any) -> Any:
    """One change in `part` or below."""
    if isinstance(part, dict) and part and draw(st.integers(0, 7)):
        key = draw(st.sampled_from(sorted(part)))
        rest = {name: value for name, value in part.items() if name != key}
        match draw(st.sampled_from(["change", "change", "remove", "rename"])):
            case "remove":
                return rest
            case "rename":
                return {**rest, draw(texts): part[key]}
        return {**rest, key: draw(_changed(part[key]))}
    if isinstance(part, list) and part and draw(st.booleans()):
        at = draw(st.integers(0, len(part) - 1))
        return [*part[:at], draw(_changed(part[at])), *part[at + 1 :]]
    if isinstance(part, str) and draw(st.booleans()):
        return part + draw(st.sampled_from(["\n", " ", "x", "é", "٣", "a" * 200]))
    if isinstance(part, int) and not isinstance(part, bool) and draw(st.booleans()):
        return -part - 1
    return draw(json_values)
