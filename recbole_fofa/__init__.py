"""Forward-OFA (KDD 2025) for RecBole: per-user structure and parameters in one forward pass."""

__version__ = "0.1.0"
