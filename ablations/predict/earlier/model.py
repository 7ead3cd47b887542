"""`ablations.model`, where models that were saved by 0.1.0 look for `Model`: their serving.py imports it from there.

The package's `__path__` ends in this folder for their sake alone.
"""

from ablations.predict.model import Model as Model
