"""The process that fits trials: `python -m evergreen.adapters.xgboost_trainer.trial_worker <descriptor>`.

A new interpreter, not a fork: whoever tunes may have used Polars or XGBoost already, whose threads no fork has. It is
started before the rows are written, so that its imports cost no time of their own. Told by its pipe: a Work, then
(parameters, fold) as often as wanted; it answers with a FoldScore or with an error. Ends with its parent.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from multiprocessing.connection import Connection

from xgboost.core import XGBoostError

from evergreen.adapters.xgboost_trainer.trial_folds import Folds
from evergreen.core.errors import EvergreenError
from evergreen.core.ports import TrialLost

_PDEATHSIG = 1  # <linux/prctl.h>


def main(descriptor: int, parent: int) -> None:
    """Answer until nobody asks any more."""
    ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before this took effect
        return
    with Connection(descriptor) as pipe:
        try:
            folds = Folds(pipe.recv())
            while True:
                params, at = pipe.recv()
                try:
                    if params is None:
                        pipe.send(folds[at].try_own())
                    else:
                        pipe.send(folds[at].score(params))
                except (EvergreenError, TrialLost) as error:
                    pipe.send(error)
                except (XGBoostError, ValueError, MemoryError) as error:  # of parameters that do not go together
                    pipe.send(TrialLost(str(error).split("\nStack trace")[0] or type(error).__name__))
                except Exception:
                    pipe.send(RuntimeError(traceback.format_exc()))
        except EOFError:
            return


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
