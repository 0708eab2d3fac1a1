"""Images: which ones a step takes and where they are cut follows from seed and step alone."""

import threading
import time

import numpy as np
import pytest
import torch

from nst_ops.training.data import Batch, Batches, Crops, ImageSet, Prefetcher, hold_out, square, to_tensor

CPU = torch.device("cpu")


def numbered(count: int, side: int) -> np.ndarray:
    """Images that tell of each pixel which image, row and column it is: (count, side, side, 3)."""
    pixels = np.zeros((count, side, side, 3), np.uint8)
    pixels[..., 0] = np.arange(count)[:, None, None]
    pixels[..., 1] = np.arange(side)[:, None]
    pixels[..., 2] = np.arange(side)
    return pixels


def images(count: int, side: int = 12) -> ImageSet:
    """In two blocks, each with a first row that is not to be used."""
    pixels, unused = numbered(count, side), np.full((1, side, side, 3), 255, np.uint8)
    half = count // 2
    blocks = [np.concatenate([unused, part]) for part in (pixels[:half], pixels[half:])]
    places = [(0, 1 + i) for i in range(half)] + [(1, 1 + i) for i in range(count - half)]
    return ImageSet(blocks, places)


def seen(batch: Batch) -> list[tuple[int, int, int, bool]]:
    """Photograph, top, left and whether mirrored of each crop, read from its pixels."""
    found = []
    for crop in (batch[0].cut() * 255).round().int():
        number, top, left = crop[:, 0, 0].tolist()
        mirrored = left > int(crop[2, 0, 1])
        found.append((number, top, int(crop[2, 0].min()), mirrored))
    return found


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"),
    [
        (20, 50, slice(0, 20), slice(15, 35)),
        (50, 20, slice(15, 35), slice(0, 20)),
        (21, 50, slice(0, 21), slice(14, 35)),
        (9, 8, slice(0, 8), slice(0, 8)),
        (7, 7, slice(0, 7), slice(0, 7)),
    ],
)
def test_the_square_is_the_middle_of_a_image(height, width, rows, columns):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert np.array_equal(square(pixels, min(height, width)), pixels[rows, columns])


@pytest.mark.parametrize("side", [5, 32, 33, 90])
def test_the_square_is_resized(side):
    pixels = np.zeros((64, 151, 3), np.uint8)
    pixels[:, 75:] = 200  # the right half, and nothing of what is cut off matters
    pixels[:, :40] = pixels[:, 110:] = 90
    small = square(pixels, side)
    assert small.shape == (side, side, 3)
    assert small.dtype == np.uint8
    assert (small[:, 0] < 20).all()
    assert (small[:, -1] > 180).all()


def test_a_tensor_is_cut_to_the_stride_of_the_network():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 11, 14, 3), dtype=np.uint8)
    tensor = to_tensor(pixels, 4)
    assert tensor.shape == (2, 3, 8, 12)
    assert torch.equal((tensor * 255).round().byte().permute(0, 2, 3, 1), torch.tensor(pixels[:, :8, :12]))
    assert to_tensor(pixels[0]).shape == (1, 3, 11, 14)


@pytest.mark.parametrize("count", range(10))
def test_of_fewer_than_ten_images_none_is_spared(count):
    places = [(0, row) for row in range(count)]
    assert hold_out(places, 4) == (places, places[:4])


@pytest.mark.parametrize(("count", "asked", "given"), [(10, 4, 1), (39, 4, 3), (40, 4, 4), (2000, 4, 4), (101, 50, 10)])
def test_at_most_a_tenth_is_held_out_and_not_trained_on(count, asked, given):
    places = [(row // 64, row % 64) for row in range(count)]
    trained, held_out = hold_out(places, asked)
    assert len(held_out) == given
    assert sorted(trained + held_out) == places
    rows = np.array([places.index(place) for place in held_out])
    gaps = np.diff([-1, *rows, count])
    assert gaps.max() <= 1.6 * count / given, "not spread over the whole"
    assert hold_out(places, asked) == (trained, held_out)


def test_none_is_held_out_if_none_is_asked_for():
    places = [(0, row) for row in range(100)]
    trained, held_out = hold_out(places, 0)
    assert trained == places
    assert held_out == places[:4]


def test_a_batch_follows_from_seed_and_step_alone():
    one, same, other = (Batches(images(9), 4, 8, seed) for seed in (1, 1, 2))
    forwards = {step: seen(one(step)) for step in range(1, 12)}
    backwards = {step: seen(same(step)) for step in range(11, 0, -1)}
    assert forwards == backwards
    assert forwards != {step: seen(other(step)) for step in range(1, 12)}
    assert len({tuple(batch) for batch in forwards.values()}) == 11


@pytest.mark.parametrize(("count", "batch_size"), [(7, 4), (8, 4), (3, 4), (5, 16), (1, 2)])
def test_every_image_comes_once_before_any_comes_again(count, batch_size):
    """Even where a batch takes the last of one round and the first of the next."""
    batches = Batches(images(count), batch_size, 8, seed=3)
    taken = [number for step in range(1, 2 * count + 1) for number, *_ in seen(batches(step))]
    rounds = [taken[start : start + count] for start in range(0, len(taken), count)]
    assert len(rounds) == 2 * batch_size
    assert all(sorted(numbers) == list(range(count)) for numbers in rounds)
    assert count < 5 or len({tuple(numbers) for numbers in rounds}) > 1, "every round in the same order"


@pytest.mark.parametrize("world", [2, 4])
def test_workers_share_out_the_batch_that_one_alone_would_take(world):
    alone = Batches(images(9), 8, 8, seed=5)
    workers = [Batches(images(9), 8, 8, 5, rank, world) for rank in range(world)]
    for step in (1, 2, 17):
        shares = [seen(worker(step)) for worker in workers]
        assert [len(share) for share in shares] == [8 // world] * world
        assert sorted(crop for share in shares for crop in share) == sorted(seen(alone(step)))


def test_crops_reach_every_corner_and_half_are_mirrored():
    batches = Batches(images(2, side=10), 400, 9, seed=0)
    crops = seen(batches(1))
    for mirrored in (False, True):
        corners = {(top, left) for _, top, left, flag in crops if flag is mirrored}
        assert corners == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert 0.4 < np.mean([mirrored for *_, mirrored in crops]) < 0.6


def test_images_may_be_as_small_as_the_crops():
    assert {(top, left) for _, top, left, _ in seen(Batches(images(3), 8, 12, seed=0)(1))} == {(0, 0)}


def test_cutting_is_slicing():
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 12, 12, 3), dtype=np.uint8))
    crops = Crops(pixels, torch.tensor([0, 2, 4]), torch.tensor([4, 0, 3]), torch.tensor([0, 1, 0]) > 0, 8, 12)
    cut = crops.cut()
    expected = torch.stack([pixels[0, 0:8, 4:12], pixels[1, 2:10, 0:8].flip(1), pixels[2, 4:12, 3:11]])
    assert torch.equal(cut, expected.permute(0, 3, 1, 2) / 255)
    assert cut.is_contiguous(memory_format=torch.channels_last)
    assert cut.dtype == torch.float32
    assert 0 <= cut.min() <= cut.max() <= 1


@pytest.mark.parametrize("first", [1, 6])
def test_the_prefetcher_gives_what_the_batches_give(first):
    batches = Batches(images(7), 4, 8, seed=1)
    ahead = Prefetcher(batches, CPU, first)
    given = [seen(ahead()) for _ in range(4)]
    ahead.close()
    assert given == [seen(batches(step)) for step in range(first, first + 4)]


class SlowBatches(Batches):
    """Batches that take their time."""

    def __call__(self, step: int) -> Crops:
        time.sleep(0.1)
        return super().__call__(step)


def test_the_prefetcher_measures_what_it_waits():
    ahead = Prefetcher(SlowBatches(images(7), 4, 8, seed=1), CPU, 1)
    ahead()
    waited = ahead.wait_s
    assert waited > 0.05
    time.sleep(0.4)  # the device computes; meanwhile the next batch gets ready
    ahead()
    ahead.close()
    assert ahead.wait_s - waited < 0.05


def test_the_prefetcher_leaves_no_thread():
    before = threading.active_count()
    ahead = Prefetcher(Batches(images(7), 4, 8, seed=1), CPU, 1)
    ahead()
    assert threading.active_count() == before + 1
    ahead.close()
    assert threading.active_count() == before


def test_an_error_while_loading_is_raised_by_the_prefetcher():
    batches = Batches(images(7), 4, 8, seed=1)
    batches.content.blocks[1] = np.zeros((0, 12, 12, 3), np.uint8)
    ahead = Prefetcher(batches, CPU, 1)
    with pytest.raises(IndexError):
        [ahead() for _ in range(2)]
    ahead.close()


def test_what_became_of_whole_images_is_cut_where_they_are():
    """At any zoom: a filter of the whole, cut, lies over the crop."""
    for zoom in ((1.0, 1.0), (0.8, 0.8), (1.5, 1.5)):
        crops = Batches(images(7), 4, 8, seed=1, zoom=zoom)(3)[0]
        assert crops.side == max(8, round(12 * zoom[0]))
        assert torch.allclose(crops.cut(crops.whole()), crops.cut(), atol=1e-6)
        assert torch.allclose(crops.cut(1 - crops.whole()), 1 - crops.cut(), atol=1e-6)


def test_zoom_is_drawn_by_step_and_seed_alone():
    sides = [Batches(images(7), 4, 8, seed=1, zoom=(0.7, 2.0))(step)[0].side for step in range(1, 30)]
    again = [Batches(images(7), 4, 8, seed=1, zoom=(0.7, 2.0))(step)[0].side for step in range(1, 30)]
    assert sides == again
    assert min(sides) >= 8
    assert len(set(sides)) > 5
