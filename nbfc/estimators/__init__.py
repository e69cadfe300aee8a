"""Estimators with scikit-learn's interface (``pip install "nbfc[sklearn]"``).

``MLPClassifier`` and ``MLPRegressor`` take the parameters of scikit-learn's classes of these names, with the same
defaults and meaning, and have the same attributes and methods: to switch, change the import. A `random_state` gives
scikit-learn's own initial weights, batches and, but for rounding, losses. What they take beyond is marked so.
"""

try:
    import sklearn  # noqa: F401
except ImportError:
    raise ImportError('nbfc.estimators needs scikit-learn: pip install "nbfc[sklearn]".') from None

from nbfc.estimators._classifier import MLPClassifier
from nbfc.estimators._regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
