#!/usr/bin/env bash
# Set up the environment, then regenerate every table and figure (or run the tests).
# Everything after the environment is Python: `python -m lib --help`.
set -euo pipefail
export STEERING_COMPANION_CALLER="$PWD" # a profile of your own is looked up from where you stand
cd -P "$(dirname "${BASH_SOURCE[0]}")"

case "${1:-}" in
-h | --help)
    cat <<'HELP'
usage: ./run_all.sh [test | verify | bench | slides | book | demo] [options]

  ./run_all.sh                    every notebook, at desk scale
  ./run_all.sh test               the tests, on all cores; with a file or other options of pytest, those
  ./run_all.sh test --quick       without what takes long: for every change, in a minute and a half
  ./run_all.sh bench [part ...]   time stages beside plain ways and other libraries, and write tests/benchmarks/README.md
  ./run_all.sh slides             the slides of a lecture, with this run's figures and findings: figures/slides.html
  ./run_all.sh book               the notebooks, every latent, and the live demo as a web site: data/runs/book
  ./run_all.sh demo               the live demo in JupyterLab, on any profile's subject: --profile, --set
  ./run_all.sh verify             run from nothing in a copy; say how its tables differ from the committed ones

  --profile NAME                  a profile of lib/profiles, or a .yaml file (default: desk)
  --from NN, --only NN            start at notebook NN, or run it alone
  --set key=value                 change a setting: --set sae.latents=256 (repeatable)
  --status                        say what is there, what is stale and because of what, and what it cost; run nothing
  --plan                          say what a profile downloads, needs and costs, and what is missing; run nothing
  --in-place                      also write outputs back into notebooks/, as they are committed
  --force                         run notebooks that are up to date, too
  --workers N                     share the work of models among N processes here, one for each GPU; same results
                                  (default: as many as the profile's jobs, 2 at desk scale; with a GPU none)
  --cluster tcp://host:port       share it among the workers of a Dask cluster (lib/README.md, "Beyond one machine")
  --from-scratch                  first train the desk models anew (about seven hours, and a network for 93 MB)
  --help                          this text

Ctrl-C stops a run; what was made is kept, and the same command goes on from there. A second run of a profile waits for
the first. OMP_NUM_THREADS and taskset limit the cores that are used.
The active Python environment is used if it has what environment.yml pins; otherwise a .venv is made.
HELP
    exit 0
    ;;
esac

# What of environment.yml (its "name==version" lines) a Python lacks; nothing if it has it all. Notebooks that are opened
# in Jupyter find the library through a line in the site-packages of this folder's .venv, put there if it can be.
lacks() {
    "$1" - "$PWD" <<'PY' 2>/dev/null || echo "a Python that works"
import importlib.util, pathlib, re, sys, sysconfig
from importlib.metadata import PackageNotFoundError, version

here = pathlib.Path(sys.argv[1]).resolve()
wanted = re.findall(r"- ([\w-]+)==(\S+)", (here / "environment.yml").read_text(encoding="utf-8"))
for name, pin in wanted:
    try:
        found = version(name).split("+")[0]
    except PackageNotFoundError:
        found = ""
    if found != pin:
        print(f"{name}=={pin}")
        sys.exit()
sys.path = [path for path in sys.path if pathlib.Path(path).resolve() != here]
lib = importlib.util.find_spec("lib")
found = pathlib.Path(lib.origin or "/").resolve().parent.parent if lib else None
if found != here and pathlib.Path(sys.prefix).resolve() == here / ".venv":
    try:
        (pathlib.Path(sysconfig.get_path("purelib")) / "steering_companion.pth").write_text(f"{here}\n")
    except OSError:
        pass  # ./run_all.sh itself needs no such line
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
[ -n "$python" ] || [ -x .venv/bin/python ] || { echo "run_all.sh: needs Python 3.11 or 3.12; found neither" >&2; exit 1; }
missing="a Python that works"
[ -z "$python" ] || missing="$(lacks "$python")"
if [ -n "$missing" ]; then
    if [ ! -x .venv/bin/python ] || [ -n "$(lacks .venv/bin/python)" ]; then
        if [ ! -w . ] || { [ -e .venv ] && [ ! -w .venv ]; }; then
            echo "run_all.sh: $python lacks $missing, and you may not write $PWD/.venv, where it would be installed." \
                "Copy this folder to one of your own, or activate an environment that has what environment.yml pins" >&2
            exit 1
        fi
        echo "run_all.sh: setting up .venv (once; about 4 minutes and 7 GB)"
        "${python:-python3}" -m venv .venv
        pins="$(sed -n 's/^ *- \([A-Za-z0-9_-]*==.*\)$/\1/p' environment.yml)"
        .venv/bin/python -m pip install --quiet --requirement <(grep -v '^sam2==' <<<"$pins")
        # SAM 2 comes as source. With build isolation it would download a second PyTorch; it needs no CUDA extension.
        SAM2_BUILD_CUDA=0 .venv/bin/python -m pip install --quiet --no-build-isolation "$(grep '^sam2==' <<<"$pins")"
        lacks .venv/bin/python >/dev/null
    fi
    python="$PWD/.venv/bin/python"
fi

export TOKENIZERS_PARALLELISM=false
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" # the library is imported as `lib`, from this folder
if [ "${1:-}" = test ]; then
    shift
    exec "$python" -m pytest "$@"
fi
if [ "${1:-}" = bench ]; then
    shift
    exec "$python" -m tests.benchmarks "$@"
fi
exec "$python" -m lib "$@"
