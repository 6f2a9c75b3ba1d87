"""XGBoost's own library, asked through its C API: the exact engine without the package around it.

A row costs a third of what `Booster.inplace_predict` costs, and neither the package nor SciPy is imported, which is
most of a worker's start and memory. With a library of another version than this was written for, the package answers
instead: the same numbers, slower. Both release the GIL while the trees are walked.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import logging
import sys
import threading
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_size_t, c_uint64, c_void_p
from pathlib import Path
from typing import Any, Protocol

import numpy as np

VERSION = (3, 2)  # of the C API below, by major and minor; requirements-serving.in names the same
_CONFIG = (
    b'{"type":0,"training":false,"iteration_begin":0,"iteration_end":0,"missing":NaN,"strict_shape":false,"cache_id":0}'
)
_log = logging.getLogger(__name__)


class BoosterFailed(ValueError):
    """Raised when XGBoost refuses a model or a matrix; the message is its own first line."""


class Booster(Protocol):
    """A fitted booster. Any thread may ask it."""

    def features(self) -> list[tuple[str, str]]:
        """Name and type ('c' for a category) of each feature; empty where the model has none recorded."""

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """float32, one number a row or one a class. `matrix`: float32, C-contiguous, rows by features."""


def open_booster(model: bytes) -> Booster:
    """A booster from its UBJ. Raises BoosterFailed for what is none."""
    if not (model.startswith(b"{") and model.endswith(b"}")):  # XGBoost reads on beyond the end of such bytes
        raise BoosterFailed("no whole UBJ object")
    library = native_library()
    return _NativeBooster(library, model) if library else _PackageBooster(model)


class _Matrix:
    """What the library reads a matrix through. Made once a thread: to make one costs a fifth of a call of one row."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library, self.handle = library, c_void_p()
        if library.XGProxyDMatrixCreate(byref(self.handle)):
            raise BoosterFailed(library.XGBGetLastError().decode(errors="replace").splitlines()[0])

    def __del__(self) -> None:
        if self.handle:
            self._library.XGDMatrixFree(self.handle)


_of_thread = threading.local()


def _matrix(library: ctypes.CDLL) -> c_void_p:
    """This thread's."""
    try:
        return _of_thread.matrix.handle  # type: ignore[no-any-return]
    except AttributeError:
        _of_thread.matrix = _Matrix(library)
        return _of_thread.matrix.handle  # type: ignore[no-any-return]


class _NativeBooster:
    def __init__(self, library: ctypes.CDLL, model: bytes) -> None:
        self._library, self._handle = library, c_void_p()
        self._call("XGBoosterCreate", None, c_uint64(0), byref(self._handle))
        self._call("XGBoosterSetParam", self._handle, b"nthread", b"1")  # a row is too little to share
        self._call("XGBoosterLoadModelFromBuffer", self._handle, model, c_uint64(len(model)))
        self._call("XGBoosterSetParam", self._handle, b"nthread", b"1")  # the model may bring its own
        self._predict = library.XGBoosterPredictFromDense

    def __del__(self) -> None:
        if self._handle:
            self._library.XGBoosterFree(self._handle)

    def features(self) -> list[tuple[str, str]]:
        return list(zip(self._strings(b"feature_name"), self._strings(b"feature_type"), strict=True))

    def _strings(self, field: bytes) -> list[str]:
        length, found = c_uint64(), POINTER(c_char_p)()
        self._call("XGBoosterGetStrFeatureInfo", self._handle, field, byref(length), byref(found))
        return [(found[i] or b"").decode() for i in range(length.value)]

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        rows, columns = matrix.shape
        array = b'{"data":[%d,true],"shape":[%d,%d],"typestr":"<f4","version":3}' % (matrix.ctypes.data, rows, columns)
        shape, dimensions, found = POINTER(c_uint64)(), c_uint64(), POINTER(c_float)()
        status = self._predict(
            self._handle, array, _CONFIG, _matrix(self._library), byref(shape), byref(dimensions), byref(found)
        )  # `found` is this thread's until its next call
        if status:
            raise self._failed()
        by = tuple(shape[: dimensions.value])
        answer = np.empty(by, dtype=np.float32)
        ctypes.memmove(answer.ctypes.data, found, answer.nbytes)
        return answer

    def _call(self, name: str, *arguments: Any) -> None:
        if getattr(self._library, name)(*arguments):
            raise self._failed()

    def _failed(self) -> BoosterFailed:
        return BoosterFailed(self._library.XGBGetLastError().decode(errors="replace").splitlines()[0])


class _PackageBooster:
    """The oracle of the tests, and the way out where the library is another."""

    def __init__(self, model: bytes) -> None:
        xgboost = _package()
        try:
            self._booster = xgboost.Booster(model_file=bytearray(model))
        except (ValueError, xgboost.core.XGBoostError) as error:
            raise BoosterFailed(str(error).splitlines()[0]) from error
        self._booster.set_param({"nthread": 1})

    def features(self) -> list[tuple[str, str]]:
        return list(zip(self._booster.feature_names or [], self._booster.feature_types or [], strict=True))

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        answer: np.ndarray = self._booster.inplace_predict(matrix, missing=np.nan, validate_features=False)
        return answer


@functools.cache
def native_library() -> ctypes.CDLL | None:
    """The library of the installed package, found without importing it; none if it is not the one meant here."""
    try:
        library = ctypes.CDLL(str(_path()))
    except OSError as error:
        _log.warning("XGBoost's library cannot be loaded (%s): its Python package answers instead, slower", error)
        return None
    version = tuple(c_int() for _ in range(3))
    library.XGBoostVersion(*map(byref, version))
    found = tuple(number.value for number in version)
    if found[:2] != VERSION:
        _log.warning("XGBoost is %s, not %s: its Python package answers instead, slower", found, VERSION)
        return None
    return _typed(library)


def _path() -> Path:
    """Raises OSError where XGBoost is not installed, or not with its library inside."""
    package = importlib.util.find_spec("xgboost")
    for folder in (package and package.submodule_search_locations) or []:
        if (path := Path(folder) / "lib" / "libxgboost.so").is_file():
            return path
    raise OSError("no xgboost/lib/libxgboost.so is installed")


def _typed(library: ctypes.CDLL) -> ctypes.CDLL:
    """Declare what the C API takes: a pointer that is passed as an int would be cut to 32 bits."""
    library.XGBGetLastError.restype = c_char_p
    library.XGProxyDMatrixCreate.argtypes = [c_void_p]
    library.XGDMatrixFree.argtypes = [c_void_p]
    library.XGBoosterFree.argtypes = [c_void_p]
    library.XGBoosterCreate.argtypes = [c_void_p, c_uint64, c_void_p]
    library.XGBoosterSetParam.argtypes = [c_void_p, c_char_p, c_char_p]
    library.XGBoosterLoadModelFromBuffer.argtypes = [c_void_p, c_char_p, c_size_t]
    library.XGBoosterGetStrFeatureInfo.argtypes = [c_void_p, c_char_p, c_void_p, c_void_p]
    library.XGBoosterPredictFromDense.argtypes = [c_void_p, c_char_p, c_char_p, *[c_void_p] * 4]
    return library


def _package() -> Any:
    """The package, without what it would import only to know their types: 1 s and 120 MB less.

    Raises BoosterFailed where it cannot be imported: the serving image has no SciPy for it.
    """
    for name in ("pandas", "sklearn"):
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    try:
        import xgboost
    except ImportError as error:
        version = ".".join(map(str, VERSION))
        text = f"XGBoost's library is not of version {version}, and its package cannot be imported: {error}"
        raise BoosterFailed(text) from error
    return xgboost
