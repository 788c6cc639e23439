#!/bin/sh
# Makes or reuses the environments where the peers live that the benchmarks compare weft with:
#   peers.sh                benchmarks/.venv-peers: TRL and what it builds on
#   peers.sh llamafactory   benchmarks/.venv-llamafactory: LLaMA-Factory, which wants older versions of the same libraries
#   peers.sh swift          benchmarks/.venv-swift: ms-swift, likewise
# torch is pinned first: pip's configuration decides which build of it comes.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
case ${1:-peers} in
peers)
    set -- torch==2.13.0 transformers==5.23.0 trl==1.16.0 peft==0.21.2 datasets==5.2.0 accelerate==1.15.0
    venv="$here/.venv-peers" module=trl ;;
llamafactory)
    set -- torch==2.13.0 llamafactory==0.9.5
    venv="$here/.venv-llamafactory" module=llamafactory ;;
swift)
    set -- torch==2.13.0 ms-swift==4.6.0
    venv="$here/.venv-swift" module=ms-swift ;;
*)
    echo "peers.sh: there is no environment $1; there are peers, llamafactory and swift" >&2
    exit 2 ;;
esac
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
if ! "$venv/bin/python" -c 'import importlib.metadata as m, sys
pins = (pin.split("==") for pin in sys.argv[1:])
assert all(m.version(name).split("+")[0] == version for name, version in pins)' "$@" 2>/dev/null; then
    "$venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
    "$venv/bin/pip" install --quiet --disable-pip-version-check "$@"
fi
if [ $module = llamafactory ] && ! "$venv/bin/python" -c 'import torchvision, torchaudio' 2>/dev/null; then
    # of another build than torch; they serve pictures and sound only
    "$venv/bin/pip" uninstall --quiet --yes torchvision torchaudio 2>/dev/null
fi
"$venv/bin/python" -c "import importlib.metadata as m, sys; print('peers: $module', m.version('$module'), 'in', sys.prefix)"
