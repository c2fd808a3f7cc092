"""The plan: exactly one fake-quant per tensor."""

import pytest

from tests import nets
from tests.schemes import fake_quants


@pytest.mark.parametrize("make", nets.ALL, ids=lambda f: f.__name__)
def test_exactly_one_fake_quant_per_tensor(make):
    q_model = nets.quantized(make)
    counts = fake_quants.count(fake_quants.inference_function(q_model))
    assert len(counts) > 3
    wrong = {name: found for name, found in counts.items() if found != {1}}
    assert not wrong
