"""Programs that use networks in compiled code: ``python -m nbfc.examples.cartpole`` and ``….surrogate``."""

try:
    import matplotlib  # noqa: F401
except ImportError as error:
    raise ImportError('the examples draw pictures with matplotlib: pip install "nbfc[plot]", or it alone') from error
