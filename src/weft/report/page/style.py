"""What only the report of runs needs of style."""

RUN = """
.told { margin-bottom: 1.1rem; color: var(--soft); max-width: 52rem; }
.told li { padding-left: 0.9rem; position: relative; overflow-wrap: anywhere; }
.told li::before { content: "–"; color: var(--faint); position: absolute; left: 0; }
.told b { color: var(--careful); }
h2.verdict { font-size: 1.3rem; margin-bottom: 0.8rem; } h2.verdict.bad { color: var(--bad); }
section > details { margin-top: 1rem; } section > figure + .panels { margin-top: 1.6rem; }
figure.number { margin-top: 1.4rem; }
td.good { color: var(--good); font-weight: 600; }
tbody th { max-width: 18rem; overflow-wrap: anywhere; }
table.plain tbody th { font-weight: 400; min-width: 0; } table.plain.losses tbody th { min-width: 8.5rem; }
table.narrow { width: auto; } table.narrow td { padding-left: 2rem; }
table.values td, table.values th { white-space: normal; vertical-align: top; overflow-wrap: anywhere; }
table.values td { min-width: 6rem; }
table.ledger td.t { min-width: 9rem; }
table.side td.lowest { font-weight: 650; color: var(--good); background: var(--good-wash); }
table.side td { padding-left: 0.6rem; }
thead th small { display: block; font-weight: 400; } thead th .key { display: inline-block; margin-right: 0.35rem;
  background: var(--c); }
.pairs { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr)); gap: 1.2rem 2.5rem;
  margin-top: 1.6rem; max-width: 46rem; }
.pairs li { display: flex; justify-content: space-between; gap: 1rem; font-size: 13.5px; padding: 0.15rem 0;
  border-bottom: 1px solid var(--rule); }
.pairs li span { overflow-wrap: anywhere; } .pairs b { font-weight: 500; white-space: nowrap; }
details.run { border-top: 1px solid var(--rule); margin-top: 2.5rem; padding-top: 1rem; }
details.run > summary { font-size: 1.15rem; font-weight: 600; color: var(--ink); overflow-wrap: anywhere; }
details.run > summary .key { display: inline-block; background: var(--c); margin-right: 0.5rem; }
@media (max-width: 56rem) { nav wbr { display: none; } nav li { flex: none; } }
"""
