"""The train key: what a candidate was made from, as one hash. The same key is not trained twice.

In it: the snapshot, the training part of the spec, the files of the model folder, the lock of libraries.
Not in it: the README, gates, triggers and approval, the code revision and the image, which are logged beside it.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evergreen.core.bundle import canonical_json, sha256
from evergreen.core.errors import TrainingRefused

if TYPE_CHECKING:
    from evergreen.core.spec import ModelSpec

LOCK = "requirements.txt"
BUILT_FROM = "EVERGREEN_REVISION"  # set in an image, which holds no repository
IMAGE = "EVERGREEN_IMAGE"  # set by docker-compose.yml: an image does not know its own name
_LATER = ("device", "seed", "weights", "monotone", "imbalance")  # keys of `training`
_NOT_SEEN_BY_TRAINING = ("README.md", "model.yaml")  # of the latter, `training_part` is what counts


@dataclass(frozen=True)
class Provenance:
    """The code and libraries that a training run used.

    `code_revision` is the git commit: the repository's, or the one that an image was built from (EVERGREEN_REVISION).
    It is 'dirty-…' / 'files-…' and a hash of the files where the tree was changed or no commit is known.
    `image` is the container image, empty outside one. `spec_sha256` is of the spec as it was logged
    (`training/spec.json`): with its defaults, and with what the train key leaves out.
    """

    code_revision: str
    lock_hash: str
    folder_hash: str
    image: str = ""
    spec_sha256: str = ""


def provenance(root: Path, spec: ModelSpec) -> Provenance:
    """Read them from the project folder and the environment. Raises TrainingRefused where there is no lock."""
    lock = root / LOCK
    if not lock.is_file():
        raise TrainingRefused(
            LOCK,
            found="no such file in the project folder",
            allowed="the lock of all libraries: a new library is a reason to retrain",
            do="Restore it from version control, or write it anew by `make lock`.",
        )
    folder = root / "models" / spec.name
    return Provenance(
        code_revision=_code_revision(root, folder),
        lock_hash=sha256(lock.read_bytes()),
        folder_hash=_hash(_training_files(folder), folder),
        image=_image(),
        spec_sha256=sha256(spec_json(spec)),
    )


def spec_json(spec: ModelSpec) -> bytes:
    """The whole spec, defaults included, as it is logged beside a version."""
    return spec.model_dump_json(indent=2).encode()


def train_key(snapshot_id: str, spec: ModelSpec, made_with: Provenance) -> str:
    """Hex digest over everything that decides what training makes."""
    parts = {
        "snapshot": snapshot_id,
        "spec": training_part(spec),
        "folder": made_with.folder_hash,
        "lock": made_with.lock_hash,
    }
    return sha256(canonical_json(parts))


def training_part(spec: ModelSpec) -> dict[str, Any]:
    """What of the spec decides the fitted rows, the booster or the bundle."""
    declared = spec.model_dump(mode="json")
    return {
        "task": declared["task"],
        "event_time": declared["source"]["event_time"],
        "label": {name: declared["label"][name] for name in ("column", "arrives_after")},
        "features": {name: declared["features"][name] for name in ("columns", "categorical")},
        "window": _window_part(spec, declared["window"]),
        "training": _fit_part(spec, declared["training"]),
        "unknown_category": declared["serving"]["unknown_category"],
    }


def _fit_part(spec: ModelSpec, declared: dict[str, Any]) -> dict[str, Any]:
    """Keys that came later count where they differ from their default: what was trained before them keeps its key.

    The engine is no part of it: it says where rows are held, and the trees are the same.
    """
    fields, given = type(spec.training).model_fields, spec.training
    later = [name for name in _LATER if getattr(given, name) != fields[name].get_default(call_default_factory=True)]
    return {name: declared[name] for name in ("params", "rounds", *later)}


def _window_part(spec: ModelSpec, declared: dict[str, Any]) -> dict[str, Any]:
    """What is tried is part of it; what is chosen follows from it and the snapshot."""
    tried = {"tried": sorted(declared["tried"]), "season": declared["season"]} if spec.window.is_auto else {}
    return {"train": declared["train"], "holdout": declared["holdout"]["length"], **tried}


def _training_files(folder: Path) -> list[Path]:
    files = _files(folder)
    return [file for file in files if file.relative_to(folder).as_posix() not in _NOT_SEEN_BY_TRAINING]


def _files(folder: Path) -> list[Path]:
    """Regular files, without caches and hidden ones."""
    found = (file for file in folder.rglob("*") if file.is_file())
    return sorted(file for file in found if not _is_noise(file.relative_to(folder)))


def _is_noise(path: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in path.parts)


def _hash(files: list[Path], base: Path) -> str:
    return sha256(canonical_json([[file.relative_to(base).as_posix(), sha256(file.read_bytes())] for file in files]))


def _code_revision(root: Path, folder: Path) -> str:
    code = root / "plugins" / "evergreen"
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        commit, changed = _built_from()
    else:
        changed = _git(root, "status", "--porcelain", "--", str(code), str(folder)) != ""
    if commit and not changed:
        return commit
    files_hash = _hash([*_files(code), *_files(folder)], root)
    return f"{'dirty' if commit else 'files'}-{files_hash[:16]}"


def _built_from() -> tuple[str | None, bool]:
    """The commit of the image, none where it is not known, and whether the tree was changed when it was built."""
    found = re.fullmatch(r"([0-9a-f]{40})(-dirty)?", os.environ.get(BUILT_FROM, ""))
    return (found[1], found[2] is not None) if found else (None, False)


def _image() -> str:
    """Its name and tag, and the commit that it was built from: a tag may be given to another one later."""
    name, commit = os.environ.get(IMAGE, ""), os.environ.get(BUILT_FROM, "")
    return f"{name} ({commit})" if name and commit else name or commit


def _git(root: Path, *arguments: str) -> str | None:
    """What git answers; none where there is no git or no repository.

    A git hook sets GIT_DIR and its like, which would name another repository: left out.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True, text=True, check=False, timeout=30, env=environment,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
