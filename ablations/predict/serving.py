"""What MLflow runs when it loads a run's model: a copy of this file lies in the model's folder.

It imports nothing of this package before the model is loaded: where the package is installed it is used, and
elsewhere the copy that the model brings along.
"""

import atexit
import shutil
import sys
import tempfile
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class DigitReader(PythonModel):
    """Images (n, 28, 28), from 0 = background to 255 = ink → columns `digit` and probabilities `p0` … `p9`.

    Where classes have names, `digit` is their number, and the column `class` has the name.
    """

    def load_context(self, context: Any) -> None:
        """Load the network."""
        folder = Path(context.artifacts["network"])
        # Installed it comes first; without an origin it is some folder of that name.
        if getattr(find_spec("ablations"), "origin", None) is None:
            unpacked = tempfile.mkdtemp(prefix="ablations-")  # a network reads files of the package, too
            atexit.register(shutil.rmtree, unpacked, ignore_errors=True)
            shutil.unpack_archive(folder / "code.zip", unpacked)
            sys.path.append(unpacked)
        from ablations.predict.model import Model

        self._model = Model.load(folder)
        self._one_at_a_time = threading.Lock()  # a server's threads share the model

    def predict(
        self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Read images of any numeric type. Raises MlflowException for another shape or range."""
        try:
            if isinstance(model_input, dict):  # MLflow gives it the name that is in the signature
                (model_input,) = model_input.values()
            # Numbers in JSON come as objects.
            images = model_input.astype(np.float64) if model_input.dtype == object else model_input
            with self._one_at_a_time:
                digits, probabilities = self._model.read(images)
        except (TypeError, ValueError) as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        columns = {f"p{digit}": column for digit, column in enumerate(probabilities.T.astype(np.float64))}
        names = {"class": np.array(self._model.classes)[digits]} if self._model.has_names else {}
        return pd.DataFrame({"digit": digits.astype(np.int64), **names, **columns})


set_model(DigitReader())
