"""The patch discriminator: what it sees, how steep it can be, that it can learn."""

import pytest
import torch

from nst_ops.models.discriminator import PatchDiscriminator


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(29, 29), (48, 40), (97, 64)])
def test_one_logit_per_patch(channels, size):
    logits = PatchDiscriminator(channels, width=4)(torch.rand(2, channels, *size))
    assert logits.shape[:2] == (2, 1)
    assert min(logits.shape[2:]) >= 1
    assert abs(logits.shape[2] - size[0] / 4 + 6) <= 1


def test_smallest_image_is_one_patch():
    assert PatchDiscriminator(width=4)(torch.rand(1, 3, 29, 29)).shape == (1, 1, 1, 1)
    with pytest.raises(RuntimeError):
        PatchDiscriminator(width=4)(torch.rand(1, 3, 28, 28))


def test_a_patch_is_judged_alike_wherever_it_lies():
    """No padding, so no border: the logit of a patch does not depend on the image around it."""
    torch.manual_seed(0)
    network = PatchDiscriminator(width=4).eval()
    patch, image = torch.rand(1, 3, 29, 29), torch.rand(1, 3, 61, 61)
    alone = network(patch)
    for top, left in [(0, 0), (8, 16), (32, 32)]:
        inside = image.clone()
        inside[:, :, top : top + 29, left : left + 29] = patch
        torch.testing.assert_close(network(inside)[..., top // 4, left // 4], alone[..., 0, 0])


@pytest.mark.parametrize("spectral", [True, False])
def test_spectral_normalization_bounds_every_convolution(spectral):
    """However fast it learns, no layer stretches its input by more than 1 in its matrix form."""
    torch.manual_seed(0)
    network = PatchDiscriminator(width=4, spectral=spectral)
    optimizer = torch.optim.SGD(network.parameters(), lr=3.0)
    for _ in range(30):
        optimizer.zero_grad()
        (network(torch.rand(2, 3, 32, 32)) - network(torch.zeros(2, 3, 32, 32))).tanh().mean().neg().backward()
        optimizer.step()
    weights = [layer.weight.detach() for layer in network.eval().layers if hasattr(layer, "weight")]
    assert len(weights) == 6
    largest = max(torch.linalg.matrix_norm(weight.flatten(1), 2).item() for weight in weights)
    assert (largest < 1.1) == spectral


def test_it_learns_to_tell_stripes_from_flat_images():
    torch.manual_seed(0)
    network = PatchDiscriminator(width=8)
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    stripes = (torch.arange(32) // 2 % 2).float().expand(4, 3, 32, 32)
    for _ in range(40):
        optimizer.zero_grad()
        flat = torch.rand(4, 3, 1, 1).expand(4, 3, 32, 32)
        loss = (network(stripes) - 1).square().mean() + network(flat).square().mean()
        loss.backward()
        optimizer.step()
    assert network(stripes).mean() > network(torch.full((1, 3, 32, 32), 0.5)).mean() + 0.5
