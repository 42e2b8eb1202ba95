"""Rounding of float images to 8 bit."""

import numpy as np
import pytest
import torch

from thesis_assets.images.quantise import quantise, to_host


def test_every_eight_bit_value_survives_the_way_to_float_and_back() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    image = (values.float() / 255).reshape(1, 1, 16, 16).expand(2, 3, 16, 16)
    result = quantise(image)
    assert result.shape == (2, 16, 16, 3)
    assert result.is_contiguous()
    assert torch.equal(result[1, :, :, 2].reshape(-1), values)


def test_values_are_rounded_to_the_nearest_and_clamped() -> None:
    image = torch.tensor([-1.0, 0.4 / 255, 0.6 / 255, 254.6 / 255, 7.0]).reshape(1, 1, 1, 5).expand(1, 3, 1, 5)
    assert quantise(image)[0, 0, :, 0].tolist() == [0, 0, 1, 255, 255]


def test_the_input_is_left_as_it_was() -> None:
    image = torch.full((1, 3, 2, 2), 2.0)
    quantise(image)
    assert (image == 2).all()


def test_images_arrive_on_the_host() -> None:
    arrived = to_host(torch.arange(24, dtype=torch.uint8).reshape(2, 2, 2, 3))
    assert arrived.dtype == np.uint8
    assert arrived.reshape(-1).tolist() == list(range(24))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_a_batch_on_a_cuda_device_rounds_and_arrives_as_on_the_host() -> None:
    batch = torch.rand(2, 3, 5, 7)
    assert np.array_equal(to_host(quantise(batch.cuda())), to_host(quantise(batch)))


@pytest.mark.parametrize("height", [1, 64, 130])
def test_every_row_and_channel_keeps_its_place_however_tall_the_image_is(height: int) -> None:
    batch = torch.rand(2, 3, height, 5, generator=torch.Generator().manual_seed(0)) * 1.2 - 0.1
    wanted = np.floor(np.clip(batch.numpy(), 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    assert np.array_equal(quantise(batch).numpy(), wanted.transpose(0, 2, 3, 1))


@pytest.mark.parametrize("height", [1, 64, 130])
def test_pixels_that_lie_interleaved_round_as_those_in_planes(height: int) -> None:
    planes = torch.rand(2, 3, height, 5, generator=torch.Generator().manual_seed(1)) * 1.2 - 0.1
    interleaved = planes.contiguous(memory_format=torch.channels_last)
    assert np.array_equal(quantise(interleaved).numpy(), quantise(planes).numpy())
