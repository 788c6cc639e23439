"""The style sheet of pages: one accent, three colours of verdict, in light and dark; letters never scale with a drawing."""

STYLE = """
:root {
  --paper: #fcfcfb; --raised: #ffffff; --ink: #1b1d21; --soft: #5a606b; --faint: #8b919c; --rule: #e4e5e8; --wash: #f3f4f5;
  --accent: #2757c9; --accent-soft: #a9bff0; --tint: #e4ecfd; --tint-ink: #12357f;
  --good: #1f7a4d; --careful: #96600a; --bad: #b3261e; --good-wash: #e2f3e9; --careful-wash: #faefd9; --bad-wash: #fbe5e3;
  --amber: #d99a2b; --red: #cf4a41; --neutral: #d3d6db; --chip: #6b4fbb; --chip-wash: #ece7fa;
  --mono: ui-monospace, "SF Mono", "Cascadia Mono", "Roboto Mono", Menlo, Consolas, "Noto Sans Mono", monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15171a; --raised: #1b1e22; --ink: #e7e9ec; --soft: #a4abb6; --faint: #7b828e; --rule: #2d3137; --wash: #22262b;
    --accent: #86a8f7; --accent-soft: #44609f; --tint: #22335c; --tint-ink: #cfdcfd;
    --good: #6fcf9b; --careful: #e7b765; --bad: #f2857c; --good-wash: #17352a; --careful-wash: #3a2e16; --bad-wash: #43211f;
    --amber: #c98f31; --red: #d65f56; --neutral: #444a53; --chip: #bfaef5; --chip-wash: #342c52;
  }
}
* { box-sizing: border-box; }
html { scroll-padding-top: 1rem; -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
    font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  display: grid; grid-template-columns: 14.5rem minmax(0, 1fr); font-variant-numeric: tabular-nums;
}
a { color: inherit; text-decoration: none; }
a:hover { color: var(--accent); text-decoration: underline; text-underline-offset: 3px; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 3px; }
code { font-family: var(--mono); font-size: 0.88em; overflow-wrap: anywhere; }
ul, ol, dl, figure, blockquote { margin: 0; padding: 0; list-style: none; }
dd { margin: 0; }
h1, h2, h3, p { margin: 0; }

nav { position: sticky; top: 0; height: 100vh; overflow-y: auto; padding: 2.2rem 0.5rem 2rem 1.5rem;
  border-right: 1px solid var(--rule); font-size: 14px; }
nav p { margin: 1.2rem 0 0.3rem 0.6rem; color: var(--faint); font-size: 12px; letter-spacing: 0.02em; }
nav a { display: block; padding: 0.22rem 0.6rem; border-radius: 5px; color: var(--soft); line-height: 1.3;
  overflow-wrap: anywhere; }
nav a:hover { background: var(--wash); color: var(--ink); text-decoration: none; }
.dot { display: inline-block; width: 0.5rem; height: 0.5rem; border-radius: 50%; margin-right: 0.45rem;
  vertical-align: 0.06em; background: var(--good); }
.dot.careful { background: var(--amber); } .dot.bad { background: var(--red); }

main { padding: 2.2rem clamp(1rem, 4vw, 3.5rem) 6rem; max-width: 78rem; }
section { margin-top: 3.4rem; }
.eyebrow { color: var(--faint); font-size: 13px; }
h1.verdict { font-size: clamp(1.6rem, 3.4vw, 2.2rem); line-height: 1.2; letter-spacing: -0.02em; font-weight: 650;
  margin: 0.1rem 0 1rem; text-wrap: balance; }
h1.bad { color: var(--bad); } h1 a:hover { color: inherit; }
h2 { font-size: 1.3rem; font-weight: 640; letter-spacing: -0.012em; margin-bottom: 0.7rem; overflow-wrap: anywhere; }
h2 small { font-size: 13px; font-weight: 400; letter-spacing: 0; color: var(--faint); margin-left: 0.7rem; }
h3 { font-size: 15px; font-weight: 600; }
.note { color: var(--soft); max-width: 46rem; margin-bottom: 0.9rem; }

.facts { display: flex; flex-wrap: wrap; gap: 0.25rem 1.6rem; font-size: 13px; color: var(--soft); }
.facts div { display: flex; gap: 0.45rem; min-width: 0; }
.facts dt { color: var(--faint); white-space: nowrap; }
.facts dd { min-width: 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); margin-top: 1.6rem;
  border-block: 1px solid var(--rule); }
.cards li { padding: 0.9rem 0.6rem 0.9rem 0; display: grid; align-content: start; }
.cards b { font-size: 1.55rem; font-weight: 620; letter-spacing: -0.02em; line-height: 1.25; }
.cards span { color: var(--soft); font-size: 13px; } .cards small { color: var(--faint); font-size: 12px; }

.checks > li { display: grid; grid-template-columns: 3.6rem 21rem minmax(0, 1fr); gap: 0 1.2rem; padding: 0.6rem 0;
  border-top: 1px solid var(--rule); }
.checks > li:last-child { border-bottom: 1px solid var(--rule); }
.checks h3 { line-height: 1.5rem; font-weight: 550; }
.checks > li p, .checks ul { color: var(--soft); font-size: 14px; line-height: 1.5rem; overflow-wrap: anywhere; }
.checks .parts li { padding-left: 0.9rem; position: relative; }
.checks .parts li::before { content: "–"; color: var(--faint); position: absolute; left: 0; }
.badge { justify-self: start; align-self: start; font-size: 12px; font-weight: 600; line-height: 1.5rem; padding: 0 0.55rem;
  border-radius: 1rem; background: var(--good-wash); color: var(--good); }
.badge.careful { background: var(--careful-wash); color: var(--careful); }
.badge.bad { background: var(--bad-wash); color: var(--bad); }
.example { margin: 0.6rem 0 0.9rem; padding-left: 0.9rem; border-left: 2px solid var(--rule); font-size: 13px; }
.pair-row { margin-top: 0.35rem; } .pair-row code { color: var(--soft); }
blockquote { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--wash); border-radius: 5px;
  padding: 0.4rem 0.6rem; margin-top: 0.15rem; max-height: 9rem; overflow: auto; }

details > summary { cursor: pointer; color: var(--accent); font-size: 14px; padding: 0.3rem 0; width: max-content;
  max-width: 100%; }
details > summary:hover { text-decoration: underline; text-underline-offset: 3px; }

.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; width: 100%; }
th, td { padding: 0.42rem 0.6rem 0.42rem 0; text-align: left; white-space: nowrap; border-bottom: 1px solid var(--rule);
  vertical-align: middle; }
thead th { font-weight: 500; font-size: 12.5px; color: var(--faint); vertical-align: bottom; }
tbody th { font-weight: 600; white-space: normal; min-width: 11.5rem; line-height: 1.3; }
tbody th small { display: block; font-weight: 400; font-size: 12px; color: var(--faint); }
th:first-child { position: sticky; left: 0; background: var(--paper); z-index: 1; padding-right: 1rem; }
tbody tr:hover > * { background: var(--wash); }
tfoot th, tfoot td { font-weight: 600; border-bottom: 0; }
.num { text-align: right; }
.zero { color: var(--faint); }
td.careful { color: var(--careful); font-weight: 600; }
td.bad { color: var(--bad); font-weight: 600; }
.spark { width: 6.5rem; height: 1.5rem; display: block; fill: var(--accent); opacity: 0.75; }
.mixture td { min-width: 8.5rem; width: 28%; } .mixture td.num { min-width: 4rem; width: auto; }
.bar { display: grid; grid-template-columns: minmax(3rem, 1fr) 3.6rem; align-items: center; gap: 0.6rem; }
.track { height: 0.5rem; background: var(--wash); border-radius: 2px; overflow: hidden; }
.track i { display: block; height: 100%; background: var(--accent-soft); min-width: 1px; }
.track i.strong { background: var(--accent); }
.bar .value { text-align: right; font-size: 13px; }

.task { border-top: 1px solid var(--rule); padding-top: 2rem; }
.charts { display: grid; grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); gap: 1.5rem 3rem; }
figcaption { font-size: 13px; color: var(--soft); margin-bottom: 0.45rem; } .stacked + figcaption { margin-top: 1.1rem; }
.histogram { position: relative; }
.histogram svg { width: 100%; height: 8rem; display: block; border-bottom: 1px solid var(--faint); fill: var(--accent);
  overflow: visible; }
.histogram rect:hover { fill: var(--ink); }
.mark { stroke: var(--ink); stroke-width: 1; stroke-dasharray: 3 3; opacity: 0.55; }
.mark-words { position: relative; font-size: 12px; color: var(--soft); }
.mark-words span { position: absolute; white-space: nowrap; }
.mark-words .left { margin-left: 0.15rem; }
.mark-words .right { margin-right: 0.15rem; }
.ticks { position: relative; height: 1.3rem; font-size: 12px; color: var(--faint); }
.ticks span { position: absolute; top: 0.15rem; } .ticks .last { right: 0; }
.stacked svg { width: 100%; height: 0.9rem; display: block; border-radius: 3px; overflow: hidden; background: var(--wash); }
.used { fill: var(--accent); background: var(--accent); } .cut { fill: var(--accent-soft); background: var(--accent-soft); }
.dropped { fill: var(--amber); background: var(--amber); } .quarantined { fill: var(--red); background: var(--red); }
.context { fill: var(--neutral); background: var(--neutral); }
.stacked rect { stroke: var(--paper); stroke-width: 1; vector-effect: non-scaling-stroke; }
.legend { margin-top: 0.45rem; font-size: 13px; }
.legend li { display: grid; grid-template-columns: 1rem minmax(0, 1fr) auto 4rem; align-items: baseline; }
.legend b { font-weight: 500; }
.legend small { color: var(--faint); text-align: right; font-size: 13px; }
.key { width: 0.55rem; height: 0.55rem; border-radius: 2px; }
.numbers { display: grid; grid-template-columns: repeat(auto-fill, minmax(7.2rem, 1fr)); gap: 0.7rem 1.2rem;
  margin: 1.3rem 0 0.9rem; }
.numbers dt { font-size: 12.5px; color: var(--faint); } .numbers dd { font-weight: 550; }

.samples article { margin: 0.7rem 0 1.3rem; }
.of { display: flex; flex-wrap: wrap; gap: 0 1rem; font-size: 13px; color: var(--soft); margin-bottom: 0.3rem; }
.sample {
  font: 13px/1.65 var(--mono); white-space: pre-wrap; overflow-wrap: anywhere; background: var(--raised);
    border: 1px solid var(--rule); border-radius: 7px;
  padding: 0.75rem 0.9rem; max-height: 22rem; overflow: auto; color: var(--soft); unicode-bidi: isolate;
}
.run { unicode-bidi: isolate; }
.run.trained { background: var(--tint); color: var(--tint-ink); border-radius: 2px; box-decoration-break: clone;
  -webkit-box-decoration-break: clone; }
.chip { font-size: 11.5px; padding: 0.05rem 0.35rem; margin: 0 1px; border-radius: 4px; color: var(--soft);
  background: var(--wash); border: 1px solid var(--rule); white-space: nowrap; }
.chip.trained { background: var(--chip-wash); color: var(--chip); border-color: currentColor; }
.white { color: var(--faint); opacity: 0.75; }
.white.line::before { content: "↵"; font-size: 0.85em; }
.white.tab::before { content: "→"; position: absolute; }
.white.blank { background: linear-gradient(var(--rule), var(--rule)) 0 85% / 100% 1px no-repeat; }
.hidden-char { font: 10.5px var(--mono); color: var(--careful); background: var(--careful-wash); border-radius: 3px;
  padding: 0 0.25rem; }
.gap { color: var(--faint); text-align: center; border-block: 1px dashed var(--rule); margin: 0.7rem 0; padding: 0.2rem;
  font-family: system-ui, sans-serif; }
.key-line { display: flex; flex-wrap: wrap; gap: 0.3rem 1.2rem; font-size: 13px; color: var(--soft); }
.rejects td { white-space: normal; vertical-align: top; overflow-wrap: anywhere; min-width: 7rem; }
.rejects td.reason { white-space: nowrap; }
.rejects .raw { min-width: 16rem; color: var(--soft); }

@media (max-width: 56rem) {
  body { display: block; }
  nav { height: auto; display: flex; gap: 0.1rem; padding: 0.45rem 0.6rem; overflow-x: auto; scrollbar-width: none;
    border-right: 0; border-bottom: 1px solid var(--rule); background: var(--paper); z-index: 3; }
  nav p { display: none; } nav a { white-space: nowrap; }
  nav ul { display: flex; gap: 0.1rem; }
  nav ul + p + ul { border-left: 1px solid var(--rule); margin-left: 0.3rem; padding-left: 0.3rem; }
  html { scroll-padding-top: 4rem; }
  main { padding-top: 1.4rem; }
  .charts { grid-template-columns: minmax(0, 1fr); }
  .checks > li { grid-template-columns: 3.4rem minmax(0, 1fr); gap: 0 0.6rem; } .checks > li > div { grid-column: 2; }
  h2 small { display: block; margin: 0.1rem 0 0; overflow-wrap: anywhere; }
  .cards { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  tbody th { min-width: 7.5rem; max-width: 8.5rem; overflow-wrap: anywhere; font-size: 13px; }
}
@media print { nav { display: none; } body { display: block; } .sample, blockquote { max-height: none; } }
"""

_LIGHT = ("#2757c9", "#d9730d", "#2a8f5b", "#c9353f", "#7b55c7", "#8a5a44", "#d0509f", "#8a8a12", "#1593a3", "#5a6270")
_DARK = ("#7fa3f7", "#f0a050", "#5cc48f", "#ef7b78", "#b296f2", "#c99b83", "#ee8cc6", "#c8c455", "#4fc3d2", "#a9b0bb")


def _variables(colours: tuple[str, ...]) -> str:
    return " ".join(f"--c{n}: {colour};" for n, colour in enumerate(colours))


PLOTS = (
    f"""
:root {{ {_variables(_LIGHT)} --up: 39 87 201; --down: 201 74 40; }}
@media (prefers-color-scheme: dark) {{ :root {{ {_variables(_DARK)} --up: 127 163 247; --down: 240 128 90; }} }}
{" ".join(f".c{n} {{ --c: var(--c{n}); }}" for n in range(len(_LIGHT)))}
{" ".join(f".u{n} {{ --shade: rgb(var(--up) / {0.06 + 0.115 * n:.3f}); }}" for n in range(1, 9))}
{" ".join(f".d{n} {{ --shade: rgb(var(--down) / {0.06 + 0.115 * n:.3f}); }}" for n in range(1, 9))}
.s0 {{ --shade: var(--wash); }} .none {{ --shade: transparent; }}
"""
    + """
.plot { display: grid; grid-template-columns: 3.1rem minmax(0, 1fr); margin-top: 0.7rem; }
.plot > svg { grid-column: 2; width: 100%; height: 16rem; display: block; overflow: hidden;
  border-bottom: 1px solid var(--faint); }
.plot.small { grid-template-columns: 2.5rem minmax(0, 1fr); margin-top: 0.3rem; } .plot.small > svg { height: 7.5rem; }
.heights { position: relative; font-size: 12px; color: var(--faint); }
.heights span { position: absolute; right: 0.45rem; transform: translateY(-50%); white-space: nowrap; }
.plot .ticks { grid-column: 2; } .plot .ticks span:not(.last) { transform: translateX(-50%); }
.plot path { fill: none; stroke: var(--c, var(--accent)); vector-effect: non-scaling-stroke; stroke-linejoin: round; }
.plot .grid { stroke: var(--rule); stroke-width: 1; } .plot .level { stroke: var(--faint); stroke-dasharray: 4 3; }
.plot .mark { stroke: var(--ink); stroke-width: 1; stroke-dasharray: 2 3; opacity: 0.7; }
.plot .line, .plot .steps { stroke-width: 1.7; } .plot .thin { stroke-width: 0.8; opacity: 0.35; }
.plot .dots { stroke-linecap: round; stroke-width: 5; }
.plot .look { --c: var(--faint); stroke-width: 3; opacity: 0.6; } .plot .held-out { --c: var(--c1); }
.plot .area { fill: var(--c); stroke: var(--paper); stroke-width: 0.6; }
.plot .line:hover, .plot .steps:hover { stroke-width: 3; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); gap: 1.5rem 1.8rem; }
.panels figcaption { display: flex; justify-content: space-between; gap: 0.8rem; margin: 0; color: var(--ink); font-weight: 550; }
.panels figcaption span { overflow-wrap: anywhere; }
.panels figcaption small { font-weight: 400; color: var(--soft); font-size: 12px; white-space: nowrap; }
.keys { display: flex; flex-wrap: wrap; gap: 0.2rem 1.3rem; font-size: 13px; margin: 0.6rem 0; }
.keys li { display: flex; align-items: baseline; gap: 0.4rem; min-width: 0; } .keys span { overflow-wrap: anywhere; }
.keys b { font-weight: 400; color: var(--soft); } .keys .key { flex: none; background: var(--c, var(--accent)); }
.keys .key.held-out { --c: var(--c1); border-radius: 50%; } .keys .key.thin { opacity: 0.35; }
.keys .key.look { --c: var(--faint); border-radius: 50%; }
.shade { display: inline-block; width: 1.1rem; height: 0.7rem; background: var(--shade); border-radius: 2px; flex: none; }
.shade.s0 { border: 1px solid var(--rule); }
.trend { width: 6.5rem; height: 1.5rem; display: block; overflow: visible; }
.trend path { fill: none; stroke: var(--accent); stroke-width: 1.4; vector-effect: non-scaling-stroke; }
.trend .level { stroke: var(--rule); stroke-width: 1; }
.heat { margin-top: 0.6rem; }
.heat li, .heat .foot { display: grid; grid-template-columns: 11rem minmax(0, 1fr) 4rem; gap: 0.6rem; align-items: center;
  line-height: 1.25rem; }
.heat li:hover { background: var(--wash); }
.heat .name { font-size: 12.5px; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; color: var(--soft); }
.heat b { font-size: 12.5px; font-weight: 500; text-align: right; }
.heat svg { width: 100%; height: 1.15rem; display: block; shape-rendering: crispEdges; }
.heat path { fill: var(--shade); }
.heat.square { max-width: 46rem; } .heat.square li, .heat.square .foot { grid-template-columns: 11rem minmax(0, 1fr); }
.heat.square .foot .ticks span { transform: translateX(-50%); }
.cosines { width: auto; } .cosines th, .cosines td { text-align: center; padding: 0.3rem 0.2rem; min-width: 2.9rem;
  font-weight: 400; font-size: 13px; border: 1px solid var(--paper); background: var(--shade, transparent); }
.cosines tbody th { text-align: left; padding-right: 0.8rem; min-width: 0; background: var(--paper); max-width: 14rem;
  overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.cosines td.self { color: var(--faint); }
.cosines .u6, .cosines .u7, .cosines .u8, .cosines .d6, .cosines .d7, .cosines .d8 { color: var(--paper); }
@media (max-width: 56rem) {
  .heat li, .heat .foot { grid-template-columns: 6.5rem minmax(0, 1fr) 3rem; gap: 0.4rem; }
  .heat.square li, .heat.square .foot { grid-template-columns: 6.5rem minmax(0, 1fr); }
  .plot > svg { height: 12rem; }
  .cosines th, .cosines td { min-width: 2.2rem; font-size: 12px; padding: 0.25rem 0; }
  .cosines tbody th { max-width: 6.5rem; }
}
"""
)
"""What plots, heat maps and squares of cosines look like."""
