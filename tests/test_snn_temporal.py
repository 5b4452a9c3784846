"""The temporal transformation between stages."""

from itertools import pairwise, product

import pytest
import torch

from mtt_brian.errors import InputError
from mtt_brian.snn.temporal import VARIANTS, boundaries, overlap, transform, transform_each
from tests.operations import Operations

PAIRS = list(product(range(1, 13), repeat=2))


def test_boundaries_of_the_paper() -> None:
    assert boundaries(3, 5) == [0, 2, 3, 5]  # {1, 2}, {3}, {4, 5}
    assert boundaries(2, 5) == [0, 2, 5]  # 2.5 goes down
    assert boundaries(4, 10) == [0, 2, 5, 7, 10]
    assert boundaries(1, 7) == [0, 7]
    assert boundaries(7, 7) == list(range(8))


@pytest.mark.parametrize(("few", "more"), [p for p in PAIRS if p[0] <= p[1]])
def test_boundaries_cover_every_frame_once(few: int, more: int) -> None:
    b = boundaries(few, more)
    sizes = [right - left for left, right in pairwise(b)]
    assert len(b) == few + 1
    assert b[0] == 0
    assert b[-1] == more
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1


def test_hard_by_hand() -> None:
    assert transform(torch.tensor([1.0, 2, 3, 4, 5]), 3).tolist() == [3, 3, 9]
    assert transform(torch.tensor([1.0, 2, 3]), 5).tolist() == [1, 1, 2, 3, 3]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_second_transform_makes_no_tensor_of_numbers(variant: str) -> None:
    """A copy from the host would let a GPU wait, and cannot be part of a CUDA graph."""
    x = torch.ones(5, 2, 3)
    found = []
    for _ in range(2):
        with Operations() as operations:
            found.append(transform_each(x, [5], [3], variant))
            found.append(transform_each(x, [5, 5], [3, 4], variant, shared=True))
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[1], found[3])
    assert operations.names
    assert not [name for name in operations.names if any(op in name for op in ("arange", "_to_copy", "lift_fresh"))]


def test_trim_by_hand() -> None:
    assert transform(torch.tensor([1.0, 2, 3, 4, 5]), 3, "trim").tolist() == [1, 2, 3]
    assert transform(torch.tensor([1.0, 2, 3]), 5, "trim").tolist() == [1, 1, 2, 3, 3]


def test_soft_by_hand() -> None:
    # 3 -> 2: each output frame is one and a half input frames; 2 -> 3: two thirds of one.
    assert transform(torch.tensor([2.0, 4, 8]), 2, "soft").tolist() == pytest.approx([4, 10])
    assert transform(torch.tensor([3.0, 6]), 3, "soft").tolist() == pytest.approx([2, 3, 4])
    # 2 -> 4: halves, in the order of time.
    assert overlap(2, 4).tolist() == [[0.5, 0], [0.5, 0], [0, 0.5], [0, 0.5]]


@pytest.mark.parametrize(("t_in", "t_out"), PAIRS)
def test_totals_and_gradients(t_in: int, t_out: int) -> None:
    x = torch.randint(0, 9, (t_in, 2, 3), generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    for variant in VARIANTS:
        y = transform(x, t_out, variant)
        assert y.shape == (t_out, 2, 3)
        if t_in == t_out:
            assert torch.equal(y, x)
        conserved = (variant == "hard" and t_out <= t_in) or variant == "soft"
        if conserved:
            torch.testing.assert_close(y.sum(0), x.sum(0))
        if t_out >= t_in and variant != "soft":
            repeats = [b - a for a, b in zip(boundaries(t_in, t_out), boundaries(t_in, t_out)[1:], strict=False)]
            assert torch.equal(y, x.repeat_interleave(torch.tensor(repeats), dim=0))
        # Linear in x, so <w, A x> has the gradient A^T w: check it by <grad, x> = <w, y>.
        weight = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(1))
        (grad,) = torch.autograd.grad((y * weight).sum(), x)
        torch.testing.assert_close((grad * x).sum((1, 2)).sum(), (y * weight).sum())
        if conserved:
            (grad,) = torch.autograd.grad(transform(x, t_out, variant).sum(), x)
            torch.testing.assert_close(grad, torch.ones_like(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shared", [False, True])
def test_several_segments_are_transformed_like_each_alone(variant: str, shared: bool, dtype: torch.dtype) -> None:
    """With channels innermost in memory and without; by the kernel for float32 and by torch's own operations."""
    t_in, t_out = ([5, 5, 5, 5], [2, 9, 5, 1]) if shared else ([5, 3, 4, 1], [2, 9, 4, 3])
    generator = torch.Generator().manual_seed(0)
    # whole numbers, whose sums are exact
    frames = torch.randint(-9, 9, (5 if shared else sum(t_in), 2, 4, 6, 7), generator=generator).to(dtype)
    for x in (frames, frames.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)):
        whole, alone = x.clone().requires_grad_(), x.clone().requires_grad_()
        together = transform_each(whole, t_in, t_out, variant, shared)
        parts = [alone] * len(t_in) if shared else alone.split(t_in)
        expected = torch.cat([transform(part, t, variant) for part, t in zip(parts, t_out, strict=True)])
        assert together.stride() == x.stride()
        weight = torch.randint(-9, 9, together.shape, generator=generator).to(dtype)
        (together * weight).sum().backward()
        (expected * weight).sum().backward()
        tolerance = {} if variant == "soft" else {"rtol": 0, "atol": 0}
        torch.testing.assert_close(together, expected, **tolerance)
        torch.testing.assert_close(whole.grad, alone.grad, **tolerance)


def test_segments_without_a_change_are_returned() -> None:
    x = torch.rand(7, 2)
    assert transform_each(x, [3, 4], [3, 4]) is x


def test_bad_requests_are_refused() -> None:
    x = torch.zeros(3, 1)
    with pytest.raises(InputError, match="at least 1, not 0"):
        transform(x, 0)
    with pytest.raises(InputError, match="'hard', 'soft', 'trim', not 'wavelet'"):
        transform(x, 2, "wavelet")
    with pytest.raises(InputError, match="cannot be split"):
        boundaries(4, 3)
