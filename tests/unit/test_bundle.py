"""One hash vouches for a whole bundle."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen.core import bundle
from evergreen.core.errors import BundleRefused

FILES = {bundle.MODEL: b"trees", bundle.SCHEMA: b"{}", bundle.GOLDEN: b"[]"}


def test_a_sealed_bundle_verifies() -> None:
    name, files = bundle.seal(FILES, model="m", train_key="k")
    bundle.verify(name, files)
    assert bundle.file_names(name, files[bundle.MANIFEST]).keys() == FILES.keys()


def test_the_same_files_and_facts_have_the_same_id() -> None:
    assert bundle.seal(FILES, model="m")[0] == bundle.seal(dict(reversed(FILES.items())), model="m")[0]
    assert bundle.seal(FILES, model="m")[0] != bundle.seal(FILES, model="n")[0]


@given(st.sampled_from([*FILES, bundle.MANIFEST]), st.binary(min_size=1, max_size=3))
def test_any_changed_file_is_refused_and_named(changed: str, extra: bytes) -> None:
    name, files = bundle.seal(FILES, model="m")
    with pytest.raises(BundleRefused, match=changed):
        bundle.verify(name, {**files, changed: files[changed] + extra})
