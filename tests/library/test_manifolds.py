"""Manifolds of data: what is learned, what is projected, and that both are what the formulas say."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn

from resilience import catalog, data
from resilience.artifacts import ArtifactError, write_tensors
from resilience.manifolds import loading, saving, vae_gan_losses, vae_gan_networks
from resilience.manifolds.manifold import ImagesError, distances
from resilience.manifolds.nearest_neighbours import Neighbours
from resilience.manifolds.pictures import of_every_class, pictures
from resilience.manifolds.principal_components import Plane
from resilience.manifolds.spectral_bound import spectrally_bounded
from resilience.manifolds.vae_gan import VaeGan
from resilience.manifolds.vae_gan_training import Schedule, Turns
from resilience.training import checkpoints
from resilience.training.fit import Task, TrainingError

CPU = torch.device("cpu")
SMALL = {"manifold": "vae_gan", "of": "digits", "latent": 3, "epochs": 3, "width": 4}


@pytest.fixture(scope="module")
def digits() -> Task:
    source = catalog.bound("datasets", {"source": "digits"})()
    arrays = data.split(source, 0.1, None, "digits")
    return Task.of({}, {name: array for name, array in arrays.items() if not name.startswith("test.")}, 3, None, CPU)


def learn(task: Task, **settings):
    return catalog.bound("manifolds", {"of": "digits", **settings})(task=task)


def few(task: Task, count: int) -> Task:
    return replace(task, x=task.x[:count])


# Losses


def test_losses_are_those_of_the_paper_term_by_term():
    generator = np.random.default_rng(0)
    x, rebuilt = generator.uniform(-1, 1, (2, 5, 1, 2, 3))
    mean, log_variance = generator.normal(size=(2, 5, 4))
    real, of_rebuilt, of_drawn = generator.normal(scale=3, size=(3, 5))
    encoder, decoder, discriminator = [], [], []
    for n in range(5):
        rec = sum(abs(a - b) for a, b in zip(x[n].ravel(), rebuilt[n].ravel(), strict=True))
        deviation = [math.exp(value / 2) for value in log_variance[n]]
        kl = -0.5 * sum(1 + math.log(s**2) - m**2 - s**2 for m, s in zip(mean[n], deviation, strict=True))
        d, d_rebuilt, d_drawn = (1 / (1 + math.exp(-logit[n])) for logit in (real, of_rebuilt, of_drawn))
        encoder.append(rec + kl)
        decoder.append(0.3 * rec - math.log(d_rebuilt) - math.log(d_drawn))
        discriminator.append(-(math.log(d) + math.log(1 - d_rebuilt) + math.log(1 - d_drawn)))
    x, rebuilt, mean, log_variance, real, of_rebuilt, of_drawn = map(
        torch.from_numpy, (x, rebuilt, mean, log_variance, real, of_rebuilt, of_drawn)
    )
    assert float(vae_gan_losses.of_encoder(x, rebuilt, mean, log_variance)) == pytest.approx(np.mean(encoder))
    assert float(vae_gan_losses.of_decoder(x, rebuilt, of_rebuilt, of_drawn, 0.3)) == pytest.approx(np.mean(decoder))
    assert float(vae_gan_losses.of_discriminator(real, of_rebuilt, of_drawn)) == pytest.approx(np.mean(discriminator))


def test_a_discriminator_that_is_sure_has_a_finite_loss():
    sure = torch.tensor([200.0])
    assert float(vae_gan_losses.of_discriminator(-sure, sure, sure)) == pytest.approx(600)


@pytest.mark.parametrize("turn", ["encoder", "decoder", "discriminator"])
def test_each_network_descends_on_its_own_loss_alone(turn):
    """One turn, written out: the networks before it have moved already, and draws are taken in order."""
    networks = vae_gan_networks.build((1, 8, 8), 2, 2, 0)
    for network in networks.by_name.values():
        network.double()
    there = copy.deepcopy(networks)
    schedule = Schedule(2, 1, 0.3, 6, 0.01, 0.5, 2)
    x = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1)).double() * 2 - 1
    Turns(networks, schedule).take(x, torch.Generator().manual_seed(2))

    generator = torch.Generator().manual_seed(2)
    draws = [torch.randn(6, 2, generator=generator, dtype=torch.float64) for _ in range(1 + 2 + 2 * 2)]
    adam = {
        name: torch.optim.Adam(network.parameters(), lr=0.01, betas=(0.5, 0.9)) for name, network in there.by_name.items()
    }

    def descend(name, loss):
        gradients = torch.autograd.grad(loss, list(there.by_name[name].parameters()))
        for parameter, gradient in zip(there.by_name[name].parameters(), gradients, strict=True):
            parameter.grad = gradient
        adam[name].step()

    def latent(noise):
        mean, log_variance = there.encoder(x)[:, :2], there.encoder(x)[:, 2:]
        return mean, log_variance, mean + log_variance.exp().sqrt() * noise

    mean, log_variance, z = latent(draws[0])
    descend("encoder", vae_gan_losses.of_encoder(x, there.decoder(z), mean, log_variance))
    z = latent(draws[1])[2].detach()
    rebuilt, invented = there.decoder(z), there.decoder(draws[2])
    of_both = there.discriminator(rebuilt), there.discriminator(invented)
    descend("decoder", vae_gan_losses.of_decoder(x, rebuilt, *of_both, 0.3))
    for eta, noise in (draws[3:5], draws[5:7]):
        images = (x, there.decoder(latent(eta)[2]).detach(), there.decoder(noise).detach())
        descend("discriminator", vae_gan_losses.of_discriminator(*map(there.discriminator, images)))
    for found, expected in zip(networks.by_name[turn].parameters(), there.by_name[turn].parameters(), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-7, rtol=1e-5)


# Networks


@pytest.mark.parametrize(
    ("shape", "latent", "encoder", "decoder", "discriminator"),
    [
        # Written out from the published layers, weights and biases, and two for each channel that is normalised.
        (
            (1, 28, 28),
            10,
            [(16 * 64, 64), (16 * 64 * 128, 128), (16 * 128 * 256, 256), (256 * 4 * 4 * 20, 20)],
            [
                (10 * 2 * 2 * 256, 2 * 2 * 256),
                (16 * 256 * 256, 256),
                (16 * 256 * 128, 128),
                (16 * 128 * 32, 32),
                (16 * 32, -1),
            ],
            [
                (16 * 32, -32),
                (16 * 32 * 128, 128),
                (16 * 128 * 256, 256),
                (16 * 256 * 256, 256),
                (256 * 2 * 2 * 512, -512),
                (512, -1),
            ],
        ),
        (
            (3, 32, 32),
            128,
            [(25 * 3 * 64, 64), (25 * 64 * 128, 128), (25 * 128 * 256, 256), (256 * 4 * 4 * 256, 256)],
            [
                (128 * 4 * 4 * 512, 4 * 4 * 512),
                (16 * 512 * 256, 256),
                (16 * 256 * 128, 128),
                (16 * 128 * 64, 64),
                (9 * 64 * 3, -3),
            ],
            [
                (9 * 3 * 64, -64),
                (16 * 64 * 64, -64),
                (9 * 64 * 128, -128),
                (16 * 128 * 128, -128),
                (9 * 128 * 256, -256),
                (16 * 256 * 256, -256),
                (9 * 256 * 512, -512),
                (512 * 4 * 4, -1),
            ],
        ),
    ],
    ids=["28 × 28", "32 × 32"],
)
def test_networks_have_the_published_sizes(shape, latent, encoder, decoder, discriminator):
    """Units whose number is negative are not normalised."""
    networks = vae_gan_networks.build(shape, latent, 64, 0)
    for network, layers in zip(networks.by_name.values(), (encoder, decoder, discriminator), strict=True):
        expected = sum(weights + abs(units) * (3 if units > 0 else 1) for weights, units in layers)
        assert sum(parameter.numel() for parameter in network.parameters()) == expected


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (1, 28, 28), (3, 28, 28), (1, 32, 32), (3, 32, 32)])
@pytest.mark.parametrize("width", [1, 16])
def test_networks_of_any_width_take_and_give_images(shape, width):
    networks = vae_gan_networks.build(shape, 3, width, 0)
    x = torch.rand(4, *shape) * 2 - 1
    assert networks.encoder(x).shape == (4, 6)
    assert networks.decoder(torch.zeros(4, 3)).shape == x.shape
    assert networks.discriminator(x).shape == (4,)
    assert float(networks.decoder(torch.randn(4, 3)).detach().abs().max()) <= 1


def test_a_convolution_is_padded_as_tensorflow_does():
    """Of 7 pixels one is missing before and two behind, so that 4 come out."""
    padding, convolution, *_ = vae_gan_networks._convolution(1, 1, 7, 4)
    assert padding.padding == (1, 2, 1, 2)
    assert convolution(padding(torch.zeros(1, 1, 7, 7))).shape == (1, 1, 4, 4)


@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_weights_are_divided_by_their_largest_singular_value_where_it_is_above_one(scale):
    layer = nn.Linear(5, 4)
    with torch.no_grad():
        layer.weight.copy_(scale * torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(0))).Q[:4])
        layer.weight[0] *= 2
    before = layer.weight.detach().clone()
    spectrally_bounded(layer)
    for _ in range(60):
        layer(torch.zeros(1, 5))
    largest = float(torch.linalg.svdvals(before)[0])
    assert largest == pytest.approx(2 * scale, rel=1e-4)
    torch.testing.assert_close(layer.weight, before / max(largest, 1), rtol=1e-4, atol=1e-6)
    layer.eval()
    assert torch.equal(layer.weight, layer.weight)


# Learning


@pytest.fixture(scope="module")
def learned(digits):
    return learn(
        digits, manifold="vae_gan", latent=8, epochs=6, width=8, batch_size=50, reconstruction=1, learning_rate=0.005
    )


def test_a_vae_gan_learns_digits(learned, digits):
    mean_image = float((digits.validation_x - digits.x.mean(0)).flatten(1).norm(dim=1).mean())
    last = learned.history[-1]
    assert last["validation_distance"] < 0.85 * mean_image
    assert [row["epoch"] for row in learned.history] == list(range(1, 7))
    # Of a discriminator that sees nothing it is log 3 + 2 log(3 / 2).
    assert min(row["discriminator_loss"] for row in learned.history) < 1.5
    assert last["validation_distance"] == pytest.approx(
        float((digits.validation_x - learned.manifold.project(digits.validation_x)).flatten(1).norm(dim=1).mean())
    )
    assert {"encoder_loss", "decoder_loss", "discriminator_loss", "training_distance"} < last.keys()


def test_images_outside_of_the_manifold_are_farther_from_it(learned, digits):
    x = digits.validation_x
    noisy = (x + 0.5 * torch.rand(x.shape, generator=torch.Generator().manual_seed(0)).sub(0.5).sign()).clamp(0, 1)
    assert float(distances(learned.manifold, noisy, 3, 0).median()) > float(distances(learned.manifold, x, 3, 0).median())


def test_distances_are_means_over_draws_and_without_draws_those_of_the_mean_latent_vector(learned, digits):
    x, manifold = digits.validation_x[:4], learned.manifold
    assert isinstance(manifold, VaeGan)
    with torch.no_grad():
        mean, log_variance = manifold.encoder(2 * x - 1)[:, :8], manifold.encoder(2 * x - 1)[:, 8:]
        generator = torch.Generator().manual_seed(5)
        noises = [torch.randn(4, 8, generator=generator) for _ in range(3)]
        for count, etas in ((3, noises), (1, noises[:1]), (0, [torch.zeros(4, 8)])):
            rebuilt = [(manifold.decoder(mean + (0.5 * log_variance).exp() * eta) + 1) / 2 for eta in etas]
            expected = [
                np.mean([math.sqrt(float(((x[n] - image[n]) ** 2).sum())) for image in rebuilt]) for n in range(len(x))
            ]
            assert distances(manifold, x, count, 5).tolist() == pytest.approx(expected, rel=1e-5)


def test_what_is_learned_twice_is_the_same_byte_by_byte_and_another_seed_is_another(digits, tmp_path):
    files = []
    for number, seed in enumerate((3, 3, 4)):
        found = catalog.bound("manifolds", SMALL)(task=replace(few(digits, 200), seed=seed)).manifold
        (folder := tmp_path / str(number)).mkdir()
        saving.save(folder / "manifold.safetensors", found, 0, {})
        files.append((folder / "manifold.safetensors").read_bytes())
    assert files[0] == files[1] != files[2]


@pytest.mark.parametrize("size", [8, 32])
def test_a_training_that_was_stopped_goes_on_to_the_same_weights(size, digits, tmp_path):
    task = few(digits, 200)
    if size == 32:  # In colour, of which the discriminator has bounded weights.
        task = replace(task, x=torch.rand(20, 3, 32, 32), validation_x=torch.rand(5, 3, 32, 32))
    expected = catalog.bound("manifolds", SMALL)(task=task)
    kept = replace(task, checkpoints=tmp_path)
    write = checkpoints.Checkpoint.write

    def stop(self, *state):
        write(self, *state)
        raise InterruptedError

    with mock.patch.object(checkpoints, "SECONDS_BETWEEN", 0.0):
        with mock.patch.object(checkpoints.Checkpoint, "write", stop), pytest.raises(InterruptedError):
            catalog.bound("manifolds", SMALL)(task=kept)
        assert any(tmp_path.iterdir())
        found = catalog.bound("manifolds", SMALL)(task=kept)
    assert found.history == expected.history
    for name, value in expected.manifold.stored()[0].items():
        assert torch.equal(found.manifold.stored()[0][name], value), name


def test_a_loss_that_is_no_longer_finite_ends_the_training_in_a_sentence(digits):
    with pytest.raises(TrainingError, match=r"the loss of the encoder is (nan|inf) in epoch 1; a smaller learning_rate"):
        learn(few(digits, 200), manifold="vae_gan", latent=2, epochs=2, width=2, learning_rate=1e6)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"manifold": "principal_components", "components": 64}, "components: 64 directions need more"),
        ({"manifold": "nearest_neighbours", "neighbours": 64}, "neighbours: 64 is too many"),
        ({"manifold": "vae_gan", "batch_size": 1}, "batch_size: a single image"),
    ],
)
def test_what_the_images_do_not_allow_is_refused(settings, said, digits):
    with pytest.raises(ImagesError, match=said):
        learn(digits, **settings)


def test_more_components_or_neighbours_than_images_are_refused(digits):
    for settings in ({"manifold": "principal_components", "components": 9}, {"manifold": "nearest_neighbours"}):
        with pytest.raises(ImagesError, match="9"):
            learn(few(digits, 9), **settings)


def test_images_of_another_size_than_the_networks_take_are_refused(digits):
    odd = replace(digits, x=torch.rand(10, 1, 8, 7))
    with pytest.raises(ImagesError, match=r"of: images of 8 × 7 pixels, and vae_gan takes those of 8 × 8, 28 × 28, 32 × 32"):
        learn(odd, manifold="vae_gan")


# Manifolds without learning


def test_a_plane_is_that_of_the_principal_components(digits):
    images, x = (part.flatten(1).double().numpy() for part in (digits.x, digits.validation_x[:5]))
    mean = images.mean(0)
    values, vectors = np.linalg.eigh(np.cov(images.T))
    axes = vectors[:, np.argsort(values)[-6:]]
    expected = [mean + sum(axis * (axis @ (one - mean)) for axis in axes.T) for one in x]
    found = learn(digits, manifold="principal_components", components=6)
    projected = found.manifold.project(digits.validation_x[:5]).flatten(1)
    assert np.allclose(projected.numpy(), expected, atol=1e-5)
    apart = [np.sqrt(((one - other) ** 2).sum()) for one, other in zip(x, expected, strict=True)]
    assert distances(found.manifold, digits.validation_x[:5], 10, 0).tolist() == pytest.approx(apart, rel=1e-5)
    assert found.history[0].keys() == {"training_distance", "validation_distance"}


@pytest.mark.parametrize("neighbours", [1, 2, 5])
def test_neighbours_span_the_set_that_an_image_is_projected_on(neighbours, digits):
    images, x = (part.flatten(1).double().numpy() for part in (digits.x, digits.validation_x[:5]))
    projected = learn(digits, manifold="nearest_neighbours", neighbours=neighbours).manifold.project(digits.validation_x[:5])
    for one, found in zip(x, projected.flatten(1).numpy(), strict=True):
        near = images[np.argsort(((images - one) ** 2).sum(1))[:neighbours]]
        basis = (near[1:] - near[0]).T
        weights = np.linalg.lstsq(basis, one - near[0], rcond=None)[0] if neighbours > 1 else np.zeros(0)
        assert np.allclose(found, near[0] + basis @ weights, atol=1e-5)


def test_neighbours_that_are_alike_span_no_more_than_one():
    images = torch.tensor([[0.0, 0, 0], [0, 0, 0], [1, 0, 0], [9, 9, 9]]).view(4, 1, 1, 3)
    projected = Neighbours(images, 3).project(torch.tensor([[0.4, 0.3, 0.2]]).view(1, 1, 1, 3))
    assert projected.flatten().tolist() == pytest.approx([0.4, 0, 0])


def test_a_training_image_is_on_the_manifold_of_its_neighbours(digits):
    manifold = Neighbours(digits.x, 4)
    assert float(distances(manifold, digits.x[:20], 0, 0).max()) < 1e-5


# Files


def test_a_manifold_is_read_as_it_was_written(learned, digits, tmp_path):
    plane = learn(digits, manifold="principal_components").manifold
    bytes_alone = Neighbours((digits.x * 255).round() / 255, 3)
    for number, manifold in enumerate((learned.manifold, plane, Neighbours(digits.x, 3), bytes_alone)):
        saving.save(path := tmp_path / f"{number}.safetensors", manifold, 17, {"dataset": "digits"})
        found, seed = loading.load(path, CPU)
        assert (type(found), seed) == (type(manifold), 17)
        assert torch.equal(found.project(digits.validation_x), manifold.project(digits.validation_x))
    # A byte for each pixel, where that is all there is.
    assert (tmp_path / "3.safetensors").stat().st_size < 0.3 * (tmp_path / "2.safetensors").stat().st_size


def test_a_file_of_something_else_is_refused(tmp_path):
    write_tensors(path := tmp_path / "x.safetensors", {"x": np.zeros(2)}, {"kind": "point"})
    with pytest.raises(ArtifactError, match="holds no manifold; its header says kind 'point'"):
        loading.load(path, CPU)


# Pictures


def test_pictures_are_of_the_first_images_of_each_class():
    labels = np.array([2, 0, 0, 1, 2, 0])
    assert of_every_class(labels).tolist() == [1, 3, 0, 2, 4, 5]
    assert len(of_every_class(np.zeros(50, int))) == 20


def test_samples_are_pictured_where_there_are_any(learned, digits):
    x, index = digits.validation_x[:3], np.arange(3)
    of_vae = pictures(learned.manifold, x, index, 0)
    assert of_vae["sample"].shape == (20, 1, 8, 8)
    assert of_vae["sample"].min() >= 0
    assert of_vae["sample"].max() <= 1
    plane = Plane(torch.zeros(64).double(), torch.eye(64)[:2].double())
    assert pictures(plane, x, index, 0).keys() == {"index", "x", "projection"}
