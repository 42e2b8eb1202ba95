"""A network's correction, brought to the size of the render that it is added to."""

import pytest
import torch
from torch.nn.functional import interpolate

from thesis_assets.tuning.tiny_model import TinyArchitecture, TinyRefiner
from thesis_assets.tuning.trained_model import Refiner, processing_size


def a_network() -> TinyRefiner:
    torch.manual_seed(0)
    network = TinyRefiner(TinyArchitecture(8, 8, 8, 1)).eval()
    torch.nn.init.normal_(network.head.weight, std=0.05)
    return network


def images(count: int, height: int, width: int, layout: torch.memory_format) -> torch.Tensor:
    values = torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(count + height))
    return values.contiguous(memory_format=layout)


def resized(values: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return interpolate(values, size=size, mode="bilinear", align_corners=False, antialias=True)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(("height", "width", "resolution"), [(97, 61, 64), (33, 50, 64), (64, 48, 64), (128, 128, 32)])
def test_a_refined_render_is_the_clamped_sum_of_render_and_enlarged_correction_to_the_last_bit(
    layout: torch.memory_format, height: int, width: int, resolution: int
) -> None:
    network, size = a_network(), processing_size(height, width, resolution)
    renders, references = images(3, height, width, layout), images(3, 41, 70, layout)
    with torch.inference_mode():
        small = renders if size == (height, width) else resized(renders, size)
        correction = network(small, resized(references, size))
        whole = correction if size == (height, width) else resized(correction, (height, width))
        wanted = (renders + whole).clamp(0, 1)
    before = renders.clone()
    found = Refiner(network, resolution, "cpu", 1).refine(renders, references)
    assert torch.equal(found, wanted)
    assert torch.equal(renders, before)
    assert not torch.equal(found, renders)
    onto = Refiner(network, resolution, "cpu", 1).refine(renders, references, consume=True)
    assert torch.equal(onto, wanted)
    assert onto.data_ptr() == renders.data_ptr()


def test_one_reference_for_all_renders_is_as_one_each() -> None:
    refiner = Refiner(a_network(), 64, "cpu", 1)
    renders, reference = (images(count, 97, 61, torch.channels_last) for count in (5, 1))
    assert torch.equal(refiner.refine(renders, reference), refiner.refine(renders, torch.cat([reference] * 5)))
