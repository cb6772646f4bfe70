"""What this machine has, and what the hub says: small functions, so that a test can say something else."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lib.store import ROOT

if TYPE_CHECKING:
    from lib.plan.assets import Repository


def required() -> dict[str, str]:
    """Packages and versions that ``environment.yml`` pins."""
    return dict(re.findall(r"- ([\w-]+)==(\S+)", (ROOT / "environment.yml").read_text()))


def installed(package: str) -> str | None:
    """The version of an installed package, without a local suffix such as ``+cpu``."""
    try:
        return importlib.metadata.version(package).split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


def gpus() -> list[float]:
    """Memory of every GPU that PyTorch can use, in 10^9 bytes."""
    import torch

    return [torch.cuda.get_device_properties(i).total_memory / 1e9 for i in range(torch.cuda.device_count())]


def main_memory() -> float:
    """10^9 bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9


def hub_cache() -> Path:
    """Where downloads are kept."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def disk(path: Path) -> tuple[int, float]:
    """The disk that a path lies on, or would: its number, and its free space in 10^9 bytes."""
    there = next(p for p in (path, *path.parents) if p.exists())
    return there.stat().st_dev, shutil.disk_usage(there).free / 1e9


def cached() -> dict[tuple[str, str, str], float]:
    """What the hub's cache holds: (kind, id, commit or branch) -> 10^9 bytes."""
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        repositories = scan_cache_dir(hub_cache()).repos
    except CacheNotFound:
        return {}
    return {
        (r.repo_type, r.repo_id, name): revision.size_on_disk / 1e9
        for r in repositories
        for revision in r.revisions
        for name in (revision.commit_hash, *revision.refs)
    }


def token() -> str | None:
    """The user's token for the hub, if there is one."""
    from huggingface_hub import get_token

    return get_token()


def access(repository: Repository) -> Literal["granted", "gated", "absent", "refused", "unreachable"]:
    """Asks the hub whether this user may download a repository."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HTTPError, RepositoryNotFoundError

    try:
        HfApi().auth_check(repository.id, repo_type=repository.kind)
    except GatedRepoError:
        return "gated"
    except RepositoryNotFoundError:
        return "absent"
    except HfHubHTTPError as error:
        return "refused" if error.response.status_code in (401, 403) else "unreachable"
    except (HTTPError, OSError):  # no connection, HF_HUB_OFFLINE, or a hub that is down
        return "unreachable"
    return "granted"
