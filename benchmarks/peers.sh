#!/bin/sh
# Makes or reuses benchmarks/.venv-peers, where the peers live that benchmarks/train.py compares weft with.
# torch is pinned first: pip's configuration decides which build of it comes.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
venv="$here/.venv-peers"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
"$venv/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.13.0 transformers==5.23.0 trl==1.16.0 peft==0.21.2 datasets==5.2.0 accelerate==1.15.0
"$venv/bin/python" -c 'import trl; print("peers: trl", trl.__version__, "in", __import__("sys").prefix)'
