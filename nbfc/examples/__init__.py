"""Programs that use networks in compiled code: ``python -m nbfc.examples.cartpole`` and ``….surrogate``."""
