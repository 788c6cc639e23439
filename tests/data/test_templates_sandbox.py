"""The sandbox of Jinja templates: nothing outside can be reached, and whatever would take too long or too much is refused in time.

Each hostile template is rendered in a process of its own with little memory, with the time measured there.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data.templates_kit import CHATML, TALK, joined, make, plainly, tokenizer_with
from weft.data.templates import Template
from weft.data.templates._sandbox import Program
from weft.data.tokens import Tokenizer
from weft.errors import TemplateError


@pytest.fixture(scope="session")
def with_chat_template(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return tokenizer_with(tokenizer_folder, tmp_path_factory.mktemp("chat"))


@pytest.fixture
def jinja(tmp_path: Path, with_chat_template: Tokenizer) -> Callable[..., Template]:
    """A template out of Jinja source."""

    def of(source: str, **settings: object) -> Template:
        file = tmp_path / "template.jinja"
        file.write_text(source, "utf-8")
        return make(with_chat_template, str(file), **settings)

    return of


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.__class__.__base__.__subclasses__() }}",
        "{{ raise_exception.__globals__['os'].system('true') }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ messages.append(1) }}",
        "{{ '{0.__class__.__mro__}'.format('') }}",
        "{{ self.__init__.__globals__ }}",
    ],
)
def test_a_template_can_reach_nothing_outside_itself(jinja: Callable[..., Template], attack: str) -> None:
    with pytest.raises(TemplateError):
        jinja(attack + CHATML).render(TALK, "all_answers")


@pytest.mark.parametrize("attack", ["{{ ''|attr('__class__')|attr('__mro__') }}", "{{ ''.__class__ }}"])
def test_what_the_sandbox_hides_is_nothing(jinja: Callable[..., Template], attack: str) -> None:
    assert joined(jinja(attack + CHATML).render(TALK, "all_answers")) == plainly(CHATML, TALK)


@pytest.mark.parametrize("statement", ["{% include 'x' %}", "{% import '/etc/passwd' as x %}", "{% extends 'x' %}"])
def test_a_template_can_read_no_file(jinja: Callable[..., Template], statement: str) -> None:
    with pytest.raises(TemplateError):
        jinja(statement + CHATML).render(TALK, "all_answers")


_DOUBLED = (
    "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(40) %}{% set ns.x = [ns.x, ns.x] %}"
    "{% set ns.y = [ns.y, ns.y] %}{% endfor %}"
)
HOSTILE = {
    "a long range": "{% for i in range(10 ** 9) %}x{% endfor %}",
    "loops in loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "loops over a list": "{% set r = range(99999)|list %}{% for i in r %}{% for j in r %}{% endfor %}{% endfor %}",
    "loops that write": "{% for i in range(99999) %}{% for j in range(99999) %}xxxxxxxx{% endfor %}{% endfor %}",
    "a macro that calls itself twice": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "a recursive loop": "{% for i in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}",
    "a long string": "{{ 'x' * 10 ** 10 }}",
    "a doubled string": "{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}",
    "a padded string": "{{ 'x'.ljust(10 ** 10) }}",
    "a centred string": "{{ 'x' | center(10 ** 10) }}",
    "a large power": "{{ 9 ** 9 ** 9 }}",
    "a wide field": "{{ '%999999999d' % 1 }}",
    "a field as wide as a value": "{{ '%*d' % (99999999, 1) }}",
    "a wide field in braces": "{{ '{:>999999999}'.format(1) }}",
    "a field in braces as wide as a value": "{{ '{:>{w}}'.format(1, w=99999999) }}",
    "a wide field of the filter": "{{ '%999999999d' | format(1) }}",
    "a replacement that explodes": "{% set x = 'x' * 8000000 %}{{ x.replace('x', x) }}",
    "a replacement by the filter": "{% set x = 'x' * 8000000 %}{{ x | replace('x', x) }}",
    "a join that explodes": "{% set x = 'x' * 8000000 %}{{ x.join(range(99999) | list) }}",
    "a join by the filter": "{% set x = 'x' * 8000000 %}{{ range(99999) | join(x) }}",
    "a join of texts": "{% set x = 'x' * 8000000 %}{{ ([x] * 9999) | join }}",
    "a join of parts": "{% set x = 'x' * 8000000 %}{{ ([{'a': x}] * 9999) | join('', attribute='a') }}",
    "a join of parts of parts": "{% set x = 'x' * 8000000 %}{{ ([{'a': {'b': x}}] * 9999) | join('', 'a.b') }}",
    "a split into millions": "{% for i in range(9) %}{% set y = ('x' * 8000000).split('x') %}{% endfor %}",
    "a list of millions": "{{ ('x' * 8000000) | list | length }}",
    "a multiplied list": "{{ ([0] * 8000000) | length }}",
    "a sort of millions": "{{ ('xy' * 4000000) | sort | length }}",
    "a wide indent": "{{ ('\n' * 8000000) | indent(8000000) }}",
    "JSON that is indented far": "{{ [1] | tojson(indent=80000000) }}",
    "a translation": "{{ ('x' * 8000000).translate({120: 'x' * 8000000}) }}",
    "tabs": "{{ ('\t' * 8000000).expandtabs(8000000) }}",
    "a list of texts": "{% set n = namespace(l=[]) %}{% for i in range(999) %}{% set n.l = n.l + ['x' * (8000000 - i)] %}{% endfor %}",
    "a list of slices": "{% set x = 'x' * 8000000 %}{% set n = namespace(l=[]) %}{% for i in range(999) %}{% set n.l = n.l + [x[i:]] %}"
    "{% endfor %}",
    "a block that is kept": "{% set x = 'x' * 8000000 %}{% set y %}{% for i in range(99999) %}{{ x }}{% endfor %}{% endset %}",
    "a block of constants": "{% set y %}{% for i in range(99999) %}{% for j in range(99999) %}{{ 'x' * 3 ~ 'XXXXX' }}"
    + "x" * 10000
    + "{{ '"
    + "y" * 10000
    + "' }}{% endfor %}{% endfor %}{% endset %}",
    "long comparisons": "{% set x = 'x' * 8000000 %}{% for i in range(99999) %}{% if 'xy' in x %}{% endif %}{% endfor %}",
    "long tests": "{% set x = 'x' * 8000000 %}{% for i in range(99999) %}{% if 'xy' is in x %}{% endif %}{% endfor %}",
    "long searches": "{% set x = 'x' * 8000000 %}{% for i in range(99999) %}{% if x.find('xy') %}{% endif %}{% endfor %}",
    "powers of large numbers": "{% for i in range(9999) %}{% set x = 3 ** 4000000 %}{% endfor %}",
    "a wide date": "{{ strftime_now('%_999999999d') }}",
    "much invented text": "{{ lipsum(n=1000000) }}",
    "a mapped centre": "{{ range(9999) | map('string') | map('center', 8000000) | list | length }}",
    "doubled lists: tojson": _DOUBLED + "{{ ns.x | tojson }}",
    "doubled lists: string": _DOUBLED + "{{ ns.x | string | length }}",
    "doubled lists: output": _DOUBLED + "{{ ns.x }}",
    "doubled lists: concat": _DOUBLED + "{{ ns.x ~ '' }}",
    "doubled lists: compare": _DOUBLED + "{{ ns.x == ns.y }}",
    "doubled lists: test of equality": _DOUBLED + "{{ ns.x is eq ns.y }}",
    "doubled lists: search": _DOUBLED + "{{ ns.x in [ns.y] }}",
    "doubled lists: sort": _DOUBLED + "{{ [ns.x, ns.y] | sort | length }}",
    "doubled lists: maximum": _DOUBLED + "{{ [ns.x, ns.y] | max | length }}",
    "doubled lists: join": _DOUBLED + "{{ [ns.x] | join }}",
    "doubled lists: percent": _DOUBLED + "{{ '%s' % ns.x }}",
    "doubled lists: percents": _DOUBLED + "{{ '%s' % (ns.x,) }}",
    "doubled lists: format": _DOUBLED + "{{ '{}'.format(ns.x) }}",
    "doubled lists: format filter": _DOUBLED + "{{ '%s' | format(ns.x) }}",
    "doubled lists: index": _DOUBLED + "{{ [ns.x].index(ns.y) }}",
    "doubled lists: count": _DOUBLED + "{{ [ns.x].count(ns.y) }}",
    "doubled lists: refusal": _DOUBLED + "{{ raise_exception(ns.x) }}",
    "doubled lists: mapped": _DOUBLED + "{{ [ns.x] | map('string') | list | length }}",
    "doubled lists: selected": _DOUBLED + "{{ [ns.x] | select('eq', ns.y) | list | length }}",
    "doubled lists: grouped": _DOUBLED + "{{ [{'a': ns.x}, {'a': ns.y}] | groupby('a') | length }}",
    "doubled lists: namespace": _DOUBLED + "{{ namespace(x=ns.x) }}",
    "doubled lists: items": _DOUBLED + "{{ {'a': ns.x}.items() }}",
    "doubled lists: trim": _DOUBLED + "{{ ns.x | trim | length }}",
    "doubled lists: chosen": _DOUBLED + "{{ [ns.x, ns.y] | unique | list | length }}",
    "doubled tuples: unique": _DOUBLED.replace("[", "(").replace("]", ")").replace("(1)", "(1,)")
    + "{{ [ns.x, ns.y] | unique | list | length }}",
    "doubled tuples: key": _DOUBLED.replace("[", "(").replace("]", ")").replace("(1)", "(1,)") + "{{ {}[ns.x] }}",
    "doubled tuples: literal": _DOUBLED.replace("[", "(").replace("]", ")").replace("(1)", "(1,)")
    + "{{ {ns.x: 1} | length }}",
    "doubled tuples: get": _DOUBLED.replace("[", "(").replace("]", ")").replace("(1)", "(1,)") + "{{ {}.get(ns.x) }}",
    "doubled tuples: dict": _DOUBLED.replace("[", "(").replace("]", ")").replace("(1)", "(1,)")
    + "{{ dict([(ns.x, 1)]) | length }}",
    "a list of long texts": "{% set x = 'x' * 8000000 %}{{ [x, x, x, x, x, x, x, x] | tojson }}",
    "deep recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "deep parentheses": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "deep loops": "{% for i in [1] %}" * 150 + "{% endfor %}" * 150,
}

_RUNNER = """
import json, resource, sys, time
from weft.config.settings import TemplateSettings
from weft.data import templates
from weft.data.tokens import Tokenizer
from weft.errors import TemplateError
from weft.types import Message

folder, room = sys.argv[1], int(sys.argv[2])
sources = json.load(sys.stdin)
tokenizer = Tokenizer.load(folder)
tokenizer.eos_token, tokenizer.first_control("x")
pages = int(open("/proc/self/statm").read().split()[0]) if sys.platform == "linux" else 0
if pages:
    limit = pages * resource.getpagesize() + room
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
found = {}
for name, source in sources.items():
    path = sys.argv[3]
    open(path, "w").write(source)
    started = time.process_time()
    try:
        templates.build(TemplateSettings(name=path), tokenizer).render([Message("user", "q"), Message("assistant", "a")], "all_answers")
        verdict = "taken"
    except TemplateError as error:
        verdict = "out of memory" if "MemoryError" in repr(error.__cause__) else "refused"
    except MemoryError:
        verdict = "out of memory"
    found[name] = (verdict, time.process_time() - started)
json.dump(found, sys.stdout)
"""


@pytest.fixture(scope="module")
def verdicts(with_chat_template: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, float]]:
    """What became of each hostile template with 512 MiB of room, and how many seconds of the processor it took."""
    file = tmp_path_factory.mktemp("hostile") / "template.jinja"
    done = subprocess.run(
        [sys.executable, "-c", _RUNNER, str(with_chat_template.folder), str(512 << 20), str(file)],
        input=json.dumps({name: source + CHATML for name, source in HOSTILE.items()}),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, tuple[str, float]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_is_refused_in_time_and_within_memory(
    verdicts: dict[str, tuple[str, float]], name: str
) -> None:
    verdict, seconds = verdicts[name]
    assert verdict == "refused"
    assert seconds < 2


def test_a_long_conversation_is_no_attack(jinja: Callable[..., Template]) -> None:
    """Ten thousand turns, and a text of a million characters that a template cuts, joins and replaces in."""
    turns = [message for i in range(5000) for message in (TALK[1]._replace(content=f"q{i}"), TALK[2])]
    assert Program(CHATML, "x").render(messages=[{"role": m.role, "content": m.content} for m in turns])
    source = CHATML.replace(
        "message['content']", "message['content'].replace('a', 'aa').split('</think>')[-1].replace('aa', 'a')"
    )
    long = [TALK[1]._replace(content="a b\n" * 250_000), TALK[2]]
    assert joined(jinja(source).render(long, "all_answers")) == plainly(CHATML, long)


def test_a_namespace_holds_no_hidden_names(jinja: Callable[..., Template]) -> None:
    for source in ("{% set ns = namespace(_x=1) %}", "{% set ns = namespace() %}{% set ns.__class__ = 1 %}"):
        with pytest.raises(TemplateError):
            jinja(source + CHATML).render(TALK, "all_answers")
