"""Training of the class-agnostic localizers; start in `train.py`."""
