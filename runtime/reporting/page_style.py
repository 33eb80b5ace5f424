"""How a page looks, by day and by night."""

STYLE = """
:root { color-scheme: light dark; --text: #222; --page: #fff; --soft: #f6f6f6; --line: #ccc; --grid: #ddd;
  --quiet: #666; }
@media (prefers-color-scheme: dark) {
  :root { --text: #ddd; --page: #181a1b; --soft: #242729; --line: #555; --grid: #3a3d3f; --quiet: #999; }
}
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem;
  color: var(--text); background: var(--page); }
h1 { margin-bottom: 0; } h2 { margin-top: 2rem; border-bottom: 1px solid var(--line); }
table { border-collapse: collapse; margin: 0.6rem 0; }
th, td { text-align: left; padding: 0.15rem 1rem 0.15rem 0; vertical-align: top; }
th { border-bottom: 1px solid var(--line); }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
pre { background: var(--soft); padding: 0.8rem; overflow-x: auto; }
.wide { overflow-x: auto; }
.matrix th, .matrix td { text-align: right; padding: 0.2rem 0.45rem; border: 1px solid var(--grid); }
.matrix small { display: block; color: inherit; opacity: 0.75; }
.weights { font-size: 13px; } .shape { white-space: nowrap; } .weights td, .weights th { padding-right: 0.7rem; }
.cards { display: flex; flex-wrap: wrap; gap: 0.8rem; align-items: flex-start; }
.card { border: 1px solid var(--line); border-radius: 4px; padding: 0.6rem; max-width: 18rem; font-size: 13px;
  overflow-wrap: anywhere; }
.card table { margin: 0.3rem 0 0; } .card td { padding: 0 0.5rem 0 0; }
.card td:first-child { color: var(--quiet); overflow-wrap: break-word; max-width: 9rem; }
.picture { display: block; margin-top: 0.4rem; width: 8rem; image-rendering: pixelated; }
.filters { width: 100%; max-width: 30rem; image-rendering: pixelated; }
.tokens { line-height: 2; overflow-wrap: anywhere; }
.tokens span { padding: 0.15rem 0.1rem; margin-right: 1px; border-radius: 2px; white-space: pre-wrap; }
.chart { width: 100%; max-width: 40rem; display: block; margin: 0.6rem 0; fill: currentColor; }
.chart text { font: 11px system-ui, sans-serif; } .chart .title { font-weight: bold; }
.side { display: flex; flex-wrap: wrap; } .square { max-width: 28rem; }
.small { width: 120px; height: 26px; }
.grid { stroke: var(--grid); } .axis { stroke: var(--quiet); fill: none; }
.mark { stroke: var(--quiet); stroke-dasharray: 3; }
.point { fill: #1f77b4; fill-opacity: 0.55; } .bar { fill: #1f77b4; }
.scroll { overflow: auto; max-height: 40rem; border: 1px solid var(--line); background: #fff; }
""".strip()
