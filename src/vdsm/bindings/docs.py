# SPDX-License-Identifier: Apache-2.0
"""The readable page of the API, made from its OpenAPI document: plain HTML, no script, no outside address."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator
from importlib.resources import files
from string import Template
from typing import Any

from .schemas import Schema

_SOCKET = "/run/vdsm/api.sock"


def style() -> str:
    return (files("vdsm") / "web" / "docs.css").read_text()


def render(document: dict[str, Any], css: str) -> str:
    """The whole page."""
    page = Template((files("vdsm") / "web" / "docs.html").read_text())
    title = f"{document['info']['title']} {document['info']['version']}"
    return page.substitute(
        title=_text(title), style=css, contents="\n".join(_contents(document)), body="\n".join(_body(document))
    )


def _contents(document: dict[str, Any]) -> Iterator[str]:
    for tag in document["tags"]:
        yield f"<h2>{_text(tag['name'])}</h2><ul>"
        yield from (f"<li>{_link(o['operationId'])}</li>" for _, _, o in _operations(document, tag["name"]))
        yield "</ul>"
    yield '<h2>Reference</h2><ul><li><a href="#every-call">Every call</a></li>'
    yield '<li><a href="#events-by-name">Events</a></li><li><a href="#types">Types</a></li></ul>'


def _body(document: dict[str, Any]) -> Iterator[str]:
    yield f"<p>{_prose(document['info']['description'])}</p>"
    yield f'<p>The same for machines: <a href="{document["servers"][0]["url"]}/openapi.json">openapi.json</a>.</p>'
    common = _common_problems(document)
    yield '<h2 id="every-call">Every call</h2><h4>Headers</h4>'
    headers = document["components"]["parameters"].values()
    rows = ([f"<code>{h['name']}</code>", _type(h["schema"]), _prose(h["description"])] for h in headers)
    yield _table(("Name", "Type", "Meaning"), rows)
    yield "<h4>Problems</h4>" + _table(("Status", "Which"), common)
    for tag in document["tags"]:
        yield f"<h2>{_text(tag['name'])}</h2><p>{_prose(tag['description'])}</p>"
        for path, method, operation in _operations(document, tag["name"]):
            yield from _operation(document, path, method, operation, common)
    yield '<h2 id="events-by-name">Events</h2>'
    rows = ([f"<code>{n}</code>", _text(e["severity"]), _link(e["schema"])] for n, e in document["x-events"].items())
    yield _table(("Name", "Severity", "Type"), rows)
    yield '<h2 id="types">Types</h2>'
    for name, schema in sorted(document["components"]["schemas"].items()):
        yield from _type_section(name, schema)


def _operations(document: dict[str, Any], tag: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        servers = methods.get("servers", document["servers"])
        for method, operation in methods.items():
            if method != "servers" and tag in operation["tags"]:
                yield servers[0]["url"].rstrip("/") + path, method.upper(), operation


def _common_problems(document: dict[str, Any]) -> list[list[str]]:
    """What may come of every verb, so that each need only name its own."""
    verbs = [o for tag in document["tags"] for _, _, o in _operations(document, tag["name"]) if "x-kind" in o]
    first, *others = ([*_problem_rows(document, verb)] for verb in verbs)
    return [row for row in first if all(row in rows for rows in others)]


# ---- one verb --------------------------------------------------------------------------------------------------------


def _operation(
    document: dict[str, Any], path: str, method: str, operation: dict[str, Any], common: list[list[str]]
) -> Iterator[str]:
    name = operation["operationId"]
    yield f'<h3 id="{name}"><a href="#{name}">{_text(name)}</a></h3>'
    yield f'<p><code><span class="method">{method}</span> {_text(path)}</code></p>'
    yield f"<p>{_prose(operation.get('description', operation['summary']))}</p>"
    yield f'<p class="facts">{_facts(operation)}</p>'
    rows = [*_parameter_rows(operation), *_body_rows(document, operation)]
    if rows:
        yield "<h4>Arguments</h4>" + _table(("Name", "In", "Type", "Default", "Meaning"), rows)
    yield "<h4>Examples</h4>"
    yield from (f"<pre><code>{_text(line)}</code></pre>" for line in _examples(document, path, method, operation))
    yield "<h4>Answers</h4>" + _table(("Status", "Meaning", "Type"), _answer_rows(operation))
    problems = [row for row in _problem_rows(document, operation) if row not in common]
    if problems:
        yield "<h4>Problems of its own</h4>" + _table(("Status", "Which"), problems)


def _facts(operation: dict[str, Any]) -> str:
    facts = [
        f"{label} <code>{_text(str(operation[key]))}</code>"
        for key, label in (("x-privilege", "Needs"), ("x-kind", "Kind"), ("x-since", "Since"))
        if key in operation
    ]
    if emits := operation.get("x-emits"):
        facts.append("Events " + " ".join(f"<code>{_text(event)}</code>" for event in emits))
    return " &middot; ".join(facts)


def _parameter_rows(operation: dict[str, Any]) -> Iterator[list[str]]:
    for parameter in operation.get("parameters", []):
        if "$ref" in parameter:
            continue  # a header, described once for all
        schema = parameter["schema"]
        meaning = parameter.get("description") or schema.get("description", "")
        yield _argument(parameter["name"], parameter["in"], schema, bool(parameter.get("required")), meaning)


def _body_rows(document: dict[str, Any], operation: dict[str, Any]) -> Iterator[list[str]]:
    if "requestBody" in operation:
        body = _resolve(document, operation["requestBody"]["content"]["application/json"]["schema"])
        for name, schema in body["properties"].items():
            yield _argument(name, "body", schema, name in body["required"], schema.get("description", ""))


def _argument(name: str, place: str, schema: Schema, required: bool, meaning: str) -> list[str]:
    default = "required" if required else _value(schema["default"]) if "default" in schema else ""
    return [f"<code>{_text(name)}</code>", place, _type(schema), default, _prose(meaning)]


def _answer_rows(operation: dict[str, Any]) -> Iterator[list[str]]:
    for status, response in operation["responses"].items():
        if "$ref" not in response:
            contents: dict[str, Any] = response.get("content", {})
            kinds = [
                _type(c["schema"]) if media == "application/json" else _text(media) for media, c in contents.items()
            ]
            yield [status, _prose(response["description"]), " ".join(kinds)]


def _problem_rows(document: dict[str, Any], operation: dict[str, Any]) -> Iterator[list[str]]:
    for status, response in operation["responses"].items():
        if "$ref" in response:
            for line in _resolve(document, response)["description"].splitlines():
                yield [status, _prose(line.removeprefix("- "))]


def _examples(document: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> Iterator[str]:
    if operation.get("x-kind") != "stream":
        yield _curl(document, path, method, operation)
    if command := operation.get("x-command"):
        parameters = operation.get("parameters", [])
        subjects = [f"<{p['name']}>" for p in parameters if p.get("in") == "path"]
        more = any(p.get("in") == "query" and p.get("required") for p in parameters)
        more = more or operation.get("requestBody", {}).get("required", False)
        yield " ".join([command, *subjects, *(["..."] if more else [])])


def _curl(document: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> str:
    parameters = [_resolve(document, p) for p in operation.get("parameters", [])]
    needed = {p["name"]: _sample(document, p["schema"]) for p in parameters if p.get("required")}
    url = re.sub(r"{(\w+)}", lambda m: str(needed[m[1]]), path)
    pairs = [f"{p['name']}={needed[p['name']]}" for p in parameters if p["in"] == "query" and p["name"] in needed]
    query = "?" + "&".join(pairs) if pairs else ""
    words = [f"curl {'-N ' if operation['operationId'] == 'events' else ''}--unix-socket {_SOCKET}"]
    if method != "GET":
        words.append(f"-X {method}")
    if "requestBody" in operation:
        body = _sample(document, operation["requestBody"]["content"]["application/json"]["schema"])
        words.append(f"-H 'Content-Type: application/json' -d '{json.dumps(body)}'")
    return " ".join([*words, f"'http://localhost{url}{query}'"])


def _sample(document: dict[str, Any], schema: Schema) -> Any:
    """A value a reader can start from."""
    if "examples" in schema:
        return schema["examples"][0]
    schema = _resolve(document, schema)
    if "examples" in schema:
        return schema["examples"][0]
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return _sample(document, schema["anyOf"][0])
    match schema.get("type"):
        case "object":
            return {n: _sample(document, schema["properties"][n]) for n in schema.get("required", [])}
        case "array":
            return [_sample(document, schema["items"])]
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "boolean":
            return True
    return "text"


# ---- types -----------------------------------------------------------------------------------------------------------


def _type_section(name: str, schema: Schema) -> Iterator[str]:
    yield f'<h3 id="{name}"><a href="#{name}">{_text(name)}</a></h3>'
    if text := schema.get("description"):
        yield f"<p>{_prose(text)}</p>"
    if "enum" in schema:
        yield f"<p>{_type(schema)}</p>"
    properties = schema.get("properties", {})
    required = schema.get("required", [])
    rows = (
        [
            f"<code>{_text(field)}</code>",
            _type(part),
            "required" if field in required else _value(part.get("default")),
            _prose(part.get("description", "")),
        ]
        for field, part in properties.items()
    )
    if properties:
        yield _table(("Field", "Type", "Default", "Meaning"), rows)


def _type(schema: Schema) -> str:
    """A schema in words, with links."""
    if "$ref" in schema:
        return _link(schema["$ref"].rpartition("/")[2])
    if "enum" in schema:
        return " ".join(_value(v) for v in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(part) for part in schema["anyOf"]))
    match schema.get("type"):
        case "array":
            return f"list of {_type(schema['items'])}"
        case "object" if "additionalProperties" in schema and "properties" not in schema:
            return f"map of {_type(schema['additionalProperties'])}"
        case None:
            return _value(schema["const"]) if "const" in schema else "anything"
    limits = [
        f"{word} {schema[key]:,}"
        for key, word in (("minimum", "from"), ("maximum", "to"), ("minLength", "at least"), ("maxLength", "at most"))
        if key in schema
    ]
    return " ".join([str(schema["type"]), *limits])


def _resolve(document: dict[str, Any], schema: Schema) -> Schema:
    if "$ref" not in schema:
        return schema
    found: Any = document
    for part in schema["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    resolved: Schema = found
    return resolved


# ---- HTML ------------------------------------------------------------------------------------------------------------


def _text(text: str) -> str:
    return html.escape(text)


def _prose(text: str) -> str:
    """Plain text with `code` and paragraphs."""
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text.strip(), quote=False))
    return marked.replace("\n\n", "</p><p>")


def _value(value: object) -> str:
    return f"<code>{_text(json.dumps(value))}</code>"


def _link(name: str) -> str:
    return f'<a href="#{_text(name)}">{_text(name)}</a>'


def _table(heads: Iterable[str], rows: Iterable[list[str]]) -> str:
    head = "".join(f"<th>{h}</th>" for h in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
