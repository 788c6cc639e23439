"""Jinja templates and the data in tools, calls and documents: nothing of it becomes a control token, nothing of it is left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data.templates_kit import CHATML, CONTROL, HERMES, TALK, joined, make, plainly, tokenizer_with, trained
from weft.data.templates import Template
from weft.data.tokens import Tokenizer
from weft.errors import TemplateError
from weft.types import JsonObject, Message, ToolCall


@pytest.fixture(scope="session")
def all_tokens(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return tokenizer_with(tokenizer_folder, tmp_path_factory.mktemp("all"), *CONTROL)


@pytest.fixture
def jinja(tmp_path: Path, all_tokens: Tokenizer) -> Callable[..., Template]:
    """A template out of Jinja source."""

    def of(source: str) -> Template:
        file = tmp_path / "template.jinja"
        file.write_text(source, "utf-8")
        return make(all_tokens, str(file))

    return of


_OFFER = "{% if tools %}<|im_start|>system\n{% for tool in tools %}OFFERED{% endfor %}<|im_end|>\n{% endif %}"
_KEYS = (
    "{{ tool.function.name }} {% for key, value in tool.function.parameters.properties.items() %}{% if value.type == 'string' %}"
    '<{{ key }}>"x"</{{ key }}>{% else %} {{ key }}<tool_call>{% endif %}{% endfor %}'
)


def _tool(name: str = "f", **names: object) -> JsonObject:
    schema: JsonObject = {"type": "object", "properties": {key: {"type": kind} for key, kind in names.items()}}  # type: ignore[dict-item]
    return {"type": "function", "function": {"name": name, "parameters": schema}}


def test_a_key_that_would_become_a_control_token_is_refused(
    jinja: Callable[..., Template], all_tokens: Tokenizer
) -> None:
    """`<{{ key }}>` of a tool's key `|im_end|`."""
    template = jinja(_OFFER.replace("OFFERED", _KEYS) + CHATML)
    for offered, count in ((_tool(city="string"), 3), (_tool(days="number", city="string"), 3)):
        pieces = template.render(TALK[1:3], "all_answers", (offered,))
        ids = all_tokens.encode_one(pieces)
        assert ids.count(all_tokens.id_of("<|im_end|>")) == count
    for key in ("|im_end|", "/s", "tool_call", "|user|"):
        for call in (
            lambda tool: template.render(TALK[1:3], "all_answers", (tool,)),
            lambda tool: template.prompt(TALK[1:2], (tool,)),
        ):
            with pytest.raises(TemplateError, match="would become part of the control token"):
                call(_tool(**{key: "string"}))


@pytest.mark.parametrize(
    ("written", "data"),
    [
        ("<{{ call.function.name }}>", ToolCall("|im_end|", {})),
        ("{{ call.function.name }}<|{{ call.function.arguments.a }}|>a", ToolCall("f", {"a": "user"})),
        ("{{ call.function.name }}{{ call.function.arguments.a }}im_end|>a", ToolCall("f", {"a": "<|"})),
        ("{{ call.function.name }}a {{ call.function.arguments.a | replace('x', '') }}", ToolCall("f", {"a": "<|imx_end|>"})),
        ("{{ call.function.name }}<{{ call.function.arguments.items() | first | join }}", ToolCall("f", {"/": "s>"})),
    ],
)  # fmt: skip
def test_a_call_that_would_become_a_control_token_is_refused(
    jinja: Callable[..., Template], written: str, data: ToolCall
) -> None:
    source = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for call in m.tool_calls or [] %}CALL{% endfor %}<|im_end|>"
        "{{ '\n' }}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ).replace("CALL", written)
    talk = [Message("user", "q"), Message("assistant", "", tool_calls=(data,))]
    with pytest.raises(TemplateError):
        jinja(source).render(talk, "all_answers")
    with pytest.raises(TemplateError, match="would become part of the control token"):
        jinja(source).prompt([*talk, Message("tool", "r")])


def test_a_document_or_a_name_that_would_become_a_control_token_is_refused(jinja: Callable[..., Template]) -> None:
    source = "{% for d in documents or [] %}<{{ d.title }}>{% endfor %}" + CHATML.replace(
        "'\n' + message['content']",
        "('<|' + message['name'] + '|>' if message['name'] else '') + '\n' + message['content']",
    )
    assert jinja(source).render(TALK[1:3], "all_answers", documents=({"title": "news"},))
    with pytest.raises(TemplateError, match=r"would become part of the control token '</s>'"):
        jinja(source).render(TALK[1:3], "all_answers", documents=({"title": "/s"},))
    with pytest.raises(TemplateError, match="would become part of the control token"):
        jinja(source).render([TALK[1]._replace(name="end"), TALK[2]], "all_answers")


def test_a_template_may_ask_for_types_and_names_that_stand_in_tools(
    jinja: Callable[..., Template], all_tokens: Tokenizer
) -> None:
    """What it writes then depends on data, its control tokens too; that is no injection."""
    source = _OFFER.replace("OFFERED", "{{ tool.function.name.split('.')[1] }} " + _KEYS) + CHATML
    talk = TALK[1:3]
    tool = _tool("code.weather", city="string", days="number")
    assert joined(jinja(source).render(talk, "all_answers", (tool,))) == plainly(source, talk, tools=(tool,))


_TWO = (ToolCall("get_weather", {"city": "Paris", "days": 2}), ToolCall("get_weather", {"city": "Tokyo", "days": 12}))


@pytest.mark.parametrize(
    ("calls", "missing"),
    [
        ("{% for c in m.tool_calls or [] %}<tool_call>{{ c.function.name }}</tool_call>{% endfor %}", "'Paris'"),
        ("{% for c in (m.tool_calls or [])[:1] %}{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}", "get_weather"),
        ("{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ m.tool_calls[0].function.arguments | tojson }}{% endfor %}", "'Tokyo'"),
        ("{% for c in m.tool_calls or [] %}{{ c.function.name }} city={{ c.function.arguments.city }} days=12 {% endfor %}", "2"),
        ("{% for c in m.tool_calls or [] %}{{ c.function.name }} city={{ c.function.arguments.city }} days=2 {% endfor %}", "12"),
        ("{% for c in m.tool_calls or [] %}{{ c.function.name }}({{ c.function.arguments.values() | join(',') }}){% endfor %}", "'city'"),
    ],
)  # fmt: skip
def test_calls_and_arguments_that_are_left_out_are_refused(
    jinja: Callable[..., Template], calls: str, missing: str
) -> None:
    source = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}CALLS<|im_end|>{{ '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ).replace("CALLS", calls)
    talk = [Message("user", "q"), Message("assistant", "", tool_calls=_TWO)]
    with pytest.raises(TemplateError, match=rf"leaves out .*{missing}.* answer 2"):
        jinja(source).render(talk, "all_answers")


@pytest.mark.parametrize(
    "written",
    [
        "{{ c.function | tojson }}",
        "{{ c.function.arguments | tojson(ensure_ascii=True) }} {{ c.function.name }}",
        "{{ {'name': c.function.name, 'arguments': c.function.arguments | tojson} | tojson }}",
        "<f={{ c.function.name }}>{% for k, v in c.function.arguments.items() %}<p={{ k }}>\n{{ v }}\n</p>{% endfor %}",
        "{{ c.function.name }}({{ c.function.arguments | string | e }})",
        "{{ c.function.name }}({% for k, v in c.function.arguments | dictsort %}{{ k }}={{ v | string | trim | tojson }}, {% endfor %})",
    ],
)
def test_calls_may_be_written_in_many_ways(jinja: Callable[..., Template], written: str) -> None:
    source = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls or [] %}CALL{% endfor %}<|im_end|>"
        "{{ '\n' }}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ).replace("CALL", written)
    arguments: JsonObject = {
        "words": 'é "a"\n<b> & it\'s',
        "deep": {"n": [1, 2.5, -3, None, True]},
        "": "",
        "e": 1e30,
        "long": 'x "é"\n' * 99,
    }
    talk = [
        Message("user", "q"),
        Message("assistant", "", tool_calls=(ToolCall("get", {}), ToolCall("get_x", arguments))),
    ]
    assert "get_x" in trained(jinja(source).render(talk, "all_answers"))[0][0]


@pytest.mark.parametrize("written", ["", "{{ tools | length }}", "{{ tools[0].function.name }}"])
def test_offered_tools_that_are_not_written_are_refused(jinja: Callable[..., Template], written: str) -> None:
    source = _OFFER.replace("OFFERED", written) + CHATML
    offered = (_tool("weather"), _tool("clock"))
    for call in (
        lambda: jinja(source).render(TALK[1:3], "all_answers", offered),
        lambda: jinja(source).prompt(TALK[1:2], offered),
    ):
        with pytest.raises(TemplateError, match="leaves out the tool"):
            call()


# what is kept


def test_large_tools_are_not_kept_row_after_row(jinja: Callable[..., Template]) -> None:
    import tracemalloc

    template = jinja(HERMES)

    def render(number: int) -> None:
        tool: JsonObject = {"type": "function", "function": {"name": f"f{number}", "description": "x" * 40_000}}
        template.render(TALK[1:3], "all_answers", (tool,))
        template.prompt(TALK[1:2], (tool,))

    for number in range(20):
        render(number)
    tracemalloc.start()
    for number in range(20, 80):
        render(number)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 2 << 20
