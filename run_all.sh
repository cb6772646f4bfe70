#!/usr/bin/env bash
# Set up the environment, then regenerate every table and figure (or run the tests).
# Everything after the environment is Python: `python -m lib --help`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

case "${1:-}" in
-h | --help)
    cat <<'HELP'
usage: ./run_all.sh [test] [options]

  ./run_all.sh                    every notebook, at desk scale
  ./run_all.sh test               the tests

  --profile NAME                  a profile of lib/profiles, or a .yaml file (default: desk)
  --from NN, --only NN            start at notebook NN, or run it alone
  --set key=value                 change a setting: --set sae.latents=256 (repeatable)
  --in-place                      also write outputs back into notebooks/, as they are committed
  --plan                          say what a profile downloads, needs and costs, and what is missing; run nothing
  --force                         run notebooks that are up to date, too
  --from-scratch                  first train the desk models anew (about four hours)
  --help                          this text

The active Python environment is used if it has what environment.yml pins; otherwise a .venv is made.
HELP
    exit 0
    ;;
esac

# The pinned packages are the "name==version" lines of environment.yml.
has_packages() {
    "$1" - <<'PY' >/dev/null 2>&1
import re, sys
from importlib.metadata import version
assert (3, 11) <= sys.version_info < (3, 13)
for name, pin in re.findall(r"- ([\w-]+)==(\S+)", open("environment.yml").read()):
    assert version(name).split("+")[0] == pin, name
PY
}

# The active Python, if it is one that the packages support; else any that is.
python=""
for candidate in python3 python python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; then
        python="$(command -v "$candidate")"
        break
    fi
done
[ -n "$python" ] || { echo "run_all.sh: needs Python 3.11 or 3.12; found neither" >&2; exit 1; }
if ! has_packages "$python"; then
    if ! has_packages .venv/bin/python; then
        echo "run_all.sh: setting up .venv (once; about 4 minutes and 7 GB)"
        "$python" -m venv .venv
        pins="$(sed -n 's/^ *- \([A-Za-z0-9_-]*==.*\)$/\1/p' environment.yml)"
        .venv/bin/pip install --quiet --requirement <(grep -v '^sam2==' <<<"$pins")
        # SAM 2 comes as source. With build isolation it would download a second PyTorch; it needs no CUDA extension.
        SAM2_BUILD_CUDA=0 .venv/bin/pip install --quiet --no-build-isolation "$(grep '^sam2==' <<<"$pins")"
    fi
    python="$PWD/.venv/bin/python"
fi
# The library is imported as `lib`, from notebooks and tests alike; an editable install makes it so.
here="$PWD"
(cd notebooks && "$python" -c 'import lib, pathlib, sys; sys.exit(str(pathlib.Path(lib.__file__).parents[1]) != sys.argv[1])' "$here") 2>/dev/null ||
    "$python" -m pip install --quiet --no-deps --editable .

export TOKENIZERS_PARALLELISM=false
if [ "${1:-}" = test ]; then
    shift
    exec "$python" -m pytest "$@"
fi
exec "$python" -m lib "$@"
