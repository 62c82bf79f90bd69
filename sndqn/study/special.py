"""What of scipy the statistics need, asked for late: it is an extra."""

from types import ModuleType

from sndqn.errors import MissingExtraError


def t_survival(t: float, freedom: float) -> float:
    """The chance that Student's t of so many degrees of freedom is above a value."""
    return float(_special().stdtr(freedom, -t))


def beta_quantile(share: float, a: float, b: float) -> float:
    """The value below which a beta-distributed number lies with the given chance."""
    return float(_special().betaincinv(a, b, share))


def _special() -> ModuleType:
    """Imports scipy's special functions.

    Raises:
        MissingExtraError: scipy is not installed.
    """
    try:
        import scipy.special
    except ImportError:
        raise MissingExtraError(
            'scipy is not installed; type: pip install "sndqn[report]"', name="scipy"
        ) from None
    module: ModuleType = scipy.special
    return module
