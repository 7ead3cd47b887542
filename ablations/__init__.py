"""An experiment-tracking ablation suite for LeNet-5."""

__path__.append(f"{__path__[0]}/predict/earlier")  # where saved models of 0.1.0 find theirs
