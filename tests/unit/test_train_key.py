"""What makes a training run a new one."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evergreen.core.errors import TrainingRefused
from evergreen.core.train_key import Provenance, provenance, spec_json, train_key
from training_data import SPEC, make_spec

MADE_WITH = Provenance("commit", "lock", "folder")
SPEC_M = make_spec()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "m"
    code = tmp_path / "plugins" / "evergreen"
    for place in (folder, code):
        place.mkdir(parents=True)
    (tmp_path / "requirements.txt").write_text("xgboost==3.2.0\n")
    (folder / "model.yaml").write_text("name: m\n")
    (folder / "README.md").write_text("# m\n")
    (code / "core.py").write_text("A = 1\n")
    return tmp_path


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.mark.parametrize(
    "change",
    [
        {"label": {"column": "klass", "arrives_after": "1d"}},
        {"label": {"column": "y", "arrives_after": "2d"}},
        {"features": {"columns": ["carrier", "x", "count"], "categorical": ["carrier"]}},
        {"features": {"columns": ["x", "carrier", "count"], "categorical": ["carrier", "count"]}},
        {"window": {"train": "21d", "holdout": {"length": "5d", "min_rows": 50}}},
        {"window": {"train": "20d", "holdout": {"length": "6d", "min_rows": 50}}},
        {"training": {"params": {"max_depth": 4}}},
        {"training": {**SPEC["training"], "rounds": {"max": 31, "early_stopping": 5}}},
        {"serving": {"unknown_category": "refuse"}},  # stands in the bundle
    ],
)
def test_the_training_part_of_the_spec_is_in_the_key(change: dict[str, Any]) -> None:
    assert train_key("s", make_spec(**change), MADE_WITH) != train_key("s", make_spec(), MADE_WITH)


@pytest.mark.parametrize(
    "change",
    [
        {"owner": "other@example.com"},
        {"gates": [{"metric": "auc", "min": 0.9}]},
        {"cooldown": "6h"},
        {"triggers": [{"schedule": "0 3 * * *"}]},
        {"approval": {"mode": "auto"}},
        {"window": {"train": "20d", "holdout": {"length": "5d", "min_rows": 1}}},
        {"training": {**SPEC["training"], "params": {"learning_rate": 0.3, "max_depth": 3}}},  # another order
    ],
)
def test_the_rest_of_the_spec_is_not(change: dict[str, Any]) -> None:
    assert train_key("s", make_spec(**change), MADE_WITH) == train_key("s", make_spec(), MADE_WITH)


def test_snapshot_folder_and_lock_are_in_the_key_and_the_code_revision_is_not() -> None:
    keys = {
        train_key("s", make_spec(), MADE_WITH),
        train_key("other", make_spec(), MADE_WITH),
        train_key("s", make_spec(), Provenance("commit", "other", "folder")),
        train_key("s", make_spec(), Provenance("commit", "lock", "other")),
    }
    assert len(keys) == 4
    assert train_key("s", make_spec(), Provenance("other", "lock", "folder")) in keys


def test_a_readme_or_model_yaml_is_not_in_the_folder_hash_and_a_new_file_is(root: Path) -> None:
    before = provenance(root, SPEC_M).folder_hash
    folder = root / "models" / "m"
    (folder / "README.md").write_text("# changed\n")
    (folder / "model.yaml").write_text("owner: other\n")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "features.pyc").write_bytes(b"x")
    (folder / ".features.py.swp").write_bytes(b"x")
    assert provenance(root, SPEC_M).folder_hash == before
    (folder / "features.py").write_text("A = 1\n")
    added = provenance(root, SPEC_M).folder_hash
    (folder / "features.py").write_text("A = 2\n")
    assert len({before, added, provenance(root, SPEC_M).folder_hash}) == 3


def test_a_library_changes_the_lock_hash_and_a_missing_lock_is_an_error(root: Path) -> None:
    before = provenance(root, SPEC_M).lock_hash
    (root / "requirements.txt").write_text("xgboost==3.3.0\n")
    assert provenance(root, SPEC_M).lock_hash != before
    (root / "requirements.txt").unlink()
    with pytest.raises(TrainingRefused, match="make lock"):
        provenance(root, SPEC_M)


def test_the_code_revision_is_the_commit_or_a_hash_of_changed_files(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = provenance(root, SPEC_M).code_revision
    assert without.startswith("files-")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    head = git(root, "rev-parse", "HEAD")
    assert provenance(root, SPEC_M).code_revision == head
    (root / "notes.txt").write_text("not code")
    monkeypatch.setenv("GIT_DIR", str(root / "elsewhere"))  # as a git hook does
    assert provenance(root, SPEC_M).code_revision == head
    (root / "plugins" / "evergreen" / "core.py").write_text("A = 2\n")
    dirty = provenance(root, SPEC_M).code_revision
    assert dirty.startswith("dirty-")
    (root / "plugins" / "evergreen" / "core.py").write_text("A = 3\n")
    assert provenance(root, SPEC_M).code_revision not in (dirty, head)


def test_in_an_image_it_is_the_commit_that_the_image_was_built_from(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    monkeypatch.setenv("EVERGREEN_REVISION", commit)
    assert provenance(root, SPEC_M).code_revision == commit
    for unclear, kind in ((f"{commit}-dirty", "dirty-"), ("unknown", "files-"), ("", "files-")):
        monkeypatch.setenv("EVERGREEN_REVISION", unclear)
        assert provenance(root, SPEC_M).code_revision.startswith(kind)
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    monkeypatch.setenv("EVERGREEN_REVISION", commit)
    assert provenance(root, SPEC_M).code_revision == git(root, "rev-parse", "HEAD")  # a repository knows better


def test_the_image_says_its_name_and_what_it_was_built_from(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert provenance(root, SPEC_M).image == ""
    monkeypatch.setenv("EVERGREEN_REVISION", "0123")
    assert provenance(root, SPEC_M).image == "0123"
    monkeypatch.setenv("EVERGREEN_IMAGE", "evergreen-airflow:7")
    assert provenance(root, SPEC_M).image == "evergreen-airflow:7 (0123)"
    monkeypatch.delenv("EVERGREEN_REVISION")
    assert provenance(root, SPEC_M).image == "evergreen-airflow:7"


def test_the_hash_of_the_spec_is_of_all_of_it_and_in_no_train_key(root: Path) -> None:
    stricter = make_spec(gates=[{"metric": "auc", "min": 0.9}])
    one, other = provenance(root, SPEC_M), provenance(root, stricter)
    assert one.spec_sha256 == hashlib.sha256(spec_json(SPEC_M)).hexdigest() != other.spec_sha256
    assert train_key("s", SPEC_M, one) == train_key("s", SPEC_M, replace(one, spec_sha256="", image="other:1"))
