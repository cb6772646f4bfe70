"""Memory that one tensor has left serves the next."""

import os
import platform
import subprocess
import sys

import pytest

from lib.store import ROOT

CODE = """
import resource, torch
{first}
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20): torch.ones(4096, 768)
before = faults()
for _ in range(20): torch.ones(4096, 768)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_pages_are_not_cleared_again_even_where_all_is_to_be_given_back():
    def faults(first: str) -> int:
        where = os.environ | {"MALLOC_TRIM_THRESHOLD_": "65536"}  # as Dask has it for its workers
        where.pop("MALLOC_MMAP_THRESHOLD_", None)
        done = subprocess.run(
            [sys.executable, "-c", CODE.format(first=first)], cwd=ROOT, env=where, capture_output=True, text=True
        )
        return int(done.stdout)

    assert faults("") > 20 * 1000  # 12 MiB each, in pages of 4 KiB or more
    assert faults("import lib.device") < 1000
