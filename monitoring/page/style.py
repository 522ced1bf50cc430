"""The style of a page: light or dark as the reader has it, tables as cards on narrow screens, and no colour without a shape."""

STYLE = """
:root {
  color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --line: #d1d9e0;
  --paper: #fff; --accent: #0969da; --warn: #b42318; --good: #1a7f37;
  --other: #8250df; --plain: #59636e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e6edf3; --soft: #9198a1; --line: #3d444d; --paper: #0d1117;
    --accent: #58a6ff; --warn: #ff7b72; --good: #3fb950; --other: #bc8cff;
    --plain: #9198a1;
  }
}
* { box-sizing: border-box; }
body {
  font: 15px/1.5 system-ui, sans-serif;
  color: var(--ink);
  background: var(--paper);
  max-width: 1180px;
  margin: 0 auto;
  padding: 1rem;
}
h1 { margin: 0 0 .3rem; }
h2 { margin: 2rem 0 .5rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 0; }
a { color: var(--accent); }
a:focus-visible, summary:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .5rem 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
.note, .legend { margin: 0; color: var(--soft); font-size: .85rem; }
.legend span { margin-right: 1rem; white-space: nowrap; }
.legend svg { vertical-align: -2px; }
.plot { padding: 4px 10px 0 50px; }
.plot svg { display: block; overflow: visible; }
.defs { position: absolute; }
svg text { font-size: 11px; fill: var(--soft); }
svg .grid { stroke: var(--line); stroke-width: 1; stroke-dasharray: none; }
svg .lane { font-weight: 600; }
svg .label { fill: var(--ink); }
svg .alarm { fill: var(--warn); font-size: 15px; font-weight: 700; }
svg line { stroke-width: 1.6; }
svg use { stroke-width: 1.6; fill: var(--paper); }
.s-plain line, .s-plain use { stroke: var(--plain); }
.s-accent line, .s-accent use { stroke: var(--accent); }
.s-warn line, .s-warn use { stroke: var(--warn); }
.s-good line, .s-good use { stroke: var(--good); }
.s-other line, .s-other use { stroke: var(--other); }
.s-plain rect { fill: var(--plain); fill-opacity: .55; stroke: var(--plain); }
.s-accent rect { fill: var(--accent); fill-opacity: .75; stroke: var(--accent); }
.s-other rect { fill: var(--paper); stroke: var(--other); }
.dashed line { stroke-dasharray: 5 3; }
table { border-collapse: collapse; width: 100%; font-size: .85rem; }
th { text-align: left; color: var(--soft); font-weight: 600; }
th, td { vertical-align: top; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--line); overflow-wrap: break-word; }
td:first-child, time, .whole { white-space: nowrap; }
tr:target { outline: 2px solid var(--accent); }
summary { cursor: pointer; padding: .5rem 0; }
@media (max-width: 760px) {
  svg .fine { display: none; }
  dl { grid-template-columns: 1fr; }
  dt { margin-top: .4rem; }
  thead { display: none; }
  table, tbody, tr, td { display: block; }
  tr { border: 1px solid var(--line); border-radius: 6px; margin: .6rem 0; padding: .3rem .6rem; }
  td { border: 0; padding: .15rem 0; }
  td::before { content: attr(data-name) ": "; color: var(--soft); font-weight: 600; display: block; }
}
"""
