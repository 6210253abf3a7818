"""When copies are told of. Their order on CUDA is tested by `test_cuda.py`."""

import torch

from engine.uploads import Uploader


def test_each_copy_is_told_of_once_with_its_time() -> None:
    uploader, done = Uploader(torch.device("cpu")), list[int]()
    assert uploader.finished() == []
    for sequence_id in (7, 7, 9):
        uploader.run(sequence_id, lambda: done.append(1))
    found = uploader.finished()
    assert len(done) == 3 and [sequence_id for sequence_id, _ in found] == [7, 7, 9]
    assert all(seconds > 0 for _, seconds in found) and uploader.finished() == []
