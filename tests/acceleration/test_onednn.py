"""oneDNN's product is the product, compiled too, in whatever order of memory the weight lies."""

import pytest
import torch

from sndqn.acceleration import compiler_available, onednn
from sndqn.acceleration.compilation import compile_function
from sndqn.acceleration.onednn import linear, takes

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(),  # type: ignore[no-untyped-call]
    reason="no oneDNN",
)


@pytest.fixture(autouse=True)
def _as_if_it_were_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """It computes the same where oneMKL is faster."""
    monkeypatch.setattr(onednn, "_IS_FASTER", True)


def test_it_is_an_operation_as_torch_wants_them() -> None:
    torch.library.opcheck(linear, (torch.randn(8, 64), torch.randn(32, 64)))
    torch.library.opcheck(linear, (torch.randn(64, 8).t(), torch.randn(64, 32).t()))


def test_other_numbers_than_float32_are_not_taken() -> None:
    assert takes(torch.zeros(1), torch.zeros(1))
    assert not takes(torch.zeros(1), torch.zeros(1).double())
    assert not takes(torch.zeros(1, dtype=torch.int64))
    assert not takes(torch.zeros(1, device="meta"))


@pytest.mark.skipif(not compiler_available(), reason="no C++ compiler")
def test_a_compiled_layers_products_are_torchs() -> None:
    x, weight, grad = torch.randn(32, 1024), torch.randn(128, 1024), torch.randn(32, 128)
    few = torch.randn(8, 1024)

    def products(*tensors: torch.Tensor) -> list[torch.Tensor]:
        x, weight, grad, few = tensors
        return [x @ weight.t(), grad @ weight, grad.t() @ x, few @ weight.t()]

    for given in (weight, weight.t().contiguous().t()):
        compiled = compile_function(products, x, given, grad, few)
        for found, expected in zip(
            compiled(x, given, grad, few), products(x, given, grad, few), strict=True
        ):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
