"""The same text as a marker template's, as a chat template in Jinja that Transformers and servers understand.

Every tag takes away the white space before it (`{%-`, `{{-`), so the source can have lines and none of them is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from weft.data.templates._tools import ToolMarkers

if TYPE_CHECKING:
    from weft.data.templates._markers import MarkerTemplate


def jinja_of(template: MarkerTemplate) -> str:
    """The source of a chat template that writes what `template` writes."""
    return "\n".join(_lines(template))


def default_system(system: str | None) -> Iterator[str]:
    """The lines that add a system message to conversations that have none."""
    if system is not None:
        yield "{%- if not messages or messages[0]['role'] != 'system' %}"
        yield f"{{%- set messages = [{{'role': 'system', 'content': {system!r}}}] + messages %}}"
        yield "{%- endif %}"


def _lines(template: MarkerTemplate) -> Iterator[str]:
    yield from default_system(template.system)
    yield from _written(template.first)
    yield from _beginning(template)
    yield "{%- for message in messages %}"
    yield from _order(template)
    for number, role in enumerate(template.opening):
        yield f"{{%- {'elif' if number else 'if'} message['role'] == {role!r} %}}"
        yield from _opening(template, role)
        yield from _content(template, role)
        yield from _closing(template, role)
    yield "{%- else %}"
    yield "{{- raise_exception('no marker for the role ' + message['role']) }}"
    yield "{%- endif %}"
    yield "{%- endfor %}"
    yield "{%- if add_generation_prompt %}"
    for role, allowed in template.follows.items():
        if role and "assistant" not in allowed:
            yield f"{{%- if messages and messages[-1]['role'] == {role!r} %}}"
            yield f"{{{{- raise_exception('an answer can not stand after {role}') }}}}"
            yield "{%- endif %}"
    yield from _written(template.opening["assistant"])
    yield "{%- endif %}"


def _beginning(template: MarkerTemplate) -> Iterator[str]:
    """What stands before the first message: the family's own system message, and the tools where they don't stand in or behind another."""
    tools, own = template.tools, template.default_system
    if tools and tools.place == "first":
        yield from _offer(tools)
    in_system = tools is not None and tools.place == "in_system"
    if own is None and (tools is None or tools.place == "first"):
        return
    yield "{%- if not messages or messages[0]['role'] != 'system' %}"
    if in_system and tools:
        yield "{%- if tools %}"
        yield from _written(template.opening["system"] + (own or ""))
        yield from _offer(tools)
        yield from _written(template.closing["system"])
        yield "{%- else %}" if own is not None else "{%- endif %}"
    if own is not None:
        yield from _written(template.opening["system"] + own + template.closing["system"])
        if in_system:
            yield "{%- endif %}"
    if tools and tools.place == "after_system":
        yield from _offer(tools)
    yield "{%- endif %}"


def _order(template: MarkerTemplate) -> Iterator[str]:
    for role, allowed in template.follows.items():
        before = f"not loop.first and loop.previtem['role'] == {role!r}" if role else "loop.first"
        yield f"{{%- if {before} and message['role'] not in {list(allowed)!r} %}}"
        yield f"{{{{- raise_exception(message['role'] + ' can not stand {'after ' + role if role else 'first'}') }}}}"
        yield "{%- endif %}"


def _opening(template: MarkerTemplate, role: str) -> Iterator[str]:
    joints = [(last, text) for (last, next_role), text in template.joints.items() if next_role == role]
    for number, (last, text) in enumerate(joints):
        where = f"not loop.first and loop.previtem['role'] == {last!r}" if last else "loop.first"
        yield f"{{%- {'elif' if number else 'if'} {where} %}}"
        yield from _written(text)
    if joints:
        yield "{%- else %}"
    yield from _written(template.opening[role])
    if joints:
        yield "{%- endif %}"


def _content(template: MarkerTemplate, role: str) -> Iterator[str]:
    content = "message['content']" + (" | trim" if role in template.trimmed else "")
    if role != "assistant":
        yield f"{{{{- {content} }}}}"
        if role == "tool" and template.tools and template.tools.result_id:
            before, after = template.tools.result_id
            yield "{%- if message['tool_call_id'] %}"
            yield f"{{{{- {before!r} + message['tool_call_id'] + {after!r} }}}}"
            yield "{%- endif %}"
        if role == "system" and template.tools and template.tools.place == "in_system":
            yield "{%- if loop.first %}"
            yield from _offer(template.tools)
            yield "{%- endif %}"
        return
    if template.tools:
        content = f"(message['content'] or ''){' | trim' if role in template.trimmed else ''}"
    if template.answer_start:
        if template.tools:
            yield "{%- if message['content'] or not message['tool_calls'] %}"
        yield from _written(template.answer_start)
        if template.tools:
            yield "{%- endif %}"
    if template.reasoning:
        before, after = template.reasoning
        yield "{%- if message['reasoning_content'] %}"
        yield f"{{{{- {before!r} + message['reasoning_content'] + {after!r} }}}}"
        yield "{%- endif %}"
    yield f"{{{{- {content} }}}}"
    if template.tools:
        yield from _calls(template.tools)


def _closing(template: MarkerTemplate, role: str) -> Iterator[str]:
    closing = template.closing.get(role, "")
    if role == "assistant":
        yield from _written(template.answer_end + template.stop)
        closing = template.after_answer
    joined = [next_role for last, next_role in template.joints if last == role]
    if joined and closing:
        yield f"{{%- if loop.last or loop.nextitem['role'] not in {joined!r} %}}"
        yield from _written(closing)
        yield "{%- endif %}"
    else:
        yield from _written(closing)
    if role == "system" and template.tools and template.tools.place == "after_system":
        yield "{%- if loop.first %}"
        yield from _offer(template.tools)
        yield "{%- endif %}"


def _offer(tools: ToolMarkers) -> Iterator[str]:
    value = "tool['function']" if tools.offers == "function" else "tool"
    yield "{%- if tools %}"
    yield from _listed(tools.offer, "tool", "tools", [f"{{{{- {value} | tojson }}}}"])
    yield "{%- endif %}"


def _calls(tools: ToolMarkers) -> Iterator[str]:
    written = f"'name': function['name'], {tools.arguments!r}: function['arguments']"
    value = ["{%- set function = call['function'] or call %}"]
    if tools.writes_ids:
        value += [
            "{%- if call['id'] %}",
            f"{{{{- {{{written}, 'id': call['id']}} | tojson }}}}",
            "{%- else %}",
            f"{{{{- {{{written}}} | tojson }}}}",
            "{%- endif %}",
        ]
    else:
        value += [f"{{{{- {{{written}}} | tojson }}}}"]
    yield "{%- if message['tool_calls'] %}"
    if tools.beside is None:
        yield "{%- if message['content'] %}"
        yield "{{- raise_exception('an answer has either words or tool calls') }}"
        yield "{%- endif %}"
    elif tools.beside:
        yield "{%- if message['content'] %}"
        yield from _written(tools.beside)
        yield "{%- endif %}"
    yield from _listed(tools.calls, "call", "message['tool_calls']", value)
    yield "{%- endif %}"


def _listed(markers: tuple[str, str, str], name: str, values: str, value: list[str]) -> Iterator[str]:
    before, between, after = markers
    yield f"{{%- for {name} in {values} %}}"
    yield f"{{{{- {before!r} if loop.first else {between!r} }}}}"
    yield from value
    yield "{%- endfor %}"
    yield from _written(after)


def _written(text: str) -> Iterator[str]:
    if text:
        yield f"{{{{- {text!r} }}}}"
