"""An experiment-tracking ablation suite for LeNet-5."""
